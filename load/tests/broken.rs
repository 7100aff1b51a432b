//! Runs whose server breaks a promise: rows are taken out of its file once it has stopped, and before
//! the lab reads it. Such a run must fail, and name what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

const SCENARIO: &str = r#"
name = "tiny"
about = "what is sent is taken away again"
watches = 20
mix = { sos = 1 }
phase = [{ name = "only", seconds = 2, rate = 20 }]
dashboards = [{ count = 2 }]
"#;

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

/// A program that runs the server and, when that has ended, waits for leave to end too.
fn held_back(dir: &Path, server: &Path) -> PathBuf {
    let (stopped, go) = (dir.join("stopped"), dir.join("go"));
    pipe(&stopped);
    pipe(&go);
    let script = format!(
        "#!/bin/sh\n'{}' \"$@\" &\npid=$!\ntrap 'kill -TERM $pid' TERM\nwait $pid\nwait $pid\n\
         echo stopped > '{}'\nread leave < '{}'\n",
        server.display(),
        stopped.display(),
        go.display()
    );
    let path = dir.join("server.sh");
    std::fs::write(&path, script).expect("a script");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    path
}

/// Runs it; `tamper` gets the database file. Exit code, what it said, and the result.
fn run(tamper: impl Fn(&Connection)) -> (Option<i32>, String, Value) {
    let load = PathBuf::from(env!("CARGO_BIN_EXE_load"));
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let server = load.with_file_name("watchpost");
    assert!(server.exists(), "build the workspace first: there is no {}", server.display());
    let scenario = dir.join("tiny.toml");
    std::fs::write(&scenario, SCENARIO).expect("a scenario");
    let lab = Command::new(&load)
        .args(["run", "--quiet", "--server"])
        .arg(held_back(dir, &server))
        .arg("--out")
        .arg(dir.join("run"))
        .arg("--work-dir")
        .arg(dir)
        .arg(&scenario)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the lab starts");
    // Blocks until the server has ended.
    std::fs::read_to_string(dir.join("stopped")).expect("word from the server");
    let data = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.join("watchpost.db").exists())
        .expect("the server's data");
    let file = Connection::open(data.join("watchpost.db")).expect("the database");
    tamper(&file);
    drop(file);
    std::fs::write(dir.join("go"), "go\n").expect("leave to end");
    let output = lab.wait_with_output().expect("the lab ends");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let json = std::fs::read(dir.join("run.json")).unwrap_or_else(|err| panic!("{err}: {text}"));
    (output.status.code(), text.into_owned(), serde_json::from_slice(&json).expect("JSON"))
}

fn broken(result: &Value) -> Vec<(&str, String)> {
    let checks = result["checks"].as_array().expect("checks").iter().filter(|check| check["ok"] == false);
    checks.map(|check| (check["name"].as_str().expect("a name"), check["first"].to_string())).collect()
}

#[test]
fn a_run_passes_if_nothing_is_taken_away() {
    let (code, text, result) = run(|_| {});
    assert_eq!((code, broken(&result)), (Some(0), vec![]), "{text}");
}

#[test]
fn an_event_that_was_answered_200_and_is_gone_fails_the_run() {
    let serial = std::cell::RefCell::new(String::new());
    let (code, text, result) = run(|file| {
        let newest = "SELECT device_sn FROM event WHERE rowid = (SELECT max(rowid) FROM event)";
        let gone: String = file.query_row(newest, [], |row| row.get(0)).expect("an event");
        serial.replace(gone);
        let rows = file.execute("DELETE FROM event WHERE rowid = (SELECT max(rowid) FROM event)", []);
        assert_eq!(rows.expect("a deletion"), 1);
    });
    assert_eq!((code, &result["verdict"]), (Some(1), &Value::from("failed")), "{text}");
    let broken = broken(&result);
    let lost = broken.iter().find(|(name, _)| *name == "answered 200 is stored").expect("a broken check");
    assert!(lost.1.contains(&*serial.borrow()), "{lost:?}");
    assert!(text.contains("BROKEN  answered 200 is stored"), "{text}");
}

#[test]
fn a_push_of_a_change_that_is_not_stored_fails_the_run() {
    let (code, text, result) = run(|file| {
        let last =
            "DELETE FROM alert_change WHERE change_offset = (SELECT max(change_offset) FROM alert_change)";
        assert_eq!(file.execute(last, []).expect("a deletion"), 1);
    });
    assert_eq!((code, &result["verdict"]), (Some(1), &Value::from("failed")), "{text}");
    let names: Vec<&str> = broken(&result).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a critical event changed an alert, once", "every push is a stored change"], "{text}");
}
