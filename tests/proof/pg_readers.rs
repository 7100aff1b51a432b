//! PostgreSQL takes no further connection while the writer has its own.

use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::bodies::event;
use testkit::process::{Process, admin_token};
use testkit::scale::figure;

use super::pg_scene::Scene;
use super::spool::{get, metric};

const NEWCOMERS: usize = 20;
/// For all of them. Waiting for a connection took 2 s each.
const SOON: Duration = Duration::from_secs(10);

fn post(process: &Process, device: &str) {
    let (status, answer) = super::spool::post(process, &event(device, "CALL_STATE", "1", 0));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn reads_come_from_the_mirror_at_once() {
    let scene = Scene::new();
    let process = Scene::start(scene.dir.path(), &scene.proxy);
    let token = admin_token(scene.dir.path());
    post(&process, "BEFORE");
    let is_incomplete = || get(&process, &token, "/api/v1/devices")["incomplete"] == true;
    assert!(!is_incomplete());

    scene.cluster.execute(&[
        "ALTER ROLE watchpost CONNECTION LIMIT 1",
        // The writer has the lease.
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'watchpost' \
         AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')",
    ]);
    let begun = Instant::now();
    // The state of each has to be read.
    (0..NEWCOMERS).for_each(|n| post(&process, &format!("N-{n}")));
    let took = begun.elapsed();
    assert!(took < SOON, "{NEWCOMERS} new watches took {took:?}");
    assert_eq!(metric(&process, "watchpost_spooling"), 0.0, "what is written goes where it belongs");
    assert_eq!(metric(&process, "watchpost_database_readers_unreachable"), 1.0);
    let devices = get(&process, &token, "/api/v1/devices");
    assert_eq!(devices["incomplete"], true, "{devices}");
    assert_eq!(devices["items"].as_array().map(Vec::len), Some(NEWCOMERS + 1), "{devices}");

    scene.cluster.execute(&["ALTER ROLE watchpost CONNECTION LIMIT -1"]);
    let begun = Instant::now();
    while is_incomplete() {
        assert!(begun.elapsed() < DEADLINE, "reads are complete within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
    figure("PostgreSQL takes no further connection: events of new watches, ms in all", {
        format!("{NEWCOMERS}, {}", took.as_millis())
    });
}
