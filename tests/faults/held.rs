//! The database is held by somebody else for a while; clients go away and rooms fill up meanwhile.

use std::io::Write;
use std::net::TcpStream;

use actix_web::http::StatusCode;
use serde_json::json;
use watchpost::config::Config;

use super::tools::{EVENTS, VITALS, WriteLock, event, post, post_later};
use crate::support::{DEADLINE, TestApp, eventually};

fn patient(config: &mut Config) {
    config.storage.busy_timeout_ms = 10;
    config.writer.retry_pause_ms = 10;
    config.writer.retry_for_ms = 20_000;
    config.watch.receipt_timeout_ms = 20_000;
}

/// Sends a request and breaks the connection before it is answered.
fn send_and_break(app: &TestApp, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.addr).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
    // An answer that is never read makes the end of this connection an error that is seen at once.
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    stream.peek(&mut [0]).expect("an answer");
    stream.write_all(request.as_bytes()).expect("a request");
    stream
}

#[actix_web::test]
async fn a_binding_counts_although_whoever_made_it_has_gone() {
    let app = TestApp::start_with(|config| {
        patient(config);
        // A command is not tried again: it waits for the lock instead.
        config.storage.busy_timeout_ms = 20_000;
    })
    .await;
    assert_eq!(post(&app, EVENTS, &event("A", "BOOT", 0)).await.status, StatusCode::OK);
    let body = json!({"customer_id": "7"}).to_string();
    let put = format!(
        "PUT /api/v1/devices/A/binding HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        app.admin,
        body.len()
    );
    let in_flight = || app.state.metrics.in_flight.get();
    let bound = || app.count("SELECT count(*) FROM device_binding WHERE customer_id = '7'") > 0;
    eventually("it is stored although its client has gone", || async {
        let lock = WriteLock::take(&app.database());
        let stream = send_and_break(&app, &put);
        eventually("the request is in work", || async { (in_flight() == 1).then_some(()) }).await;
        eventually("the command is with the writer", || async {
            (app.state.writer.waiting("binding") == 1).then_some(())
        })
        .await;
        drop(stream);
        eventually("the request is given up", || async { (in_flight() == 0).then_some(()) }).await;
        lock.release();
        app.bind("ANOTHER", &json!({"customer_id": "8"})).await;
        bound().then_some(())
    })
    .await;
    let mut second = 0;
    eventually("the shard has looked again", || {
        second += 1;
        let app = &app;
        async move {
            assert_eq!(post(app, EVENTS, &event("A", "BOOT", second)).await.status, StatusCode::OK);
            (app.count("SELECT count(*) FROM event WHERE customer_id = '7'") > 0).then_some(())
        }
    })
    .await;
    app.stop().await;
}

#[actix_web::test]
async fn a_record_that_quarantine_has_no_room_for_is_answered_503_at_once() {
    let app = TestApp::start_with(|config| {
        patient(config);
        // A command is not tried again: it waits for the lock instead.
        config.storage.busy_timeout_ms = 20_000;
        config.quarantine.permits = 1;
    })
    .await;
    let lock = WriteLock::take(&app.database());
    let nobody = |bpm: u32| json!({"data": {"heart_rate": bpm, "timestamp": "2025-09-10 13:04:00"}});
    let first = post_later(&app, VITALS, &nobody(70));
    eventually("the only room is taken, and its command is with the writer", || async {
        (app.state.writer.waiting("quarantine") == 1).then_some(())
    })
    .await;
    let mixed = json!({"data": [
        {"heart_rate": 71, "timestamp": "2025-09-10 13:04:01"},
        {"deviceSn": "A", "heart_rate": 72, "timestamp": "2025-09-10 13:04:02"},
    ]});
    let second = post(&app, VITALS, &mixed).await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE, "{}", second.body);
    assert!(second.retry_after.is_some());
    assert!(!first.is_finished(), "nobody waited for the database");
    lock.release();
    assert_eq!(first.await.expect("no panic").status, StatusCode::BAD_REQUEST);
    // The watch sends it again, and nothing is lost.
    assert_eq!(post(&app, VITALS, &mixed).await.status, StatusCode::OK);
    assert_eq!(app.count("SELECT count(*) FROM vitals"), 1);
    assert_eq!(app.count("SELECT count(*) FROM quarantine"), 2);
    app.stop().await;
}
