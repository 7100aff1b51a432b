//! Bodies that no watch can have meant: refused once, kept for people, and in nobody's way.

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use watchpost::api::watch_door::ROUTES;

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, HEALTH, wall};
use crate::support::stream::{StreamClient, transitions};

const BROKEN: &str = "{\"eventType\":\"CALL_STATE\",\"deviceSn\":";

#[actix_web::test]
async fn what_is_not_json_is_refused_once_with_a_copy_and_then_let_through() {
    let mut app = TestApp::start().await;
    let first = app.post_bytes(EVENTS, BROKEN).await;
    assert_eq!(first.status, 400);
    assert_eq!((&first.body["status"], &first.body["success"]), (&json!("error"), &json!(false)));
    assert!(first.body["message"].as_str().is_some_and(|text| text.contains("not JSON")), "{}", first.body);
    assert!(first.body["quarantine_id"].is_string());
    for restarted in [false, true] {
        if restarted {
            app = app.restart().await;
        }
        for route in [EVENTS, HEALTH] {
            let again = app.post_bytes(route, BROKEN).await;
            assert_eq!((again.status.as_u16(), &again.body["quarantined"]), (200, &json!(true)), "{route}");
            assert_eq!((&again.body["status"], &again.body["success"]), (&json!("success"), &json!(true)));
        }
    }
    let copies = app.texts("SELECT CAST(body AS TEXT) || '|' || route AS value FROM quarantine");
    assert_eq!(copies, [Some(format!("{BROKEN}|{EVENTS}"))]);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert"), 0);
}

#[actix_web::test]
async fn every_route_for_bodies_refuses_broken_ones_in_the_same_way() {
    let app = TestApp::start().await;
    for (index, (route, _)) in ROUTES.into_iter().enumerate() {
        let body = format!("{{\"n\":{index},");
        assert_eq!(app.post_bytes(route, body.clone()).await.status, 400, "{route}");
        assert_eq!(app.post_bytes(route, body).await.status, 200, "{route}");
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 7);
}

#[actix_web::test]
async fn copies_of_a_bad_body_at_once_are_one_copy() {
    let app = TestApp::start().await;
    let answers = join_all((0..20).map(|_| app.post_bytes(EVENTS, BROKEN))).await;
    let refused = answers.iter().filter(|answer| answer.status == 400).count();
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((refused, passed), (1, 19));
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 1);
}

#[actix_web::test]
async fn bad_bodies_that_name_an_emergency_share_one_alert() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let bad = |word: &str| format!("{{\"eventType\":\"{word}_EVENT\",\"deviceSn\":\"w1");
    for (word, statuses) in
        [("SOS", [400, 200, 200]), ("falldown", [400, 200, 200]), ("One_Key", [400, 200, 200])]
    {
        for status in statuses {
            assert_eq!(app.post_bytes(EVENTS, bad(word)).await.status, status, "{word}");
        }
    }
    let pushed = screen.alerts_so_far(&app).await;
    assert_eq!(transitions(&pushed), ["raised", "repeated", "repeated"]);
    for (index, frame) in pushed.iter().enumerate() {
        let alert = &frame["alert"];
        assert_eq!(
            (&alert["device_sn"], &alert["severity"]),
            (&json!("watchpost:unreadable"), &json!("critical"))
        );
        assert_eq!(
            (&alert["count"], &alert["value"]),
            (&json!(index + 1), &json!(format!("quarantine {}", index + 1)))
        );
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM alert"), 1);

    let app = app.restart().await;
    assert_eq!(app.post_bytes(EVENTS, bad("SOS")).await.status, 200);
    assert_eq!(app.logged_transitions(), ["raised", "repeated", "repeated"]);
}

#[actix_web::test]
async fn a_body_without_any_device_is_kept_in_quarantine() {
    let app = TestApp::start().await;
    let mut nobody = bodies::sos("", 0);
    let first = app.post(EVENTS, &nobody).await;
    assert_eq!(first.status, 400);
    assert!(first.body["message"].as_str().is_some_and(|text| text.contains("deviceSn")), "{}", first.body);
    assert_eq!(app.texts("SELECT device_sn AS value FROM alert"), [Some("watchpost:unreadable".to_owned())]);
    assert_eq!(app.post(EVENTS, &nobody).await.body["quarantined"], true);
    nobody["deviceSn"] = json!("w1");
    assert_eq!(app.post(EVENTS, &nobody).await.status, 200);
}

