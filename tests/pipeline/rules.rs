//! A rule that was answered is in force: the very next event is judged by it, in every shard.

use awc::http::{Method, StatusCode};
use serde_json::{Value, json};
use watchpost::domain::ids::DeviceSn;
use watchpost::ingest::router::shard_index;

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, HEALTH};

const SHARDS: usize = 2;

/// Serials of watches in every shard.
fn watches() -> Vec<String> {
    let shard = |sn: &String| shard_index(&DeviceSn::parse(sn).expect("a serial"), SHARDS);
    let serials: Vec<String> = (0..12).map(|n| format!("w{n}")).collect();
    assert!((0..SHARDS).all(|wanted| serials.iter().any(|sn| shard(sn) == wanted)));
    serials
}

fn rule(severity: &str, event_type: &str) -> Value {
    json!({"rule_id": "door", "name": "Door", "severity": severity,
        "condition": {"kind": "event", "event_type": event_type}})
}

/// Sends one event per watch; whether it raised or repeated an alert in each.
async fn judged(app: &TestApp, watches: &[String], second: i64) -> Vec<bool> {
    let mut alerted = Vec::new();
    for sn in watches {
        let told = app.stored(EVENTS, &bodies::event(sn, "com.example.DOOR_OPEN", "1", second)).await;
        alerted.push(told["alert_id"].is_string());
    }
    alerted
}

#[actix_web::test]
async fn the_next_event_is_judged_by_what_was_answered_in_every_shard() {
    let app = TestApp::start_with(|config| config.device.shards = SHARDS).await;
    let watches = watches();
    let (all, none) = (vec![true; watches.len()], vec![false; watches.len()]);
    assert_eq!(judged(&app, &watches, 0).await, none);

    let made = app.api(Method::POST, "/api/v1/rules", Some(&rule("low", "DOOR_OPEN"))).await;
    assert_eq!((made.status, &made.body["version"]), (StatusCode::CREATED, &json!(1)));
    assert_eq!(judged(&app, &watches, 2).await, all);

    let other = app.api(Method::PUT, "/api/v1/rules/door", Some(&rule("low", "DOOR_SHUT"))).await;
    assert_eq!((other.status, &other.body["version"]), (StatusCode::OK, &json!(2)));
    assert_eq!(judged(&app, &watches, 4).await, none);

    let mut disabled = rule("low", "DOOR_*");
    disabled["enabled"] = json!(false);
    assert_eq!(app.api(Method::PUT, "/api/v1/rules/door", Some(&disabled)).await.status, 200);
    assert_eq!(judged(&app, &watches, 6).await, none);
    assert_eq!(app.api(Method::PUT, "/api/v1/rules/door", Some(&rule("low", "DOOR_*"))).await.status, 200);
    assert_eq!(judged(&app, &watches, 8).await, all);

    assert_eq!(app.api(Method::DELETE, "/api/v1/rules/door", None).await.status, 204);
    assert_eq!(judged(&app, &watches, 10).await, none);

    // And what is in force outlives a restart.
    assert_eq!(app.api(Method::POST, "/api/v1/rules", Some(&rule("low", "DOOR_OPEN"))).await.status, 201);
    let app = app.restart().await;
    assert_eq!(judged(&app, &watches, 12).await, all);
}

#[actix_web::test]
async fn a_rule_that_changes_many_times_is_never_behind_its_answer() {
    let app = TestApp::start().await;
    assert_eq!(app.api(Method::POST, "/api/v1/rules", Some(&rule("low", "DOOR_OPEN"))).await.status, 201);
    let watches = watches();
    for round in 0..10_i64 {
        let mut body = rule("low", "DOOR_OPEN");
        body["enabled"] = json!(round % 2 == 0);
        assert_eq!(app.api(Method::PUT, "/api/v1/rules/door", Some(&body)).await.status, 200);
        assert_eq!(judged(&app, &watches, round * 2).await, vec![round % 2 == 0; watches.len()], "{round}");
    }
}

#[actix_web::test]
async fn the_next_sample_is_judged_by_a_new_metric_rule_too() {
    let app = TestApp::start().await;
    app.stored(HEALTH, &bodies::vitals("w1", 0, &json!({"stress": 95}))).await;
    let stress = json!({"rule_id": "stress", "name": "Stress", "severity": "medium",
        "condition": {"kind": "metric", "metric": "stress", "max": 90.0, "consecutive_samples": 2}});
    assert_eq!(app.api(Method::POST, "/api/v1/rules", Some(&stress)).await.status, 201);
    app.stored(HEALTH, &bodies::vitals("w1", 1, &json!({"stress": 96}))).await;
    assert_eq!(app.texts("SELECT rule_id AS value FROM alert"), [Some("stress".to_owned())]);
}

#[actix_web::test]
async fn a_rule_of_one_customer_judges_no_other() {
    let app = TestApp::start().await;
    app.bind("w-a", &json!({"customer_id": "A"})).await;
    app.bind("w-b", &json!({"customer_id": "B"})).await;
    let mut own = rule("high", "DOOR_OPEN");
    own["customer_id"] = json!("A");
    assert_eq!(app.api(Method::POST, "/api/v1/rules", Some(&own)).await.status, 201);
    assert_eq!(
        judged(&app, &["w-a".into(), "w-b".into(), "w-unbound".into()], 0).await,
        [true, false, false]
    );
}

#[actix_web::test]
async fn an_emergency_rule_can_be_neither_disabled_nor_deleted() {
    let app = TestApp::start().await;
    for id in ["sos", "fall", "one-key"] {
        let path = format!("/api/v1/rules/{id}");
        let mut body = app.get(&path).await.body;
        assert_eq!(body["built_in"], true);
        for (key, value) in [
            ("enabled", json!(false)),
            ("severity", json!("low")),
            ("condition", json!({"kind": "event", "event_type": "NEVER"})),
        ] {
            let kept = std::mem::replace(&mut body[key], value);
            assert_eq!(app.api(Method::PUT, &path, Some(&body)).await.status, 409, "{id} {key}");
            body[key] = kept;
        }
        assert_eq!(app.api(Method::DELETE, &path, None).await.status, 409, "{id}");
    }
    for (sn, event_type) in [("w1", "SOS_EVENT"), ("w2", "FALLDOWN_EVENT"), ("w3", "ONE_KEY_ALARM")] {
        assert!(app.stored(EVENTS, &bodies::event(sn, event_type, sn, 0)).await["alert_id"].is_string());
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM alert WHERE severity = 'critical'"), 3);
}
