//! Health records and device information as they are stored.

use serde_json::json;

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, EXAMPLE_MS, HEALTH, INFO, SN, wall};

#[actix_web::test]
async fn the_same_time_again_fills_what_was_empty_and_keeps_what_was_measured() {
    let app = TestApp::start().await;
    let first = json!({"heart_rate": 70, "blood_oxygen": 0, "sleepData": "null"});
    let second = json!({"heart_rate": 99, "blood_oxygen": 97, "sleepData": "{\"data\":[]}", "latitude": "22.5",
        "longitude": "114.0"});
    app.stored(HEALTH, &bodies::vitals("w1", 0, &first)).await;
    app.stored(HEALTH, &bodies::vitals("w1", 0, &second)).await;
    app.stored(HEALTH, &bodies::vitals("w1", 0, &json!({"blood_oxygen": 50, "stress": 30}))).await;
    let row = "heart_rate || ' ' || blood_oxygen || ' ' || stress || ' ' || sleep || ' ' || latitude";
    assert_eq!(
        app.texts(&format!("SELECT {row} AS value FROM vitals")),
        [Some("70.0 97.0 30.0 {\"data\":[]} 22.5".to_owned())]
    );
    assert_eq!(app.count("SELECT measured_ms FROM vitals"), EXAMPLE_MS);
}

#[actix_web::test]
async fn the_replayed_batch_of_the_protocol_is_two_records() {
    let app = TestApp::start().await;
    for _ in 0..2 {
        let answer = app.post_bytes(HEALTH, bodies::corpus("060-vitals-replayed-batch")).await;
        assert_eq!((answer.status.as_u16(), &answer.body["processed"]), (200, &json!(3)));
    }
    let rows = app.texts("SELECT measured_ms || ' ' || heart_rate AS value FROM vitals ORDER BY measured_ms");
    let wanted = [format!("{} 84.0", EXAMPLE_MS - 600_000), format!("{EXAMPLE_MS} 91.0")];
    assert_eq!(rows, wanted.map(Some));
    assert_eq!(app.count("SELECT COUNT(*) FROM alert"), 0);
}

#[actix_web::test]
async fn a_blank_record_in_a_batch_is_passed_over() {
    let app = TestApp::start().await;
    let answer = app.post_bytes(HEALTH, bodies::corpus("061-vitals-batch-with-an-empty-record")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        (app.count("SELECT COUNT(*) FROM vitals"), app.count("SELECT COUNT(*) FROM quarantine")),
        (1, 0)
    );
}

#[actix_web::test]
async fn every_dialect_of_a_health_record_ends_in_a_row() {
    let app = TestApp::start().await;
    for name in [
        "055-phone-health",
        "056-phone-health-wrapped",
        "057-phone-health-data-as-text",
        "064-vitals-flat",
        "065-vitals-top-level-list",
        "066-vitals-camel-case",
        "067-vitals-pinyin",
        "068-vitals-java-list",
    ] {
        let before = app.count("SELECT COUNT(*) FROM vitals");
        let answer = app.post_bytes(HEALTH, rename_devices(name)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        assert!(app.count("SELECT COUNT(*) FROM vitals") > before, "{name} stored nothing");
    }
}

/// The example with serials of its own, so that examples do not meet in one row.
fn rename_devices(name: &str) -> Vec<u8> {
    let text = String::from_utf8(bodies::corpus(name)).expect("text");
    text.replace(SN, &format!("W{}", &name[..3])).into_bytes()
}

#[actix_web::test]
async fn records_without_a_time_do_not_run_into_each_other_and_their_replay_is_none() {
    let app = TestApp::start().await;
    let batch = json!({"data": [
        {"deviceSn": "w1", "heart_rate": 70},
        {"deviceSn": "w1", "heart_rate": 71},
        {"deviceSn": "w1", "heart_rate": 72, "timestamp": "?"},
    ]});
    app.stored(HEALTH, &batch).await;
    app.advance_ms(60_000);
    app.stored(HEALTH, &batch).await;
    let rows = app.texts("SELECT heart_rate AS value FROM vitals ORDER BY measured_ms");
    assert_eq!(rows, ["70.0", "71.0", "72.0"].map(|text| Some(text.to_owned())));
}

#[actix_web::test]
async fn device_information_is_kept_as_history_and_says_whether_the_watch_is_worn() {
    let app = TestApp::start().await;
    let info = |second: i64, worn: serde_json::Value, battery: i64| {
        json!({"System Software Version": "ARC-AL00CN 4.0.0.900(SP41C700E104R412P100)",
            "Wifi Address": "f0:fa:c7:ed:6c:17", "IP Address": "192.168.31.192\nfe80::1", "Network Access Mode": 2,
            "SerialNumber": "A5GTQ24B26000732", "Device Name": "HUAWEI WATCH 4-DD6", "IMEI": "861600078000000",
            "batteryLevel": battery, "voltage": 3995, "chargingStatus": "NONE", "status": "ACTIVE",
            "timestamp": wall(second), "wearState": worn})
    };
    app.stored(INFO, &info(0, json!(0), 63)).await;
    app.stored(INFO, &info(0, json!(0), 63)).await;
    app.stored(INFO, &json!([info(10, json!("1"), 62), info(5, json!(0), 61)])).await;
    let rows = app.texts(
        "SELECT (reported_ms - 1757480724000) || ' ' || battery_percent || ' ' || worn || ' ' || model || ' ' || ip_address
           || ' ' || charging AS value FROM device_status ORDER BY reported_ms",
    );
    let wanted = ["0 63 0", "5000 61 0", "10000 62 1"];
    assert_eq!(rows, wanted.map(|row| Some(format!("{row} ARC-AL00 192.168.31.192 not_charging"))));
    assert_eq!(
        app.texts("SELECT worn || ' ' || worn_ms AS value FROM device"),
        [Some("1 1757480734000".to_owned())]
    );
    let shown = app.get("/api/v1/devices/A5GTQ24B26000732").await;
    assert_eq!(shown.status, 200);
    assert_eq!(shown.body["device_sn"], "A5GTQ24B26000732");
}

#[actix_web::test]
async fn empty_bodies_are_fine_on_every_route_and_store_nothing() {
    let app = TestApp::start().await;
    for route in
        [EVENTS, HEALTH, INFO, "/upload_watch_log", "/DeviceMessage/send", "/batch/upload_common_event"]
    {
        for body in ["", " \n", "{}", "[]", "null", "\"\"", "{\"data\":{}}", "{\"data\":[]}", "[{},null]"] {
            let answer = app.post_bytes(route, body).await;
            assert_eq!(answer.status, 200, "{route} {body:?}: {}", answer.body);
            assert_eq!((&answer.body["status"], &answer.body["success"]), (&json!("success"), &json!(true)));
        }
    }
    for table in
        ["event", "vitals", "device_status", "device", "quarantine", "watch_log", "device_message", "alert"]
    {
        assert_eq!(app.count(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
}
