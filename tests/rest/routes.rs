//! Every route: described, guarded, and clear about what it refuses.

use std::collections::BTreeSet;

use actix_web::http::{Method, StatusCode};
use serde_json::{Value, json};
use watchpost::api::routes::{OPENAPI, ROUTES};
use watchpost::supervision::health::ActorState;

use super::server::{ADMIN, Server};

/// Registered by the dashboards' door, and tested there.
const STREAM: [(&str, &str); 2] = [("get", "/api/v1/stream"), ("get", "/api/v1/stream/sse")];

fn described() -> BTreeSet<(String, String)> {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().expect("methods").keys().map(move |method| (method.clone(), path.clone()))
        })
        .collect()
}

#[test]
fn the_description_names_every_route_and_no_other() {
    let registered: BTreeSet<(String, String)> = ROUTES
        .iter()
        .chain(&STREAM)
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(described(), registered);
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    found.push(reference.clone());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[actix_web::test]
async fn every_api_route_wants_a_token_but_the_sign_in() {
    let server = Server::start().await;
    for (method, path) in described().into_iter().filter(|(_, path)| path.starts_with("/api/v1")) {
        if STREAM.iter().any(|(_, stream)| path == *stream) {
            continue;
        }
        let concrete = path.replace(['{', '}'], "");
        let verb = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        let sign_in = (method.as_str(), path.as_str()) == ("post", "/api/v1/session");
        for headers in [[].as_slice(), &[("Authorization", "Bearer wrong")], &[("Authorization", "Basic x")]]
        {
            let answer = server.send(verb.clone(), &concrete, headers, "").await;
            let expected = if sign_in { StatusCode::BAD_REQUEST } else { StatusCode::UNAUTHORIZED };
            assert_eq!(answer.status, expected, "{method} {path}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        }
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_wrong_route_method_body_or_query_is_a_problem_with_a_reason() {
    let server = Server::start().await;
    let unknown = server.get(ADMIN, "/api/v1/nothing").await;
    assert_eq!((unknown.status, &unknown.body["status"]), (StatusCode::NOT_FOUND, &json!(404)));
    let method = server.call(ADMIN, Method::DELETE, "/api/v1/events", Value::Null).await;
    assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(method.header("allow"), "GET, POST");
    for query in ["limit=0", "limit=501", "limit=x", "cursor=zz", "from=yesterday", "colour=red"] {
        let answer = server.get(ADMIN, &format!("/api/v1/events?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.body["detail"].as_str().is_some_and(|text| !text.is_empty()), "{query}");
    }
    let body = server.post(ADMIN, "/api/v1/rules", json!({ "name": "x" })).await;
    assert_eq!(body.status, StatusCode::BAD_REQUEST);
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
    let text = server.send(Method::POST, "/api/v1/rules", &headers, "{}").await;
    assert_eq!(text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = " ".repeat(server.state.config.server.body_bytes_max + 1);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let large = server.send(Method::POST, "/api/v1/rules", &headers, large).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    server.stop().await;
}

#[actix_web::test]
async fn readiness_names_what_is_missing() {
    let server = Server::start().await;
    assert_eq!(server.send(Method::GET, "/readyz", &[], "").await.status, StatusCode::OK);
    server.health.set_state(ActorState::Restarting);
    let answer = server.send(Method::GET, "/readyz", &[], "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body["reasons"], json!(["writer is not running"]));
    assert!(answer.header("retry-after") == "1");
    assert_eq!(server.send(Method::GET, "/healthz", &[], "").await.status, StatusCode::OK);
    let alive = server.send(Method::GET, "/health", &[], "").await;
    assert_eq!(alive.body, json!({ "status": "success", "success": true }));
    server.stop().await;
}

#[actix_web::test]
async fn metrics_are_for_this_machine_or_a_token_and_count_requests_by_pattern() {
    let server = Server::start().await;
    server.get(ADMIN, "/api/v1/alerts/12").await;
    let metrics = server.send(Method::GET, "/metrics", &[], "").await;
    let counted =
        r#"watchpost_request_duration_seconds_count{route="/api/v1/alerts/{alert_id}",code="404"} 1"#;
    assert!(metrics.text.contains(counted), "{}", metrics.text);
    assert!(metrics.text.contains(r#"watchpost_actor_queue_length{actor="writer"} 0"#));
    let forwarded = ("X-Forwarded-For", "203.0.113.9");
    let refused = server.send(Method::GET, "/metrics", &[forwarded], "").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let bearer = format!("Bearer {ADMIN}");
    let allowed = server.send(Method::GET, "/metrics", &[forwarded, ("Authorization", &bearer)], "").await;
    assert_eq!(allowed.status, StatusCode::OK);
    server.stop().await;
}

#[actix_web::test]
async fn the_system_page_is_for_the_administrator() {
    let server = Server::start().await;
    server.add_token("one", "wpt_one", Some("1"));
    assert_eq!(server.get("wpt_one", "/api/v1/system").await.status, StatusCode::FORBIDDEN);
    let system = server.get(ADMIN, "/api/v1/system").await.body;
    assert_eq!(system["actors"][0]["name"], "writer");
    assert_eq!(system["epoch"], "epoch");
    assert!(system["database"]["size_bytes"].as_u64().is_some_and(|size| size > 0));
    let described = server.get("wpt_one", "/api/v1/openapi.json").await;
    assert_eq!(described.body["openapi"], "3.1.0");
    let schema = &described.body["components"]["schemas"]["Pipeline"];
    assert_eq!(keys(&system["pipeline"]), keys(&schema["properties"]));
    for part in ["doors", "writer", "database", "sessions", "process"] {
        let described = &schema["properties"][part]["properties"];
        assert_eq!(keys(&system["pipeline"][part]), keys(described), "{part}");
    }
    let shard = &schema["properties"]["shards"]["items"]["properties"];
    assert_eq!(keys(&system["pipeline"]["shards"][0]), keys(shard));
    server.stop().await;
}

fn keys(object: &serde_json::Value) -> Vec<&String> {
    object.as_object().expect("an object").keys().collect()
}
