//! The ring guard: a live event of an armed watch is stored and answered 503, its replay gets 200.

use serde_json::json;

use crate::support::bodies::{EVENTS, HEALTH, WEAR, event, heart_rate, sos, vitals};
use crate::support::{NOW, TestApp};

const SN: &str = "GUARDED1";

async fn guarded(silence_s: u32) -> TestApp {
    TestApp::start_with(|config| {
        config.watch.ring_guard = true;
        config.watch.ring_guard_silence_s = silence_s;
    })
    .await
}

/// Seconds after the examples at which the server's clock stands.
fn at(app: &TestApp) -> i64 {
    (app.hand.load(std::sync::atomic::Ordering::Relaxed) - crate::support::bodies::EXAMPLE_MS) / 1000
}

/// Posts an event of this moment; its status.
async fn live(app: &TestApp, value: &str) -> u16 {
    app.post(EVENTS, &event(SN, "CALL_STATE", value, at(app))).await.status.as_u16()
}

/// Makes the watch one that is not armed: it was silent, was guarded, and has replayed.
async fn calm(app: &TestApp) {
    let body = event(SN, "CALL_STATE", "calm", at(app));
    assert_eq!(app.post(EVENTS, &body).await.status, 503, "after a silence");
    app.advance_ms(1_000);
    assert_eq!(app.post(EVENTS, &body).await.status, 200, "its replay");
    app.advance_ms(1_000);
    assert_eq!(live(app, "calm too").await, 200, "not armed any more");
}

#[actix_web::test]
async fn without_it_a_live_event_gets_200_whatever_was_before() {
    let app = TestApp::start().await;
    assert_eq!(live(&app, "1").await, 200);
    app.advance_ms(3_600_000);
    assert_eq!(live(&app, "2").await, 200);
}

#[actix_web::test]
async fn a_live_sos_after_a_silence_is_stored_alerted_and_answered_503_and_its_replay_gets_200() {
    let app = guarded(90).await;
    calm(&app).await;
    app.advance_ms(90_000);
    let body = sos(SN, at(&app));
    let first = app.post(EVENTS, &body).await;
    assert_eq!(first.status, 503);
    assert_eq!((&first.body["stored"], &first.body["success"]), (&json!(true), &json!(false)));
    assert!(first.headers.contains_key("retry-after"));
    assert_eq!(app.count("SELECT COUNT(*) FROM alert WHERE is_open"), 1);
    app.advance_ms(60_000);
    let replay = app.stored(EVENTS, &body).await;
    assert_eq!(replay["duplicate"], true);
    assert_eq!(replay["event_id"], first.body["event_id"]);
    assert_eq!(replay["alert_id"], first.body["alert_id"]);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert_change"), 1);
    let metrics = app.get("/metrics").await.body.as_str().expect("text").to_owned();
    assert!(metrics.contains("watchpost_ring_guarded_total 2"), "this one and that of calm()");
}

#[actix_web::test]
async fn what_waited_in_the_ring_gets_200_at_once_also_the_first_time() {
    let app = guarded(90).await;
    calm(&app).await;
    app.advance_ms(600_000);
    // It could not be sent nine minutes ago, and comes before what is live now.
    assert_eq!(live(&app, "now").await, 503);
    let waited = app.stored(EVENTS, &sos(SN, at(&app) - 540)).await;
    assert_eq!(waited["duplicate"], false);
}

#[actix_web::test]
async fn any_request_that_ends_a_silence_arms_not_only_the_event_itself() {
    let app = guarded(90).await;
    calm(&app).await;
    app.advance_ms(95_000);
    // A watch that is put on posts its device information first, and polls go on all the time.
    app.get(&format!("/DeviceMessage/receive?deviceSn={SN}")).await;
    app.advance_ms(2_000);
    assert_eq!(app.post(EVENTS, &event(SN, WEAR, "1", at(&app))).await.status, 503);
}

