//! A new server takes over from the old on the same database behind nginx, as docs/operations.md has it,
//! under load: whatever a server has accepted is answered, nothing happens twice, and never do two write.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::cluster::free_port;
use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::process::{Process, Starting, admin_token, connect, pass, request};
use testkit::proxy::Way;
use testkit::scale::{count, figure, spread};
use testkit::traffic::{Traffic, bind};
use testkit::truth::File;

use super::pg_scene::{Scene, WATCHES, assert_kept, sos, until_caught_up};
use super::spool::{until_mirroring, until_spooling};

const NGINX: &str = "/usr/sbin/nginx";

/// With the configuration of the document. Ended when dropped.
struct Nginx {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    child: Child,
}

impl Nginx {
    fn start(upstreams: [SocketAddr; 2]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let name = dir.path().to_string_lossy().into_owned();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port(&name)));
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
        let text = std::fs::read_to_string(document).expect("the document");
        let written = text.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next());
        let servers = written
            .expect("a configuration")
            .replace("127.0.0.1:5001", &upstreams[0].to_string())
            .replace("127.0.0.1:5002", &upstreams[1].to_string())
            .replace("listen 80;", &format!("listen {addr}; keepalive_requests 1000000;"));
        // What Debian's own file has round it, but in the directory of the test.
        let mut whole = format!(
            "daemon off; master_process off; pid {name}/pid; error_log {name}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\nlog_format tried '$status $upstream_status $request';\naccess_log {name}/access.log tried;\n"
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(whole, "{kind}_temp_path {name}/{kind};").expect("a text");
        }
        whole.push_str(&format!("{servers}\n}}\n"));
        std::fs::write(dir.path().join("nginx.conf"), whole).expect("a file");
        let child = Command::new(NGINX)
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .args(["-e", &format!("{name}/error.log")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|err| panic!("{NGINX}: {err}; install nginx, as tests/run does"));
        let nginx = Self { dir, addr, child };
        let begun = Instant::now();
        while connect(addr).is_none() {
            assert!(begun.elapsed() < DEADLINE, "nginx takes connections: {}", nginx.read("error.log"));
            pass(Duration::from_millis(5));
        }
        nginx
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Requests that a server had accepted and did not answer, and those that none had accepted.
    fn failed_and_turned_away(&self) -> (Vec<String>, usize) {
        let (mut failed, mut turned_away) = (Vec::new(), 0);
        for line in self.read("access.log").lines() {
            // `503 502, 502 POST ...`: what was answered, and what became of each try.
            let tries = line.split(|char: char| char.is_ascii_uppercase()).next().unwrap_or_default();
            let codes: Vec<&str> = tries.split([' ', ',']).filter(|code| !code.is_empty()).collect();
            let Some((&status, tries)) = codes.split_first() else { continue };
            match status {
                "503" if tries.iter().all(|code| ["502", "-"].contains(code)) => turned_away += 1,
                // A server that is stopping takes no new screen; the screen goes on with the next one.
                "503" if line.contains("GET /api/v1/stream") && tries.last() == Some(&"503") => {
                    turned_away += 1
                }
                code if code.starts_with('5') => failed.push(line.to_owned()),
                _ => {}
            }
        }
        (failed, turned_away)
    }

    /// Every request that a server had accepted was answered; how many came in between.
    fn assert_none_failed(&self) -> usize {
        let (failed, turned_away) = self.failed_and_turned_away();
        let first = &failed[..failed.len().min(3)];
        assert!(failed.is_empty(), "{} accepted requests failed: {first:?}", failed.len());
        turned_away
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data directory and a port.
struct Place {
    dir: tempfile::TempDir,
    addr: SocketAddr,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port(&dir.path().to_string_lossy())));
        Self { dir, addr }
    }

    fn spawn(&self, settings: &[String]) -> Starting {
        Self::spawn_in(self.dir.path(), self.addr, settings)
    }

    fn spawn_in(dir: &Path, addr: SocketAddr, settings: &[String]) -> Starting {
        let more = ["telemetry.log=error", "storage.postgres_lock_timeout_ms=60000"];
        let settings = settings.iter().map(String::as_str).chain(more);
        let more: Vec<&str> = settings.flat_map(|setting| ["--set", setting]).collect();
        Starting::spawn_at(dir, addr, &more)
    }
}

