//! The known defects of the system before this one, each shown to be absent.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, EXAMPLE_MS, HEALTH, INFO, SN, SOS, wall};
use crate::support::stream::StreamClient;

#[actix_web::test]
async fn defect_01_an_unknown_type_or_watch_does_not_make_the_queue_of_a_watch_stick() {
    let app = TestApp::start().await;
    for (second, event_type) in ["com.example.UNHEARD_OF", "", "x", "...", "未知"].iter().enumerate() {
        let told = app.stored(EVENTS, &bodies::event("w-nobody", event_type, "1", second as i64)).await;
        assert!(told["alert_id"].is_null() && told["event_id"].is_string(), "{event_type:?}: {told}");
    }
    assert!(app.stored(EVENTS, &bodies::sos("w-nobody", 9)).await["alert_id"].is_string());
    // That nobody has it is not remembered against a watch that is bound just now.
    app.bind("w-nobody", &json!({"customer_id": "A"})).await;
    app.stored(EVENTS, &bodies::sos("w-nobody", 10)).await;
    let owners = app.texts("SELECT customer_id AS value FROM event ORDER BY occurred_ms DESC LIMIT 2");
    assert_eq!(owners, [Some("A".to_owned()), Some("0".to_owned())]);
}

#[actix_web::test]
async fn defect_02_a_replay_doubles_no_alert() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    }
    assert_eq!(app.logged_transitions(), ["raised"]);
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 1);
}

#[actix_web::test]
async fn defect_03_an_alarm_is_not_lost_when_its_health_record_is_bad() {
    let app = TestApp::start().await;
    let bad: Vec<Value> = vec![
        json!("{\"data\":{\"heart_rate\":84,"),
        json!({"data": {"upload_method": "carrier pigeon", "userId": "not a number", "heart_rate": "fast"}}),
        json!({"data": {"timestamp": EXAMPLE_MS, "heart_rate": 84}}),
        json!({"data": {"timestamp": [1], "heart_rate": {"bpm": 84}, "deviceSn": 7}}),
        json!([null, 7, "x", {"heart_rate": 1e308}]),
        json!(17),
        json!({"data": {"sleepData": {"code": 0}, "latitude": "north", "blood_oxygen": -5}}),
        json!({"data": {"heart_rate": "\u{0}", "step": "many\u{1f600}"}}),
    ];
    for (index, health) in bad.into_iter().enumerate() {
        let sn = format!("w{index}");
        let mut body = bodies::sos(&sn, 0);
        body["healthData"] = health;
        let told = app.stored(EVENTS, &body).await;
        let alert_id = told["alert_id"].as_str().unwrap_or_else(|| panic!("{body} raised nothing"));
        // What was answered is the id of a row that exists, now and after a restart.
        let open = app.count(&format!("SELECT COUNT(*) FROM alert WHERE alert_id = {alert_id} AND is_open"));
        assert_eq!(open, 1, "{body}");
    }
    let app = app.restart().await;
    assert_eq!(app.get("/api/v1/alerts?open=true").await.body["items"].as_array().map(Vec::len), Some(8));
}

#[actix_web::test]
async fn defect_04_health_records_that_are_answered_with_200_are_stored() {
    let app = TestApp::start().await;
    let answer = app.post_bytes(HEALTH, bodies::corpus("059-vitals-single")).await;
    assert_eq!((answer.status.as_u16(), app.count("SELECT COUNT(*) FROM vitals")), (200, 1));
    app.stored(HEALTH, &bodies::heart_rate("w-unbound", 0, 70)).await;
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 2);
    // What cannot be stored is not called a success: nobody knows whose heart beats.
    let nobody = app.post(HEALTH, &json!({"data": {"heart_rate": 70, "timestamp": wall(0)}})).await;
    assert_eq!((nobody.status.as_u16(), &nobody.body["success"]), (400, &json!(false)));
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 2);
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 1);
}

#[actix_web::test]
async fn defect_05_what_was_accepted_is_there_and_one_bad_record_takes_no_other_with_it() {
    let app = TestApp::start().await;
    let mut records: Vec<Value> =
        (0..50).map(|n| bodies::heart_rate(&format!("w{n}"), n, 70)["data"].clone()).collect();
    records.insert(20, json!({"heart_rate": 70, "timestamp": wall(0)}));
    records.insert(30, json!({"deviceSn": "w-odd", "heart_rate": "?", "timestamp": "?", "step": [1]}));
    app.stored(HEALTH, &json!({ "data": records })).await;
    for n in 0..20 {
        app.stored(EVENTS, &bodies::sos(&format!("w{n}"), 0)).await;
    }
    // Read from the file at once: nothing waits in a queue behind the answers.
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 51);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert WHERE is_open"), 20);
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 1);
}

