//! What a dashboard sees on a good day.

use serde_json::json;
use watchpost::config::SessionConfig;
use watchpost::domain::alert::Transition;
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;
use watchpost::domain::vitals::{Metric, Metrics};
use watchpost::session::messages::{Publish, VitalsUpdate};

use super::history::{History, customer, device};
use super::server::{Server, eventually, quick};

fn three_alerts() -> History {
    let mut history = History::default();
    history.raise("w1", "c1", Severity::Medium);
    history.raise("w2", "c2", Severity::Critical);
    history.raise("w1", "c1", Severity::Critical);
    history
}

#[actix_web::test]
async fn hello_snapshot_and_live_changes_after_an_auth_frame() {
    let mut server = Server::start(quick(), three_alerts()).await;
    let mut socket = server.connect().await;
    let hello = socket.ask(json!({"type": "auth", "token": "admin"})).await;
    assert_eq!((&hello["type"], &hello["offset"]), (&json!("hello"), &json!(3)));
    assert_eq!(hello["epoch"], server.epoch);
    assert!(hello["session"].is_string() && hello["server_time"].is_string());

    let snapshot = socket.ask(json!({"type": "subscribe", "id": "mine"})).await;
    assert_eq!((&snapshot["type"], &snapshot["id"]), (&json!("snapshot"), &json!("mine")));
    assert_eq!(snapshot["offset"], 3);
    assert!(snapshot.get("truncated").is_none());
    let ids: Vec<&str> = snapshot["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| alert["alert_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["3", "2", "1"], "most severe first, then newest first");

    server.publish(|history| history.touch(1, Transition::Acknowledged, false));
    let change = socket.json().await;
    assert_eq!((&change["type"], &change["offset"]), (&json!("alert"), &json!(4)));
    assert_eq!(change["change"]["transition"], "acknowledged");
    assert_eq!(
        (&change["alert"]["alert_id"], &change["alert"]["state"]),
        (&json!("2"), &json!("acknowledged"))
    );

    assert_eq!(socket.ask(json!({"type": "ping"})).await, json!({"type": "pong", "offset": 4}));
    assert_eq!(server.metrics.sessions.get(), 1);
    drop(socket);
    eventually("the session ends", || server.metrics.sessions.get() == 0).await;
    server.stop().await;
}

#[actix_web::test]
async fn frames_sent_right_behind_the_token_are_not_lost() {
    let server = Server::start(quick(), three_alerts()).await;
    let mut socket = server.connect().await;
    socket.send(json!({"type": "auth", "token": "admin"})).await;
    socket.send(json!({"type": "subscribe", "id": "a"})).await;
    assert_eq!(socket.json().await["type"], "hello");
    assert_eq!(socket.json().await["type"], "snapshot");
    server.stop().await;
}