#[actix_web::test]
async fn one_record_without_a_device_is_put_aside_and_the_others_are_stored() {
    let app = TestApp::start().await;
    let batch = json!({"data": [
        bodies::heart_rate("w1", 0, 70)["data"],
        {"heart_rate": 71, "timestamp": wall(1)},
        17,
        bodies::heart_rate("w2", 0, 72)["data"],
    ]});
    for _ in 0..2 {
        let told = app.stored(HEALTH, &batch).await;
        let codes: Vec<&Value> =
            told["warnings"].as_array().expect("warnings").iter().map(|w| &w["code"]).collect();
        assert_eq!(codes.iter().filter(|code| **code == "quarantined").count(), 2, "{codes:?}");
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 2);
    let kept = app.texts("SELECT CAST(body AS TEXT) AS value FROM quarantine ORDER BY quarantine_id");
    assert_eq!(kept[0].as_deref(), Some(batch["data"][1].to_string().as_str()));
    assert_eq!(kept[1].as_deref(), Some("17"));
}

#[actix_web::test]
async fn bodies_at_the_limits_are_taken_and_past_them_refused() {
    let app = TestApp::start_with(|config| config.watch.records_max = 10).await;
    let records = |count: i64| {
        let records: Vec<Value> =
            (0..count).map(|n| bodies::heart_rate("w1", n, 70)["data"].clone()).collect();
        json!({ "data": records })
    };
    assert_eq!(app.post(HEALTH, &records(10)).await.status, 200);
    assert_eq!(app.post(HEALTH, &records(11)).await.status, 400);
    assert_eq!(app.post(HEALTH, &records(11)).await.status, 200);
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 10);

    let mut large = bodies::sos("w1", 0);
    let room = (2 << 20) - large.to_string().len() - "\"note\":\"\",".len();
    large["note"] = json!("x".repeat(room));
    let exact = app.post(EVENTS, &large).await;
    assert_eq!((large.to_string().len(), exact.status.as_u16()), (2 << 20, 200));
    large["note"] = json!("x".repeat(room + 1));
    assert_eq!(app.post(EVENTS, &large).await.status, 413);
}

/// Bytes of all kinds: noise, JSON of any shape, and examples that were damaged.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
        Just(json!("w1")),
        Just(json!(wall(0))),
    ];
    let key = prop_oneof![
        proptest::sample::select(vec![
            "deviceSn",
            "eventType",
            "eventValue",
            "timestamp",
            "healthData",
            "data",
            "SerialNumber",
            "wearState",
            "heart_rate",
            "batchEvents",
            "latitude",
            "content",
            "message_id",
            "batteryLevel",
            "eventLevel",
            "id",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let json = leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    let damaged =
        (0..3_usize, any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(which, at, byte)| {
            let names = ["001-event-sos-complete", "060-vitals-replayed-batch", "052-phone-event"];
            let mut bytes = bodies::corpus(names[which]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        json.prop_map(|value| value.to_string().into_bytes()),
        damaged,
    ]
}

#[actix_web::test]
async fn no_bytes_whatever_get_anything_but_200_or_400_and_the_server_stays_ready() {
    let app = TestApp::start().await;
    let mut runner = TestRunner::new(Config { cases: 1, failure_persistence: None, ..Config::default() });
    let bodies = proptest::collection::vec(anything(), 60);
    for (route, _) in ROUTES {
        let drawn = bodies.new_tree(&mut runner).expect("bodies").current();
        let answers = join_all(drawn.iter().map(|body| app.post_bytes(route, body.clone()))).await;
        for (body, answer) in drawn.iter().zip(answers) {
            let text = String::from_utf8_lossy(body);
            assert!(matches!(answer.status.as_u16(), 200 | 400), "{route} {}: {text}", answer.status);
            assert_eq!(answer.body["success"], answer.status == 200, "{route}: {text}");
            // What was refused once is not refused again.
            if answer.status == 400 {
                assert_eq!(app.post_bytes(route, body.clone()).await.status, 200, "{route}: {text}");
            }
        }
        assert_eq!(app.get("/readyz").await.status, 200, "after {route}");
    }
    assert!(app.stored(EVENTS, &bodies::sos("w-last", 0)).await["alert_id"].is_string());
    let metrics = app.get("/metrics").await.body;
    let metrics = metrics.as_str().expect("text");
    let panics = metrics.lines().filter(|line| line.contains("panic") && !line.starts_with('#'));
    for line in panics {
        assert!(line.ends_with(" 0"), "{line}");
    }
}
