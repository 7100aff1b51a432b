//! The process is told to stop: what it has accepted is answered, sockets are told, and nobody who is
//! idle holds it up.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::preload;
use testkit::process::{Process, Starting, admin_token, connect, request};
use testkit::scale::{count, figure};
use testkit::truth::File;

const EVENTS: &str = "POST /upload_common_event";
const THREADS: usize = 6;
const DASHBOARDS: usize = 3;
/// A write lock of the test's own outlasts every limit that it wants to see.
const PATIENT: [&str; 4] =
    ["--set", "storage.busy_timeout_ms=60000", "--set", "watch.receipt_timeout_ms=60000"];

/// What one thread has sent: value of the event, and status and event id of a whole answer.
type Sent = (String, Option<(u16, String)>);

/// Posts one event after the other until a connection is refused or ends without an answer.
fn post(process: &Process, thread: usize, begun: &AtomicBool) -> Vec<Sent> {
    let mut sent = Vec::new();
    let Some(mut stream) = connect(process.addr) else { return sent };
    for number in 0u64.. {
        let kind = if number.is_multiple_of(4) { "SOS_EVENT" } else { "CALL_STATE" };
        let value = format!("{thread}-{number}");
        let body = format!(r#"{{"eventType":"{kind}","eventValue":"{value}","deviceSn":"W{}"}}"#, number % 5);
        let answer = request(&mut stream, EVENTS, &body);
        let ended = answer.is_none();
        let told = answer.map(|(status, answer)| {
            let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            (status, answer["event_id"].as_str().unwrap_or_default().to_owned())
        });
        sent.push((value, told));
        if ended {
            break;
        }
        if number > 30 {
            begun.store(true, Ordering::Release);
        }
    }
    sent
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "{what} within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn sigterm_under_load_answers_all_that_was_accepted_and_tells_the_sockets() {
    let mut times = Vec::new();
    let (mut answered, mut unanswered) = (0, 0);
    for _ in 0..count(3, 50) {
        let dir = tempfile::tempdir().expect("a directory");
        let process = Process::start(dir.path());
        let token = admin_token(dir.path());
        let dashboards: Vec<Dashboard> = (0..DASHBOARDS).map(|_| Dashboard::start(&token)).collect();
        dashboards.iter().for_each(|dashboard| dashboard.point_to(Some(process.addr)));
        // Watches that keep their connection without using it.
        let mut idle: Vec<_> = (0..10).map(|_| connect(process.addr).expect("a connection")).collect();
        for stream in &mut idle {
            assert_eq!(request(stream, "GET /readyz", "").expect("an answer").0, 200);
        }
        let (all, begun) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let told_at = std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (process, all, begun) = (&process, &all, &begun);
                scope.spawn(move || {
                    let sent = post(process, thread, begun);
                    all.lock().expect("no panic").extend(sent);
                });
            }
            until("the load has begun", || begun.load(Ordering::Acquire));
            dashboards.iter().for_each(|dashboard| dashboard.until(1));
            let told_at = Instant::now();
            process.signal("-TERM");
            for dashboard in &dashboards {
                assert_eq!(dashboard.until_closed(), 1001, "the server is stopping");
                dashboard.point_to(None);
            }
            told_at
        });
        // The load has ended: nobody was kept waiting. So have those who were idle.
        for stream in &mut idle {
            let mut rest = Vec::new();
            assert_eq!(stream.read_to_end(&mut rest).ok(), Some(0), "closed without a word: {rest:?}");
        }
        assert_eq!(process.wait(), (Some(0), String::new()), "nothing went wrong");
        times.push(told_at.elapsed().as_millis());

        let mut file = File::of(dir.path());
        file.assert_consistent();
        let sent = all.into_inner().expect("no panic");
        let stored: std::collections::HashSet<String> =
            file.texts("SELECT value FROM event").into_iter().collect();
        let mut ids = Vec::new();
        for (value, told) in sent {
            match told {
                Some((200, id)) => ids.push(id),
                // Not promised, and said so. It may be stored.
                Some((503, _)) => {}
                Some((other, _)) => panic!("{value} was answered {other}"),
                // Its bytes may never have been read. If they were, it was not answered.
                None => {
                    assert!(!stored.contains(&value), "{value} was stored without an answer");
                    unanswered += 1;
                }
            }
        }
        file.assert_holds(&ids);
        answered += ids.len();
        for dashboard in dashboards {
            assert_told_the_log(&dashboard.finish(), &mut file);
        }
    }
    times.sort_unstable();
    figure("shutdown under load: answered 200, not read", format!("{answered}, {unanswered}"));
    figure("shutdown under load: SIGTERM to exit", {
        format!("p50 {} ms, max {} ms", times[times.len() / 2], times[times.len() - 1])
    });
}

