//! How long bytes without a usable time are a replay, and events that are older than memory.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, EXAMPLE_MS, SOS};

/// One more than a watch's state remembers, and a few.
const MORE_THAN_MEMORY: i64 = 140;

fn timeless() -> Value {
    json!({"eventType": SOS, "deviceSn": "w1"})
}

#[actix_web::test]
async fn bytes_without_any_time_are_a_replay_for_300_s_and_no_longer() {
    let app = TestApp::start().await;
    let first = app.stored(EVENTS, &timeless()).await;
    app.advance_ms(299_000);
    let early = app.stored(EVENTS, &timeless()).await;
    assert_eq!((&early["duplicate"], &early["event_id"]), (&json!(true), &first["event_id"]));
    app.advance_ms(2_000);
    let late = app.stored(EVENTS, &timeless()).await;
    assert_eq!(late["duplicate"], false);
    assert_ne!(late["event_id"], first["event_id"]);
    assert_eq!(late["alert_id"], first["alert_id"]);
    assert_eq!(app.logged_transitions(), ["raised", "repeated"]);
}

#[actix_web::test]
async fn the_window_is_counted_from_the_last_new_event_after_a_restart_too() {
    let mut app = TestApp::start().await;
    app.stored(EVENTS, &timeless()).await;
    app.advance_ms(301_000);
    let second = app.stored(EVENTS, &timeless()).await;
    app.advance_ms(200_000);
    app = app.restart().await;
    let copy = app.stored(EVENTS, &timeless()).await;
    assert_eq!((&copy["duplicate"], &copy["event_id"]), (&json!(true), &second["event_id"]));
    app.advance_ms(101_000);
    assert_eq!(app.stored(EVENTS, &timeless()).await["duplicate"], false);
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 3);
}

#[actix_web::test]
async fn bytes_with_an_unusable_time_are_a_replay_for_a_day() {
    let mut app = TestApp::start().await;
    let stale = json!({"eventType": SOS, "deviceSn": "w1", "timestamp": EXAMPLE_MS - 40 * 86_400_000});
    let garbage = json!({"eventType": SOS, "deviceSn": "w2", "timestamp": "soon"});
    let first = [app.stored(EVENTS, &stale).await, app.stored(EVENTS, &garbage).await];
    app.advance_ms(23 * 3_600_000);
    app = app.restart().await;
    for (body, first) in [&stale, &garbage].into_iter().zip(&first) {
        assert_eq!(app.stored(EVENTS, body).await["event_id"], first["event_id"]);
    }
    app.advance_ms(2 * 3_600_000);
    for body in [&stale, &garbage] {
        assert_eq!(app.stored(EVENTS, body).await["duplicate"], false, "{body}");
    }
}

/// Many events of one watch, after which those before `from` are no longer in memory.
async fn fill_memory(app: &TestApp, from: i64) {
    let events: Vec<Value> = (from..from + MORE_THAN_MEMORY)
        .map(|second| {
            bodies::event("w1", "com.tdtech.ohos.action.CALL_STATE", "w1", second - MORE_THAN_MEMORY)
        })
        .collect();
    app.stored("/batch/upload_common_event", &json!({"batchEvents": events})).await;
}

#[actix_web::test]
async fn an_event_that_memory_has_forgotten_is_still_known() {
    let mut app = TestApp::start().await;
    let oldest = bodies::sos("w1", -3_600);
    let first = app.stored(EVENTS, &oldest).await;
    fill_memory(&app, 0).await;
    for restarted in [false, true] {
        if restarted {
            app = app.restart().await;
        }
        let answers = join_all((0..5).map(|_| app.post(EVENTS, &oldest))).await;
        for answer in answers {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.body["event_id"], first["event_id"]);
            assert_eq!(answer.body["alert_id"], first["alert_id"]);
            assert_eq!(answer.body["duplicate"], true);
        }
    }
    assert_eq!(app.logged_transitions(), ["raised"]);
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), MORE_THAN_MEMORY + 1);
}

#[actix_web::test]
async fn timeless_events_that_memory_has_forgotten_are_still_known() {
    let mut app = TestApp::start().await;
    let body = |n: i64| json!({"eventType": SOS, "deviceSn": "w1", "eventValue": n.to_string()});
    let first = app.stored(EVENTS, &body(0)).await;
    for n in 1..=MORE_THAN_MEMORY {
        app.advance_ms(1);
        app.stored(EVENTS, &body(n)).await;
    }
    for restarted in [false, true] {
        if restarted {
            app = app.restart().await;
        }
        let again = app.stored(EVENTS, &body(0)).await;
        assert_eq!((&again["event_id"], &again["alert_id"]), (&first["event_id"], &first["alert_id"]));
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), MORE_THAN_MEMORY + 1);
    assert_eq!(app.count("SELECT MAX(count) FROM alert"), MORE_THAN_MEMORY + 1);
}

#[actix_web::test]
async fn an_event_that_comes_later_than_all_that_memory_holds_is_one_event_however_often_it_is_sent() {
    for restarted in [false, true] {
        let mut app = TestApp::start().await;
        fill_memory(&app, 0).await;
        if restarted {
            app = app.restart().await;
        }
        let late = bodies::sos("w1", -3_600);
        let answers = join_all((0..20).map(|_| app.post(EVENTS, &late))).await;
        let ids: std::collections::BTreeSet<String> = answers
            .iter()
            .map(|answer| format!("{} {}", answer.body["event_id"], answer.body["alert_id"]))
            .collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(app.logged_transitions(), ["raised"], "restarted: {restarted}");
        assert_eq!(app.count("SELECT count FROM alert"), 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM event"), MORE_THAN_MEMORY + 1);
    }
}
