//! The main job: an SOS is answered, stored, listed and on the screens.

use crate::support::bodies::{self, EVENTS, SN, SOS, wall};
use crate::support::stream::StreamClient;
use crate::support::{TestApp, eventually};
use serde_json::{Value, json};

#[actix_web::test]
async fn an_sos_is_answered_stored_listed_and_pushed() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;

    let answer = app.post_bytes(EVENTS, bodies::corpus("001-event-sos-complete")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers.get("content-type").map(|kind| kind.as_bytes()),
        Some(&b"application/json"[..])
    );
    let told = answer.body;
    assert_eq!((&told["status"], &told["success"]), (&json!("success"), &json!(true)));
    assert!(told["message"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    let alert_id = told["alert_id"].as_str().expect("the alert id is a string");
    let event_id = told["event_id"].as_str().expect("the event id is a string");
    assert_eq!((&told["device_sn"], &told["event_type"]), (&json!(SN), &json!("SOS_EVENT")));
    let spent_ms = told["processing_time_ms"].as_f64().expect("a number of milliseconds");
    let spent = told["processing_time"].as_str().and_then(|text| text.strip_suffix('s'));
    let spent_s: f64 = spent.and_then(|text| text.parse().ok()).expect("seconds as text");
    assert!(spent_ms > 0.0 && (spent_s * 1e3 - spent_ms).abs() < 0.01, "{spent_s} s, {spent_ms} ms");

    let listed = app.get("/api/v1/alerts").await;
    let items = listed.body["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1);
    let alert = &items[0];
    assert_eq!((&alert["alert_id"], &alert["event_id"]), (&json!(alert_id), &json!(event_id)));
    assert_eq!((&alert["severity"], &alert["state"]), (&json!("critical"), &json!("raised")));
    assert_eq!((&alert["rule_id"], &alert["device_sn"]), (&json!("sos"), &json!(SN)));
    assert_eq!((&alert["event_type"], &alert["count"]), (&json!(SOS), &json!(1)));
    assert_eq!(alert["location"]["latitude"], 22.540363);
    assert_eq!(alert["location"]["longitude"], 114.015181);
    assert_eq!(alert["vitals"]["heart_rate"], 84.0);
    assert_eq!(alert["occurred_at"], "2025-09-10T05:05:24.000Z");
    assert_eq!(alert["raised_at"], "2025-09-10T05:05:30.000Z");

    let pushed = screen.next_alert().await;
    assert_eq!((&pushed["offset"], &pushed["change"]["transition"]), (&json!(1), &json!("raised")));
    assert_eq!(&pushed["alert"], alert);

    let stored = app.texts(&format!(
        "SELECT event_type || '|' || value || '|' || occurred_ms || '|' || alert_id AS value FROM event
         WHERE lower(hex(event_id)) = '{}'",
        event_id.replace('-', "")
    ));
    assert_eq!(stored, [Some(format!("{SOS}|{SN}|1757480724000|{alert_id}"))]);
    assert_eq!(app.count("SELECT heart_rate FROM vitals WHERE measured_ms = 1757480724000"), 84);
}

#[actix_web::test]
async fn a_screen_that_was_away_gets_what_it_missed_and_nothing_twice() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    assert_eq!(screen.next_alert().await["offset"], 1);
    drop(screen);
    eventually("the server notices that the screen is gone", || async {
        let metrics = app.get("/metrics").await.body;
        let text = metrics.as_str().expect("text");
        text.lines()
            .find(|line| line.starts_with("watchpost_sessions "))
            .filter(|line| line.ends_with(" 0"))
            .map(|_| ())
    })
    .await;
    app.stored(EVENTS, &bodies::sos("w2", 0)).await;
    app.stored(EVENTS, &bodies::sos("w3", 0)).await;

    let mut back = StreamClient::connect(&app, &app.admin).await;
    back.subscribe(json!({}), Some(1)).await;
    let missed: Vec<Value> = back.alerts_so_far(&app).await;
    let seen: Vec<_> = missed.iter().map(|frame| (&frame["offset"], &frame["alert"]["device_sn"])).collect();
    assert_eq!(seen, [(&json!(2), &json!("w2")), (&json!(3), &json!("w3"))]);
}

#[actix_web::test]
async fn a_batch_says_of_each_record_what_became_of_it() {
    let app = TestApp::start().await;
    let batch = json!({"batchEvents": [
        bodies::sos("w1", 0),
        {"eventType": "CALL_STATE", "deviceSn": "w2", "timestamp": wall(0)},
        bodies::sos("w1", 0),
    ]});
    let told = app.stored("/batch/upload_common_event", &batch).await;
    assert_eq!(told["processed"], 3);
    let results = told["results"].as_array().expect("results");
    assert_eq!(results[0]["event_id"], results[2]["event_id"]);
    assert_eq!(results[0]["alert_id"], results[2]["alert_id"]);
    assert!(results[0]["alert_id"].is_string() && results[1]["alert_id"].is_null());
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 2);
    assert_eq!(app.logged_transitions(), ["raised"]);
}
