//! Rare orders of events on the way between PostgreSQL and the spool: each of them once held something
//! up for ever, or lost it.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::DEADLINE;
use testkit::bodies::{event, sos};
use testkit::process::{Process, admin_token, pass, request_as};
use testkit::proxy::Way;
use testkit::traffic::{Traffic, bind};
use testkit::truth::File;

use super::pg_scene;
use super::spool::{Scene, get, metric, post, until_mirroring, until_spooling};

const LOOK: Duration = Duration::from_millis(20);

fn item(sn: &str, value: &str) -> Value {
    event(sn, "CALL_STATE", value, 0)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "{what} within {DEADLINE:?}");
        pass(LOOK);
    }
}

impl Scene {
    fn start_failing(&self, points: &str) -> Process {
        Process::start_adjusted(self.path(), |command| {
            command.args(["--set", &self.setting, "--set", "telemetry.log=off"]);
            command.args(["--set", "storage.postgres_commit_limit_ms=1000"]);
            command.env("FAILPOINTS", points).env("RUST_BACKTRACE", "0");
        })
    }
}

#[test]
fn rows_that_are_refused_on_the_way_back_are_quarantined() {
    let mut scene = Scene::new();
    // The writer asks to go back while they are being found out.
    let process = scene.start_failing("standby::hand_on=sleep(300)");
    let mut file = File::of(scene.path());
    file.execute("ALTER TABLE event ADD CONSTRAINT odd CHECK (value NOT LIKE 'poison%')");
    drop(file);
    scene.cluster.stop("-INT");
    assert_eq!(post(&process, &item("first", "well")).0, 200);
    until_spooling(&process, true);
    scene.cluster.go_on();
    let mut sent = 0;
    let begun = Instant::now();
    while metric(&process, "watchpost_spooling") == 1.0 {
        assert!(begun.elapsed() < DEADLINE, "it goes back within {DEADLINE:?}");
        assert_eq!(post(&process, &item("refused", &format!("poison {sent}"))).0, 200);
        assert_eq!(post(&process, &item("well", &sent.to_string())).0, 200);
        sent += 1;
    }
    let mut file = File::of(scene.path());
    until("all are kept", || file.number("SELECT count(*) FROM quarantine") == sent);
    drop(file);
    let mut file = scene.settle(process);
    assert_eq!(file.number("SELECT count(*) FROM event"), 1 + sent);
}

#[test]
fn it_goes_back_to_postgres_while_the_load_lasts() {
    let mut scene = Scene::new();
    let process = Process::start_adjusted(scene.path(), |command| {
        command.args(["--set", &scene.setting, "--set", "telemetry.log=off"]);
        // More comes while a portion is handed on, and some take longer than the writer waits.
        command.args(["--set", "storage.postgres_commit_limit_ms=500"]);
        command.env("FAILPOINTS", "standby::handed_on=5*sleep(700)->sleep(50)");
    });
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        let _stop = traffic.until_dropped();
        let traffic = &traffic;
        traffic.point_to(Some(process.addr));
        for name in ["W0", "W1", "W2", "W3", "W4", "W5"] {
            scope.spawn(move || traffic.watch(name));
        }
        traffic.until(20);
        scene.cluster.stop("-INT");
        traffic.until(20);
        until_spooling(&process, true);
        scene.cluster.go_on();
        until_mirroring(&process);
        traffic.stop();
    });
    let mut file = scene.settle(process);
    traffic.record().assert_stored(&mut file);
}

#[test]
fn a_panic_in_the_first_batch_of_an_outage_does_not_end_handing_on() {
    let mut scene = Scene::new();
    let process = scene.start_failing("standby::spool=1*panic");
    scene.cluster.stop("-INT");
    assert_eq!(post(&process, &item("first", "well")).0, 200);
    until_spooling(&process, true);
    scene.cluster.go_on();
    until_mirroring(&process);
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
    let mut file = File::of(scene.path());
    file.assert_consistent();
    assert_eq!(file.texts("SELECT device_sn AS value FROM event"), ["first"]);
}

#[test]
fn a_mirror_that_cannot_be_written_costs_nothing_while_postgres_is_there() {
    let mut scene = Scene::new();
    let process = scene.start();
    assert_eq!(post(&process, &sos("before", 0)).0, 200);
    let mut mirror = File::open(&scene.path().join("standby.db"));
    mirror.execute("BEGIN IMMEDIATE");
    assert_eq!(post(&process, &sos("not mirrored", 0)).0, 200);
    until("it is said", || metric(&process, "watchpost_mirror_stale") == 1.0);
    scene.cluster.stop("-INT");
    scene.cluster.go_on();
    until("it goes on without it", || post(&process, &sos("behind", 0)).0 == 200);
    mirror.execute("ROLLBACK");
    drop(mirror);
    until("the mirror is mended", || metric(&process, "watchpost_mirror_stale") == 0.0);
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
    let mut file = File::of(scene.path());
    file.assert_consistent();
    assert_eq!(
        file.texts("SELECT device_sn AS value FROM alert ORDER BY last_offset"),
        ["before", "not mirrored", "behind"]
    );
}

