//! Floods of what nobody meant: memory stays under what the configuration allows, a bound watch's SOS
//! goes through, nobody dies of it, and nothing that was answered 200 is lost.

#[path = "abuse/scene.rs"]
pub mod scene;

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Instant;

use testkit::DEADLINE;
use testkit::process::{connect, request};
use testkit::scale::{count, figure};
use testkit::truth::File;

use scene::{BODY_BYTES, EVENTS, QUARANTINE_BODIES, QUARANTINE_BYTES, STRANGERS_MAX, Scene};

/// Posts on a connection that stays open, and opens another if it must.
fn post(scene: &Scene, stream: &mut Option<TcpStream>, head: &str, body: &str) -> Option<(u16, String)> {
    if stream.is_none() {
        *stream = connect(scene.addr);
    }
    let answer = request(stream.as_mut()?, head, body);
    if answer.is_none() {
        *stream = None;
    }
    answer
}

#[test]
fn an_sos_flood_from_random_serials_on_an_open_watch_api() {
    const THREADS: usize = 16;
    let scene = Scene::start(&[]);
    let each = count(960, 400_000) / THREADS;
    let refused = Mutex::new(0);
    let flood = |thread: usize| {
        let mut stream = None;
        for n in 0..each {
            let body = format!(r#"{{"eventType":"SOS_EVENT","eventValue":"1","deviceSn":"R{thread}-{n}"}}"#);
            match post(&scene, &mut stream, EVENTS, &body).expect("an answer") {
                (200, answer) => scene.remember(&answer),
                (503, _) => *refused.lock().expect("no panic") += 1,
                (status, answer) => panic!("{status}: {answer}"),
            }
        }
    };
    scene.under("SOS flood of strangers", THREADS, flood, || {});
    let states = scene.metric("watchpost_device_states");
    assert!(states <= STRANGERS_MAX + 2, "{states} states");
    figure("SOS flood of strangers: refused with 503", refused.into_inner().expect("no panic"));
    let (_dir, mut file) = scene.end();
    // The worn watch, the strangers that have a place, and all others together.
    assert_eq!(file.number("SELECT count(*) FROM alert"), STRANGERS_MAX + 2);
    assert_eq!(file.number("SELECT count(*) FROM device"), STRANGERS_MAX + 1);
    assert_each_sos_is_in_the_log(&mut file);
}

/// Also those of strangers without a place, which are in the log under a serial that they share.
fn assert_each_sos_is_in_the_log(file: &mut File) {
    let causes: HashSet<String> = file
        .texts(
            "SELECT replace(substr(cause, 7), '-', '') AS value FROM alert_change WHERE cause LIKE 'event:%'",
        )
        .into_iter()
        .collect();
    let events = file.texts("SELECT lower(hex(event_id)) AS value FROM event WHERE type_key = 'sos_event'");
    let missing = events.iter().filter(|id| !causes.contains(*id)).count();
    assert_eq!((missing, causes.len()), (0, events.len()), "of {} events", events.len());
}

/// A body of 2 MiB less `spare` bytes, of one pattern.
fn large(pattern: &str) -> String {
    let body = format!("[{}", pattern.repeat((BODY_BYTES - 8) / pattern.len()));
    format!("{}]", body.trim_end_matches(','))
}

/// Empty records, records of next to nothing, depth, and one event that is all right.
fn large_bodies() -> [String; 6] {
    [
        large("{},"),
        large("[],"),
        large("{\"deviceSn\":\"A\"},"),
        "[".repeat(BODY_BYTES - 1),
        large("null,"),
        format!(r#"{{"eventType":"BOOT","deviceSn":"L","note":"{}"}}"#, "x".repeat(BODY_BYTES - 60)),
    ]
}

/// Few enough at a time that each is read to its end.
#[test]
fn two_mib_of_empty_records_get_a_plain_answer() {
    const THREADS: usize = 4;
    let scene = Scene::start(&[]);
    let bodies = large_bodies();
    let rounds = count(1, 200);
    let abuse = |thread: usize| {
        let mut stream = None;
        for at in 0..rounds * bodies.len() {
            let body = &bodies[(thread + at) % bodies.len()];
            let (status, answer) = post(&scene, &mut stream, EVENTS, body).expect("an answer");
            assert!([200, 400].contains(&status), "{status}: {answer}");
            if status == 200 {
                scene.remember(&answer);
            }
        }
    };
    scene.under("2 MiB of empty records", THREADS, abuse, || {});
    scene.end();
}

#[test]
fn bodies_of_2_mib_on_all_connections_at_once() {
    const CONNECTIONS: usize = 240;
    let scene = Scene::start(&["server.body_timeout_ms=2000"]);
    let bodies = large_bodies();
    let rounds = count(1, 100);
    let told = Mutex::new(std::collections::BTreeMap::<u16, usize>::new());
    let abuse = |thread: usize| {
        for round in 0..rounds {
            let body = &bodies[(thread + round) % bodies.len()];
            let Some(mut stream) = connect(scene.addr) else { continue };
            let answer = if thread.is_multiple_of(3) {
                slowly(&mut stream, body)
            } else {
                request(&mut stream, EVENTS, body)
            };
            // A server that refuses without reading all may cut the connection.
            let status = answer.as_ref().map_or(0, |(status, _)| *status);
            assert!([0, 200, 400, 408, 413, 503].contains(&status), "{answer:?}");
            if let Some((200, answer)) = &answer {
                scene.remember(answer);
            }
            *told.lock().expect("no panic").entry(status).or_default() += 1;
        }
    };
    scene.under("2 MiB on every connection", CONNECTIONS, abuse, || {});
    figure(
        "2 MiB on every connection: answers by status, 0 is cut",
        format!("{:?}", told.lock().expect("no panic")),
    );
    scene.end();
}

/// Half of the body, and no more.
fn slowly(stream: &mut TcpStream, body: &str) -> Option<(u16, String)> {
    let head = format!("{EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body.as_bytes()[..body.len() / 2]).ok()?;
    testkit::process::answer(stream)
}

#[test]
fn a_million_distinct_types_leave_no_trace_in_memory() {
    const THREADS: usize = 2;
    const RECORDS: usize = 200;
    let scene = Scene::start(&[]);
    let each = count(8_000, 1_000_000) / THREADS / RECORDS;
    let lines = scene.metrics().lines().count();
    let flood = |thread: usize| {
        let mut stream = None;
        for batch in 0..each {
            let events: Vec<String> = (0..RECORDS)
                .map(|n| format!(r#"{{"eventType":"x.T{thread}_{batch}_{n}","deviceSn":"D{}"}}"#, n % 50))
                .collect();
            let body = format!("[{}]", events.join(","));
            let mut status = 503;
            while status == 503 {
                let (now, answer) = post(&scene, &mut stream, EVENTS, &body).expect("an answer");
                status = now;
                assert!([200, 503].contains(&status), "{status}: {answer}");
                if status == 200 {
                    scene.remember(&answer);
                }
            }
        }
    };
    scene.under("distinct types", THREADS, flood, || {});
    let after = scene.metrics().lines().count();
    assert!(after < lines + 100, "metrics grew from {lines} to {after} lines");
    let (_dir, mut file) = scene.end();
    let types = file.number("SELECT count(DISTINCT type_key) FROM event");
    assert_eq!(types, (each * THREADS * RECORDS + 1) as i64);
}

#[test]
fn a_storm_of_duplicates_of_one_event_is_one_event() {
    const THREADS: usize = 32;
    let scene = Scene::start(&[]);
    let each = count(3_200, 1_000_000) / THREADS;
    let body = r#"{"eventType":"SOS_EVENT","eventValue":"again","deviceSn":"STORM"}"#;
    let flood = |_: usize| {
        let mut stream = None;
        for _ in 0..each {
            match post(&scene, &mut stream, EVENTS, body).expect("an answer") {
                (200, answer) => scene.remember(&answer),
                (503, _) => {}
                (status, answer) => panic!("{status}: {answer}"),
            }
        }
    };
    scene.under("storm of duplicates", THREADS, flood, || {});
    let told: HashSet<String> = scene.stored.lock().expect("no panic").iter().cloned().collect();
    let (_dir, mut file) = scene.end();
    assert_eq!(file.event_ids().len(), told.len(), "one event of the storm, and those of the worn watch");
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'STORM'"), 1);
    assert_eq!(file.number("SELECT count FROM alert WHERE device_sn = 'STORM'"), 1);
}

#[test]
fn unique_junk_fills_quarantine_to_its_bounds_and_no_further() {
    const THREADS: usize = 16;
    const EMERGENCIES: i64 = 20;
    let scene = Scene::start(&[]);
    let mut stream = None;
    for n in 0..EMERGENCIES {
        let (status, answer) = post(&scene, &mut stream, EVENTS, &format!("{{SOS {n}")).expect("an answer");
        assert_eq!(status, 400, "{answer}");
    }
    let each = count(640, 200_000) / THREADS;
    let flood = |thread: usize| {
        let (mut stream, mut newest, begun) = (None, 0, Instant::now());
        // A fast server refuses most of them without a copy: go on until more were kept than fit.
        for n in 0.. {
            if n >= each && newest > 2 * QUARANTINE_BODIES {
                return;
            }
            assert!(begun.elapsed() < 10 * DEADLINE, "{newest} copies");
            // First too many, then too large.
            let filler = "j".repeat(if n < each / 2 { 10 } else { [10, 2_000, 100_000][n % 3] });
            let body = format!("{{{thread}-{n} {filler}");
            let (status, answer) = post(&scene, &mut stream, EVENTS, &body).expect("an answer");
            assert_eq!(status, 400, "{answer}");
            let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            let kept = answer["quarantine_id"].as_str().and_then(|id| id.parse().ok());
            newest = newest.max(kept.unwrap_or(0));
        }
    };
    let mut live = File::of(scene.dir.path());
    let mut looks = 0;
    let look = || {
        let (bodies, bytes) = held(&mut live);
        assert!(bodies <= QUARANTINE_BODIES && bytes <= QUARANTINE_BYTES, "{bodies} bodies, {bytes} bytes");
        looks += 1;
    };
    scene.under("unique junk", THREADS, flood, look);
    let (bodies, bytes) = held(&mut live);
    let counted = (scene.metric("watchpost_quarantine_bodies"), scene.metric("watchpost_quarantine_bytes"));
    assert_eq!(counted, (bodies, bytes));
    figure("unique junk: copies and bytes kept", format!("{bodies}, {bytes}"));
    let (_dir, mut file) = scene.end();
    assert_eq!(file.number("SELECT count(*) FROM quarantine WHERE names_emergency"), EMERGENCIES);
    // Of the others the newest are there, without a gap.
    let rest = "FROM quarantine WHERE NOT names_emergency";
    let newest = file.number("SELECT value FROM meta WHERE key = 'quarantine_last_id'");
    let (count, first) = (
        file.number(&format!("SELECT count(*) {rest}")),
        file.number(&format!("SELECT min(quarantine_id) {rest}")),
    );
    assert!(count > 0 && newest > QUARANTINE_BODIES, "{count} of {newest}");
    assert_eq!(newest - first + 1, count, "from {first} to {newest}");
    assert!(looks > 0);
}

fn held(file: &mut File) -> (i64, i64) {
    let both =
        file.texts("SELECT count(*) || ' ' || coalesce(sum(length(body)), 0) AS value FROM quarantine");
    let (bodies, bytes) = both[0].split_once(' ').expect("two numbers");
    (bodies.parse().expect("a number"), bytes.parse().expect("a number"))
}
