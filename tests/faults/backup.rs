//! Backup, restore and check as a person uses them: on a server that runs, on one that was stopped,
//! and on what cannot be meant.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::dashboard::{Dashboard, Seen};
use crate::support::process::{
    Load, Process, admin_token, command, connect, refusal, request, request_as, run,
};
use crate::support::truth::File;

fn watchpost(words: &[&str], data_dir: &Path) -> Output {
    run(command(&[words, &["--data-dir", &data_dir.display().to_string()]].concat()))
}

/// It must succeed; what it said.
fn done(words: &[&str], data_dir: &Path) -> String {
    let output = watchpost(words, data_dir);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
    said
}

/// It must fail with one line.
fn refused(words: &[&str], data_dir: &Path) -> String {
    refusal(command(&[words, &["--data-dir", &data_dir.display().to_string()]].concat()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn sos(process: &Process, value: &str) -> Value {
    let body = format!(r#"{{"eventType":"SOS_EVENT","eventValue":"{value}","deviceSn":"W-{value}"}}"#);
    let mut stream = connect(process.addr).expect("a connection");
    let (status, answer) = request(&mut stream, "POST /upload_common_event", &body).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

fn stop(process: Process) {
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
}

fn system(process: &Process, token: &str) -> Value {
    let mut stream = connect(process.addr).expect("a connection");
    let (status, body) = request_as(&mut stream, token, "GET /api/v1/system", "").expect("an answer");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

#[test]
fn a_backup_of_a_server_under_load_holds_all_that_was_answered_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, copy) = (dir.path().join("data"), dir.path().join("restored/watchpost.db"));
    std::fs::create_dir(dir.path().join("restored")).expect("a directory");
    let process = Process::start(&data);
    let load = Load::default();
    let before = std::thread::scope(|scope| {
        for thread in 0..3 {
            let (load, addr) = (&load, process.addr);
            scope.spawn(move || load.post(addr, 0, thread));
        }
        load.until(100);
        let before = load.stored.lock().expect("no panic").clone();
        let said = done(&["backup", text(&copy)], &data);
        assert!(said.contains("checked") && said.contains("event "), "{said}");
        let so_far = load.stored.lock().expect("no panic").len() as u64;
        load.until(so_far + 10);
        load.stop.store(true, std::sync::atomic::Ordering::Release);
        before
    });
    let mut file = File::open(&copy);
    file.assert_holds(&before);
    file.assert_consistent();
    assert_eq!(file.number("SELECT count(*) FROM meta WHERE key = 'running_since_ms'"), 0);
    drop(file);
    // It is a database like any other.
    assert!(done(&["check"], copy.parent().expect("a directory")).contains("sound"));
    let line = refused(&["backup", text(&copy)], &data);
    assert!(line.contains("exists already") && line.contains("not overwritten"), "{line}");
    let left = std::fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(left, 2, "nothing unfinished is left");
    // The server did not notice.
    assert!(done(&["check"], &data).contains("sound"));
    stop(process);
    File::of(&data).assert_holds(&load.stored.into_inner().expect("no panic"));
}

#[test]
fn a_restored_backup_has_an_epoch_of_its_own_and_dashboards_are_told_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, copy) = (dir.path().join("data"), dir.path().join("monday.db"));
    let process = Process::start(&data);
    let token = admin_token(&data);
    let kept = sos(&process, "kept");
    let dashboard = Dashboard::start(&token);
    dashboard.point_to(Some(process.addr));
    dashboard.until(1);
    done(&["backup", text(&copy)], &data);
    let gone = sos(&process, "gone");
    dashboard.until(2);
    let epoch = system(&process, &token)["epoch"].clone();
    let line = refused(&["restore", text(&copy)], &data);
    assert!(line.contains("in use"), "{line}");
    dashboard.point_to(None);
    stop(process);

    let said = done(&["restore", text(&copy)], &data);
    assert!(said.contains("is kept as"), "{said}");
    let old: Vec<_> = std::fs::read_dir(&data)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| text(path).contains("before-restore"))
        .collect();
    assert_eq!(old.len(), 1, "{old:?}");
    let id = |answer: &Value| answer["event_id"].as_str().expect("an id").to_owned();
    let mut old = File::open(&old[0]);
    old.assert_consistent();
    old.assert_holds(&[id(&kept), id(&gone)]);

    let process = Process::start(&data);
    assert_ne!(system(&process, &token)["epoch"], epoch);
    assert_eq!(system(&process, &token)["database"]["integrity"]["last_stop_clean"], true);
    // Beyond where the dashboard stands in the old log.
    sos(&process, "after");
    sos(&process, "later");
    dashboard.point_to(Some(process.addr));
    dashboard.until(3);
    stop(process);
    let connections = dashboard.finish();
    let resumed = &connections.last().expect("a connection").seen;
    assert!(matches!(resumed[0], Seen::Gap { .. }), "{resumed:?}");
    assert!(matches!(resumed[1], Seen::Snapshot { .. }), "{resumed:?}");
    let mut file = File::of(&data);
    file.assert_holds(&[id(&kept)]);
    assert_eq!(file.event_ids().len(), 3);
    file.assert_consistent();
}

#[test]
fn what_is_no_sound_backup_is_refused_and_the_database_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy.db"));
    let process = Process::start(&data);
    let kept = sos(&process, "kept");
    stop(process);
    done(&["backup", text(&copy)], &data);
    let before = std::fs::read(data.join("watchpost.db")).expect("the file");

    let missing = refused(&["restore", text(&dir.path().join("missing.db"))], &data);
    assert!(missing.contains("missing.db"), "{missing}");
    let own = refused(&["restore", text(&data.join("watchpost.db"))], &data);
    assert!(own.contains("is the database itself"), "{own}");
    let foreign = dir.path().join("foreign.db");
    File::open(&foreign).execute("CREATE TABLE recipes (name TEXT)");
    assert!(refused(&["restore", text(&foreign)], &data).contains("recipes"));
    std::fs::write(dir.path().join("empty.db"), "").expect("a file");
    assert!(
        refused(&["restore", text(&dir.path().join("empty.db"))], &data).contains("no database of watchpost")
    );
    // One with a hole in its log of alerts, and one with a damaged page.
    let holed = dir.path().join("holed.db");
    std::fs::copy(&copy, &holed).expect("a copy");
    File::open(&holed).execute("UPDATE alert_change SET change_offset = 5");
    assert!(refused(&["restore", text(&holed)], &data).contains("not sound"));
    let damaged = dir.path().join("damaged.db");
    let mut bytes = std::fs::read(&copy).expect("the copy");
    let pages = bytes.len() / 4096;
    bytes[4096 * (pages / 2)..4096 * (pages / 2) + 2_048].fill(0xA5);
    std::fs::write(&damaged, &bytes).expect("a file");
    let line = refused(&["restore", text(&damaged)], &data);
    assert!(line.contains("not sound") || line.contains("malformed"), "{line}");

    assert_eq!(std::fs::read(data.join("watchpost.db")).expect("the file"), before);
    let entries: Vec<_> = std::fs::read_dir(&data).expect("a directory").collect();
    assert_eq!(entries.len(), 3, "database, lock and token: {entries:?}");
    File::of(&data).assert_holds(&[kept["event_id"].as_str().expect("an id").to_owned()]);
}

