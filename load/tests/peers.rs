//! The peers command as a whole, in a debug build: that it works, not how fast anything is. The
//! peers that need other software are measured by hand; here only what this workspace builds.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

fn peers(work_dir: &Path, only: &str) -> Command {
    let load = PathBuf::from(env!("CARGO_BIN_EXE_load"));
    let mut command = Command::new(&load);
    command.args(["peers", "--only", only, "--no-install", "--devices", "40", "--work-dir"]).arg(work_dir);
    let server = load.with_file_name("watchpost");
    if server.exists() {
        command.arg("--server").arg(server);
    }
    command
}

fn run(work_dir: &Path, only: &str, body: &str) -> (String, Value) {
    let json = work_dir.join("result.json");
    let output = peers(work_dir, only)
        .args(["--rounds", "1", "--seconds", "1", "--warm-up", "0", "--connections", "4", "--body", body])
        .arg("--json")
        .arg(&json)
        .output()
        .expect("peers runs");
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    (table, serde_json::from_slice(&std::fs::read(json).expect("a result")).expect("JSON"))
}

fn target<'a>(result: &'a Value, name: &str) -> &'a Value {
    let targets = result["targets"].as_array().expect("targets");
    targets.iter().find(|target| target["name"] == name).unwrap_or_else(|| panic!("no {name} in {result:#}"))
}

#[test]
fn the_server_and_its_yardsticks_are_measured_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (table, result) = run(dir.path(), "ceiling,prototype,watchpost", "sos");
    for name in ["watchpost", "ceiling", "prototype"] {
        let target = target(&result, name);
        assert_eq!(target["failed"], Value::Null);
        assert_eq!(target["rounds"].as_array().map(Vec::len), Some(1));
        assert!(target["requests_per_s"]["median"].as_f64() > Some(0.0), "{target:#}");
        assert!(target["answered_200"].as_u64() > Some(0) && target["not_answered_200"] == 0, "{target:#}");
        assert!(target["resident_kib"].as_u64() > Some(500), "{target:#}");
        assert!(table.contains(name), "{table}");
    }
    for name in ["watchpost", "prototype"] {
        let target = target(&result, name);
        assert_eq!(target["answered_200_not_stored_at_once"], 0);
        let stored = &target["rounds"][0]["stored"];
        assert_eq!(stored["events"], target["answered_200"]);
        assert_eq!(stored["vitals"], target["answered_200"]);
        assert!(target["database_connections"].as_u64() > Some(0), "{target:#}");
        let stored = stored["events"].as_f64().unwrap() / target["rounds"][0]["ran_s"].as_f64().unwrap();
        let said = target["stored_per_s"].as_f64().unwrap();
        assert!((said / stored - 1.0).abs() < 0.05, "{said} instead of {stored} a second");
    }
    assert_eq!(target(&result, "ceiling")["answered_200_not_stored"], Value::Null);
    for name in ["ceiling", "prototype"] {
        assert!(result["watchpost_by"][name].as_f64() > Some(0.0), "{result:#}");
    }
    let by_stored = result["watchpost_by_stored"].as_object().expect("ratios");
    assert!(by_stored.keys().eq(["prototype"]), "the ceiling stores nothing: {by_stored:?}");
    assert_eq!(left_over(dir.path()), Vec::<String>::new());
}

/// With the software there this is a measurement like any other, so only the wording is left open.
#[test]
fn what_is_not_there_is_in_the_table_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let (table, result) = run(dir.path(), "influxdb", "event");
    let influxdb = target(&result, "influxdb");
    match influxdb["failed"].as_str() {
        Some(reason) => {
            assert!(reason.contains("not installed: influxdb"), "{reason}");
            assert!(table.contains(reason), "{table}");
        }
        None => assert_eq!(influxdb["answered_200_not_stored"], 0, "{influxdb:#}"),
    }
    assert_eq!(left_over(dir.path()), Vec::<String>::new());
}

#[test]
fn a_name_that_nobody_knows_is_refused() {
    let output = peers(Path::new("."), "redis").output().expect("peers runs");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("flask-queued"), "{message}");
}

#[test]
fn the_python_peers_compile() {
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
    let sources: Vec<PathBuf> = std::fs::read_dir(sources)
        .expect("sources")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .collect();
    assert!(sources.len() >= 5, "{sources:?}");
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new("python3")
        .args(["-m", "py_compile"])
        .args(&sources)
        .env("PYTHONPYCACHEPREFIX", dir.path())
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(err) => assert_eq!(err.kind(), std::io::ErrorKind::NotFound, "python3: {err}"),
    }
}

#[test]
fn interrupted_it_leaves_nothing_running_and_no_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = peers(dir.path(), "ceiling,prototype,watchpost")
        .args(["--connections", "4", "--seconds", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("peers starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let started = lines.any(|line| line.expect("text").starts_with("round 1"));
    assert!(started, "peers ended early");
    let path = format!("/proc/{0}/task/{0}/children", child.id());
    let servers = std::fs::read_to_string(path).expect("children");
    let servers: Vec<&str> = servers.split_whitespace().collect();
    assert_eq!(servers.len(), 3, "watchpost, ceiling and prototype");

    let pid = Pid::from_raw(child.id() as i32).expect("a process id");
    kill_process(pid, Signal::INT).expect("a signal");
    let told = Instant::now();
    assert!(!child.wait().expect("an end").success());
    assert!(told.elapsed() < DEADLINE);
    assert!(servers.iter().all(|pid| !Path::new("/proc").join(pid).exists()));
    assert_eq!(left_over(dir.path()), Vec::<String>::new());
}

/// Data directories that were not removed.
fn left_over(work_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(work_dir).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("watchpost-"))
        .collect()
}