#[actix_web::test]
async fn defect_06_misspelt_health_data_phones_and_weekly_exercise_are_understood() {
    let app = TestApp::start().await;
    for misspelt in ["016-event-health-misspelt-text", "017-event-health-misspelt-object"] {
        let answer = app.post_bytes(EVENTS, bodies::corpus(misspelt)).await;
        assert_eq!(answer.status, 200, "{misspelt}");
        assert_eq!(app.count("SELECT heart_rate FROM vitals"), 84, "{misspelt}");
    }
    let phone = app.post_bytes(EVENTS, bodies::corpus("052-phone-event")).await;
    assert_eq!((phone.status.as_u16(), phone.body["alert_id"].is_string()), (200, true));

    let week = r#"{"data":[{"timeStamps":1757480724000,"totalSteps":31210}],"name":"daily"}"#;
    app.stored(HEALTH, &bodies::vitals("w1", 0, &json!({"heart_rate": 70, "exerciseWeekData": week}))).await;
    let stored = app.texts("SELECT exercise_week AS value FROM vitals WHERE device_sn = 'w1'");
    assert_eq!(stored, [Some(week.to_owned())]);

    app.bind("A5GTQ24B26000732", &json!({"customer_id": "1939964806110937090"})).await;
    let info = json!({"SerialNumber": "A5GTQ24B26000732", "batteryLevel": 63, "timestamp": wall(0),
        "customerId": "1939964806110937090", "orgId": "7", "userId": "8"});
    app.stored(INFO, &info).await;
    let device = app.get("/api/v1/devices/A5GTQ24B26000732").await.body;
    assert_eq!(device["customer_id"], "1939964806110937090");
}

#[actix_web::test]
async fn defect_07_an_alarm_is_shown_where_it_was_and_nowhere_if_nobody_knows() {
    let app = TestApp::start().await;
    for (sn, place) in [
        ("w-absent", json!({})),
        ("w-off", json!({"latitude": 0, "longitude": 0, "altitude": 0})),
        ("w-texts", json!({"latitude": "0", "longitude": "null"})),
    ] {
        let mut body = bodies::sos(sn, 0);
        body.as_object_mut().expect("an object").extend(place.as_object().expect("an object").clone());
        body["healthData"] =
            json!({"data": {"deviceSn": sn, "heart_rate": 80, "latitude": "0", "longitude": "0"}});
        let alert = alert_of(&app, &app.stored(EVENTS, &body).await).await;
        assert!(alert["location"].is_null(), "{sn} was put at {}", alert["location"]);
    }
    let mut body = bodies::sos("w-there", 0);
    body["healthData"] = json!({"data": {"heart_rate": 80, "latitude": "39.9", "longitude": "116.4"}});
    let alert = alert_of(&app, &app.stored(EVENTS, &body).await).await;
    assert_eq!(
        (&alert["location"]["latitude"], &alert["location"]["longitude"]),
        (&json!(39.9), &json!(116.4))
    );
    assert_eq!(app.count("SELECT COUNT(*) FROM event WHERE latitude IS NOT NULL"), 1);
}

async fn alert_of(app: &TestApp, told: &Value) -> Value {
    let id = told["alert_id"].as_str().expect("an alert");
    app.api(Method::GET, &format!("/api/v1/alerts/{id}"), None).await.body
}

#[actix_web::test]
async fn defect_08_a_serial_of_25_or_255_characters_raises_under_its_whole_name() {
    let app = TestApp::start().await;
    for sn in ["EMERGENCY_TEST_1750150000", &"长".repeat(255)] {
        let told = app.stored(EVENTS, &bodies::sos(sn, 0)).await;
        assert_eq!((&told["device_sn"], &alert_of(&app, &told).await["device_sn"]), (&json!(sn), &json!(sn)));
    }
    assert_eq!(app.post(EVENTS, &bodies::sos(&"x".repeat(256), 0)).await.status, 400);
}