#[test]
fn a_check_ends_with_an_error_and_names_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let process = Process::start(dir.path());
    for value in ["a", "b", "c"] {
        sos(&process, value);
    }
    stop(process);
    assert!(done(&["check"], dir.path()).contains("sound"));
    let faults = [
        ("DELETE FROM alert_change WHERE change_offset = 2", "has a gap"),
        ("UPDATE alert SET count = 7", "does not count"),
        ("UPDATE alert SET is_open = 0", "marked open"),
        ("INSERT INTO org VALUES ('o', 'nobody', NULL, 'n', 0)", "a row names one"),
        ("UPDATE alert_change SET body = '{}' WHERE change_offset = 3", "what its last change says"),
    ];
    let path = dir.path().join("watchpost.db");
    let sound = std::fs::read(&path).expect("the file");
    for (statement, named) in faults {
        let mut file = File::of(dir.path());
        file.execute("PRAGMA foreign_keys = OFF");
        file.execute(statement);
        drop(file);
        let output = watchpost(&["check"], dir.path());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{statement}: {said}");
        assert!(said.contains(named) && said.contains("NOT SOUND"), "{statement}: {said}");
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("watchpost.db{suffix}")));
        }
        std::fs::write(&path, &sound).expect("the file");
    }
    let line = refused(&["check"], &dir.path().join("nowhere"));
    assert!(line.contains("nowhere"), "{line}");
}

/// Waits until the check in the background has ended.
fn integrity(process: &Process, token: &str) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let found = system(process, token)["database"]["integrity"].clone();
        if found["check"] != "running" {
            return found;
        }
        assert!(begun.elapsed() < crate::support::DEADLINE, "{found}");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_server_that_was_killed_is_checked_in_the_background_by_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Process::start(dir.path());
    let token = admin_token(dir.path());
    let not_run = json!({"last_stop_clean": true, "check": "not_run", "faults": []});
    assert_eq!(integrity(&first, &token), not_run);
    sos(&first, "one");
    first.kill();

    let second = Process::start(dir.path());
    assert_eq!(integrity(&second, &token), json!({"last_stop_clean": false, "check": "sound", "faults": []}));
    sos(&second, "two");
    stop(second);
    // A start that fails is none.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    assert!(
        refused(&["serve", "--listen", &listen, "--set", "telemetry.log=error"], dir.path())
            .contains(&listen)
    );
    let third = Process::start(dir.path());
    assert_eq!(integrity(&third, &token), not_run);
    third.kill();

    // What the next one finds does not keep it from working.
    File::of(dir.path()).execute("UPDATE alert SET count = 7 WHERE last_offset = 1");
    let fourth = Process::start(dir.path());
    let found = integrity(&fourth, &token);
    assert_eq!((&found["check"], &found["last_stop_clean"]), (&json!("damaged"), &json!(false)));
    let faults = found["faults"].as_array().expect("faults");
    assert!(faults.len() == 1 && faults[0].to_string().contains("does not count"), "{found}");
    let mut stream = connect(fourth.addr).expect("a connection");
    let metrics = request(&mut stream, "GET /metrics", "").expect("metrics").1;
    for line in ["watchpost_unclean_start 1", "watchpost_integrity_faults 1"] {
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    }
    sos(&fourth, "three");
    fourth.signal("-TERM");
    let (code, said) = fourth.wait();
    assert_eq!(code, Some(0));
    assert!(said.contains("1 faults") && said.contains("watchpost check"), "{said}");

    let fifth = Process::start_with(dir.path(), &["storage.check_after_unclean_stop=false"]);
    fifth.kill();
    let sixth = Process::start_with(dir.path(), &["storage.check_after_unclean_stop=false"]);
    let off = json!({"last_stop_clean": false, "check": "not_run", "faults": []});
    assert_eq!(integrity(&sixth, &token), off);
}
