//! The clock of the server's machine is set by an hour, there and back, under load, and those of watches
//! are wrong by up to a month: no alert is lost or late, no timer goes wrong, copies are known.

use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use testkit::DEADLINE;
use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::preload;
use testkit::process::{Process, admin_token, connect, pass, request};
use testkit::scale::{count, figure, spread};
use testkit::traffic::{Traffic, bind};
use testkit::truth::File;

const WATCHES: [&str; 3] = ["W0", "W1", "W2"];
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
/// By how much the clocks of watches are off, seconds.
const WATCHES_OFF_S: [i64; 6] = [0, -30 * DAY_S, -DAY_S, -HOUR_S, HOUR_S, DAY_S - 60];
/// How far the server's clock is off, in turn.
const SERVER_OFF_S: [i64; 4] = [HOUR_S, 0, -HOUR_S, 0];

/// A clock that the test sets.
struct MachineClock {
    dir: tempfile::TempDir,
    shim: PathBuf,
    offset: std::fs::File,
}

impl MachineClock {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let shim = preload::build("tests/proof/clock/shim.c", dir.path());
        let offset = std::fs::File::create(dir.path().join("offset")).expect("a file");
        let clock = Self { dir, shim, offset };
        clock.set(0);
        clock
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    /// So many seconds ahead of what it is.
    fn set(&self, offset_s: i64) {
        self.offset.write_all_at(&offset_s.to_ne_bytes(), 0).expect("the offset");
    }

    fn start(&self, data_dir: &Path, settings: &[String]) -> Process {
        Process::start_adjusted(data_dir, |command| {
            command.args(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
            command.env("LD_PRELOAD", &self.shim).env("SHIM_CLOCK_OFFSET", self.path());
        })
    }
}

fn sos(device: &str, off_s: i64) -> String {
    let wall = Utc::now() + TimeDelta::hours(8) + TimeDelta::seconds(off_s);
    json!({"eventType": "SOS_EVENT", "eventValue": device, "deviceSn": device,
        "timestamp": wall.format("%Y-%m-%d %H:%M:%S").to_string()})
    .to_string()
}

/// Event, alert, and whether it was known.
fn post(addr: SocketAddr, body: &str) -> (Value, Value, bool) {
    let mut stream = connect(addr).expect("the server is up");
    let (status, answer) = request(&mut stream, "POST /upload_common_event", body).expect("an answer");
    assert_eq!(status, 200, "{body}: {answer}");
    let told: Value = serde_json::from_str(&answer).expect("JSON");
    (told["event_id"].clone(), told["alert_id"].clone(), told["duplicate"] == true)
}

#[test]
fn the_servers_clock_is_set_under_load_and_no_alert_is_lost_or_late() {
    let dir = tempfile::tempdir().expect("a directory");
    set_under_load("clock set by an hour", count(8, 400), dir.path(), &[]);
}

/// That of PostgreSQL stays as it is.
#[cfg(feature = "postgres")]
#[test]
fn on_postgres_the_servers_clock_is_set_under_load_and_no_alert_is_lost_or_late() {
    let scene = super::pg_scene::Scene::new();
    let settings = super::pg_scene::Scene::settings(&scene.proxy);
    set_under_load("clock set by an hour, PostgreSQL", count(4, 200), scene.dir.path(), &settings);
}

fn set_under_load(what: &str, steps: usize, dir: &Path, settings: &[String]) {
    let clock = MachineClock::new();
    let process = clock.start(dir, settings);
    let (addr, token) = (process.addr, admin_token(dir));
    bind(addr, &token, &WATCHES);
    let (traffic, dashboard) = (Traffic::default(), Dashboard::start(&token));
    traffic.point_to(Some(addr));
    dashboard.point_to(Some(addr));
    let (mut sent, mut shown) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let _stop = traffic.until_dropped();
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate("ann", &token));
        for step in 0..steps {
            clock.set(SERVER_OFF_S[step % SERVER_OFF_S.len()]);
            for (index, off_s) in WATCHES_OFF_S.into_iter().enumerate() {
                let body = sos(&format!("PROBE-{step}-{index}"), off_s);
                let begun = Instant::now();
                let (event, alert, known) = post(addr, &body);
                assert!(!known, "{body}");
                dashboard.until_shown(alert.as_str().expect("an alert"));
                shown.push(begun.elapsed());
                sent.push((body, event, alert));
            }
            traffic.until(10);
            // Whatever the clock says now, what came before is known.
            for (body, event, alert) in sent.iter().rev().take(2 * WATCHES_OFF_S.len()) {
                assert_eq!(post(addr, body), (event.clone(), alert.clone(), true), "{body}");
            }
        }
        traffic.stop();
    });
    until_stored(addr);
    let seen = clock_of(dir);
    // There and back took a while by itself.
    let both = Duration::from_secs(2 * HOUR_S as u64 - 60);
    assert!(seen >= both, "the server has seen another time: {seen:?}");
    dashboard.until(File::of(dir).number("SELECT max(change_offset) FROM alert_change"));
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
    // Started an hour before it was stopped.
    clock.set(-HOUR_S);
    let process = clock.start(dir, settings);
    for (body, event, alert) in &sent {
        assert_eq!(post(process.addr, body), (event.clone(), alert.clone(), true), "{body}");
    }
    process.kill();
    let (mut file, record) = (File::of(dir), traffic.record().clone());
    record.assert_stored(&mut file);
    traffic.assert_only_sent(&WATCHES, &mut file);
    file.assert_consistent();
    let connections = dashboard.finish();
    assert_told_the_log(&connections, &mut file);
    assert_eq!(connections.len(), 1, "no timer has closed the screen");
    // A machine that is busy may answer 503; that is no matter of the clock.
    assert_eq!(record.unanswered, 0, "no timer has ended a connection");
    figure(&format!("{what}: times, items answered 200, SOS of wrong clocks"), {
        format!("{steps}, {}, {}", traffic.answered(), sent.len())
    });
    figure(&format!("{what}: answers 503"), record.refused);
    figure(&format!("{what}: SOS to the screen"), spread(&shown));
}

/// Waits until the database has everything: nothing of it is in a spool.
fn until_stored(addr: SocketAddr) {
    let begun = Instant::now();
    loop {
        let mut stream = connect(addr).expect("the server is up");
        let (status, answer) = request(&mut stream, "GET /readyz", "").expect("an answer");
        if status == 200 && !answer.contains("spooling") {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "everything is stored within {DEADLINE:?}: {answer}");
        pass(Duration::from_millis(20));
    }
}

/// Between the first and the last time of arrival that was written down.
fn clock_of(data_dir: &Path) -> Duration {
    let ms = File::of(data_dir).number("SELECT max(received_ms) - min(received_ms) FROM event");
    Duration::from_millis(u64::try_from(ms).expect("a span"))
}
