//! How fast PostgreSQL is handed what was spooled, while as much comes in as on a busy day.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::process::{Process, admin_token, connect, request_as};
use testkit::scale::{count, figure};

use super::spool::{Scene, metric, post, until_mirroring, until_spooling};
use testkit::bodies::sos;

/// Threads that send, each on a connection of its own.
const SENDERS: u64 = 4;
/// Events of one request.
const BODY: u64 = 50;
/// Events a second that come in while it is handed on, of all threads together.
const LIVE: u64 = 1_000;

/// Sends events until told to stop, or until so many are stored; at most `rate` a second.
struct Sender<'a> {
    process: &'a Process,
    token: &'a str,
    name: String,
    until: u64,
    rate: Option<u64>,
    stop: &'a AtomicBool,
    stored: &'a AtomicU64,
}

impl Sender<'_> {
    fn run(&self) {
        let mut stream = connect(self.process.addr).expect("the server is up");
        let begun = Instant::now();
        for number in 0u64.. {
            if self.stop.load(Ordering::Acquire) || self.stored.load(Ordering::Acquire) >= self.until {
                return;
            }
            let event = |at: u64| {
                let device = format!("{}-{}", self.name, (number * BODY + at) % 200);
                json!({"device_sn": device, "event_type": "CALL_STATE", "value": format!("{number}-{at}")})
            };
            let body = serde_json::Value::from((0..BODY).map(event).collect::<Vec<_>>()).to_string();
            let answer = request_as(&mut stream, self.token, "POST /api/v1/events", &body);
            let (status, answer) = answer.expect("an answer");
            assert_eq!(status, 200, "{answer}");
            self.stored.fetch_add(BODY, Ordering::AcqRel);
            let Some(rate) = self.rate else { continue };
            let due = begun + Duration::from_secs_f64(((number + 1) * BODY) as f64 / rate as f64);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
        }
    }
}

/// The rate is a figure, which `./tests/run --long spool_rate` prints, of a release build.
#[test]
fn what_was_spooled_is_handed_on_beside_what_comes_in() {
    let events = count(4_000, 200_000) as u64;
    let mut scene = Scene::new();
    let process = scene.start();
    let token = admin_token(scene.path());
    assert_eq!(post(&process, &sos("first", 0)).0, 200);
    scene.cluster.stop("-INT");
    let (stop, spooled, live) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let sender = |of: u64, live_too: bool| Sender {
        process: &process,
        token: &token,
        name: format!("{}{of}", if live_too { "live" } else { "spooled" }),
        until: if live_too { u64::MAX } else { events },
        rate: live_too.then_some(LIVE / SENDERS),
        stop: &stop,
        stored: if live_too { &live } else { &spooled },
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for of in 0..SENDERS {
            scope.spawn(move || sender(of, false).run());
        }
    });
    let filled = begun.elapsed();
    until_spooling(&process, true);
    let size = metric(&process, "watchpost_spool_bytes");
    let (took, lines, lived) = std::thread::scope(|scope| {
        for of in 0..SENDERS {
            scope.spawn(move || sender(of, true).run());
        }
        scene.cluster.go_on();
        let begun = Instant::now();
        until_mirroring(&process);
        let took = begun.elapsed();
        let (lines, lived) =
            (metric(&process, "watchpost_spool_handed_on_total"), live.load(Ordering::Acquire));
        stop.store(true, Ordering::Release);
        (took, lines, lived)
    });
    let (spooled, all) = (spooled.into_inner(), live.into_inner());
    let mut file = scene.settle(process);
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn LIKE 'spooled%'"), spooled as i64);
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn LIKE 'live%'"), all as i64);
    let rate = |count: u64, took: Duration| (count as f64 / took.as_secs_f64()).round();
    figure("spool: events stored in it, a second", format!("{spooled}, {}", rate(spooled, filled)));
    figure("spool: bytes of the file", size);
    figure("spool: handed on: events, live ones meanwhile, lines of the log, seconds", {
        format!("{spooled}, {lived}, {lines}, {:.1}", took.as_secs_f64())
    });
    figure("spool: events handed on a second beside live ones a second", {
        format!("{}, {}", rate(spooled + lived, took), rate(lived, took))
    });
}
