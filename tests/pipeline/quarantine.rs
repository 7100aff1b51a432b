//! What is in quarantine can be looked at, tried again and deleted, by the administrator.

use std::sync::Arc;

use actix_web::http::Method;
use serde_json::{Value, json};
use testkit::NOW;
use watchpost::cli::client::ServerArgs;
use watchpost::cli::quarantine::{QuarantineCommand, run};
use watchpost::domain::identity::sha256;
use watchpost::domain::kept;
use watchpost::storage::command::{Command, NewQuarantine};
use watchpost::wire::{self, DecodeOptions};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, HEALTH};

const LIST: &str = "/api/v1/quarantine";

/// Two records, and a server that takes one.
async fn with_a_body_too_long() -> (TestApp, Value) {
    let app = TestApp::start_with(|config| config.watch.records_max = 1).await;
    let records = ["w1", "w2"].map(|sn| bodies::heart_rate(sn, 0, 70)["data"].clone());
    let batch = json!({ "data": records });
    assert_eq!(app.post(HEALTH, &batch).await.status, 400);
    (app, batch)
}

#[actix_web::test]
async fn a_body_that_has_become_readable_is_stored_by_a_retry_and_leaves() {
    let (app, batch) = with_a_body_too_long().await;
    let early = app.api(Method::POST, "/api/v1/quarantine/1/retry", None).await;
    assert_eq!(
        (early.status.as_u16(), &early.body["type"]),
        (422, &json!("urn:watchpost:problem:unreadable"))
    );
    assert!(early.body["detail"].as_str().is_some_and(|text| text.contains("more than 1 records")));
    assert_eq!(app.count("SELECT seen_count FROM quarantine"), 1, "a retry is no repeat of the watch");

    let dir = app.stop().await;
    let app = TestApp::start_in(dir, NOW, |_| {}).await;
    let shown = app.get("/api/v1/quarantine/1").await.body;
    assert_eq!(shown["body_text"], json!(batch.to_string()));
    assert_eq!((&shown["route"], &shown["names_emergency"]), (&json!(HEALTH), &json!(false)));
    let retried = app.api(Method::POST, "/api/v1/quarantine/1/retry", None).await;
    assert_eq!((retried.status.as_u16(), &retried.body["removed"]), (200, &json!(true)), "{}", retried.body);
    assert_eq!(
        (&retried.body["answer"]["processed"], &retried.body["answer"]["success"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(app.count("SELECT COUNT(*) FROM vitals"), 2);
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 0);
    assert_eq!(app.api(Method::POST, "/api/v1/quarantine/1/retry", None).await.status, 404);
    let metrics = app.get("/metrics").await.body;
    let metrics = metrics.as_str().expect("text");
    for line in ["watchpost_quarantine_bodies 0", "watchpost_quarantine_bytes 0"] {
        assert!(metrics.lines().any(|known| known == line), "{line}");
    }
}

#[actix_web::test]
async fn what_stays_unreadable_stays_whichever_route_it_came_by() {
    let app = TestApp::start().await;
    for (route, body) in [(EVENTS, "{\"SOS"), ("/upload_watch_log", "[17]"), ("/DeviceMessage/send", "[18]")]
    {
        assert_eq!(app.post_bytes(route, body).await.status, 400, "{route}");
    }
    for id in 1..=3 {
        let path = format!("/api/v1/quarantine/{id}/retry");
        assert_eq!(app.api(Method::POST, &path, None).await.status, 422);
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 3);
    assert_eq!(app.logged_transitions(), ["raised"], "an operator's look is no further emergency");
    // Of a larger body only the beginning may be there.
    let part = Command::Quarantine(NewQuarantine {
        body_hash: [1; 32],
        body: bodies::sos("w1", 0).to_string().into_bytes(),
        size_bytes: 1 << 20,
        route: EVENTS,
        reason: "a test".into(),
        names_emergency: true,
        bodies_max: 10,
        bytes_max: 1 << 20,
    });
    app.state.writer.execute(part).await.expect("kept");
    assert_eq!(app.api(Method::POST, "/api/v1/quarantine/4/retry", None).await.status, 409);
    assert_eq!(app.count("SELECT COUNT(*) FROM event WHERE device_sn = 'w1'"), 0);
}

#[actix_web::test]
async fn a_report_that_panicked_is_decided_about_again() {
    let app = TestApp::start().await;
    for body in
        ["001-event-sos-complete", "060-vitals-replayed-batch", "081-device-watch", "035-event-time-missing"]
    {
        let decoded = wire::decode(&bodies::corpus(body), &DecodeOptions::default()).expect("a body");
        let report = decoded.reports.into_iter().next().expect("a report");
        let bytes = kept::to_bytes(&report).expect("JSON");
        assert_eq!(kept::from_bytes(&bytes).expect("a report"), report, "{body}");
        let command = Command::Quarantine(NewQuarantine {
            body_hash: sha256(&bytes),
            size_bytes: bytes.len() as u64,
            body: bytes,
            route: "device",
            reason: "panic: a test".into(),
            names_emergency: true,
            bodies_max: 10,
            bytes_max: 1 << 20,
        });
        app.state.writer.execute(command).await.expect("kept");
    }
    for id in 1..=4 {
        let path = format!("/api/v1/quarantine/{id}/retry");
        let retried = app.api(Method::POST, &path, None).await;
        assert_eq!(retried.status, 200, "{}", retried.body);
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 0);
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 2);
    assert!(app.count("SELECT COUNT(*) FROM alert WHERE rule_id = 'sos'") >= 1);
    assert_eq!(app.count("SELECT COUNT(*) FROM device_status"), 1);
    // The watch itself, which was told 200 then, is told of the same event.
    let again = app.post_bytes(EVENTS, bodies::corpus("001-event-sos-complete")).await;
    assert_eq!((again.status.as_u16(), &again.body["duplicate"]), (200, &json!(true)));
}

#[actix_web::test]
async fn the_list_is_paged_filtered_and_for_the_administrator_alone() {
    let app = TestApp::start().await;
    for n in 0..5 {
        let body = if n == 2 { "{\"FALL".to_owned() } else { format!("{{{n}") };
        let route = if n < 3 { EVENTS } else { HEALTH };
        assert_eq!(app.post_bytes(route, body).await.status, 400);
    }
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items.iter().map(|item| item["quarantine_id"].as_str().expect("an id").to_owned()).collect()
    };
    let first = app.get(&format!("{LIST}?limit=3")).await.body;
    assert_eq!(ids(&first), ["5", "4", "3"]);
    assert!(first["items"][0].get("body_text").is_none() && first["items"][0]["size_bytes"] == 2);
    assert_eq!(first["items"][0]["sha256"].as_str().map(str::len), Some(64));
    let cursor = first["next"].as_str().expect("a cursor");
    let second = app.get(&format!("{LIST}?limit=3&cursor={cursor}")).await.body;
    assert_eq!((ids(&second), &second["next"]), (vec!["2".to_owned(), "1".into()], &Value::Null));
    assert_eq!(ids(&app.get(&format!("{LIST}?names_emergency=true")).await.body), ["3"]);
    assert_eq!(ids(&app.get(&format!("{LIST}?names_emergency=false&route={EVENTS}")).await.body), ["2", "1"]);

    let raw = app.get(&format!("{LIST}/3/body")).await;
    assert_eq!(raw.body, json!("{\"FALL"));
    assert_eq!(raw.headers.get("content-type").expect("a type"), "application/octet-stream");
    let desk = app.token_of("7").await;
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/3"),
        (Method::GET, "/3/body"),
        (Method::POST, "/3/retry"),
        (Method::DELETE, "/3"),
    ] {
        assert_eq!(app.api_as(&desk, method, &format!("{LIST}{path}"), None).await.status, 403, "{path}");
    }
    assert_eq!(app.api(Method::DELETE, &format!("{LIST}/3"), None).await.status, 204);
    assert_eq!(app.api(Method::DELETE, &format!("{LIST}/3"), None).await.status, 404);
    assert_eq!(app.get(&format!("{LIST}/x")).await.status, 400);
}

