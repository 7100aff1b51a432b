//! A server with small limits, those who abuse it, and a bound watch whose SOS must go through all
//! the same.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::process::{Process, connect, request};
use testkit::scale::figure;
use testkit::truth::File;

pub const EVENTS: &str = "POST /upload_common_event";
/// The watch that somebody wears.
pub const WORN: &str = "WORN-1";
/// Ten times what an SOS may take.
const SOS_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at a server under abuse.
const PAUSE: Duration = Duration::from_millis(20);

pub const MIB: u64 = 1024 * 1024;
pub const BODY_BYTES: usize = 2 * 1024 * 1024;
pub const BODY_BUDGET_MIB: u64 = 16;
pub const ADMISSION_MIB: u64 = 16;
pub const STRANGERS_MAX: i64 = 200;
pub const QUARANTINE_BODIES: i64 = 100;
pub const QUARANTINE_BYTES: i64 = 2 * MIB as i64;
const QUARANTINE_PERMITS: u64 = 4;
const SETTINGS: [&str; 13] = [
    "server.http_workers=2",
    "server.body_budget_bytes=16777216",
    "server.body_reserve_bytes=2097152",
    "admission.capacity_kib=16384",
    "admission.reserve_above_vitals_kib=4096",
    "admission.reserve_above_events_kib=2048",
    "admission.reserve_above_unbound_kib=1024",
    "device.devices_unbound_max=200",
    "device.states_max=1000",
    "device.bindings_cached_max=1000",
    "session.ring_changes=1000",
    "quarantine.permits=4",
    "quarantine.known_hashes_max=1000",
];

/// What the configuration above allows beyond a server that does nothing, as
/// docs/performance.md adds it up, in KiB.
fn allowance_kib(connections: u64) -> u64 {
    let (bodies, admitted) = (3 * BODY_BUDGET_MIB, 2 * ADMISSION_MIB);
    let quarantine = QUARANTINE_PERMITS * BODY_BYTES as u64 / MIB;
    // States, owners twice, changes and hashes: 1,000 of each; 200 strangers; at 4 KiB at most.
    let kept = 21;
    // Page caches: the writer's, and those of four readers.
    let storage = 16 + 4 * 2;
    (bodies + admitted + quarantine + kept + storage) * 1024 + connections * 128
}

pub struct Scene {
    pub process: Process,
    pub dir: TempDir,
    pub addr: SocketAddr,
    idle_kib: u64,
    /// Event ids that anybody was answered with 200.
    pub stored: Mutex<Vec<String>>,
    running: AtomicUsize,
}

impl Scene {
    /// A server with a watch that is bound and has been heard.
    pub fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = [
            format!("quarantine.bodies_max={QUARANTINE_BODIES}"),
            format!("quarantine.bytes_max={QUARANTINE_BYTES}"),
        ];
        let settings: Vec<&str> = SETTINGS
            .iter()
            .copied()
            .chain(limits.iter().map(String::as_str))
            .chain(more.iter().copied())
            .collect();
        let process = Process::start_with(dir.path(), &settings);
        let addr = process.addr;
        let token = std::fs::read_to_string(dir.path().join("admin.token")).expect("a token");
        let head = format!(
            "PUT /api/v1/devices/{WORN}/binding HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nX-Rest:",
            token.trim()
        );
        let mut stream = connect(addr).expect("a connection");
        let (status, answer) = request(&mut stream, &head, r#"{"customer_id":"7"}"#).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let scene =
            Self { idle_kib: 0, addr, process, dir, stored: Mutex::default(), running: AtomicUsize::new(0) };
        scene.sos(&mut stream, 0);
        Self { idle_kib: scene.process.memory_kib("VmRSS"), ..scene }
    }

    /// Runs `abuse` on so many threads while the bound watch presses SOS again and again. `watch`
    /// is called between. Answers how often SOS was pressed.
    pub fn under(&self, what: &str, threads: usize, abuse: impl Fn(usize) + Sync, mut watch: impl FnMut()) {
        self.running.store(threads, Ordering::Release);
        let (mut slowest, mut presses) = (Duration::ZERO, 0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let abuse = &abuse;
                scope.spawn(move || {
                    let _done = Done(&self.running);
                    abuse(thread);
                });
            }
            let mut stream = connect(self.addr).expect("a connection");
            while presses == 0 || self.running.load(Ordering::Acquire) > 0 {
                presses += 1;
                slowest = slowest.max(self.sos(&mut stream, presses));
                let (status, answer) = request(&mut stream, "GET /readyz", "").expect("an answer");
                assert_eq!(status, 200, "{answer}");
                watch();
                std::thread::park_timeout(PAUSE);
            }
        });
        figure(&format!("{what}: SOS of a bound watch, slowest of {presses}, ms"), slowest.as_millis());
        let peak = self.process.memory_kib("VmHWM");
        let bound = self.idle_kib + allowance_kib(threads as u64);
        figure(&format!("{what}: largest resident memory, MiB, of {} allowed", bound / 1024), peak / 1024);
        assert!(peak <= bound, "{peak} KiB are more than {bound}");
    }

    /// Presses SOS on the bound watch: how long it took to be stored.
    fn sos(&self, stream: &mut std::net::TcpStream, press: usize) -> Duration {
        let body = format!(r#"{{"eventType":"SOS_EVENT","eventValue":"press {press}","deviceSn":"{WORN}"}}"#);
        let begun = Instant::now();
        // On a machine that does much else the receipt may time out. A watch sends it again.
        loop {
            let (status, answer) = request(stream, EVENTS, &body).expect("an answer");
            let took = begun.elapsed();
            assert!([200, 503].contains(&status), "press {press}: {answer}");
            assert!(took < SOS_DEADLINE, "press {press} took {took:?}: {answer}");
            if status == 200 {
                self.remember(&answer);
                return took;
            }
        }
    }

    /// Keeps the event ids of an answer 200.
    pub fn remember(&self, answer: &str) {
        let answer: Value = serde_json::from_str(answer).expect("JSON");
        let results = answer["results"].as_array().map_or(std::slice::from_ref(&answer), Vec::as_slice);
        let ids = results.iter().filter_map(|result| result["event_id"].as_str().map(str::to_owned));
        self.stored.lock().expect("no panic").extend(ids);
    }

    pub fn metrics(&self) -> String {
        let mut stream = connect(self.addr).expect("a connection");
        request(&mut stream, "GET /metrics", "").expect("metrics").1
    }

    /// A gauge or counter without labels.
    pub fn metric(&self, name: &str) -> i64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {metrics}"))
    }

    /// Nobody died of it, and nothing that was answered 200 is lost.
    pub fn end(self) -> (TempDir, File) {
        let metrics = self.metrics();
        let faults =
            ["watchpost_actor_restarts_total", "watchpost_panics_total", "watchpost_given_up_reports_total"];
        for line in metrics.lines().filter(|line| faults.iter().any(|fault| line.starts_with(fault))) {
            assert!(line.ends_with(" 0"), "{line}");
        }
        self.process.signal("-TERM");
        let (code, stderr) = self.process.wait();
        assert_eq!(code, Some(0), "{stderr}");
        let mut file = File::of(self.dir.path());
        file.assert_holds(&self.stored.into_inner().expect("no panic"));
        file.assert_consistent();
        (self.dir, file)
    }
}

/// One abuser less, however it ended.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
