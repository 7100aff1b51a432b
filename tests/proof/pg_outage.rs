//! PostgreSQL is stopped, killed, cut off, slowed down, full or read-only, under load: everything is
//! answered 200 and on the screens meanwhile, and afterwards PostgreSQL has all of it, once.

use std::time::Duration;

use diesel::prelude::*;
use serde_json::Value;
use testkit::cluster::Cluster;
use testkit::dashboard::Dashboard;
use testkit::process::{Process, admin_token, connect, request};
use testkit::proxy::Way;
use testkit::scale::{count, is_long};
use testkit::truth::File;
use watchpost::storage::database::Conn;

use super::pg_scene::{Desk, Scene, faults, sos, until_caught_up};

fn long_or(long: Duration, short: Duration) -> Duration {
    if is_long() { long } else { short }
}

const SHORTLY: Duration = Duration::from_millis(300);

#[test]
fn stopped_for_a_while() {
    let away = long_or(Duration::from_secs(600), Duration::from_secs(10));
    faults(
        "PostgreSQL stopped",
        Scene::new(),
        1,
        away,
        |cluster, _, _| cluster.stop("-INT"),
        |cluster, _, _| cluster.go_on(),
    );
}

#[test]
fn killed() {
    faults(
        "PostgreSQL killed",
        Scene::new(),
        count(2, 20),
        SHORTLY,
        // The crash of one of its processes ends all; that of the first leaves the others to find out.
        |cluster, _, round| cluster.stop(if round % 2 == 0 { "-KILL" } else { "-QUIT" }),
        |cluster, _, _| cluster.go_on(),
    );
}

#[test]
fn restarted_again_and_again() {
    faults(
        "PostgreSQL restarted",
        Scene::new(),
        count(4, 20),
        Duration::ZERO,
        |cluster, _, _| {
            cluster.stop("-INT");
            cluster.go_on();
        },
        |_, _, _| {},
    );
}

#[test]
fn cut_off_and_left_without_an_answer_to_commits() {
    const LOST: u64 = 3;
    faults(
        "PostgreSQL cut off",
        Scene::new(),
        count(3, 30),
        SHORTLY,
        |_, proxy, round| {
            if round % 3 == 2 {
                proxy.lose_answers(LOST);
                proxy.until_commits(LOST);
            } else {
                proxy.until_commits(1);
                proxy.set(Way::Cut);
            }
        },
        |_, proxy, round| {
            proxy.set(Way::Open);
            let lost = (round as u64 + 1) / 3 * LOST;
            assert_eq!(proxy.answers_lost(), lost, "transactions whose end nobody was told of");
        },
    );
}

#[test]
fn stalled() {
    let away = long_or(Duration::from_secs(30), Duration::from_millis(1_500));
    let standby = |name: &str| format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    faults(
        "PostgreSQL stalled",
        Scene::new(),
        count(2, 6),
        away,
        |cluster, proxy, round| {
            if round % 2 == 0 {
                proxy.set(Way::Stalled);
            } else {
                // Every commit waits for a standby that is not there.
                cluster.execute(&[&standby("nobody"), "SELECT pg_reload_conf()"]);
            }
        },
        |cluster, proxy, round| {
            if round % 2 == 0 {
                proxy.set(Way::Open);
            } else {
                cluster.execute(&[&standby(""), "SELECT pg_reload_conf()"]);
            }
        },
    );
}

#[test]
fn slowed_to_a_second_a_commit() {
    let lasts = long_or(Duration::from_secs(120), Duration::from_secs(3));
    faults(
        "PostgreSQL slowed",
        Scene::new(),
        1,
        lasts,
        |_, proxy, _| proxy.commits_take(Duration::from_secs(1)),
        |_, proxy, _| proxy.commits_take(Duration::ZERO),
    );
}