#[actix_web::test]
async fn the_command_lists_shows_and_retries() {
    let (app, batch) = with_a_body_too_long().await;
    app.post_bytes(EVENTS, vec![0xff, b'{', 0x1b]).await;
    let dir = app.stop().await;
    let app = TestApp::start_in(Arc::clone(&dir), NOW, |_| {}).await;
    let server = || ServerArgs { url: Some(app.url("")), token: Some(app.admin.clone()), data_dir: None };
    let list = QuarantineCommand::List { emergencies: false, server: server() };
    let lines = run(&list, |_| None).await.expect("a list");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.lines().next().is_some_and(|line| line.starts_with("2  ")), "{lines}");
    let show = |id| QuarantineCommand::Show { id, server: server() };
    assert!(run(&show(1), |_| None).await.expect("a body").ends_with(&batch.to_string()));
    assert!(run(&show(2), |_| None).await.expect("a body").ends_with("/api/v1/quarantine/2/body"));
    let retry = |id| QuarantineCommand::Retry { id, server: server() };
    assert!(run(&retry(1), |_| None).await.expect("stored").contains("\"processed\":2"));
    let still = run(&retry(2), |_| None).await.expect_err("still no JSON");
    assert!(still.to_string().contains("not JSON"), "{still}");
    let delete = QuarantineCommand::Delete { id: 2, server: server() };
    assert_eq!(run(&delete, |_| None).await.expect("deleted"), "deleted 2");
    assert_eq!(run(&list, |_| None).await.expect("a list"), "");
}
