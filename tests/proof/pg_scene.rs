//! A server with PostgreSQL behind a proxy, watches, an operator and a screen; what is asked of them
//! while PostgreSQL is away, and what must hold when it is back.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::cluster::Cluster;
use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::database;
use testkit::process::{self, Answer, Process, admin_token, connect, pass, request_as, whole_answer};
use testkit::proxy::Proxy;
use testkit::scale::{figure, is_long, spread};
use testkit::traffic::{Traffic, bind};
use testkit::truth::File;

pub const WATCHES: [&str; 3] = ["W0", "W1", "W2"];
const OPERATOR: &str = "ann";
const EVENTS: &str = "POST /upload_common_event";
/// Reports that are stored between two faults.
const BETWEEN: u64 = 30;
/// Between two emergencies while PostgreSQL is away.
const PROBES: Duration = Duration::from_millis(100);
/// Between two looks at what has been stored.
const LOOK: Duration = Duration::from_millis(50);

pub struct Scene {
    pub cluster: Cluster,
    pub proxy: Proxy,
    pub dir: tempfile::TempDir,
    pub traffic: Traffic,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With settings of PostgreSQL's own.
    pub fn with(settings: &[&str]) -> Self {
        let cluster = Cluster::start_with(settings);
        cluster.execute(&["CREATE ROLE watchpost LOGIN", "CREATE DATABASE watchpost OWNER watchpost"]);
        let proxy = Proxy::start(cluster.port());
        let dir = tempfile::tempdir().expect("a directory");
        // The truth does not pass the proxy.
        database::note_url(dir.path(), &cluster.url("watchpost"));
        Self { cluster, proxy, dir, traffic: Traffic::default() }
    }

    /// What a server needs to be told.
    pub fn settings(proxy: &Proxy) -> Vec<String> {
        let url = format!("postgres://watchpost@127.0.0.1:{}/watchpost", proxy.port());
        vec![format!("storage.database_url={url}"), "telemetry.log=off".to_owned()]
    }

