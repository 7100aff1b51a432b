//! The spool reaches its bound: the file and its log stay within it, also while somebody reads the log;
//! reports are answered 503, emergencies last, and it goes on by itself when PostgreSQL is back.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::DEADLINE;
use testkit::bodies::{event, sos};
use testkit::dashboard::Dashboard;
use testkit::process::{Process, admin_token, connect, pass, request_as};
use testkit::scale::figure;
use testkit::truth::File;

use super::spool::{Scene, get, post, until_mirroring};

/// `storage.spool_max_bytes`.
const BOUND: u64 = 3_000_000;
/// What the transaction that passes the bound may write.
const TRANSACTION: u64 = 250_000;
/// Of one event.
const FILLER: usize = 20_000;

/// Bytes of the file and its log, on the disk.
fn on_disk(dir: &Path) -> u64 {
    let size = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |file| file.len());
    size("standby.db") + size("standby.db-wal")
}

/// The most that they were.
#[derive(Default)]
struct Most(u64);

impl Most {
    fn look(&mut self, dir: &Path) {
        self.0 = self.0.max(on_disk(dir));
        assert!(self.0 <= BOUND + TRANSACTION, "file and log stay within {BOUND}: {}", self.0);
    }
}

/// Sends until it is refused; how many were answered 200, and what the last was told.
fn fill(process: &Process, dir: &Path, most: &mut Most, body: impl Fn(i64) -> Value) -> (i64, Value) {
    let begun = Instant::now();
    for number in 0.. {
        let (status, answer) = post(process, &body(number));
        most.look(dir);
        if status != 200 {
            assert_eq!(status, 503, "{answer}");
            return (number, answer);
        }
        assert!(begun.elapsed() < DEADLINE, "it is full some time");
    }
    unreachable!("some time it is full")
}

fn filler(device: &str, number: i64) -> Value {
    event(device, "CALL_STATE", &format!("{number} {}", "x".repeat(FILLER)), 0)
}

/// With room for so many milliseconds of traffic in its log that only the bound makes it shorter.
fn start(scene: &Scene) -> Process {
    scene.start_with(&[&format!("storage.spool_max_bytes={BOUND}")])
}

fn until_taken(process: &Process, body: &Value) {
    let begun = Instant::now();
    while post(process, body).0 != 200 {
        assert!(begun.elapsed() < DEADLINE, "it takes reports again");
        pass(Duration::from_millis(20));
    }
}

#[test]
fn a_full_spool_stays_within_its_bound_and_emergencies_are_refused_last() {
    let mut scene = Scene::new();
    let process = start(&scene);
    let token = admin_token(scene.path());
    let first = post(&process, &sos("first", 0)).1["alert_id"].as_str().expect("an alert").to_owned();
    let dashboard = Dashboard::start(&token);
    dashboard.point_to(Some(process.addr));
    scene.cluster.stop("-INT");
    let mut most = Most::default();
    let (answered, _) = fill(&process, scene.path(), &mut most, |number| filler("filler", number));
    assert!(answered > 30, "{answered} fit");
    // Emergencies have the last of the room, and those who take care of them.
    let shown = post(&process, &sos("emergency", 0));
    assert_eq!(shown.0, 200, "{}", shown.1);
    dashboard.until_shown(shown.1["alert_id"].as_str().expect("an alert"));
    let act = |alert: &str| {
        let mut stream = connect(process.addr).expect("the server is up");
        request_as(&mut stream, &token, &format!("POST /api/v1/alerts/{alert}/acknowledge"), "{}")
    };
    assert_eq!(act(&first).expect("an answer").0, 200, "it is acknowledged");
    let urgent = |number| {
        let serial = format!("late-{number}");
        event(
            &serial,
            "com.tdtech.ohos.health.action.SOS_EVENT",
            &format!("{serial} {}", "y".repeat(1_000)),
            0,
        )
    };
    let (late, refused) = fill(&process, scene.path(), &mut most, urgent);
    assert!(late > 10, "{late} emergencies fit: {refused}");
    // What is known is shown all the same, and watches and people are told to come again.
    let open = get(&process, &token, "/api/v1/alerts?open=true&limit=100");
    assert!(open["items"].as_array().is_some_and(|items| items.len() as i64 >= late.min(100)), "{open}");
    let emergency = shown.1["alert_id"].as_str().expect("an alert");
    let (status, answer) = act(emergency).expect("an answer");
    assert!(
        status == 202 && answer.contains(r#""stored":false"#),
        "it cannot be stored now: {status} {answer}"
    );

    scene.cluster.go_on();
    until_mirroring(&process);
    until_taken(&process, &event("after", "CALL_STATE", "1", 0));
    let begun = Instant::now();
    while get(&process, &token, &format!("/api/v1/alerts/{emergency}"))["state"] != "acknowledged" {
        assert!(begun.elapsed() < DEADLINE, "what was acknowledged in memory is stored");
        pass(Duration::from_millis(20));
    }
    let mut file = scene.settle(process);
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'filler'"), answered);
    assert_eq!(file.number("SELECT count(*) FROM alert"), 2 + late);
    assert_eq!(file.number("SELECT count(*) FROM alert WHERE state = 'acknowledged'"), 2);
    dashboard.finish();
    figure("full spool: bound, most of file and log, events, emergencies", {
        format!("{BOUND}, {}, {answered}, {late}", most.0)
    });
}

#[test]
fn a_log_that_somebody_reads_counts_too() {
    let mut scene = Scene::new();
    let process = start(&scene);
    assert_eq!(post(&process, &sos("first", 0)).0, 200);
    scene.cluster.stop("-INT");
    assert_eq!(post(&process, &filler("filler", -1)).0, 200);
    let mut reader = File::open(&scene.path().join("standby.db"));
    reader.execute("BEGIN");
    assert_eq!(reader.number("SELECT count(*) FROM event WHERE device_sn = 'filler'"), 1);
    let mut most = Most::default();
    // Nothing of the log may go while it is read: the same is written into it again and again.
    let (answered, _) = fill(&process, scene.path(), &mut most, |number| filler("filler", number));
    assert_eq!(post(&process, &sos("emergency", 0)).0, 200, "the last of the room");
    most.look(scene.path());
    reader.execute("COMMIT");
    drop(reader);
    // There is room again, without PostgreSQL.
    until_taken(&process, &filler("room", 0));
    most.look(scene.path());
    scene.cluster.go_on();
    let mut file = scene.settle(process);
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'filler'"), answered + 1);
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'room'"), 1);
}
