//! Customers do not see each other: a binding scopes, what a body claims does not.

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS};
use crate::support::stream::StreamClient;
use awc::http::Method;

async fn listed(app: &TestApp, token: &str, what: &str) -> Vec<Value> {
    let answer = app.api_as(token, Method::GET, &format!("/api/v1/{what}"), None).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["items"].as_array().expect("a list").clone()
}

#[actix_web::test]
async fn a_watch_that_changes_hands_raises_anew_and_its_first_owner_sees_nothing_of_it() {
    let app = TestApp::start().await;
    let a = json!({"customer_id": "A", "person_id": "pa", "person_name": "Ann", "org_id": "oa", "org_name": "Mine"});
    let b = json!({"customer_id": "B", "person_id": "pb", "person_name": "Bob"});
    app.bind("w1", &a).await;
    let (token_a, token_b) = (app.token_of("A").await, app.token_of("B").await);
    let mut screen_a = StreamClient::open(&app, &token_a).await;
    let mut screen_b = StreamClient::open(&app, &token_b).await;

    let told_a = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    let pushed = screen_a.next_alert().await;
    assert_eq!(
        (&pushed["alert"]["person_name"], &pushed["alert"]["org_name"]),
        (&json!("Ann"), &json!("Mine"))
    );
    assert_eq!((&pushed["alert"]["customer_id"], &pushed["alert"]["verified"]), (&json!("A"), &json!(true)));

    app.bind("w1", &b).await;
    let told_b = app.stored(EVENTS, &bodies::sos("w1", 2)).await;
    assert_ne!(told_a["alert_id"], told_b["alert_id"]);
    let pushed = screen_b.next_alert().await;
    assert_eq!(
        (&pushed["change"]["transition"], &pushed["alert"]["person_name"]),
        (&json!("raised"), &json!("Bob"))
    );
    assert_eq!(pushed["alert"]["alert_id"], told_b["alert_id"]);

    assert!(screen_a.alerts_so_far(&app).await.is_empty(), "A saw what happened to B");
    assert!(screen_b.alerts_so_far(&app).await.is_empty(), "B saw what happened to A");
    for (token, own, other) in [(&token_a, &told_a, &told_b), (&token_b, &told_b, &told_a)] {
        let (alerts, events) = (listed(&app, token, "alerts").await, listed(&app, token, "events").await);
        assert_eq!((alerts.len(), &alerts[0]["alert_id"]), (1, &own["alert_id"]));
        assert_eq!((events.len(), &events[0]["event_id"]), (1, &own["event_id"]));
        let path = format!("/api/v1/alerts/{}", other["alert_id"].as_str().expect("an id"));
        assert_eq!(app.api_as(token, Method::GET, &path, None).await.status, 404);
        let resolve = app.api_as(token, Method::POST, &format!("{path}/resolve"), Some(&json!({}))).await;
        assert_eq!(resolve.status, 404);
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM alert WHERE is_open"), 2);
    assert_eq!(listed(&app, &token_a, "devices").await.len(), 0);
    assert_eq!(listed(&app, &token_b, "devices").await.len(), 1);
}

#[actix_web::test]
async fn a_copy_of_the_first_owners_event_stays_his_after_the_watch_has_changed_hands() {
    let app = TestApp::start().await;
    app.bind("w1", &json!({"customer_id": "A"})).await;
    let first = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    app.bind("w1", &json!({"customer_id": "B"})).await;
    let copy = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    assert_eq!((&copy["event_id"], &copy["alert_id"]), (&first["event_id"], &first["alert_id"]));
    assert_eq!(app.texts("SELECT customer_id AS value FROM alert"), [Some("A".to_owned())]);
    assert_eq!(app.texts("SELECT customer_id AS value FROM event"), [Some("A".to_owned())]);
}

#[actix_web::test]
async fn ids_in_a_body_are_kept_as_claims_and_scope_nothing() {
    let app = TestApp::start().await;
    app.bind("w1", &json!({"customer_id": "A"})).await;
    let (token_a, token_b) = (app.token_of("A").await, app.token_of("B").await);
    let mut screen_b = StreamClient::open(&app, &token_b).await;
    for sn in ["w1", "w-unbound"] {
        let mut body = bodies::sos(sn, 0);
        body["customerId"] = json!("B");
        body["orgId"] = json!(7);
        body["userId"] = json!("Eve");
        body["healthData"] = json!({"data": {"deviceSn": sn, "customerId": "B", "heart_rate": 80}});
        app.stored(EVENTS, &body).await;
    }
    assert!(listed(&app, &token_b, "alerts").await.is_empty());
    assert!(listed(&app, &token_b, "events").await.is_empty());
    assert!(screen_b.alerts_so_far(&app).await.is_empty());
    assert_eq!(listed(&app, &token_a, "alerts").await.len(), 1);
    for claims in app.texts("SELECT claims AS value FROM event") {
        let claims: Value = serde_json::from_str(&claims.expect("claims")).expect("JSON");
        assert_eq!(claims, json!({"customer_id": "B", "org_id": "7", "user_id": "Eve"}));
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals WHERE customer_id = 'B'"), 0);
}

#[actix_web::test]
async fn a_stranger_belongs_to_the_default_customer_until_somebody_binds_it() {
    let app = TestApp::start().await;
    let (default, a) = (app.token_of("0").await, app.token_of("A").await);
    let mut screen = StreamClient::open(&app, &default).await;
    app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    let pushed = screen.next_alert().await;
    assert_eq!((&pushed["alert"]["customer_id"], &pushed["alert"]["verified"]), (&json!("0"), &json!(false)));
    assert_eq!(listed(&app, &default, "alerts").await.len(), 1);
    assert!(listed(&app, &a, "alerts").await.is_empty());

    // Unbound is remembered for a while, but not across a binding.
    app.bind("w1", &json!({"customer_id": "A"})).await;
    app.stored(EVENTS, &bodies::sos("w1", 2)).await;
    assert_eq!(listed(&app, &a, "alerts").await.len(), 1);
    assert_eq!(listed(&app, &default, "alerts").await.len(), 1);

    let unbound = app.api(Method::DELETE, "/api/v1/devices/w1/binding", None).await;
    assert_eq!(unbound.status, 204);
    app.stored(EVENTS, &bodies::sos("w1", 4)).await;
    assert_eq!(listed(&app, &a, "alerts").await.len(), 1);
    assert_eq!(app.texts("SELECT count AS value FROM alert WHERE customer_id = '0'"), [Some("2".to_owned())]);
}

#[actix_web::test]
async fn every_event_after_the_answer_to_a_binding_belongs_to_the_new_owner() {
    let app = TestApp::start().await;
    for round in 0..15_i64 {
        let sn = format!("w{round}");
        // The first event loads the device while the binding is changed.
        let before = bodies::event(&sn, "com.tdtech.ohos.action.CALL_STATE", &sn, 0);
        let after = bodies::event(&sn, "com.tdtech.ohos.action.CALL_STATE", &sn, 2);
        let binding = json!({"customer_id": "A"});
        let bind_then_post = async {
            app.bind(&sn, &binding).await;
            app.stored(EVENTS, &after).await
        };
        let (first, _) = futures_util::join!(app.post(EVENTS, &before), bind_then_post);
        assert_eq!(first.status, 200);
    }
    let wrong = format!(
        "SELECT COUNT(*) FROM event WHERE occurred_ms = {} AND customer_id <> 'A'",
        bodies::EXAMPLE_MS + 2_000
    );
    assert_eq!(app.count(&wrong), 0);
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 30);
}
