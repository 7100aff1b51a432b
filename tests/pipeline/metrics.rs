//! Alerts from vital signs: streaks by device time, on the wrist, of what was really measured.

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, HEALTH, INFO, WEAR, heart_rate, wall};
use crate::support::stream::{StreamClient, transitions};

async fn send(app: &TestApp, samples: &[(i64, u32)]) {
    for (second, bpm) in samples {
        app.stored(HEALTH, &heart_rate("w1", *second, *bpm)).await;
    }
}

fn raised(app: &TestApp) -> Vec<String> {
    app.texts("SELECT rule_id AS value FROM alert ORDER BY rule_id").into_iter().flatten().collect()
}

#[actix_web::test]
async fn five_samples_out_of_range_raise_in_any_order_of_arrival() {
    for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 1, 5, 2, 4]] {
        let app = TestApp::start().await;
        let samples: Vec<(i64, u32)> =
            order.into_iter().map(|second| (second, 160 + second as u32)).collect();
        send(&app, &samples[..4]).await;
        assert!(raised(&app).is_empty(), "{order:?}: four are not five");
        send(&app, &samples[4..]).await;
        assert_eq!(raised(&app), ["heart-rate"], "{order:?}");
        assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 5);
    }
}

#[actix_web::test]
async fn one_batch_of_five_raises_as_five_uploads_do() {
    let app = TestApp::start().await;
    let records: Vec<Value> = (0..5).map(|n| heart_rate("w1", n, 30)["data"].clone()).collect();
    let told = app.stored(HEALTH, &json!({ "data": records })).await;
    assert_eq!(told["processed"], 5);
    let alert = app.get("/api/v1/alerts").await.body["items"][0].clone();
    assert_eq!((&alert["rule_id"], &alert["severity"]), (&json!("heart-rate"), &json!("high")));
    assert_eq!((&alert["vitals"]["heart_rate"], &alert["event_id"]), (&json!(30.0), &Value::Null));
    assert_eq!(app.count("SELECT COUNT(*) FROM alert"), 1);
}

#[actix_web::test]
async fn a_streak_goes_on_over_a_restart() {
    let mut app = TestApp::start().await;
    send(&app, &[(1, 160), (2, 161), (3, 162)]).await;
    app = app.restart().await;
    send(&app, &[(4, 163)]).await;
    assert!(raised(&app).is_empty());
    send(&app, &[(5, 164)]).await;
    assert_eq!(raised(&app), ["heart-rate"]);
}

#[actix_web::test]
async fn the_same_time_again_does_not_advance_a_streak() {
    let mut app = TestApp::start().await;
    send(&app, &[(1, 160), (2, 160), (3, 160), (4, 160), (4, 160), (4, 170), (1, 180)]).await;
    app = app.restart().await;
    send(&app, &[(4, 160), (3, 175)]).await;
    assert!(raised(&app).is_empty());
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 4);
}

#[actix_web::test]
async fn zeros_and_missing_values_neither_count_nor_break_a_streak() {
    let app = TestApp::start().await;
    for second in 0..10 {
        let zeros = json!({"heart_rate": 0, "blood_oxygen": "0", "body_temperature": "0.0"});
        app.stored(HEALTH, &bodies::vitals("w1", second, &zeros)).await;
    }
    assert!(raised(&app).is_empty());
    send(&app, &[(10, 160), (11, 0), (12, 160), (13, 160)]).await;
    app.stored(HEALTH, &bodies::vitals("w1", 14, &json!({"step": 100}))).await;
    send(&app, &[(15, 160), (16, 160)]).await;
    assert_eq!(raised(&app), ["heart-rate"]);
}

#[actix_web::test]
async fn a_value_that_is_filled_in_later_advances_the_streak_where_it_belongs() {
    let app = TestApp::start().await;
    app.stored(HEALTH, &bodies::vitals("w1", 3, &json!({"step": 10}))).await;
    send(&app, &[(1, 160), (2, 160), (4, 160), (5, 160)]).await;
    assert!(raised(&app).is_empty());
    send(&app, &[(3, 160)]).await;
    assert_eq!(raised(&app), ["heart-rate"]);
}

#[actix_web::test]
async fn each_metric_raises_its_own_alert() {
    let app = TestApp::start().await;
    for second in 0..5 {
        let bad = json!({"heart_rate": 35, "blood_oxygen": 80, "body_temperature": "39.5"});
        app.stored(HEALTH, &bodies::vitals("w1", second, &bad)).await;
    }
    assert_eq!(raised(&app), ["blood-oxygen", "heart-rate", "temperature"]);
    assert_eq!(app.count("SELECT count FROM alert WHERE rule_id = 'blood-oxygen'"), 3);
}

#[actix_web::test]
async fn a_watch_off_the_wrist_that_repeats_its_last_values_raises_nothing() {
    let app = TestApp::start().await;
    send(&app, &[(-2, 160), (-1, 160)]).await;
    let off = json!({"SerialNumber": "w1", "wearState": "0", "timestamp": wall(0)});
    app.stored(INFO, &off).await;
    send(&app, &[(1, 160), (2, 160), (3, 160), (4, 160), (5, 160), (6, 160)]).await;
    assert!(raised(&app).is_empty());
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals WHERE NOT worn"), 6);
}

#[actix_web::test]
async fn a_heart_rate_that_changes_proves_that_the_watch_is_worn() {
    let app = TestApp::start().await;
    send(&app, &[(-1, 160)]).await;
    app.stored(EVENTS, &bodies::event("w1", WEAR, "0", 0)).await;
    send(&app, &[(1, 160), (2, 160)]).await;
    send(&app, &[(3, 161), (4, 162), (5, 162), (6, 162)]).await;
    assert_eq!(raised(&app), ["heart-rate", "not-worn"]);
    assert_eq!(app.count("SELECT worn FROM device"), 1);
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals WHERE NOT worn"), 2);
}

#[actix_web::test]
async fn back_to_normal_is_told_once_and_people_close_the_alert() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    send(&app, &[(1, 160), (2, 160), (3, 160), (4, 160), (5, 160), (6, 80), (7, 81)]).await;
    let pushed = screen.alerts_so_far(&app).await;
    assert_eq!(transitions(&pushed), ["raised", "back_to_normal"]);
    let shown = &pushed[1]["alert"];
    assert_eq!((&shown["state"], &shown["count"]), (&json!("raised"), &json!(1)));
    assert!(shown["back_to_normal_at"].is_string());

    // Out of range again: five more, and the alert is the same one.
    app.advance_ms(20_000);
    send(&app, &[(11, 160), (12, 160), (13, 160), (14, 160), (15, 160)]).await;
    let pushed = screen.alerts_so_far(&app).await;
    assert_eq!(transitions(&pushed), ["repeated"]);
    assert!(pushed[0]["alert"]["back_to_normal_at"].is_null());
    let closed = app.act(&shown["alert_id"], "resolve").await;
    assert_eq!(closed["state"], "resolved");
}

#[actix_web::test]
async fn health_records_inside_events_count_too() {
    let app = TestApp::start().await;
    for second in 0..3 {
        let mut body = bodies::event("w1", "com.tdtech.ohos.action.CALL_STATE", "w1", second);
        body["healthData"] = bodies::vitals("w1", second, &json!({"blood_oxygen": 85}));
        let told = app.stored(EVENTS, &body).await;
        assert_eq!(told["alert_id"].is_string(), second == 2);
    }
    assert_eq!(raised(&app), ["blood-oxygen"]);
}
