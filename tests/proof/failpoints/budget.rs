//! What a restart does not cure ends the process, with one line that says so; `/readyz` fails first.

use std::process::Command;
use std::time::Instant;

use testkit::DEADLINE;
use testkit::process::{Process, command, connect, request, run, server_args};

/// Sets fail points of a process with one shard, whose writer has to be woken up for each report. Back
/// traces are noise.
fn with(points: &str) -> impl FnOnce(&mut Command) {
    move |command| {
        command.args(["--set", "device.shards=1", "--set", "writer.linger_ms=0"]);
        command.env("FAILPOINTS", points).env("RUST_BACKTRACE", "0");
    }
}

fn assert_ends_with(code: Option<i32>, stderr: &str, last_line: &str) {
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stderr.lines().last(), Some(last_line), "{stderr}");
    let ours = stderr.lines().filter(|line| line.starts_with("watchpost: ")).count();
    assert_eq!(ours, 1, "{stderr}");
}

/// Posts until the process is gone. It must have said that it is not ready before.
fn provoke_to_its_end(points: &str, last_line: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let process = Process::start_adjusted(dir.path(), with(points));
    let addr = process.addr;
    let mut unready = false;
    std::thread::scope(|scope| {
        let poster = scope.spawn(move || {
            for number in 0.. {
                // A connection that is refused, or cut off: it is gone.
                let Some(mut stream) = connect(addr) else { return };
                let body = format!(r#"{{"eventType":"SOS_EVENT","eventValue":"{number}","deviceSn":"A"}}"#);
                match request(&mut stream, "POST /upload_common_event", &body) {
                    Some((status, answer)) => assert_eq!(status, 503, "{answer}"),
                    None => return,
                }
            }
        });
        let begun = Instant::now();
        while !unready && begun.elapsed() < DEADLINE {
            let Some(mut stream) = connect(addr) else { break };
            let Some((status, answer)) = request(&mut stream, "GET /readyz", "") else { break };
            // A restart under way is not ready either; the end says more.
            unready = status == 503 && answer.contains("the server is starting or stopping");
        }
        let (code, stderr) = process.wait();
        poster.join().expect("no panic");
        assert_ends_with(code, &stderr, last_line);
    });
    assert!(unready, "/readyz failed before the end: {points}");
}

fn spent(actor: &str) -> String {
    format!("watchpost: {actor} restarted too often; see its last error in the log above")
}

#[test]
fn a_shard_that_does_nothing_but_panic_ends_the_process() {
    provoke_to_its_end("shard::ingest=panic", &spent("device-shard-0"));
}

#[test]
fn a_writer_that_does_nothing_but_panic_ends_the_process() {
    provoke_to_its_end("writer::write=panic", &spent("batch-writer"));
}

#[test]
fn a_rule_cache_a_registry_or_a_writer_that_panics_from_the_start_ends_the_process() {
    let points = [
        ("rules::loaded", "rule-cache"),
        ("registry::loaded", "session-registry"),
        ("writer::taken_over", "batch-writer"),
    ];
    for (point, actor) in points {
        assert_ends_at_start(&format!("{point}=panic"), &spent(actor));
    }
}

/// Where its first steps panic: what is held back after a restart must hold them back too.
#[test]
fn a_shard_whose_first_step_panics_ends_the_process() {
    assert_ends_at_start("shard::effects=panic", &spent("device-shard-0"));
}

#[test]
fn the_death_of_the_root_supervisor_ends_the_process() {
    provoke_to_its_end(
        "shard::ingest_unguarded=1*panic;root::died=panic",
        "watchpost: the root supervisor died",
    );
}

/// It may or may not become ready before.
fn assert_ends_at_start(points: &str, last_line: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    // A first start makes the admin token, which needs the writer: that fails with an error of its own.
    let first = Process::start(dir.path());
    first.signal("-TERM");
    assert_eq!(first.wait().0, Some(0));
    let args = server_args(dir.path());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = command(&args);
    with(points)(&mut command);
    let output = run(command);
    assert_ends_with(output.status.code(), &String::from_utf8_lossy(&output.stderr), last_line);
}
