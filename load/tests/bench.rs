//! The bench command as a whole, in a debug build: that it works, not how fast anything is.
//!
//! Cargo builds the `load` binary for these tests, but not that of another package. If `watchpost`
//! is already next to it (as after `cargo test --workspace`), it is used as it is; otherwise bench
//! has cargo build it, as it does when it is run by hand.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

fn bench(work_dir: &Path) -> Command {
    let load = PathBuf::from(env!("CARGO_BIN_EXE_load"));
    let mut command = Command::new(&load);
    command.args(["bench", "--devices", "40", "--work-dir"]).arg(work_dir);
    let server = load.with_file_name("watchpost");
    if server.exists() {
        command.arg("--server").arg(server);
    }
    command
}

fn run(work_dir: &Path, body: &str) -> (String, Value) {
    let json = work_dir.join("result.json");
    let output = bench(work_dir)
        .args(["--seconds", "1", "--warm-up", "0", "--rounds", "1"])
        .args(["--connections", "4", "--idle-events", "20", "--body", body])
        .arg("--json")
        .arg(&json)
        .output()
        .expect("bench runs");
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    (table, serde_json::from_slice(&std::fs::read(json).expect("a result")).expect("JSON"))
}

#[test]
fn a_short_run_measures_and_finds_everything_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let (table, result) = run(dir.path(), "mix");
    assert_eq!(result["verified"]["ok"], true, "{result:#}");
    for target in ["ceiling", "server"] {
        let latency = &result[target]["latency"];
        assert!(latency["count"].as_u64() > Some(0), "{result:#}");
        let at = |name: &str| latency[name].as_f64().expect("a number");
        assert!(at("p50_ms") > 0.0 && at("p50_ms") <= at("p99_ms") && at("p99_ms") <= at("max_ms"));
        assert_eq!(result[target]["not_answered_200"], serde_json::json!({}));
        assert!(result["resident_max_kib"][target].as_u64() > Some(1_000));
    }
    let answer_bytes = |target: &str| result[target]["answer_bytes_mean"].as_f64().expect("a number");
    assert!((answer_bytes("ceiling") - answer_bytes("server")).abs() < 10.0, "{result:#}");
    for kind in ["receipts", "events", "vitals", "device_status"] {
        let compared = &result["verified"]["compared"][kind];
        assert!(compared["stored"].as_u64() > Some(0), "{result:#}");
        assert_eq!(compared["stored"], compared["answered_200"]);
    }
    for part in ["event_to_answer", "event_to_socket"] {
        assert_eq!(result["idle"][part]["count"], 20);
    }
    assert!(table.contains("p99.9 ms") && table.contains("event to socket"), "{table}");
    assert_eq!(left_over(dir.path()), Vec::<String>::new());
}

#[test]
fn a_run_of_sos_events_is_stored_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, result) = run(dir.path(), "sos");
    assert_eq!(result["verified"]["compared"]["events"], result["verified"]["compared"]["vitals"]);
}

#[test]
fn told_to_stop_it_leaves_nothing_running_and_no_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = bench(dir.path())
        .args(["--connections", "4", "--seconds", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bench starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let started = lines.any(|line| line.expect("text").starts_with("round 1"));
    assert!(started, "bench ended early");
    let path = format!("/proc/{0}/task/{0}/children", child.id());
    let servers = std::fs::read_to_string(path).expect("children");
    let servers: Vec<&str> = servers.split_whitespace().collect();
    assert_eq!(servers.len(), 2, "ceiling and server");

    let pid = Pid::from_raw(child.id() as i32).expect("a process id");
    kill_process(pid, Signal::TERM).expect("a signal");
    let told = Instant::now();
    assert!(!child.wait().expect("an end").success());
    assert!(told.elapsed() < DEADLINE);
    assert!(servers.iter().all(|pid| !Path::new("/proc").join(pid).exists()));
    assert_eq!(left_over(dir.path()), Vec::<String>::new());
}

#[test]
fn a_connection_without_a_watch_is_refused() {
    let output = bench(Path::new(".")).args(["--connections", "41"]).output().expect("bench runs");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("--devices 40"), "{message}");
}

/// Data directories that were not removed.
fn left_over(work_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(work_dir).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("watchpost-bench-"))
        .collect()
}
