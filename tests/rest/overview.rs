//! The overview, counted after real watches have reported through the whole server.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, HEALTH, INFO, WEAR, wall};

const HOUR: i64 = 3_600;
const BOOT: &str = "com.tdtech.ohos.action.BOOT_COMPLETED";

async fn overview(app: &TestApp, token: &str) -> Value {
    let answer = app.api_as(token, Method::GET, "/api/v1/overview", None).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[actix_web::test]
async fn events_count_for_the_day_in_which_they_happened_by_the_watch() {
    let app = TestApp::start().await;
    app.bind("w1", &json!({"customer_id": "1"})).await;
    // It is 13:05:30. Today since 00:00, late ones too; yesterday before and after 13:05:30.
    for (sn, seconds) in [
        ("w1", 0),
        ("w1", -13 * HOUR),
        ("w2", -HOUR),
        ("w1", -13 * HOUR - 400),
        ("w2", -24 * HOUR - 10),
        ("w1", -24 * HOUR - 20),
        ("w1", -24 * HOUR + 60),
        // Two days ago.
        ("w1", -38 * HOUR),
    ] {
        app.stored(EVENTS, &bodies::event(sn, BOOT, "1", seconds)).await;
    }
    // Without a time, it counts by its arrival.
    let mut timeless = bodies::event("w1", BOOT, "2", 0);
    timeless.as_object_mut().expect("an object").remove("timestamp");
    app.stored(EVENTS, &timeless).await;
    let (one, other) = (app.token_of("1").await, app.token_of("3").await);
    for (token, today, yesterday, until_now) in [(&app.admin, 4, 4, 2), (&one, 3, 3, 1), (&other, 0, 0, 0)] {
        let read = overview(&app, token).await;
        assert_eq!(read["today"]["from"], "2025-09-09T16:00:00.000Z");
        assert_eq!(read["yesterday"]["from"], "2025-09-08T16:00:00.000Z");
        let events = |figures: &Value| figures["events"].as_i64().expect("a number");
        let counted = [&read["today"], &read["yesterday"], &read["yesterday"]["until_now"]].map(events);
        assert_eq!(counted, [today, yesterday, until_now], "{read}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn alerts_count_by_day_hour_severity_and_organisation() {
    let app = TestApp::start().await;
    let north = json!({"customer_id": "1", "org_id": "n", "org_name": "北院"});
    app.bind("w1", &north).await;
    app.bind("w2", &json!({"customer_id": "2", "org_id": "s", "org_name": "South"})).await;
    // Yesterday at 13:05, then at 15:05, and today at 12:05 and 13:05.
    app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    app.advance_ms(2 * HOUR * 1_000);
    app.stored(EVENTS, &bodies::sos("w2", 2 * HOUR)).await;
    app.advance_ms(21 * HOUR * 1_000);
    app.stored(EVENTS, &bodies::sos("w3", 23 * HOUR)).await;
    // A second later in the day than the first of yesterday.
    app.advance_ms(HOUR * 1_000 + 1_000);
    app.stored(EVENTS, &bodies::event("w2", "com.tdtech.ohos.health.action.FALL_EVENT", "1", 24 * HOUR))
        .await;
    let read = overview(&app, &app.admin).await;
    let critical = |figures: &Value| {
        let of = |key: &str| figures["by_severity"][key].as_i64().expect("a number");
        assert_eq!(figures["alerts"], json!(of("critical")), "{figures}");
        assert_eq!(of("info") + of("low") + of("medium") + of("high"), 0);
        of("critical")
    };
    let counted = [&read["today"], &read["yesterday"], &read["yesterday"]["until_now"]].map(critical);
    assert_eq!(counted, [2, 2, 1], "{read}");
    let by_org = json!([
        {"org_id": "s", "org_name": "South", "open": 2, "critical": 2},
        {"org_id": null, "org_name": null, "open": 1, "critical": 1},
        {"org_id": "n", "org_name": "北院", "open": 1, "critical": 1},
    ]);
    assert_eq!((&read["open"]["by_org"], &read["open"]["by_severity"]["critical"]), (&by_org, &json!(4)));
    let hours: Vec<i64> = read["alarms_per_hour"]
        .as_array()
        .expect("hours")
        .iter()
        .map(|hour| {
            assert_eq!(hour["count"], hour["critical"]);
            hour["count"].as_i64().expect("a number")
        })
        .collect();
    let mut wanted = [0; 24];
    // From 14:00 yesterday on: 15, 12 and 13 o'clock.
    (wanted[1], wanted[22], wanted[23]) = (1, 1, 1);
    assert_eq!(hours, wanted);
    assert_eq!(read["alarms_per_hour"][23]["hour"], "2025-09-11T05:00:00.000Z");

    let two = app.token_of("2").await;
    let theirs = overview(&app, &two).await;
    assert_eq!([&theirs["today"], &theirs["yesterday"]].map(critical), [1, 1]);
    assert_eq!(theirs["open"]["by_org"], json!([by_org[0]]));
    app.stop().await;
}

#[actix_web::test]
async fn devices_are_counted_in_one_group_each() {
    let app = TestApp::start().await;
    app.bind("unheard", &json!({"customer_id": "1"})).await;
    for sn in ["quiet", "on", "off", "full", "off-full"] {
        app.bind(sn, &json!({"customer_id": "1"})).await;
    }
    app.stored(HEALTH, &bodies::heart_rate("quiet", 0, 70)).await;
    app.advance_ms(HOUR * 1_000);
    let charging = |sn: &str| json!({"SerialNumber": sn, "batteryLevel": 90, "chargingStatus": "CHARGING", "timestamp": wall(HOUR)});
    app.stored(HEALTH, &bodies::heart_rate("on", HOUR, 70)).await;
    app.stored(INFO, &charging("full")).await;
    for sn in ["off", "off-full"] {
        app.stored(EVENTS, &bodies::event(sn, WEAR, "0", HOUR)).await;
    }
    app.stored(INFO, &charging("off-full")).await;
    let counts = json!({"all": 6, "online": 1, "not_worn": 1, "charging": 2, "silent": 1, "unknown": 1,
        "silent_after_s": 900});
    let one = app.token_of("1").await;
    for token in [&app.admin, &one] {
        let read = overview(&app, token).await;
        assert_eq!(read["devices"], counts);
        for state in ["online", "not_worn", "charging", "silent", "unknown"] {
            let path = format!("/api/v1/devices?state={state}");
            let list = app.api_as(token, Method::GET, &path, None).await.body;
            assert_eq!(json!(list["items"].as_array().expect("items").len()), counts[state], "{state}");
        }
    }
    app.stop().await;
}

#[actix_web::test]
async fn the_first_acknowledgement_of_an_alert_counts_and_figures_are_held_for_a_while() {
    let app = TestApp::start().await;
    let none = json!({"count": 0, "p50_s": null, "p90_s": null, "max_s": null, "days": 7});
    assert_eq!(overview(&app, &app.admin).await["time_to_acknowledge"], none);
    for (sn, wait_s) in [("w1", 10), ("w2", 30), ("w3", 20)] {
        let stored = app.stored(EVENTS, &bodies::sos(sn, 0)).await;
        app.advance_ms(wait_s * 1_000);
        app.act(&stored["alert_id"], "acknowledge").await;
    }
    // Pressed again, it is raised again; what follows says nothing about the first wait.
    let seconds = app.hand.load(std::sync::atomic::Ordering::Relaxed) / 1_000 - bodies::EXAMPLE_MS / 1_000;
    let again = app.stored(EVENTS, &bodies::sos("w1", seconds)).await;
    // Counted anew once the figures above have grown old, however long counting took.
    app.advance_ms(HOUR * 1_000);
    let read = overview(&app, &app.admin).await;
    let wanted = json!({"count": 3, "p50_s": 20.0, "p90_s": 30.0, "max_s": 30.0, "days": 7});
    assert_eq!(read["time_to_acknowledge"], wanted);
    app.act(&again["alert_id"], "acknowledge").await;
    assert_eq!(overview(&app, &app.admin).await, read, "it is the same count");
    app.advance_ms(HOUR * 1_000);
    let later = overview(&app, &app.admin).await;
    assert_ne!(later["at"], read["at"]);
    assert_eq!(later["time_to_acknowledge"], wanted);
    app.stop().await;
}
