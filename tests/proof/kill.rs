//! Ends of the process, asked for and not, under load: what was answered 200 is in the file.

use std::time::Instant;

use testkit::process::{Load, Process, connect, request};
use testkit::truth::File;

const THREADS: usize = 4;

fn assert_stored(load: Load, file: &mut File) {
    file.assert_holds(&load.stored.into_inner().expect("no panic"));
    file.assert_consistent();
}

#[test]
fn sigterm_under_load_ends_well_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let process = Process::start(dir.path());
    let (load, addr) = (Load::default(), process.addr);
    // A watch that keeps its connection without using it does not hold up the end.
    let mut idle = connect(addr).expect("a connection");
    assert_eq!(request(&mut idle, "GET /readyz", "").expect("an answer").0, 200);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let load = &load;
            scope.spawn(move || load.post(addr, 0, thread));
        }
        load.until(200);
        let begun = Instant::now();
        process.signal("-TERM");
        let (code, stderr) = process.wait();
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(stderr, "", "nothing went wrong");
        // A quarter of the limit: an idle connection or a lost message would take all of it.
        assert!(begun.elapsed().as_secs() < 5, "it took {:?}", begun.elapsed());
        load.stop.store(true, std::sync::atomic::Ordering::Release);
    });
    let mut file = File::of(dir.path());
    assert_stored(load, &mut file);
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
        let (status, answer) = request(&mut stream, "POST /upload_common_event", body).expect("an answer");
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
fn sigterm_without_any_load_leaves_no_log_to_recover() {
    let dir = tempfile::tempdir().expect("a directory");
    let process = Process::start(dir.path());
    process.signal("-INT");
    assert_eq!(process.wait(), (Some(0), String::new()));
    // The lock goes with the process, so the directory can be used again at once.
    let again = Process::start(dir.path());
    again.signal("-TERM");
    assert_eq!(again.wait().0, Some(0));
}

#[test]
fn killed_three_times_under_load_it_has_lost_nothing_and_is_ready_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let load = Load::default();
    for run in 0..3 {
        let process = Process::start(dir.path());
        let addr = process.addr;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let load = &load;
                scope.spawn(move || load.post(addr, run, thread));
            }
            load.until(150 * (run as u64 + 1));
            process.signal("-KILL");
            assert_eq!(process.wait().0, None, "it was killed");
        });
    }
    let process = Process::start(dir.path());
    let mut stream = connect(process.addr).expect("a connection");
    assert_eq!(request(&mut stream, "GET /readyz", "").expect("an answer").0, 200);
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
    let mut file = File::of(dir.path());
    assert_stored(load, &mut file);
}
