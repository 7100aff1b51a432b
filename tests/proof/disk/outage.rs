//! A full disk and fsyncs that fail, under load: 503 at once and a line in the log that says what to
//! do; screens, lists and what is open go on; and when the disk takes writes again, so does the server.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::DEADLINE;
use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::disk::{Disk, Fault};
use testkit::process::{admin_token, connect, pass, request, request_as};
use testkit::scale::{count, figure};
use testkit::traffic::Traffic;
use testkit::truth::File;

const EVENTS: &str = "POST /upload_common_event";
/// What comes in while nothing can be written is refused without waiting for a transaction. Half of the
/// time for which a receipt is waited for.
const AT_ONCE: Duration = Duration::from_millis(2_500);
const REFUSALS: usize = 20;
const OPERATOR: &str = "ann";

/// Posts until the answer has this status; how long that took.
fn until_answered(addr: SocketAddr, wanted: u16, round: usize) -> Duration {
    let begun = Instant::now();
    let mut stream = connect(addr).expect("a connection");
    for number in 0.. {
        let body = format!(
            r#"{{"eventType":"SOS_EVENT","eventValue":"{round}-{wanted}-{number}","deviceSn":"PROBE"}}"#
        );
        let (status, answer) = request(&mut stream, EVENTS, &body).expect("an answer");
        assert!([200, 503].contains(&status), "{status}: {answer}");
        if status == wanted {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{wanted} within {DEADLINE:?}, not {answer}");
        pass(Duration::from_millis(1));
    }
    begun.elapsed()
}

/// The head and body of an answer, as they came.
fn raw(addr: SocketAddr, body: &str) -> String {
    let mut stream = connect(addr).expect("a connection");
    let request = format!(
        "{EVENTS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(addr: SocketAddr, token: &str, path: &str) -> Value {
    let mut stream = connect(addr).expect("a connection");
    let (status, body) = request_as(&mut stream, token, &format!("GET {path}"), "").expect("an answer");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// What a server says and does while its disk takes nothing. The alert that was acknowledged nevertheless, if
/// the operator has left one.
fn look_around(addr: SocketAddr, token: &str, kind: &str, words: &str) -> Option<String> {
    for number in 0..REFUSALS {
        let begun = Instant::now();
        let answer = raw(addr, &format!(r#"{{"eventType":"SOS_EVENT","deviceSn":"REFUSED-{number}"}}"#));
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(words), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: 2\r\n"), "{answer}");
        assert!(begun.elapsed() < AT_ONCE, "refused after {:?}", begun.elapsed());
    }
    let system = get(addr, token, "/api/v1/system");
    assert_eq!(system["database"]["outage"]["kind"], kind, "{system}");
    assert_eq!(system["ready"], true, "it goes on serving screens");
    let raised = get(addr, token, "/api/v1/alerts?state=raised&limit=100");
    let mut stream = connect(addr).expect("a connection");
    // Somebody else may have one in hand already.
    let mut acknowledge = |alert: &Value| {
        let head = format!("POST /api/v1/alerts/{}/acknowledge", alert["alert_id"].as_str().expect("an id"));
        let (status, answer) = request_as(&mut stream, token, &head, "{}").expect("an answer");
        assert!(
            status == 409 || (status == 202 && answer.contains(r#""stored":false"#)),
            "{status}: {answer}"
        );
        (status == 202).then(|| alert["alert_id"].as_str().expect("an id").to_owned())
    };
    let taken = raised["items"].as_array().expect("alerts").iter().find_map(&mut acknowledge);
    let open = raised["items"][0]["alert_id"].as_str().expect("an alert that waits");
    let head = format!("POST /api/v1/alerts/{open}/resolve");
    let (status, answer) = request_as(&mut stream, token, &head, "{}").expect("an answer");
    assert!(status == 503 && answer.contains("storage-outage"), "{status}: {answer}");
    let metrics = request(&mut stream, "GET /metrics", "").expect("metrics").1;
    assert!(metrics.lines().any(|line| line == "watchpost_storage_outage 1"), "{metrics}");
    assert!(pending(addr) > 0, "{metrics}");
    // A screen that comes now is told what is open.
    let last = get(addr, token, "/api/v1/system")["offset"].as_i64().expect("an offset");
    let dashboard = Dashboard::start(token);
    dashboard.point_to(Some(addr));
    dashboard.until(last);
    taken
}

fn pending(addr: SocketAddr) -> u64 {
    let mut stream = connect(addr).expect("a connection");
    let metrics = request(&mut stream, "GET /metrics", "").expect("metrics").1;
    let count = metrics.lines().find_map(|line| line.strip_prefix("watchpost_pending_acknowledgements "));
    count.expect("the gauge").parse().expect("a number")
}

fn none_is_pending(addr: SocketAddr) {
    let begun = Instant::now();
    while pending(addr) > 0 {
        assert!(begun.elapsed() < DEADLINE, "acknowledgements are stored within {DEADLINE:?}");
        pass(Duration::from_millis(5));
    }
}

/// What was acknowledged in memory is stored as said before it `ended`; or the operator was there before that
/// could be stored, or it happened again, and the timeline tells of both.
fn is_stored(alert: &Value, ended: &Value) {
    let changes = alert["changes"].as_array().expect("changes");
    // Both have one token; the operator names its commands.
    let operators = |change: &Value| {
        change["cause"].as_str().is_some_and(|cause| cause.starts_with(&format!("action:{OPERATOR}-")))
    };
    let is = |change: &Value, names: &[&str]| names.iter().any(|name| change["transition"] == *name);
    if changes.iter().any(|change| is(change, &["acknowledged"]) && !operators(change)) {
        let is_last = !changes.iter().any(|change| is(change, &["acknowledged"]) && operators(change));
        let said = alert["acknowledged_at"].as_str();
        assert!(!is_last || said <= ended["server_time"].as_str(), "{alert} {ended}");
    } else {
        let noted = changes.iter().any(|change| is(change, &["commented"]) && !operators(change));
        let first = changes.iter().any(|change| {
            is(change, &["repeated"]) || (is(change, &["acknowledged", "resolved"]) && operators(change))
        });
        assert!(noted && first, "{alert}");
    }
}

/// Also if something panics: the scope would wait for it.
struct StopAtEnd<'a>(&'a Traffic);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn outage(what: &str, fault: Fault, kind: &str, words: &str, advice: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Disk::below("watchpost.db");
    // What was admitted before anybody knew is given up sooner than in earnest.
    let process = disk.start(dir.path(), &["writer.retry_for_ms=500"]);
    let (addr, token) = (process.addr, admin_token(dir.path()));
    let traffic = Traffic::default();
    let dashboard = Dashboard::start(&token);
    dashboard.point_to(Some(addr));
    let rounds = count(2, 50);
    let (mut recovered, mut acknowledged) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let traffic = &traffic;
        let _end = StopAtEnd(traffic);
        for name in ["W0", "W1", "W2"] {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate(OPERATOR, &token));
        traffic.point_to(Some(addr));
        for round in 0..rounds {
            traffic.until(30);
            until_answered(addr, 200, round);
            disk.begin(fault);
            until_answered(addr, 503, round);
            let taken = look_around(addr, &token, kind, words);
            acknowledged += pending(addr);
            let ended = get(addr, &token, "/api/v1/system");
            disk.end(fault);
            recovered.push(until_answered(addr, 200, round));
            let system = get(addr, &token, "/api/v1/system");
            assert_eq!(system["database"]["outage"], json!(null), "{system}");
            none_is_pending(addr);
            if let Some(alert_id) = taken {
                is_stored(&get(addr, &token, &format!("/api/v1/alerts/{alert_id}")), &ended);
            }
        }
        traffic.until(30);
    });
    assert!(acknowledged > 0, "somebody has acknowledged meanwhile");
    let last = File::of(dir.path()).number("SELECT max(change_offset) FROM alert_change");
    dashboard.until(last);
    process.signal("-TERM");
    let (code, said) = process.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(words) && said.contains(advice), "{said}");
    assert!(!said.contains("panic"), "{said}");
    let mut file = File::of(dir.path());
    let record = traffic.record().clone();
    record.assert_stored(&mut file);
    file.assert_consistent();
    assert_told_the_log(&dashboard.finish(), &mut file);
    assert_eq!(file.number("SELECT count(*) FROM meta WHERE key = 'running_since_ms'"), 0, "stopped well");
    recovered.sort_unstable();
    figure(
        &format!("{what}: outages, answered 200, of these lost"),
        format!("{rounds}, {}, 0", traffic.answered()),
    );
    figure(&format!("{what}: acknowledged in memory"), acknowledged);
    figure(&format!("{what}: requests refused"), record.refused);
    figure(
        &format!("{what}: disk usable to the next 200, slowest, ms"),
        recovered.last().map_or(0, Duration::as_millis),
    );
}

#[test]
fn a_full_disk_is_said_clearly_and_writing_goes_on_by_itself() {
    outage(
        "disk full",
        Fault::Full,
        "disk_full",
        "disk of the database is full",
        "free space on the disk of",
    );
}

#[test]
fn an_fsync_that_fails_is_said_clearly_and_writing_goes_on_by_itself() {
    let advice = "the kernel's log says about the disk of";
    outage("EIO on fsync", Fault::Eio, "disk_error", "reports errors", advice);
}