    pub fn start(dir: &Path, proxy: &Proxy) -> Process {
        let settings = Self::settings(proxy);
        Process::start_with(dir, &settings.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// What a probe was told: the body that was sent, event and alert.
type Told = (String, Value, Value);

/// Somebody who sends emergencies of watches of its own and looks for them on the screen.
pub struct Desk<'a> {
    addr: SocketAddr,
    token: &'a str,
    dashboard: &'a Dashboard,
    probes: u64,
    told: Vec<Told>,
    /// From sending to the answer 200, and to the screen, of those that were sent during a fault.
    answered: Vec<Duration>,
    shown: Vec<Duration>,
}

impl<'a> Desk<'a> {
    pub fn new(addr: SocketAddr, token: &'a str, dashboard: &'a Dashboard) -> Self {
        Self { addr, token, dashboard, probes: 0, told: Vec::new(), answered: Vec::new(), shown: Vec::new() }
    }

    fn post(&self, body: &str) -> Answer {
        let mut stream = connect(self.addr).expect("the server is up");
        process::send(&mut stream, "", EVENTS, body).expect("a request");
        whole_answer(&mut stream).expect("an answer")
    }

    /// An SOS. If it is answered 200 its alert is on the screen, and can be acknowledged.
    pub fn probe(&mut self) {
        self.probes += 1;
        let body = sos(&format!("PROBE-{}", self.probes));
        let begun = Instant::now();
        let answer = self.post(&body);
        assert_eq!(answer.status, 200, "{answer:?}");
        self.answered.push(begun.elapsed());
        let told: Value = serde_json::from_str(&answer.body).expect("JSON");
        let alert = told["alert_id"].as_str().expect("an alert").to_owned();
        self.told.push((body, told["event_id"].clone(), told["alert_id"].clone()));
        self.dashboard.until_shown(&alert);
        self.shown.push(begun.elapsed());
        self.acknowledge(&alert);
    }

    fn acknowledge(&self, alert: &str) {
        let mut stream = connect(self.addr).expect("the server is up");
        let head = format!("POST /api/v1/alerts/{alert}/acknowledge");
        let (status, answer) = request_as(&mut stream, self.token, &head, "{}").expect("an answer");
        // The operator may have been quicker.
        assert!([200, 409].contains(&status), "{status}: {answer}");
    }

    /// While a fault lasts: emergencies, and a look whether the server is alive.
    pub fn pass(&mut self, time: Duration) {
        let begun = Instant::now();
        loop {
            self.probe();
            let mut stream = connect(self.addr).expect("the server is up");
            let health = process::request(&mut stream, "GET /healthz", "").expect("an answer");
            assert_eq!(health.0, 200, "{}", health.1);
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            pass(left.min(PROBES));
        }
    }

    /// Copies of everything are known, and get their ids.
    fn assert_known(&self, addr: SocketAddr) {
        for (body, event, alert) in &self.told {
            let mut stream = connect(addr).expect("the server is up");
            let (status, answer) = process::request(&mut stream, EVENTS, body).expect("an answer");
            let told: Value = serde_json::from_str(&answer).expect("JSON");
            let known = (status, &told["event_id"], &told["alert_id"], &told["duplicate"]);
            assert_eq!(known, (200, event, alert, &json!(true)), "{body}");
        }
    }
}

/// An SOS of this moment.
pub fn sos(device: &str) -> String {
    let wall = (chrono::Utc::now() + chrono::TimeDelta::hours(8)).format("%Y-%m-%d %H:%M:%S");
    json!({"eventType": "SOS_EVENT", "eventValue": device, "deviceSn": device, "timestamp": wall.to_string()})
        .to_string()
}

/// Everything that was answered 200 is in PostgreSQL in the end, up to the offset that the server
/// stands at; how long that took.
pub fn until_caught_up(addr: SocketAddr, token: &str, traffic: &Traffic, file: &mut File) -> Duration {
    let (begun, record) = (Instant::now(), traffic.record().clone());
    let limit = if is_long() { 30 * testkit::DEADLINE } else { testkit::DEADLINE };
    loop {
        let mut stream = connect(addr).expect("the server is up");
        let system = request_as(&mut stream, token, "GET /api/v1/system", "").expect("an answer");
        let offset = serde_json::from_str::<Value>(&system.1).ok().and_then(|found| found["offset"].as_i64());
        let last = file.number("SELECT coalesce(max(change_offset), 0) FROM alert_change");
        if offset.is_some_and(|offset| last >= offset) {
            let stored: std::collections::HashSet<String> = file.event_ids().into_iter().collect();
            if record.events.iter().all(|id| stored.contains(id)) {
                return begun.elapsed();
            }
        }
        assert!(
            begun.elapsed() < limit,
            "everything is in PostgreSQL within {limit:?}; it holds up to {last}"
        );
        pass(LOOK);
    }
}

/// The promises, of a database that nobody writes to any more.
pub fn assert_kept(traffic: &Traffic, names: &[&str], file: &mut File) {
    traffic.record().assert_stored(file);
    traffic.assert_only_sent(names, file);
    file.assert_consistent();
}

/// A screen that comes now is told of everything that is open.
fn assert_shows_what_is_open(addr: SocketAddr, token: &str, file: &mut File) {
    let screen = Dashboard::start(token);
    screen.point_to(Some(addr));
    screen.until(file.number("SELECT max(change_offset) FROM alert_change"));
    let told = assert_told_the_log(&screen.finish(), file);
    assert_eq!(told.snapshots, 1, "it began with what is open");
}

/// One fault after the other under load. `begin` and `end` make it; between them emergencies are sent
/// for `away`, and for as long as `end` waits for.
pub fn faults(
    what: &str,
    mut scene: Scene,
    rounds: usize,
    away: Duration,
    mut begin: impl FnMut(&mut Cluster, &Proxy, usize),
    mut end: impl FnMut(&mut Cluster, &Proxy, usize),
) {
    let Scene { cluster, proxy, dir, traffic } = &mut scene;
    let process = Scene::start(dir.path(), proxy);
    let (addr, token) = (process.addr, admin_token(dir.path()));
    bind(addr, &token, &WATCHES);
    let dashboard = Dashboard::start(&token);
    dashboard.point_to(Some(addr));
    let mut desk = Desk::new(addr, &token, &dashboard);
    let mut file = std::thread::scope(|scope| {
        let traffic = &*traffic;
        let _stop = traffic.until_dropped();
        traffic.point_to(Some(addr));
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate(OPERATOR, &token));
        for round in 0..rounds {
            traffic.until(BETWEEN);
            begin(cluster, proxy, round);
            desk.pass(away);
            end(cluster, proxy, round);
        }
        // It goes on by itself.
        traffic.until(BETWEEN);
        traffic.stop();
        File::of(dir.path())
    });
    let caught_up = until_caught_up(addr, &token, traffic, &mut file);
    dashboard.until(file.number("SELECT max(change_offset) FROM alert_change"));
    assert_shows_what_is_open(addr, &token, &mut file);
    process.signal("-TERM");
    let (code, said) = process.wait();
    // What PostgreSQL says to a session that it ends, libpq writes to standard error.
    let own = |line: &&str| !line.contains(":  terminating connection due to");
    assert_eq!((code, said.lines().find(own)), (Some(0), None), "{said}");
    assert_kept(traffic, &WATCHES, &mut file);
    let answered =
        format!("{} of {} answered 200, {}", desk.answered.len(), desk.probes, spread(&desk.answered));
    let shown = spread(&desk.shown);
    // Whoever comes after it knows everything.
    let next = Scene::start(dir.path(), proxy);
    desk.assert_known(next.addr);
    assert_shows_what_is_open(next.addr, &token, &mut file);
    next.kill();
    let connections = dashboard.finish();
    let told = assert_told_the_log(&connections, &mut file);
    assert_eq!(connections.len(), 1, "the screen stayed connected all the time");
    assert!(told.alerts > 0, "there were alerts");

    let record = traffic.record();
    assert_eq!((record.refused, record.unanswered), (0, 0), "nobody was sent away: {:?}", record.refusals);
    figure(&format!("{what}: faults, items answered 200, answers 503"), {
        format!("{rounds}, {}, {}", traffic.answered(), record.refused)
    });
    figure(&format!("{what}: SOS meanwhile; to the screen"), format!("{answered}; {shown}"));
    figure(&format!("{what}: until all is in PostgreSQL, ms"), caught_up.as_millis());
}
