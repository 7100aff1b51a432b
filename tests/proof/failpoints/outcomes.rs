//! A transaction whose outcome nobody was told: nothing twice, nothing unseen, no gap.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use testkit::bodies::{EVENTS, HEALTH, event, heart_rate, sos};
use testkit::stream::StreamClient;
use testkit::truth::File;
use testkit::{DEADLINE, TestApp, eventually};
use watchpost::supervision::health::ActorHealth;

use super::fault::Panics;
use super::load::{SHARDS, serial};
use super::stage::without_linger;

const OK: u16 = 200;
const NOT_PROMISED: u16 = 503;

fn health(app: &TestApp, name: &str) -> Arc<ActorHealth> {
    app.state.board.all().into_iter().find(|health| health.name == name).expect("an actor")
}

/// One SOS meets one panic at `point` and is answered `first`. Without any further report it is on the
/// screen if it is stored; the retry gets the ids that the screen has. A writer that died may have the
/// retry refused until the shards have heard of it.
async fn one_sos(point: &'static str, first: u16, stored: bool) {
    let _scenario = fail::FailScenario::setup();
    let app = without_linger().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let body = sos("A", 0);
    let panics = Panics::arm(point, 1);
    let answer = app.post(EVENTS, &body).await;
    assert_eq!(answer.status.as_u16(), first, "{point}: {}", answer.body);
    panics.wait_for(1).await;
    drop(panics);

    if stored {
        let pushed = screen.next_alert().await;
        assert_eq!(pushed["offset"], 1, "{point}");
        let retried = app.stored_in_the_end(EVENTS, &body).await;
        assert_eq!(retried["duplicate"], true, "{point}: {retried}");
        assert_eq!(retried["alert_id"], pushed["alert"]["alert_id"], "{point}");
        if first == OK {
            assert_eq!(retried["event_id"], answer.body["event_id"], "{point}");
        }
    } else {
        assert_eq!(app.count("SELECT count(*) FROM event"), 0, "{point}");
        assert_eq!(app.stored_in_the_end(EVENTS, &body).await["duplicate"], false, "{point}");
        assert_eq!(screen.next_alert().await["offset"], 1, "{point}");
    }
    // The next one follows without a gap, and nothing was pushed in between.
    app.stored(EVENTS, &sos("A", 1)).await;
    let next = screen.next_alert().await;
    assert_eq!((&next["offset"], &next["change"]["transition"]), (&json!(2), &json!("repeated")), "{point}");
    assert_eq!(app.state.admission.pool.used_kib(), 0, "{point}");
    let mut file = File::open(&app.database());
    file.assert_consistent();
    assert_eq!(file.event_ids().len(), 2, "{point}");
    app.stop().await;
}

#[actix_web::test]
async fn a_commit_whose_outcome_is_unknown_is_neither_repeated_nor_unseen() {
    // Inside the call that commits: it is tried again there, and finds itself.
    one_sos("storage::committed", OK, true).await;
    // Beyond it, with the token lost: the watch is told nothing, the screen all the same.
    for point in ["writer::committed", "writer::announce", "writer::receipts", "writer::receipt"] {
        one_sos(point, NOT_PROMISED, true).await;
    }
    one_sos("writer::notices", OK, true).await;
}

#[actix_web::test]
async fn a_panic_before_the_commit_stores_nothing_and_is_tried_again() {
    for point in ["storage::begin", "storage::transaction", "storage::commit"] {
        one_sos(point, OK, true).await;
    }
    one_sos("writer::job", NOT_PROMISED, false).await;
}

