//! Sessions whose token ends, and what only an administrator gets.

use actix_web::http::header;
use awc::Client;
use awc::http::Method;
use serde_json::{Value, json};
use watchpost::domain::rule::Severity;

use super::history::History;
use super::server::{Received, Server, Socket, eventually, quick};
use crate::support::TestApp;

/// A socket of a running server, signed in with this header.
async fn socket(app: &TestApp, name: &str, value: &str) -> Socket {
    let mut socket = Socket::open(Client::new().ws(app.url("/api/v1/stream")).header(name, value)).await;
    assert_eq!(socket.json().await["type"], "hello");
    socket
}

/// The cookie of a browser that signs in with a token.
async fn sign_in(app: &TestApp, token: &str) -> String {
    let body = json!({"token": token}).to_string();
    let request = Client::new().post(app.url("/api/v1/session")).content_type("application/json");
    let answer = request.send_body(body).await.expect("an answer");
    let cookie = answer.headers().get(header::SET_COOKIE).expect("a cookie").to_str().expect("text");
    cookie.split(';').next().expect("a value").to_owned()
}

async fn make_token(app: &TestApp, name: &str) -> (String, String) {
    let made = app.api(Method::POST, "/api/v1/tokens", Some(&json!({"name": name}))).await.body;
    let text = |member: &str| made[member].as_str().expect("text").to_owned();
    (text("token_id"), text("token"))
}

#[actix_web::test]
async fn a_revoked_token_closes_its_sockets_and_those_of_its_sessions_and_no_others() {
    let app = TestApp::start().await;
    let (id, token) = make_token(&app, "ann").await;
    let cookie = sign_in(&app, &token).await;
    let bearer = format!("Bearer {token}");
    let mut own = socket(&app, "authorization", &bearer).await;
    let mut browser = socket(&app, "cookie", &cookie).await;
    let mut by_frame = Socket::open(Client::new().ws(app.url("/api/v1/stream"))).await;
    assert_eq!(by_frame.ask(json!({"type": "auth", "token": token})).await["type"], "hello");
    let mut other = socket(&app, "authorization", &format!("Bearer {}", app.admin)).await;

    let revoked = app.api(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await;
    assert_eq!(revoked.status, 204);
    for socket in [&mut own, &mut browser, &mut by_frame] {
        assert_eq!(socket.receive().await, Received::Closed(4401));
    }
    assert_eq!(other.ask(json!({"type": "ping"})).await["type"], "pong");
    // It does not come back.
    let again = Client::new().ws(app.url("/api/v1/stream")).header("authorization", bearer).connect().await;
    assert!(again.is_err());
    let mut late = Socket::open(Client::new().ws(app.url("/api/v1/stream")).header("cookie", cookie)).await;
    assert_eq!(late.ask(json!({"type": "ping"})).await["code"], "unauthenticated");
}

#[actix_web::test]
async fn a_sign_out_closes_the_browsers_socket_and_leaves_the_token_alone() {
    let app = TestApp::start().await;
    let cookie = sign_in(&app, &app.admin).await;
    let mut browser = socket(&app, "cookie", &cookie).await;
    let mut token = socket(&app, "authorization", &format!("Bearer {}", app.admin)).await;
    let request = Client::new().delete(app.url("/api/v1/session")).insert_header(("cookie", cookie));
    assert_eq!(request.send().await.expect("an answer").status(), 204);
    assert_eq!(browser.receive().await, Received::Closed(4401));
    assert_eq!(token.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[actix_web::test]
async fn a_sign_in_that_ends_by_itself_ends_its_socket() {
    let app = TestApp::start().await;
    let cookie = sign_in(&app, &app.admin).await;
    let mut browser = socket(&app, "cookie", &cookie).await;
    app.advance_ms(12 * 3_600_000);
    assert_eq!(browser.receive().await, Received::Closed(4401));
}

#[actix_web::test]
async fn who_has_missed_too_many_revocations_signs_in_anew() {
    let server = Server::start(quick(), History::default()).await;
    let mut socket = server.subscribe("admin").await;
    (0..5_000).for_each(|number| server.revocations.add(&format!("t{number}")));
    assert_eq!(socket.receive().await, Received::Closed(1012));
    server.stop().await;
}

#[actix_web::test]
async fn stats_come_once_a_second_to_an_administrator_who_asks() {
    let mut server = Server::start(quick(), History::default()).await;
    let mut admin = server.enter("admin").await;
    let asked = json!({"type": "subscribe", "id": "a", "stats": true});
    assert_eq!(admin.ask(asked.clone()).await["type"], "snapshot");
    let (first, second) = (admin.json().await, admin.json().await);
    assert_eq!((&first["type"], &first["pipeline"]), (&json!("stats"), &json!({"window_s": 10})));
    assert!(first["at"].as_str() < second["at"].as_str(), "{first} {second}");
    // Another subscription without them ends them.
    admin.send(json!({"type": "subscribe", "id": "b"})).await;
    while admin.json().await["type"] != "snapshot" {}

    let mut customer = server.enter("c1").await;
    let told = customer.ask(asked).await;
    assert_eq!((&told["type"], &told["code"]), (&json!("error"), &json!("forbidden")));
    assert_eq!(customer.json().await["type"], "snapshot");
    // Both have a tick behind them when something is recorded.
    let offset = server.raise("w1", "c1");
    for socket in [&mut admin, &mut customer] {
        assert_eq!(socket.json().await["offset"], offset);
        socket.send(json!({"type": "shown", "offset": offset})).await;
    }
    let shown = server.shown.clone();
    eventually("both have ticked", || shown.lock().unwrap().len() == 2).await;
    for socket in [&mut admin, &mut customer] {
        assert_eq!(socket.ask(json!({"type": "ping"})).await["type"], "pong");
    }
    server.stop().await;
}

#[actix_web::test]
async fn an_organisation_and_event_types_are_parts_of_a_filter() {
    let mut server = Server::start(quick(), History::default()).await;
    let mut socket = server.enter("admin").await;
    let subscribe = |filter: Value| json!({"type": "subscribe", "id": "a", "filter": filter});
    assert_eq!(socket.ask(subscribe(json!({"kinds": ["com.x.sos"]}))).await["type"], "snapshot");
    let offset = server.publish(|history| history.raise("w1", "c1", Severity::High)).offset;
    assert_eq!(socket.json().await["offset"], offset);
    for hides in [json!({"kinds": ["FALL"]}), json!({"org_id": "o1"})] {
        assert_eq!(socket.ask(subscribe(hides)).await["alerts"], json!([]));
    }
    let many = vec!["x"; 101];
    assert_eq!(socket.ask(subscribe(json!({"kinds": many}))).await["code"], "bad_filter");
    server.stop().await;
}

#[actix_web::test]
async fn stats_of_a_running_server_are_those_of_the_system_page() {
    let app = TestApp::start().await;
    let mut admin = socket(&app, "authorization", &format!("Bearer {}", app.admin)).await;
    assert_eq!(admin.ask(json!({"type": "subscribe", "id": "a", "stats": true})).await["type"], "snapshot");
    let stats = admin.json().await;
    let system = app.get("/api/v1/system").await.body["pipeline"].clone();
    let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&stats["pipeline"]), names(&system));
    for part in names(&system).iter().filter(|part| system[*part].is_object()) {
        assert_eq!(names(&stats["pipeline"][part]), names(&system[part]), "{part}");
    }
    assert_eq!(stats["pipeline"]["sessions"]["open"], 1);
}