#[actix_web::test]
async fn defect_09_a_time_of_any_form_is_stored_and_one_that_cannot_be_believed_is_marked() {
    let app = TestApp::start().await;
    let forms = [
        (json!(EXAMPLE_MS), "device"),
        (json!(EXAMPLE_MS / 1000), "device"),
        (json!(EXAMPLE_MS.to_string()), "device"),
        (json!("2025-09-10T05:05:24Z"), "device"),
        (json!("2025-09-10T13:05:24.000000"), "device"),
        (json!(wall(0)), "device"),
        (json!("1970-01-01 08:00:00"), "arrival"),
        (json!("yesterday"), "arrival"),
        (json!(-1), "arrival"),
        (json!({"ms": 1}), "arrival"),
        (json!(null), "arrival"),
        (json!("2027-01-01 00:00:00"), "arrival"),
    ];
    for (index, (time, source)) in forms.iter().enumerate() {
        let sn = format!("w{index}");
        let body = json!({"eventType": SOS, "deviceSn": sn, "timestamp": time,
            "healthData": {"data": {"heart_rate": 80, "timestamp": time}}});
        app.stored(EVENTS, &body).await;
        app.stored(
            HEALTH,
            &json!({"data": {"deviceSn": format!("h{index}"), "heart_rate": 80, "timestamp": time}}),
        )
        .await;
        let at = if *source == "device" { EXAMPLE_MS } else { crate::support::NOW.0 };
        let query = |columns: &str, table: &str, sn: &str| {
            app.texts(&format!("SELECT {columns} AS value FROM {table} WHERE device_sn = '{sn}'"))
        };
        assert_eq!(
            query("occurred_ms || ' ' || time_source", "event", &sn),
            [Some(format!("{at} {source}"))],
            "{time}"
        );
        assert_eq!(query("measured_ms", "vitals", &sn), [Some(at.to_string())], "{time}");
        assert_eq!(query("measured_ms", "vitals", &format!("h{index}")), [Some(at.to_string())], "{time}");
    }
}

#[actix_web::test]
async fn defect_10_metric_rules_fire_count_over_time_and_apply_to_whom_they_are_for() {
    let app = TestApp::start().await;
    app.bind("w-a", &json!({"customer_id": "A"})).await;
    app.bind("w-b", &json!({"customer_id": "B"})).await;
    let rule = |id: &str, enabled: bool, max: f64| {
        json!({"rule_id": id, "customer_id": "A", "name": id, "severity": "high", "enabled": enabled,
            "condition": {"kind": "metric", "metric": "stress", "max": max, "consecutive_samples": 2}})
    };
    for body in [rule("a-stress", true, 66.0), rule("a-stress-off", false, 10.0)] {
        assert_eq!(app.api(Method::POST, "/api/v1/rules", Some(&body)).await.status, 201);
    }
    let off = json!({"rule_id": "call-off", "name": "calls", "severity": "high", "enabled": false,
        "condition": {"kind": "event", "event_type": "CALL_STATE"}});
    assert_eq!(app.api(Method::POST, "/api/v1/rules", Some(&off)).await.status, 201);
    for sn in ["w-a", "w-b"] {
        // Three uploads, one sample each: the count goes on from upload to upload.
        for second in 0..3 {
            let low = json!({"blood_oxygen": 85, "stress": 70, "heart_rate": 0, "body_temperature": "0.0"});
            app.stored(HEALTH, &bodies::vitals(sn, second, &low)).await;
        }
        for second in 3..8 {
            app.stored(HEALTH, &bodies::heart_rate(sn, second, 180)).await;
        }
        app.stored(EVENTS, &bodies::event(sn, "com.tdtech.ohos.action.CALL_STATE", sn, 9)).await;
    }
    let raised = |sn: &str| {
        app.texts(&format!("SELECT rule_id AS value FROM alert WHERE device_sn = '{sn}' ORDER BY rule_id"))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    assert_eq!(raised("w-a"), ["a-stress", "blood-oxygen", "heart-rate"]);
    assert_eq!(raised("w-b"), ["blood-oxygen", "heart-rate"]);
}

#[actix_web::test]
async fn defect_11_an_alert_from_a_health_record_names_customer_org_and_person() {
    let app = TestApp::start().await;
    let binding = json!({"customer_id": "A", "customer_name": "Mine Co", "org_id": "o1", "org_name": "Shift 1",
        "person_id": "p1", "person_name": "Ann"});
    app.bind("w1", &binding).await;
    for second in 0..3 {
        app.stored(HEALTH, &bodies::vitals("w1", second, &json!({"blood_oxygen": 80}))).await;
    }
    let alert = app.get("/api/v1/alerts").await.body["items"][0].clone();
    let wanted = json!({"customer_id": "A", "org_id": "o1", "org_name": "Shift 1", "person_id": "p1",
        "person_name": "Ann", "rule_id": "blood-oxygen"});
    for (key, value) in wanted.as_object().expect("an object") {
        assert_eq!(&alert[key], value, "{key}");
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals WHERE customer_id = 'A' AND person_id = 'p1'"), 3);
}

#[actix_web::test]
async fn defect_14_every_push_names_its_alert_as_the_answer_did() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let answer = app.post_bytes(EVENTS, bodies::corpus("001-event-sos-complete")).await;
    let pushed = screen.next_alert().await;
    assert!(pushed["alert"]["alert_id"].is_string());
    assert_eq!(pushed["alert"]["alert_id"], answer.body["alert_id"]);
    assert_eq!(pushed["alert"]["device_sn"], SN);
}