#[actix_web::test]
async fn what_comes_while_a_socket_is_written_to_follows_without_the_timer() {
    let hour = SessionConfig { reconcile_ms: 3_600_000, ..quick() };
    let mut server = Server::start(hour, History::default()).await;
    let mut sockets = [server.subscribe("admin").await, server.subscribe("admin").await];
    // More than two hand-overs take.
    let raise = |history: &mut History| history.raise("w1", "c1", Severity::High);
    let changes: Vec<_> = (0..600).map(|_| server.commit(raise)).collect();
    server.links.publish.send(Publish { changes, vitals: Vec::new(), in_flight: None }).unwrap();
    for socket in &mut sockets {
        for offset in 1..=600 {
            assert_eq!(socket.json().await["offset"], offset);
        }
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_lost_hint_costs_only_a_little_time() {
    let mut server = Server::start(quick(), History::default()).await;
    let mut socket = server.subscribe("admin").await;
    server.commit(|history| history.raise("w1", "c1", Severity::High));
    server.commit(|history| history.touch(0, Transition::Repeated, true));
    server.commit(|history| history.touch(0, Transition::Resolved, false));
    assert_eq!(socket.json().await["offset"], 1);
    assert_eq!(socket.json().await["offset"], 3, "2 is quiet");
    server.stop().await;
}

#[actix_web::test]
async fn a_resume_gets_what_it_missed_from_the_ring_or_from_storage_and_goes_on_live() {
    let mut server = Server::start(quick(), three_alerts()).await;
    for (name, before) in [("from storage", 1), ("from the ring", 3)] {
        let mut socket = server.enter("admin").await;
        let since = server.since(before);
        let last = server.history.last();
        let next = server.raise("w3", "c1");
        socket.send(json!({"type": "subscribe", "id": "a", "since": since})).await;
        for offset in before + 1..=last.max(next) {
            let frame = socket.json().await;
            assert_eq!((&frame["type"], &frame["offset"]), (&json!("alert"), &json!(offset)), "{name}");
        }
        let live = server.raise("w3", "c1");
        assert_eq!(socket.json().await["offset"], live);
    }
    server.stop().await;
}

#[actix_web::test]
async fn what_cannot_be_resumed_is_a_gap_and_a_snapshot() {
    let mut config = quick();
    config.resume_changes_max = 1;
    let server = Server::start(config, three_alerts()).await;
    let cases = [
        (server.since(1), json!({"type": "gap", "from": 2, "to": 3})),
        (server.since(99), json!({"type": "gap", "from": 1, "to": 3})),
        (json!({"epoch": "another", "offset": 3}), json!({"type": "gap", "from": 1, "to": 3})),
    ];
    let mut socket = server.enter("admin").await;
    for (since, gap) in cases {
        assert_eq!(socket.ask(json!({"type": "subscribe", "id": "a", "since": since})).await, gap);
        let snapshot = socket.json().await;
        assert_eq!((&snapshot["type"], &snapshot["offset"]), (&json!("snapshot"), &json!(3)));
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_place_in_another_log_is_a_gap_also_while_nothing_is_in_this_one() {
    let server = Server::start(quick(), History::default()).await;
    let mut socket = server.enter("admin").await;
    for since in [json!({"epoch": "another", "offset": 3}), server.since(1)] {
        let gap = socket.ask(json!({"type": "subscribe", "id": "a", "since": since})).await;
        assert_eq!(gap, json!({"type": "gap", "from": 1, "to": 0}));
        let snapshot = socket.json().await;
        assert_eq!((&snapshot["type"], &snapshot["offset"]), (&json!("snapshot"), &json!(0)));
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_filter_narrows_and_another_customer_sees_nothing() {
    let mut server = Server::start(quick(), three_alerts()).await;
    let mut own = server.enter("c1").await;
    let mut stranger = server.enter("c2").await;
    let filter = json!({"severity": ["critical"], "devices": ["w1"]});
    let snapshot = own.ask(json!({"type": "subscribe", "id": "a", "filter": filter})).await;
    assert_eq!(snapshot["alerts"].as_array().unwrap().len(), 1);
    // Asking for somebody else's does not help.
    let filter = json!({"customer_id": "c1"});
    let snapshot = stranger.ask(json!({"type": "subscribe", "id": "a", "filter": filter})).await;
    assert_eq!(snapshot["alerts"], json!([]));

    server.publish(|history| history.raise("w1", "c1", Severity::High));
    server.publish(|history| history.raise("w9", "c1", Severity::Critical));
    let shown = server.raise("w1", "c1");
    assert_eq!(own.json().await["offset"], shown);
    // What does not pass has been served all the same: a resume need not go back to it.
    loop {
        let pong = stranger.ask(json!({"type": "ping"})).await;
        assert_eq!(pong["type"], "pong", "nothing but pongs");
        if pong["offset"] == shown {
            break;
        }
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_new_subscription_replaces_the_old_one() {
    let mut server = Server::start(quick(), three_alerts()).await;
    let mut socket = server.subscribe("admin").await;
    let filter = json!({"devices": ["w7"]});
    let snapshot = socket.ask(json!({"type": "subscribe", "id": "b", "filter": filter})).await;
    assert_eq!((&snapshot["id"], &snapshot["alerts"]), (&json!("b"), &json!([])));
    server.raise("w1", "c1");
    let shown = server.raise("w7", "c1");
    assert_eq!(socket.json().await["offset"], shown);
    server.stop().await;
}

#[actix_web::test]
async fn vitals_come_only_for_named_devices_of_the_own_customer() {
    let server = Server::start(quick(), History::default()).await;
    let mut socket = server.enter("c1").await;
    let filter = json!({"devices": ["w1", "w2"], "vitals": true});
    socket.send(json!({"type": "subscribe", "id": "a", "filter": filter})).await;
    assert_eq!(socket.json().await["type"], "snapshot");
    eventually("the interest is known", || server.interest.load().contains(&device("w1"))).await;
    let update = |sn: &str, owner: &str, at, heart_rate| {
        let mut metrics = Metrics::default();
        metrics.set(Metric::HeartRate, heart_rate);
        let (device_sn, customer_id) = (device(sn), customer(owner));
        VitalsUpdate { device_sn, customer_id, measured_at: UtcMillis(at), metrics, worn: true }
    };
    let vitals = vec![update("w2", "c2", 1, 60.0), update("w1", "c1", 1, 70.0), update("w1", "c1", 2, 71.0)];
    server.links.publish.send(Publish { changes: Vec::new(), vitals, in_flight: None }).unwrap();
    let frame = socket.json().await;
    assert_eq!(frame["device_sn"], "w1");
    assert_eq!(frame["metrics"], json!({"heart_rate": 71.0}));
    drop(socket);
    eventually("nobody is interested", || server.interest.load().is_empty()).await;
    server.stop().await;
}

#[actix_web::test]
async fn what_was_on_the_screen_is_told_by_alert_and_once() {
    let mut server = Server::start(quick(), three_alerts()).await;
    let mut socket = server.subscribe("admin").await;
    let error = socket.ask(json!({"type": "shown", "offset": 9})).await;
    assert_eq!(error["code"], "bad_frame");
    socket.send(json!({"type": "shown", "offset": 3})).await;
    // The second is of an alert that has been confirmed.
    for again in [false, true] {
        if again {
            server.publish(|history| history.touch(3, Transition::Commented, false));
        } else {
            server.raise("w1", "c1");
        }
        let offset = socket.json().await["offset"].clone();
        socket.send(json!({"type": "shown", "offset": offset})).await;
    }
    let shown = server.shown.clone();
    // By its own account, what came first has been taken in.
    assert_eq!(socket.ask(json!({"type": "ping"})).await["offset"], 5);
    server.raise("w1", "c1");
    let offset = socket.json().await["offset"].clone();
    socket.send(json!({"type": "shown", "offset": offset})).await;
    let told = || -> Vec<i64> {
        let facts = shown.lock().unwrap();
        facts.iter().flat_map(|fact| &fact.alerts).map(|(alert_id, _)| alert_id.0).collect()
    };
    eventually("all is recorded", || told().contains(&5)).await;
    let mut alerts = told();
    alerts.sort_unstable();
    assert_eq!(alerts, [1, 2, 3, 4, 5]);
    assert!(shown.lock().unwrap().iter().all(|fact| fact.viewer == "Ann of admin"));
    server.stop().await;
}

#[actix_web::test]
async fn a_snapshot_says_when_the_least_severe_are_left_out() {
    let mut config = quick();
    config.snapshot_alerts_max = 2;
    let server = Server::start(config, three_alerts()).await;
    let mut socket = server.enter("admin").await;
    let snapshot = socket.ask(json!({"type": "subscribe", "id": "a"})).await;
    assert_eq!(snapshot["truncated"], true);
    let severities: Vec<_> =
        snapshot["alerts"].as_array().unwrap().iter().map(|alert| alert["severity"].clone()).collect();
    assert_eq!(severities, ["critical", "critical"]);
    server.stop().await;
}