/// From now on each line of the log says which session has written it.
fn sign_rows(file: &mut File) {
    for statement in [
        "ALTER TABLE alert_change ADD COLUMN written_by INTEGER",
        "CREATE FUNCTION sign() RETURNS trigger LANGUAGE plpgsql \
         AS $$ BEGIN NEW.written_by := pg_backend_pid(); RETURN NEW; END $$",
        "CREATE TRIGGER sign BEFORE INSERT ON alert_change FOR EACH ROW EXECUTE FUNCTION sign()",
    ] {
        file.execute(statement);
    }
}

/// Never did two write; how many sessions did.
fn one_after_the_other(file: &mut File) -> usize {
    let mut writers =
        file.texts("SELECT coalesce(written_by, 0) AS value FROM alert_change ORDER BY change_offset");
    writers.dedup();
    let distinct: std::collections::HashSet<&String> = writers.iter().collect();
    assert_eq!(distinct.len(), writers.len(), "nobody wrote before and after another: {writers:?}");
    writers.len()
}

/// Waits until somebody waits for the lease.
fn until_one_waits(file: &mut File) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    let begun = Instant::now();
    while file.number(waiting) == 0 {
        assert!(begun.elapsed() < DEADLINE, "the next server waits for the lease");
        pass(Duration::from_millis(5));
    }
}

fn under_load(traffic: &Traffic, token: &str, body: impl FnOnce()) {
    std::thread::scope(|scope| {
        let _stop = traffic.until_dropped();
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate("ann", token));
        body();
    });
}

#[test]
fn behind_nginx_a_new_server_takes_over_and_every_accepted_request_is_answered() {
    let hand_overs = count(3, 100);
    let scene = Scene::new();
    let settings = Scene::settings(&scene.proxy);
    let places = [Place::new(), Place::new()];
    let nginx = Nginx::start([places[0].addr, places[1].addr]);
    let mut process: Process = places[0].spawn(&settings).listening();
    let token = admin_token(places[0].dir.path());
    bind(process.addr, &token, &WATCHES);
    let mut file = File::of(scene.dir.path());
    sign_rows(&mut file);
    let traffic = &scene.traffic;
    let dashboard = Dashboard::start(&token);
    traffic.point_to(Some(nginx.addr));
    dashboard.point_to(Some(nginx.addr));
    let mut away = Vec::new();
    under_load(traffic, &token, || {
        for hand_over in 1..=hand_overs {
            traffic.until(50);
            let next = places[hand_over % 2].spawn(&settings);
            until_one_waits(&mut file);
            let begun = Instant::now();
            process.signal("-TERM");
            // Only when the old one has gone does it say where it listens.
            let old = std::mem::replace(&mut process, next.listening());
            away.push(begun.elapsed());
            assert_eq!(old.wait(), (Some(0), String::new()), "nothing was left undone");
        }
        traffic.until(50);
        traffic.stop();
        until_caught_up(process.addr, &token, traffic, &mut file);
        dashboard.until(file.number("SELECT max(change_offset) FROM alert_change"));
    });
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));

    assert_kept(traffic, &WATCHES, &mut file);
    let told = assert_told_the_log(&dashboard.finish(), &mut file);
    assert_eq!(told.gaps, 0, "screens go on where they were");
    assert!(one_after_the_other(&mut file) > hand_overs / 2, "each had something to write");
    let turned_away = nginx.assert_none_failed();
    let record = traffic.record();
    assert_eq!(record.unanswered, 0, "nginx answers everything");

    figure("hand-over behind nginx: servers, items answered 200, accepted requests that failed", {
        format!("{hand_overs}, {}, 0", traffic.answered())
    });
    figure("hand-over behind nginx: requests that came in between, and were told to come again", turned_away);
    figure("hand-over behind nginx: SIGTERM to the next one listening", spread(&away));
}

