//! Recipients of a rebuilt actor: after a panic that took an actor with its mailbox, everything flows
//! through the new one, in both directions. And one shard that hangs or dies holds up no other.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use awc::http::Method;
use serde_json::json;
use testkit::bodies::{EVENTS, event, sos};
use testkit::stream::StreamClient;
use testkit::{TestApp, eventually};

use super::fault::Panics;
use super::load::{SHARDS, serial};
use super::stage::without_linger;

/// Uses every edge between actors at least once.
async fn everything_flows(app: &TestApp, round: i64) {
    let mut screen = StreamClient::open(app, &app.admin).await;
    // Doors, shards, writer, registry, session.
    for shard in 0..SHARDS {
        let sn = serial(&format!("F{round}-"), shard, 0);
        let told = app.stored(EVENTS, &sos(&sn, round)).await;
        let pushed = screen.next_alert().await;
        assert_eq!(pushed["alert"]["alert_id"], told["alert_id"]);
        // An operator, through shard and writer and back; the answer of the writer to the shard lets the
        // same event be known.
        app.act(&told["alert_id"], "resolve").await;
        assert_eq!(screen.next_alert().await["change"]["transition"], "resolved");
        assert_eq!(app.stored(EVENTS, &sos(&sn, round)).await["duplicate"], true);
        // Who wears it: from the writer to the door and on to the shard.
        app.bind(&sn, &json!({"customer_id": "7"})).await;
        let bound = app.stored(EVENTS, &sos(&sn, round + 1)).await;
        let raised = screen.next_alert().await;
        assert_eq!(raised["alert"]["alert_id"], bound["alert_id"]);
        assert_eq!(raised["alert"]["customer_id"], "7", "{raised}");
    }
    // What was shown: from the session to the writer.
    let seen = app.count("SELECT count(*) FROM alert_shown");
    assert!(screen.alerts_so_far(app).await.is_empty());
    screen.shown(app.state.watermark.get()).await;
    eventually("what was shown is recorded", || async {
        (app.count("SELECT count(*) FROM alert_shown") > seen).then_some(())
    })
    .await;
    // A rule: to RuleCache, the writer and back, and in force.
    let kind = format!("DOOR{round}");
    let rule =
        json!({ "name": kind, "severity": "low", "condition": { "kind": "event", "event_type": kind } });
    let made = app.api(Method::POST, "/api/v1/rules", Some(&rule)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(app.stored(EVENTS, &event("D", &kind, "1", round)).await["alert_id"].is_string());
    assert_eq!(screen.next_alert().await["alert"]["rule_id"], made.body["rule_id"]);
}

/// Sends what the point waits for; the answer does not matter.
async fn provoke(app: &TestApp, point: &str, round: i64) {
    if point.starts_with("rules::") {
        let rule =
            json!({ "name": "x", "severity": "low", "condition": { "kind": "event", "event_type": "X" } });
        app.api(Method::POST, "/api/v1/rules", Some(&rule)).await;
    } else {
        app.post(EVENTS, &sos("PROVOKER", round)).await;
    }
}

#[actix_web::test]
async fn everything_flows_through_a_rebuilt_actor_in_both_directions() {
    let _scenario = fail::FailScenario::setup();
    let app = without_linger().await;
    let points = [
        ("shard::ingest_unguarded", "device-shard"),
        ("shard::notice_unguarded", "device-shard"),
        ("writer::write_unguarded", "batch-writer"),
        ("writer::barrier_unguarded", "batch-writer"),
        ("rules::change_unguarded", "rule-cache"),
        ("registry::publish_unguarded", "session-registry"),
    ];
    for (round, (point, dead)) in points.into_iter().enumerate() {
        let restarts = || {
            let board = app.state.board.all();
            board
                .iter()
                .filter(|health| health.name.starts_with(dead))
                .map(|health| health.restarts())
                .sum::<u64>()
        };
        let before = restarts();
        let panics = Panics::arm(point, 1);
        if point.contains("barrier") {
            // A shard that restarts sends one.
            let turn = Panics::arm("shard::turn", 1);
            provoke(&app, point, round as i64).await;
            turn.wait_for(1).await;
        } else {
            provoke(&app, point, round as i64).await;
        }
        panics.wait_for(1).await;
        drop(panics);
        eventually(&format!("{dead} is rebuilt after {point}"), || async {
            (restarts() > before && app.state.board.all_running()).then_some(())
        })
        .await;
        // A report that meets a dead actor is answered 503; here nothing is in the way any more.
        let probe = |shard| event(&serial("P", shard, 0), "BOOT", "1", 0);
        for shard in 0..SHARDS {
            eventually("reports are taken again", || async {
                (app.post(EVENTS, &probe(shard)).await.status == 200).then_some(())
            })
            .await;
        }
        everything_flows(&app, round as i64).await;
    }
    // The orders of the end go the same ways.
    let limit = std::time::Duration::from_secs(app.state.config.server.shutdown_timeout_s);
    let begun = std::time::Instant::now();
    app.stop().await;
    assert!(begun.elapsed() < limit / 2, "it took {:?} of {limit:?} to stop", begun.elapsed());
}

/// The first shard that gets there stands still; the others do not.
#[actix_web::test]
async fn a_shard_that_stands_still_holds_up_no_other() {
    let _scenario = fail::FailScenario::setup();
    let app = Arc::new(TestApp::start().await);
    let (let_go, held) = mpsc::channel::<()>();
    let held = Mutex::new(Some(held));
    let stands = Arc::new(Mutex::new(false));
    let still = stands.clone();
    fail::cfg_callback("shard::turn", move || {
        let first = held.lock().expect("no panic").take();
        if let Some(held) = first {
            *still.lock().expect("no panic") = true;
            let _ = held.recv();
        }
    })
    .expect("a fail point");
    let stuck = app.clone();
    let stuck =
        actix_web::rt::spawn(
            async move { stuck.post(EVENTS, &sos(&serial("W", 0, 0), 0)).await.status.as_u16() },
        );
    eventually("a shard stands still", || async { stands.lock().expect("no panic").then_some(()) }).await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    for seconds in 0..20 {
        app.stored(EVENTS, &sos(&serial("W", 1, 0), seconds)).await;
        assert_eq!(screen.next_alert().await["offset"], seconds + 1);
    }
    assert!(!stuck.is_finished());
    let_go.send(()).expect("it is held");
    assert_eq!(stuck.await.expect("no panic"), 200);
    Arc::into_inner(app).expect("nobody else has it").stop().await;
}

/// Shard 0 panics over everything; shard 1 stores everything meanwhile.
#[actix_web::test]
async fn a_shard_that_panics_over_everything_holds_up_no_other() {
    let _scenario = fail::FailScenario::setup();
    let app = TestApp::start().await;
    // Below the budget of ten in a second.
    let panics = Panics::arm_on_first_thread("shard::ingest", 5);
    for seconds in 0..5 {
        // Refused by the panic, or by the door until the shard is there again.
        eventually("the shard panics", || async {
            let refused = app.post(EVENTS, &sos(&serial("W", 0, 0), seconds)).await;
            assert_eq!(refused.status, 503, "{}", refused.body);
            (panics.struck() as i64 == seconds + 1).then_some(())
        })
        .await;
        let stored = app.stored(EVENTS, &sos(&serial("W", 1, 0), seconds)).await;
        assert_eq!(stored["duplicate"], false);
    }
    drop(panics);
    for seconds in 0..5 {
        let stored = app.stored_in_the_end(EVENTS, &sos(&serial("W", 0, 0), seconds)).await;
        assert_eq!(stored["duplicate"], false);
    }
    app.stop().await;
}