/// Ends every session of the server.
fn end_sessions(cluster: &Cluster) {
    cluster.execute(&["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'watchpost'"]);
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

fn number(conn: &mut Conn, query: &str) -> i64 {
    let query = format!("SELECT ({query})::bigint AS number");
    diesel::sql_query(query).get_result::<Number>(conn).expect("a number").number
}

/// Takes every connection that is free until the server has none.
fn take_all(cluster: &Cluster) -> Vec<Conn> {
    let mut taken = Vec::new();
    let mut superuser = cluster.connect();
    let url = format!("postgres://somebody@127.0.0.1:{}/postgres", cluster.port());
    loop {
        end_sessions(cluster);
        while let Ok(conn) = Conn::establish(&url) {
            taken.push(conn);
        }
        let theirs = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'watchpost'";
        if number(&mut superuser, theirs) == 0 {
            return taken;
        }
    }
}

#[test]
fn out_of_connections() {
    // What is reserved for superusers is for the test.
    let scene = Scene::with(&["max_connections=14", "superuser_reserved_connections=5"]);
    scene.cluster.execute(&["CREATE ROLE somebody LOGIN"]);
    let taken = std::cell::RefCell::new(Vec::new());
    faults(
        "PostgreSQL out of connections",
        scene,
        count(2, 20),
        long_or(Duration::from_secs(5), Duration::from_secs(1)),
        |cluster, _, round| {
            if round % 2 == 0 {
                cluster.execute(&["ALTER ROLE watchpost CONNECTION LIMIT 0"]);
                end_sessions(cluster);
            } else {
                *taken.borrow_mut() = take_all(cluster);
            }
        },
        |cluster, _, round| {
            if round % 2 == 0 {
                cluster.execute(&["ALTER ROLE watchpost CONNECTION LIMIT -1"]);
            } else {
                taken.borrow_mut().clear();
            }
        },
    );
}

#[test]
fn read_only() {
    let set = |on: &str| format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
    faults(
        "PostgreSQL read-only",
        Scene::new(),
        count(2, 20),
        long_or(Duration::from_secs(5), Duration::from_secs(1)),
        |cluster, _, _| cluster.execute(&[&set("on"), "SELECT pg_reload_conf()"]),
        |cluster, _, _| cluster.execute(&[&set("off"), "SELECT pg_reload_conf()"]),
    );
}

/// Event, alert, and whether it was known.
fn post(process: &Process, sos: &str) -> (Value, Value, bool) {
    let mut stream = connect(process.addr).expect("a connection");
    let (status, answer) = request(&mut stream, "POST /upload_common_event", sos).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let told: Value = serde_json::from_str(&answer).expect("JSON");
    (told["event_id"].clone(), told["alert_id"].clone(), told["duplicate"] == true)
}

/// A server that was stopped, or killed, while PostgreSQL was there is followed by one that starts while
/// it is away.
fn away_at_the_start(stopped: bool) {
    let mut scene = Scene::new();
    let sos = sos("EARLY");
    let first = Scene::start(scene.dir.path(), &scene.proxy);
    let (event, alert, known) = post(&first, &sos);
    assert!(!known);
    if stopped {
        first.signal("-TERM");
        assert_eq!(first.wait(), (Some(0), String::new()));
    } else {
        first.kill();
    }
    scene.cluster.stop("-QUIT");
    let process = Scene::start(scene.dir.path(), &scene.proxy);
    // It has the same ids in any case. What was stored in the last moment before a crash may not be known
    // as a copy until PostgreSQL is back.
    let again = post(&process, &sos);
    assert_eq!((&again.0, &again.1), (&event, &alert));
    assert!(again.2 || !stopped, "a copy is known");
    let token = admin_token(scene.dir.path());
    let dashboard = Dashboard::start(&token);
    dashboard.point_to(Some(process.addr));
    dashboard.until_shown(alert.as_str().expect("an alert"));
    Desk::new(process.addr, &token, &dashboard).pass(SHORTLY);
    process.kill();
    scene.cluster.go_on();
    let last = Scene::start(scene.dir.path(), &scene.proxy);
    assert_eq!(post(&last, &sos), (event, alert, true));
    let mut file = File::of(scene.dir.path());
    until_caught_up(last.addr, &token, &scene.traffic, &mut file);
    last.signal("-TERM");
    assert_eq!(last.wait(), (Some(0), String::new()));
    file.assert_consistent();
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'EARLY'"), 1);
}

#[test]
fn away_when_the_next_server_starts() {
    away_at_the_start(true);
}

#[test]
fn away_when_the_next_server_starts_after_a_crash() {
    away_at_the_start(false);
}