#[actix_web::test]
async fn polls_are_signs_of_life() {
    let app = guarded(90).await;
    calm(&app).await;
    for _ in 0..4 {
        app.advance_ms(60_000);
        app.get(&format!("/DeviceMessage/receive?deviceSn={SN}")).await;
    }
    assert_eq!(live(&app, "after polls").await, 200);
}

#[actix_web::test]
async fn its_own_503_does_not_arm_again_and_ten_minutes_end_it() {
    let app = guarded(90).await;
    let heard = async |app: &TestApp| {
        app.get(&format!("/DeviceMessage/receive?deviceSn={SN}")).await;
    };
    assert_eq!(live(&app, "0").await, 503);
    for minute in 1..10 {
        app.advance_ms(60_000);
        heard(&app).await;
        assert_eq!(live(&app, &minute.to_string()).await, 503, "minute {minute}");
    }
    app.advance_ms(60_000);
    assert_eq!(live(&app, "10").await, 200);
}

#[actix_web::test]
async fn a_replay_is_complete_when_all_that_was_guarded_came_again() {
    let app = guarded(90).await;
    let bodies: Vec<_> = (0..2).map(|value| event(SN, "CALL_STATE", &value.to_string(), at(&app))).collect();
    for body in &bodies {
        assert_eq!(app.post(EVENTS, body).await.status, 503);
    }
    app.stored(EVENTS, &bodies[0]).await;
    assert_eq!(live(&app, "between").await, 503, "one is still in the ring");
    app.stored(EVENTS, &bodies[1]).await;
    assert_eq!(live(&app, "between too").await, 503, "and now the one between");
}

#[actix_web::test]
async fn a_watch_with_a_wrong_clock_is_known_by_its_offset() {
    let app = guarded(90).await;
    // Twenty minutes slow: what it sends now looks old.
    let slow = at(&app) - 1_200;
    app.stored(HEALTH, &heart_rate(SN, slow, 70)).await;
    assert_eq!(app.post(EVENTS, &event(SN, "CALL_STATE", "1", slow)).await.status, 503);
    app.stored(EVENTS, &event(SN, "CALL_STATE", "2", slow - 60)).await;
}

#[actix_web::test]
async fn every_watch_is_armed_after_a_start_on_a_directory_that_was_in_use() {
    let app = guarded(90).await;
    calm(&app).await;
    let dir = app.stop().await;
    let app = TestApp::start_in(dir, NOW, |config| config.watch.ring_guard = true).await;
    assert_eq!(live(&app, "after the start").await, 503);
}

#[actix_web::test]
async fn a_watch_that_was_refused_is_armed() {
    let app = TestApp::start_with(|config| {
        config.watch.ring_guard = true;
        config.watch.ring_guard_silence_s = 90;
        // Too little room for a large health record.
        config.admission.capacity_kib = 64;
        config.admission.reserve_above_vitals_kib = 62;
        config.admission.reserve_above_events_kib = 32;
        config.admission.reserve_above_unbound_kib = 16;
    })
    .await;
    calm(&app).await;
    let large = vitals(SN, at(&app), &json!({"heart_rate": 70, "remark": "x".repeat(4096)}));
    assert_eq!(app.post(HEALTH, &large).await.status, 503, "no room for it");
    app.advance_ms(1_000);
    assert_eq!(live(&app, "after the refusal").await, 503);
}

#[actix_web::test]
async fn zero_seconds_of_silence_guard_every_live_event() {
    let app = guarded(0).await;
    for value in 0..3 {
        let body = event(SN, "CALL_STATE", &value.to_string(), at(&app));
        assert_eq!(app.post(EVENTS, &body).await.status, 503);
        assert_eq!(app.post(EVENTS, &body).await.status, 200);
        app.advance_ms(1_000);
    }
}

#[actix_web::test]
async fn a_body_of_several_events_comes_from_no_ring_and_is_never_guarded() {
    let app = guarded(0).await;
    let bodies = json!([event(SN, "CALL_STATE", "1", at(&app)), event(SN, "CALL_STATE", "2", at(&app))]);
    app.stored(EVENTS, &bodies).await;
}