/// A server with an SOS that it has accepted and cannot store, because the file is locked by the test.
fn stuck(dir: &std::path::Path, more: &[&str]) -> (Process, File, std::thread::JoinHandle<Option<u16>>) {
    let process = Starting::spawn(dir, &[&PATIENT, more].concat()).listening();
    let mut lock = File::of(dir);
    lock.execute("BEGIN IMMEDIATE");
    let mut stream = connect(process.addr).expect("a connection");
    let watch = std::thread::spawn(move || {
        let body = r#"{"eventType":"SOS_EVENT","eventValue":"1","deviceSn":"A"}"#;
        request(&mut stream, EVENTS, body).map(|(status, _)| status)
    });
    let mut desk = connect(process.addr).expect("a connection");
    until("the SOS is accepted", || {
        let (_, metrics) = request(&mut desk, "GET /metrics", "").expect("an answer");
        let used = metrics.lines().find_map(|line| line.strip_prefix("watchpost_admission_used_kib "));
        used.is_some_and(|used| used != "0")
    });
    (process, lock, watch)
}

fn until_it_stops(process: &Process) {
    until("no connection is accepted", || connect(process.addr).is_none());
}

#[test]
fn a_second_sigterm_ends_it_at_once_with_a_line_and_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let (process, mut lock, watch) = stuck(dir.path(), &["--set", "server.shutdown_timeout_s=60"]);
    process.signal("-TERM");
    until_it_stops(&process);
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(1), "watchpost: told to stop twice; ending at once\n".to_owned()));
    assert_eq!(watch.join().expect("no panic"), None, "nothing was promised");
    lock.execute("ROLLBACK");
    assert_eq!(lock.number("SELECT count(*) FROM event"), 0);
    lock.assert_consistent();
    drop(lock);
    let again = Process::start(dir.path());
    again.signal("-TERM");
    assert_eq!(again.wait(), (Some(0), String::new()));
}

#[test]
fn what_cannot_be_stored_in_time_does_not_hold_up_the_end_and_is_not_promised() {
    let dir = tempfile::tempdir().expect("a directory");
    let (process, mut lock, watch) = stuck(dir.path(), &["--set", "server.shutdown_timeout_s=1"]);
    process.signal("-TERM");
    let (code, stderr) = process.wait();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("not everything was flushed within 1s"), "{stderr:?}");
    assert_ne!(watch.join().expect("no panic"), Some(200));
    lock.execute("ROLLBACK");
    assert_eq!(lock.number("SELECT count(*) FROM event"), 0);
    lock.assert_consistent();
}

#[test]
fn sigterm_ends_an_idle_server_and_a_second_start_knows_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let body = r#"{"eventType":"SOS_EVENT","eventValue":"1","deviceSn":"A"}"#;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let process = Process::start(dir.path());
        assert_eq!(process.first_line, format!("watchpost listening on http://{}\n", process.addr));
        let mut stream = connect(process.addr).expect("a connection");
        let (status, answer) = request(&mut stream, EVENTS, body).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        answers.push(serde_json::from_str::<serde_json::Value>(&answer).expect("JSON"));
        process.signal("-TERM");
        assert_eq!(process.wait(), (Some(0), String::new()));
    }
    assert_eq!(answers[0]["event_id"], answers[1]["event_id"]);
    assert_eq!(answers[0]["alert_id"], answers[1]["alert_id"]);
    assert_eq!((&answers[0]["duplicate"], &answers[1]["duplicate"]), (&false.into(), &true.into()));
    File::of(dir.path()).assert_consistent();
}

#[test]
fn sigint_ends_it_too_and_gives_the_data_directory_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let process = Process::start(dir.path());
    process.signal("-INT");
    assert_eq!(process.wait(), (Some(0), String::new()));
    // The lock goes with the process, so the directory can be used again at once.
    let again = Process::start(dir.path());
    again.signal("-TERM");
    assert_eq!(again.wait().0, Some(0));
}

/// They would free what a thread that closes a session to PostgreSQL over TLS still uses.
#[test]
fn no_exit_handler_runs_while_threads_do() {
    let (dir, shims) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    let shim = preload::build("tests/proof/exit/shim.c", shims.path());
    let process = Process::start_adjusted(dir.path(), |command| {
        command.env("LD_PRELOAD", &shim);
    });
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), "shim loaded\n".into()));
}
