//! The process is killed at random instants under load: what was answered 200 is in the file, and
//! a dashboard that comes back is told every alert once.

use std::path::Path;
use std::time::Duration;

use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::process::{Process, Starting, admin_token, pass};
use testkit::scale::{Random, count, figure, spread};
use testkit::traffic::{Record, Traffic, bind};
use testkit::truth::File;

const WATCHES: [&str; 4] = ["W0", "W1", "W2", "W3"];
const OPERATORS: [&str; 2] = ["ann", "bob"];
/// The instant of a kill lies up to this long after its load has begun, or after the start.
const KILL_WITHIN: Duration = Duration::from_millis(150);
/// One in so many kills meets a server that is still starting.
const KILLS_PER_EARLY_ONE: u64 = 5;
/// Ten times what is promised for start to ready.
const READY_MAX: Duration = Duration::from_secs(20);

#[test]
fn killed_at_random_instants_under_load_it_loses_nothing_and_shows_every_alert() {
    let cycles = count(50, 500);
    let mut random = Random::from_environment();
    let dir = tempfile::tempdir().expect("a directory");
    // Its end does not count, but it makes the database and the bindings.
    let first = Process::start(dir.path());
    let token = admin_token(dir.path());
    bind(first.addr, &token, &WATCHES);
    first.kill();

    let traffic = Traffic::default();
    let dashboard = Dashboard::start(&token);
    let (mut listening, mut ready, mut early) = (Vec::new(), Vec::new(), 0);
    std::thread::scope(|scope| {
        let _stop = traffic.until_dropped();
        let traffic = &traffic;
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        for name in OPERATORS {
            let token = token.as_str();
            scope.spawn(move || traffic.operate(name, token));
        }
        for _ in 0..cycles {
            let after = KILL_WITHIN.mul_f64(random.fraction());
            let starting = Starting::spawn(dir.path(), &[]);
            if random.number().is_multiple_of(KILLS_PER_EARLY_ONE) {
                pass(after);
                starting.kill();
                early += 1;
            } else {
                let process = starting.listening();
                listening.push(process.listening_after);
                ready.push(process.until_ready());
                traffic.point_to(Some(process.addr));
                dashboard.point_to(Some(process.addr));
                traffic.until(1);
                pass(after);
                process.kill();
                traffic.point_to(None);
                dashboard.point_to(None);
            }
            check_copy(dir.path(), &traffic.record().clone());
        }
        // The last one lives, and everybody gets through.
        let process = Process::start(dir.path());
        traffic.point_to(Some(process.addr));
        dashboard.point_to(Some(process.addr));
        traffic.until(200);
        traffic.stop();
        let last = File::of(dir.path()).number("SELECT max(change_offset) FROM alert_change");
        dashboard.until(last);
        process.signal("-TERM");
        assert_eq!(process.wait(), (Some(0), String::new()));
    });

    let connections = dashboard.finish();
    let mut file = File::of(dir.path());
    let record = traffic.record().clone();
    record.assert_stored(&mut file);
    file.assert_consistent();
    let told = assert_told_the_log(&connections, &mut file);
    let critical = file.number("SELECT count(*) FROM alert_change WHERE severity = 'critical' AND NOT quiet");
    assert!(told.alerts > 0 && critical > 0 && !record.actions.is_empty(), "it was under load");
    assert!(ready.iter().all(|ready| *ready < READY_MAX), "ready again after {:?}", ready.iter().max());

    figure("kill -9: kills", format!("{cycles}, {early} of them during start-up"));
    figure("kill -9: items of watches answered 200", traffic.answered());
    figure("kill -9: of these events, and events stored", {
        format!("{}, {}", record.events.len(), file.number("SELECT count(*) FROM event"))
    });
    figure("kill -9: requests without an answer, refused, copies sent again", {
        format!("{}, {}, {}", record.unanswered, record.refused, record.repeated)
    });
    figure("kill -9: actions of operators answered 200", record.actions.len());
    figure("kill -9: changes in the log, critical ones, frames told", {
        format!("{}, {critical}, {}", told.up_to, told.alerts)
    });
    figure("kill -9: connections of the dashboard, snapshots, gaps", {
        format!("{}, {}, {}", connections.len(), told.snapshots, told.gaps)
    });
    figure("kill -9: start to first line", spread(&listening));
    figure("kill -9: start to ready", spread(&ready));
}

/// Looks at a copy: the next server has to recover the file itself.
fn check_copy(data_dir: &Path, record: &Record) {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["watchpost.db", "watchpost.db-wal"] {
        if data_dir.join(name).exists() {
            std::fs::copy(data_dir.join(name), copy.path().join(name)).expect("a copy");
        }
    }
    let mut file = File::of(copy.path());
    record.assert_stored(&mut file);
    file.assert_consistent();
}