/// The token is lost with a commit that nobody was told of, and the writer dies while it takes over.
#[actix_web::test]
async fn a_token_that_is_lost_in_a_panic_is_made_anew_and_tells_what_has_committed() {
    let _scenario = fail::FailScenario::setup();
    let app = without_linger().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let writer = health(&app, "batch-writer");
    for round in 0..3 {
        let lost = Panics::arm("writer::committed", 1);
        let taken_over = Panics::arm("writer::taken_over", 1);
        let dies = Panics::arm("writer::write", 1);
        let body = sos("A", round);
        // The first post kills the writer, which dies once more while it takes over. Those that follow
        // are refused until the shard has heard of that, and then one loses the token.
        let begun = Instant::now();
        while lost.struck() == 0 {
            let answer = app.post(EVENTS, &body).await;
            assert_eq!(answer.status.as_u16(), NOT_PROMISED, "round {round}: {}", answer.body);
            assert!(begun.elapsed() < DEADLINE, "round {round}: the token is lost within {DEADLINE:?}");
        }
        for panics in [&taken_over, &dies] {
            panics.wait_for(1).await;
        }
        assert_eq!(screen.next_alert().await["offset"], round + 1);
        drop((lost, taken_over, dies));
        assert_eq!(app.stored_in_the_end(EVENTS, &body).await["duplicate"], true);
        assert_eq!(writer.restarts(), 2 * (round as u64 + 1));
    }
    assert_eq!(app.state.watermark.get(), 3);
    File::open(&app.database()).assert_consistent();
    app.stop().await;
}

/// The writer dies with an alert in its hands, and what was decided upon that alert waits in its
/// mailbox, which survives.
#[actix_web::test]
async fn what_was_built_on_a_lost_batch_does_not_outlive_it_in_the_mailbox() {
    let _scenario = fail::FailScenario::setup();
    let app = Arc::new(without_linger().await);
    let (known, other) = (serial("W", 0, 0), serial("W", 1, 0));
    for sn in [&known, &other] {
        app.stored(EVENTS, &event(sn, "BOOT", "1", 0)).await;
    }
    let (let_go, held) = mpsc::channel::<()>();
    let (held, struck) = (Mutex::new(Some(held)), Arc::new(Mutex::new(false)));
    let strikes = struck.clone();
    fail::cfg_callback("writer::write", move || {
        let first = held.lock().expect("no panic").take();
        if let Some(held) = first {
            *strikes.lock().expect("no panic") = true;
            let _ = held.recv();
            panic!("the writer dies with the first batch");
        }
    })
    .expect("a fail point");
    let post = |body: serde_json::Value| {
        let app = app.clone();
        actix_web::rt::spawn(async move { app.post(EVENTS, &body).await.status.as_u16() })
    };
    let raise = post(sos(&known, 1));
    eventually("the writer has the raise", || async { struck.lock().expect("no panic").then_some(()) }).await;
    let repeat = post(sos(&known, 2));
    let writer = health(&app, "batch-writer");
    eventually("the repeat is in its mailbox", || async { (writer.queue_length() > 0).then_some(()) }).await;
    let_go.send(()).expect("it is held");
    assert_eq!(raise.await.expect("no panic"), NOT_PROMISED);
    assert_eq!(repeat.await.expect("no panic"), NOT_PROMISED, "it repeats an alert that was never raised");
    fail::remove("writer::write");

    // Both come again, the newer one first.
    for seconds in [2, 1] {
        assert_eq!(app.stored_in_the_end(EVENTS, &sos(&known, seconds)).await["duplicate"], false);
    }
    app.stored_in_the_end(EVENTS, &sos(&other, 1)).await;
    assert_eq!(app.logged_transitions(), ["raised", "repeated", "raised"]);
    File::open(&app.database()).assert_consistent();
    Arc::into_inner(app).expect("nobody else has it").stop().await;
}

/// Reports for two shards come in one turn of an HTTP worker, which panics when it hands on the first.
#[actix_web::test]
async fn what_a_turn_did_not_hand_on_is_refused_and_holds_up_nothing_that_follows() {
    let _scenario = fail::FailScenario::setup();
    let app = TestApp::start_with(|config| config.device.shards = SHARDS).await;
    let reports = |seconds| {
        let of_shard = |shard| heart_rate(&serial("W", shard, 0), seconds, 70)["data"].clone();
        json!({ "data": (0..SHARDS).map(of_shard).collect::<Vec<_>>() })
    };
    app.stored(HEALTH, &reports(0)).await;
    let panics = Panics::arm("router::ingest", 1);
    let answer = app.post(HEALTH, &reports(1)).await;
    assert_eq!(answer.status.as_u16(), NOT_PROMISED, "{}", answer.body);
    panics.wait_for(1).await;
    drop(panics);
    app.stored(HEALTH, &reports(1)).await;
    assert_eq!(app.count("SELECT count(*) FROM vitals"), 2 * SHARDS as i64);
    assert_eq!(app.state.admission.pool.used_kib(), 0);
    app.stop().await;
}
