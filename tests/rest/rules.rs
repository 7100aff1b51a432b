//! Rules over HTTP.

use actix_web::http::{Method, StatusCode};
use serde_json::json;

use super::server::{ADMIN, Server};

#[actix_web::test]
async fn a_rule_is_made_changed_and_deleted() {
    let server = Server::start().await;
    let rule = json!({ "name": "Front door!", "severity": "low",
                       "condition": { "kind": "event", "event_type": "DOOR*" } });
    let made = server.post(ADMIN, "/api/v1/rules", rule.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let id = made.body["rule_id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("front-door-"), "{id}");
    let path = format!("/api/v1/rules/{id}");

    let mut changed = server.get(ADMIN, &path).await.body;
    changed["severity"] = json!("high");
    let put = server.call(ADMIN, Method::PUT, &path, changed.clone()).await;
    assert_eq!((put.status, &put.body["version"]), (StatusCode::OK, &json!(2)), "{}", put.text);
    changed["severity"] = json!("info");
    let stale = server.call(ADMIN, Method::PUT, &path, changed).await;
    assert_eq!(stale.status, StatusCode::CONFLICT);

    let mut taken = rule;
    taken["rule_id"] = json!(id);
    assert_eq!(server.post(ADMIN, "/api/v1/rules", taken).await.status, StatusCode::CONFLICT);
    let gone = server.call(ADMIN, Method::DELETE, &path, json!(null)).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(ADMIN, &path).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[actix_web::test]
async fn an_emergency_rule_can_be_neither_disabled_nor_deleted() {
    let server = Server::start().await;
    let mut sos = server.get(ADMIN, "/api/v1/rules/sos").await.body;
    sos["enabled"] = json!(false);
    let disabled = server.call(ADMIN, Method::PUT, "/api/v1/rules/sos", sos).await;
    assert_eq!(disabled.status, StatusCode::CONFLICT);
    let deleted = server.call(ADMIN, Method::DELETE, "/api/v1/rules/sos", json!(null)).await;
    assert_eq!(deleted.status, StatusCode::CONFLICT);
    server.stop().await;
}

#[actix_web::test]
async fn a_customer_handles_its_own_rules_only() {
    let server = Server::start().await;
    server.add_token("one", "wpt_one", Some("1"));
    server.add_token("two", "wpt_two", Some("2"));
    let rule = |customer: Option<&str>| {
        json!({ "rule_id": "door", "customer_id": customer, "name": "Door", "severity": "low",
                "condition": { "kind": "event", "event_type": "DOOR" } })
    };
    let foreign = server.post("wpt_one", "/api/v1/rules", rule(Some("2"))).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let made = server.post("wpt_one", "/api/v1/rules", rule(None)).await;
    assert_eq!(made.body["customer_id"], "1");
    assert_eq!(server.get("wpt_two", "/api/v1/rules/door").await.status, StatusCode::NOT_FOUND);
    for method in [Method::PUT, Method::DELETE] {
        let answer = server.call("wpt_two", method.clone(), "/api/v1/rules/door", rule(None)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method}");
        let global = server.call("wpt_two", method.clone(), "/api/v1/rules/high", rule(None)).await;
        assert_eq!(global.status, StatusCode::FORBIDDEN, "{method}");
    }
    let seen = server.get("wpt_two", "/api/v1/rules").await;
    assert!(!seen.text.contains("\"door\"") && seen.text.contains("\"sos\""));
    assert!(server.get("wpt_one", "/api/v1/rules").await.text.contains("\"door\""));
    server.stop().await;
}