/// What the old one has spooled is in its data directory, and the next one is started there.
#[test]
fn while_it_spools_the_next_server_takes_over_the_data_directory_and_hands_on() {
    let hand_overs = count(2, 50);
    let scene = Scene::new();
    let settings = Scene::settings(&scene.proxy);
    // One directory, two ports.
    let (first, second) = (Place::new(), Place::new());
    let addrs = [first.addr, second.addr];
    let start = |at: usize| Place::spawn_in(first.dir.path(), addrs[at % 2], &settings).listening();
    let nginx = Nginx::start(addrs);
    let process = start(0);
    let token = admin_token(first.dir.path());
    bind(process.addr, &token, &WATCHES);
    let mut file = File::of(scene.dir.path());
    sign_rows(&mut file);
    let traffic = &scene.traffic;
    let dashboard = Dashboard::start(&token);
    traffic.point_to(Some(nginx.addr));
    dashboard.point_to(Some(nginx.addr));
    let mut present = Some(process);
    under_load(traffic, &token, || {
        for hand_over in 1..=hand_overs {
            traffic.until(40);
            scene.proxy.set(Way::Cut);
            traffic.until(40);
            let process = present.take().expect("a server");
            until_spooling(&process, true);
            process.signal("-TERM");
            assert_eq!(process.wait(), (Some(0), String::new()), "nothing was left undone");
            // PostgreSQL is back before the next one is, or comes back to it.
            let back_first = hand_over % 2 == 0;
            if back_first {
                scene.proxy.set(Way::Open);
            }
            let process = start(hand_over);
            traffic.until(40);
            scene.proxy.set(Way::Open);
            until_mirroring(&process);
            present = Some(process);
        }
        traffic.until(40);
        traffic.stop();
        let addr = present.as_ref().expect("a server").addr;
        until_caught_up(addr, &token, traffic, &mut file);
        dashboard.until(file.number("SELECT max(change_offset) FROM alert_change"));
    });
    let process = present.take().expect("a server");
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));

    assert_kept(traffic, &WATCHES, &mut file);
    let told = assert_told_the_log(&dashboard.finish(), &mut file);
    assert_eq!(told.gaps, 0, "screens go on where they were");
    one_after_the_other(&mut file);
    let turned_away = nginx.assert_none_failed();
    assert_eq!(traffic.record().unanswered, 0, "nginx answers everything");
    figure("hand-over behind nginx while it spools: servers, items answered 200, turned away in between", {
        format!("{hand_overs}, {}, {turned_away}", traffic.answered())
    });
}

/// Another data directory has nothing of it: what was spooled waits in its own, for a server that is started
/// there, and follows what the other one has written.
#[test]
fn what_was_spooled_waits_for_a_server_in_its_own_directory() {
    let scene = Scene::new();
    let settings = Scene::settings(&scene.proxy);
    let (old, new) = (Place::new(), Place::new());
    let post = |process: &Process, device: &str| {
        let mut stream = connect(process.addr).expect("the server is up");
        let answer = request(&mut stream, "POST /upload_common_event", &sos(device)).expect("an answer");
        assert_eq!(answer.0, 200, "{device}: {}", answer.1);
    };
    let stop = |process: Process| {
        process.signal("-TERM");
        assert_eq!(process.wait(), (Some(0), String::new()));
    };
    let process = old.spawn(&settings).listening();
    post(&process, "stored");
    until_mirroring(&process);
    scene.proxy.set(Way::Cut);
    for device in ["spooled", "both"] {
        post(&process, device);
    }
    stop(process);
    scene.proxy.set(Way::Open);
    let process = new.spawn(&settings).listening();
    for device in ["meanwhile", "both"] {
        post(&process, device);
    }
    until_mirroring(&process);
    stop(process);
    let mut file = File::of(scene.dir.path());
    let devices = "SELECT DISTINCT device_sn AS value FROM event ORDER BY device_sn";
    assert_eq!(file.texts(devices), ["both", "meanwhile", "stored"], "what was spooled waits");
    let process = old.spawn(&settings).listening();
    until_mirroring(&process);
    stop(process);
    assert_eq!(file.texts(devices), ["both", "meanwhile", "spooled", "stored"]);
    let open = "SELECT device_sn AS value FROM alert WHERE is_open ORDER BY device_sn";
    assert_eq!(file.texts(open), ["both", "meanwhile", "spooled", "stored"], "one alert of each");
    file.assert_consistent();
}
