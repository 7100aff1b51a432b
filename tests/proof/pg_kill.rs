//! The process is killed at random instants under load on PostgreSQL, which is slow or cut off in part
//! of the cycles: what was answered 200 is stored, and a screen that comes back is told every alert once.

use std::time::Duration;

use testkit::dashboard::{Dashboard, assert_told_the_logs};
use testkit::process::{Starting, admin_token, pass};
use testkit::proxy::{Proxy, Way};
use testkit::scale::{Random, count, figure, spread};
use testkit::traffic::bind;
use testkit::truth::File;

use super::pg_scene::{Scene, WATCHES, assert_kept, until_caught_up};

/// The instant of a kill lies up to this long after its load has begun, or after the start.
const KILL_WITHIN: Duration = Duration::from_millis(300);
/// One in so many kills meets a server that is still starting.
const KILLS_PER_EARLY_ONE: u64 = 5;
/// A commit takes so long in every third cycle.
const SLOW: Duration = Duration::from_millis(250);

fn heal(proxy: &Proxy) {
    proxy.set(Way::Open);
    proxy.commits_take(Duration::ZERO);
}

#[test]
fn killed_at_random_instants_under_load_it_loses_nothing_and_shows_every_alert() {
    let cycles = count(10, 500);
    let mut random = Random::from_environment();
    let Scene { proxy, dir, traffic, cluster } = Scene::new();
    let first = Scene::start(dir.path(), &proxy);
    let token = admin_token(dir.path());
    bind(first.addr, &token, &WATCHES);
    first.kill();

    let settings = Scene::settings(&proxy);
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
    let dashboard = Dashboard::start(&token);
    let (mut ready, mut early, mut away) = (Vec::new(), 0, 0);
    let mut file = File::of(dir.path());
    std::thread::scope(|scope| {
        let (traffic, token) = (&traffic, token.as_str());
        let _stop = traffic.until_dropped();
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate("ann", token));
        for _ in 0..cycles {
            let after = KILL_WITHIN.mul_f64(random.fraction());
            let starting = Starting::spawn(dir.path(), &settings);
            if random.number().is_multiple_of(KILLS_PER_EARLY_ONE) {
                pass(after);
                starting.kill();
                early += 1;
            } else {
                let process = starting.listening();
                ready.push(process.until_ready());
                traffic.point_to(Some(process.addr));
                dashboard.point_to(Some(process.addr));
                traffic.until(1);
                match random.number() % 3 {
                    0 => proxy.commits_take(SLOW),
                    1 => proxy.set(Way::Cut),
                    _ => {}
                }
                pass(after);
                process.kill();
                traffic.point_to(None);
                dashboard.point_to(None);
            }
            // PostgreSQL may still be away when the next one starts.
            if random.number().is_multiple_of(2) {
                heal(&proxy);
            } else {
                away += 1;
            }
        }
        // The last one lives, and everybody gets through.
        heal(&proxy);
        let process = Scene::start(dir.path(), &proxy);
        traffic.point_to(Some(process.addr));
        dashboard.point_to(Some(process.addr));
        traffic.until(200);
        traffic.stop();
        until_caught_up(process.addr, token, traffic, &mut file);
        dashboard.until(file.number("SELECT max(change_offset) FROM alert_change"));
        process.signal("-TERM");
        assert_eq!(process.wait(), (Some(0), String::new()));
    });
    drop(proxy);
    let connections = dashboard.finish();
    assert_kept(&traffic, &WATCHES, &mut file);
    let told = assert_told_the_logs(&connections, &mut file);
    let record = traffic.record();
    assert!(told.alerts > 0 && !record.actions.is_empty(), "it was under load");

    let what = "kill -9 on PostgreSQL";
    figure(&format!("{what}: kills, during start-up, starts while it is away"), {
        format!("{cycles}, {early}, {away}")
    });
    figure(&format!("{what}: items answered 200, events of these, events stored"), {
        let stored = file.number("SELECT count(*) FROM event");
        format!("{}, {}, {stored}", traffic.answered(), record.events.len())
    });
    figure(&format!("{what}: requests without an answer, refused, copies sent again"), {
        format!("{}, {}, {}", record.unanswered, record.refused, record.repeated)
    });
    figure(&format!("{what}: changes in the log, frames told, snapshots, gaps"), {
        format!("{}, {}, {}, {}", told.up_to, told.alerts, told.snapshots, told.gaps)
    });
    figure(&format!("{what}: start to ready"), spread(&ready));
    drop((file, cluster));
}