#[test]
fn a_start_that_was_killed_before_it_was_up_to_date_is_no_stranger() {
    let mut scene = Scene::new();
    let process = scene.start();
    assert_eq!(post(&process, &sos("before", 0)).0, 200);
    scene.cluster.stop("-INT");
    assert_eq!(post(&process, &sos("spooled", 0)).0, 200);
    process.kill();
    scene.cluster.go_on();
    // It takes PostgreSQL over, and hands nothing on.
    let process = scene.start_failing("standby::hand_on=return");
    assert_eq!(post(&process, &sos("next", 0)).0, 200);
    process.kill();
    scene.cluster.stop("-INT");
    let process = scene.start();
    assert_eq!(post(&process, &sos("last", 0)).0, 200);
    scene.cluster.go_on();
    until_mirroring(&process);
    assert_eq!(post(&process, &sos("afterwards", 0)).0, 200);
    let mut file = scene.settle(process);
    assert_eq!(
        file.texts("SELECT device_sn AS value FROM alert ORDER BY last_offset"),
        ["before", "spooled", "next", "last", "afterwards"]
    );
}

#[test]
fn a_server_that_was_cut_off_notices_that_another_one_writes() {
    let scene = pg_scene::Scene::new();
    let old = pg_scene::Scene::start(scene.dir.path(), &scene.proxy);
    assert_eq!(post(&old, &sos("before", 0)).0, 200);
    scene.proxy.set(Way::Cut);
    assert_eq!(post(&old, &sos("cut off", 0)).0, 200);
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("storage.database_url={}", scene.cluster.url("watchpost"));
    let new = Process::start_with(dir.path(), &[&url, "telemetry.log=off"]);
    assert_eq!(post(&new, &sos("elsewhere", 0)).0, 200);
    scene.proxy.set(Way::Open);
    // Which has the lease, and keeps it.
    let mut number = 0..;
    let mut next = || item("watch", &number.next().unwrap_or(0).to_string());
    until("the old one sends watches to the other", || post(&old, &next()).0 == 503);
    assert_eq!(post(&new, &next()).0, 200);
}

#[test]
fn an_emergency_has_its_owner_though_postgres_is_silent_and_nobody_writes() {
    let scene = pg_scene::Scene::new();
    let process = pg_scene::Scene::start(scene.dir.path(), &scene.proxy);
    let token = admin_token(scene.dir.path());
    let watch = "W";
    bind(process.addr, &token, &[watch]);
    let bound = get(&process, &token, "/api/v1/devices")["items"][0]["device_sn"].clone();
    let bound = bound.as_str().expect("a serial").to_owned();
    // Nothing of it is in memory.
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
    let process = pg_scene::Scene::start(scene.dir.path(), &scene.proxy);
    scene.proxy.set(Way::Stalled);
    let (status, answer) = post(&process, &sos(&bound, 0));
    assert_eq!(status, 200, "{answer}");
    scene.proxy.set(Way::Open);
    until_mirroring(&process);
    let mut stream = testkit::process::connect(process.addr).expect("the server is up");
    let head = format!("GET /api/v1/alerts/{}", answer["alert_id"].as_str().expect("an alert"));
    let (status, alert) = request_as(&mut stream, &token, &head, "").expect("an answer");
    let alert: Value = serde_json::from_str(&alert).expect("JSON");
    assert_eq!(
        (status, &alert["customer_id"], &alert["verified"]),
        (200, &"7".into(), &true.into()),
        "{alert}"
    );
}

#[test]
fn bindings_of_another_server_under_the_same_ids_stay() {
    let mut scene = Scene::new();
    let process = scene.start();
    let token = admin_token(scene.path());
    bind(process.addr, &token, &["K"]);
    scene.cluster.stop("-INT");
    bind(process.addr, &token, &["E"]);
    until_spooling(&process, true);
    process.kill();
    scene.cluster.go_on();
    let open = "SELECT device_sn || ' ' || bound_by AS value FROM device_binding WHERE unbound_ms IS NULL \
                ORDER BY device_sn";
    let mut mirror = File::open(&scene.path().join("standby.db"));
    let (ids, ours) = (mirror.number("SELECT max(binding_id) FROM device_binding"), mirror.texts(open));
    drop(mirror);
    let mut file = File::of(scene.path());
    let known = file.number("SELECT max(binding_id) FROM device_binding");
    assert!(known < ids, "the last ones are only here: {known}, {ids}");
    // The same id for another watch, and the same watch under another id.
    for (id, device) in [(ids, "D"), (ids + 7, "E-0")] {
        file.execute(&format!(
            "INSERT INTO device_binding (binding_id, device_sn, customer_id, bound_ms, bound_by) \
             VALUES ({id}, '{device}', '7', 1, 'them')"
        ));
    }
    drop(file);
    let process = scene.start();
    let mut file = scene.settle(process);
    let mut both = ours;
    both.push("D them".to_owned());
    both.sort();
    assert_eq!(file.texts(open), both);
}

#[test]
fn a_server_starts_though_postgres_has_few_connections_left() {
    let scene = pg_scene::Scene::new();
    let process = pg_scene::Scene::start(scene.dir.path(), &scene.proxy);
    assert_eq!(post(&process, &sos("before", 0)).0, 200);
    process.kill();
    scene.cluster.execute(&["ALTER ROLE watchpost CONNECTION LIMIT 2"]);
    let process = pg_scene::Scene::start(scene.dir.path(), &scene.proxy);
    assert_eq!(post(&process, &sos("afterwards", 0)).0, 200);
}
