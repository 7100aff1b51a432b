//! PostgreSQL is away or slow, and everything goes on: reports are answered 200, alerts are raised and
//! acted on, dashboards stay; across a start without it, a kill, a crash before the mirror had what was
//! pushed. Afterwards PostgreSQL has everything once.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::DEADLINE;
use testkit::bodies::{event, sos};
use testkit::cluster::Cluster;
use testkit::dashboard::{Dashboard, assert_told_the_log, assert_told_the_logs};
use testkit::database;
use testkit::process::{Process, admin_token, connect, request, request_as};
use testkit::scale::{count, figure};
use testkit::traffic::Traffic;
use testkit::truth::File;

const WATCHES: [&str; 3] = ["W0", "W1", "W2"];
/// Reports that are stored between two faults.
const BETWEEN: u64 = 40;

/// Ends the load also when the test fails.
struct Stop<'a>(&'a Traffic);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A database in a cluster of the test's own, and a data directory.
pub struct Scene {
    pub cluster: Cluster,
    pub dir: tempfile::TempDir,
    pub setting: String,
}

impl Scene {
    pub fn new() -> Self {
        let cluster = Cluster::start();
        let dir = tempfile::tempdir().expect("a directory");
        let url = cluster.url("postgres");
        database::note_url(dir.path(), &url);
        Self { setting: format!("storage.database_url={url}"), cluster, dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn start(&self) -> Process {
        self.start_with(&[])
    }

    pub fn start_with(&self, more: &[&str]) -> Process {
        let log = std::env::var("SPOOL_LOG").unwrap_or("off".into());
        let log = format!("telemetry.log={log}");
        // Other tests share the cores: a commit that is late for their sake is not what is tested.
        let mut settings = vec![self.setting.as_str(), "storage.postgres_commit_limit_ms=1000", &log];
        settings.extend(more);
        Process::start_with(self.path(), &settings)
    }

    /// Ends a server in order, after everything has been handed on, and looks at what PostgreSQL has.
    pub fn settle(&self, process: Process) -> File {
        until_mirroring(&process);
        stop(process);
        let mut file = File::of(self.path());
        file.assert_consistent();
        file
    }
}

pub fn stop(process: Process) {
    process.signal("-TERM");
    let (code, said) = process.wait();
    assert_eq!(code, Some(0), "{said}");
}

/// A metric without labels.
pub fn metric(process: &Process, name: &str) -> f64 {
    let mut stream = connect(process.addr).expect("the server is up");
    let (status, text) = request(&mut stream, "GET /metrics", "").expect("metrics");
    assert_eq!(status, 200, "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is there")).parse().expect("a number")
}

pub fn until_spooling(process: &Process, spooling: bool) {
    let begun = Instant::now();
    while metric(process, "watchpost_spooling") != f64::from(u8::from(spooling)) {
        assert!(begun.elapsed() < DEADLINE, "spooling is {spooling} within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub fn until_mirroring(process: &Process) {
    until_spooling(process, false);
}

pub fn post(process: &Process, body: &Value) -> (u16, Value) {
    let mut stream = connect(process.addr).expect("the server is up");
    let (status, answer) =
        request(&mut stream, "POST /upload_common_event", &body.to_string()).expect("an answer");
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

pub fn get(process: &Process, token: &str, path: &str) -> Value {
    let mut stream = connect(process.addr).expect("the server is up");
    let (status, answer) = request_as(&mut stream, token, &format!("GET {path}"), "").expect("an answer");
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

#[test]
fn outages_under_load_are_noticed_by_nobody() {
    let outages = count(4, 40);
    let mut scene = Scene::new();
    let process = scene.start();
    let token = admin_token(scene.path());
    let (traffic, dashboard) = (Traffic::default(), Dashboard::start(&token));
    std::thread::scope(|scope| {
        let _stop = Stop(&traffic);
        let (traffic, token) = (&traffic, &token);
        traffic.point_to(Some(process.addr));
        dashboard.point_to(Some(process.addr));
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate("operator", token));
        for outage in 0..outages {
            traffic.until(BETWEEN);
            // In order, and as a crash of the whole server.
            scene.cluster.stop(if outage % 2 == 0 { "-INT" } else { "-QUIT" });
            traffic.until(BETWEEN);
            until_spooling(&process, true);
            let page = get(&process, token, "/api/v1/events?limit=3");
            assert_eq!(page["incomplete"], true, "{page}");
            scene.cluster.go_on();
            until_mirroring(&process);
        }
        traffic.until(BETWEEN);
        traffic.stop();
    });
    let mut file = scene.settle_with(process, &dashboard);
    let connections = dashboard.finish();
    let record = traffic.record().clone();
    assert_eq!((record.refused, record.unanswered), (0, 0), "everything was answered 200");
    record.assert_stored(&mut file);
    let told = assert_told_the_log(&connections, &mut file);
    assert_eq!(connections.len(), 1, "the dashboard stayed connected all the time");
    assert!(told.alerts > 0, "there were alerts");
    figure("PostgreSQL away, spooled: outages, items answered 200, others", {
        format!("{outages}, {}, {}", traffic.answered(), record.refused)
    });
}

impl Scene {
    /// The same as [`Scene::settle`], after a dashboard has been told everything.
    fn settle_with(&self, process: Process, dashboard: &Dashboard) -> File {
        until_mirroring(&process);
        let mut file = File::of(self.path());
        dashboard.until(file.number("SELECT max(change_offset) FROM alert_change"));
        drop(file);
        self.settle(process)
    }
}

#[test]
fn a_start_without_postgres_knows_what_is_open_and_loses_nothing() {
    let mut scene = Scene::new();
    let process = scene.start();
    let token = admin_token(scene.path());
    assert_eq!(post(&process, &sos("before", 0)).0, 200);
    let epoch = get(&process, &token, "/api/v1/system")["epoch"].clone();
    stop(process);
    scene.cluster.stop("-INT");

    // It was stopped well: the log goes on.
    let process = scene.start();
    let system = get(&process, &token, "/api/v1/system");
    assert_eq!(system["epoch"], epoch, "{system}");
    assert_eq!(system["database"]["spool"]["mode"], "spooling", "{system}");
    let open = get(&process, &token, "/api/v1/alerts?open=true");
    assert_eq!(open["items"][0]["device_sn"], "before", "{open}");
    // The same again is no second event.
    let (status, again) = post(&process, &sos("before", 0));
    assert_eq!((status, &again["alert_id"]), (200, &open["items"][0]["alert_id"]), "{again}");
    assert_eq!(post(&process, &sos("meanwhile", 0)).0, 200);
    // What was answered 200 survives.
    process.kill();
    let process = scene.start();
    assert_eq!(get(&process, &token, "/api/v1/system")["epoch"], epoch, "everything was in the spool");
    assert_eq!(post(&process, &sos("after a kill", 0)).0, 200);
    process.kill();
    scene.cluster.go_on();
    let process = scene.start();
    assert_eq!(post(&process, &sos("at last", 0)).0, 200);
    let mut file = scene.settle(process);
    assert_eq!(
        file.texts("SELECT device_sn AS value FROM alert ORDER BY last_offset"),
        ["before", "meanwhile", "after a kill", "at last"]
    );
    assert_eq!(file.number("SELECT count(*) FROM event"), 4);
    assert_eq!(file.texts("SELECT value FROM meta WHERE key = 'epoch'"), [epoch.as_str().expect("text")]);
}

#[test]
fn a_commit_that_takes_too_long_does_not_hold_up_an_emergency() {
    let scene = Scene::new();
    let process = scene.start_with(&["storage.postgres_commit_limit_ms=100"]);
    assert_eq!(post(&process, &sos("first", 0)).0, 200);
    let mut file = File::of(scene.path());
    file.execute("BEGIN");
    file.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE");
    // The statement waits for 2 s before it fails.
    let begun = Instant::now();
    assert_eq!(post(&process, &sos("held up", 0)).0, 200);
    let took = begun.elapsed();
    until_spooling(&process, true);
    assert!(file.number("SELECT count(*) FROM event") == 1, "the lock is still there");
    assert_eq!(post(&process, &sos("behind", 0)).0, 200);
    file.execute("COMMIT");
    drop(file);
    let mut file = scene.settle(process);
    assert_eq!(
        file.texts("SELECT device_sn AS value FROM alert ORDER BY last_offset"),
        ["first", "held up", "behind"]
    );
    assert_eq!(file.number("SELECT count(*) FROM event"), 3);
    figure("PostgreSQL stalled: an SOS answered 200 after ms", took.as_millis());
}

#[test]
fn what_was_pushed_and_never_mirrored_is_found_again_after_a_start_without_postgres() {
    let mut scene = Scene::new();
    let process = scene.start();
    let token = admin_token(scene.path());
    assert_eq!(post(&process, &sos("known", 0)).0, 200);
    let epoch = get(&process, &token, "/api/v1/system")["epoch"].clone();
    process.kill();
    // It commits, tells everybody, and stops before the mirror has it.
    let process = Process::start_adjusted(scene.path(), |command| {
        command.args(["--set", &scene.setting, "--set", "telemetry.log=off"]);
        command.args(["--set", "storage.postgres_commit_limit_ms=1000"]);
        command.env("FAILPOINTS", "standby::mirror=sleep(600000)");
    });
    let dashboard = Dashboard::start(&token);
    dashboard.point_to(Some(process.addr));
    assert_eq!(post(&process, &sos("pushed", 0)).0, 200);
    dashboard.until(2);
    dashboard.point_to(None);
    process.kill();
    scene.cluster.stop("-QUIT");

    let process = scene.start();
    dashboard.point_to(Some(process.addr));
    let alone = get(&process, &token, "/api/v1/system")["epoch"].clone();
    assert_ne!(alone, epoch, "offsets of before mean nothing");
    // The same offset is given once more, and both alerts of one key meet.
    assert_eq!(post(&process, &sos("known", 60)).0, 200);
    assert_eq!(post(&process, &sos("pushed", 60)).0, 200);
    assert_eq!(post(&process, &sos("alone", 0)).0, 200);
    let open = get(&process, &token, "/api/v1/alerts?open=true");
    assert_eq!(open["items"].as_array().map(Vec::len), Some(3), "{open}");
    scene.cluster.go_on();
    until_mirroring(&process);
    let rejoined = get(&process, &token, "/api/v1/system")["epoch"].clone();
    assert_ne!(rejoined, alone, "offsets were given anew");
    let open = get(&process, &token, "/api/v1/alerts?open=true");
    assert_eq!(open["items"].as_array().map(Vec::len), Some(3), "{open}");
    assert_eq!(post(&process, &sos("afterwards", 0)).0, 200);
    dashboard.until(6);
    let mut file = scene.settle(process);
    let log = file.texts(
        "SELECT change_offset || ' ' || device_sn || ' ' || transition AS value FROM alert_change \
         ORDER BY change_offset",
    );
    assert_eq!(
        log,
        [
            "1 known raised",
            "2 pushed raised",
            "3 known repeated",
            "4 pushed repeated",
            "5 alone raised",
            "6 afterwards raised"
        ]
    );
    assert_eq!(file.texts("SELECT value FROM meta WHERE key = 'epoch'"), [rejoined.as_str().expect("text")]);
    assert_eq!(file.number("SELECT count(*) FROM alert WHERE is_open"), 4);
    let told = assert_told_the_logs(&dashboard.finish(), &mut file);
    assert_eq!((told.gaps, told.up_to), (2, 6), "a gap for each new epoch, and nothing was missed");
}

#[test]
fn a_row_that_postgres_refuses_is_quarantined_and_its_neighbours_are_stored() {
    let mut scene = Scene::new();
    let process = scene.start();
    let mut file = File::of(scene.path());
    file.execute("ALTER TABLE event ADD CONSTRAINT odd CHECK (value <> 'poison')");
    let item = |sn: &str, value: &str| event(sn, "CALL_STATE", value, 0);
    for (sn, value) in [("a", "well"), ("b", "poison"), ("c", "well")] {
        assert_eq!(post(&process, &item(sn, value)).0, 200, "{sn}");
    }
    until_spooling(&process, false);
    drop(file);
    // And what was spooled.
    scene.cluster.stop("-INT");
    for (sn, value) in [("d", "well"), ("e", "poison"), ("f", "well")] {
        assert_eq!(post(&process, &item(sn, value)).0, 200, "{sn}");
    }
    scene.cluster.go_on();
    let mut file = scene.settle(process);
    let stored = file.texts("SELECT device_sn AS value FROM event ORDER BY device_sn");
    assert_eq!(stored, ["a", "c", "d", "f"]);
    let kept =
        file.texts("SELECT convert_from(body, 'UTF8') AS value FROM quarantine ORDER BY quarantine_id");
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept[0].contains(r#""device_sn":"b""#) && kept[1].contains(r#""device_sn":"e""#), "{kept:?}");
    let reasons = file.texts("SELECT reason AS value FROM quarantine");
    assert!(reasons.iter().all(|reason| reason.contains("odd")), "{reasons:?}");
}

/// Whatever breaks once or twice on the way to PostgreSQL and back: nothing is lost, and it ends in order.
#[test]
fn a_panic_at_each_step_of_the_spool_loses_nothing() {
    let mut scene = Scene::new();
    for point in crate::failpoints::points::STANDBY {
        for action in ["panic", "return"].into_iter().take(1 + usize::from(point.returns)) {
            let points = format!("{}=5*off->2*{action}", point.name);
            let process = Process::start_adjusted(scene.path(), |command| {
                command.args(["--set", &scene.setting, "--set", "telemetry.log=off"]);
                command.args(["--set", "storage.postgres_commit_limit_ms=1000"]);
                command.env("FAILPOINTS", &points).env("RUST_BACKTRACE", "0");
            });
            let traffic = Traffic::default();
            std::thread::scope(|scope| {
                let _stop = Stop(&traffic);
                let (traffic, name) = (&traffic, format!("{}-{action}", point.name.replace(':', "-")));
                traffic.point_to(Some(process.addr));
                scope.spawn(move || traffic.watch(&name));
                for _ in 0..2 {
                    traffic.until(10);
                    scene.cluster.stop("-INT");
                    traffic.until(10);
                    scene.cluster.go_on();
                    traffic.until(10);
                }
            });
            let mut file = scene.settle_whatever(process);
            traffic.record().assert_stored(&mut file);
        }
    }
}

impl Scene {
    /// The same as [`Scene::settle`], of a server that may have complained.
    fn settle_whatever(&self, process: Process) -> File {
        until_mirroring(&process);
        process.signal("-TERM");
        assert_eq!(process.wait().0, Some(0));
        let mut file = File::of(self.path());
        file.assert_consistent();
        file
    }
}
