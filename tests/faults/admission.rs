//! The gate at its limit: who is refused, how fast, and what becomes of what was let in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use serde_json::json;
use watchpost::config::Config;
use watchpost::telemetry::KindLabels;

use super::tools::{EVENTS, VITALS, WriteLock, assert_gap_free, event, post, post_later, until_used, vitals};
use crate::support::{DEADLINE, TestApp, eventually};

/// Ten times what a refusal may take.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);

/// Room for 4 KiB of vitals, 6 with events, 8 with critical events of strangers, 10 in all.
fn small_gate(config: &mut Config) {
    config.server.body_small_bytes = 1024;
    config.admission.capacity_kib = 10;
    config.admission.reserve_above_vitals_kib = 6;
    config.admission.reserve_above_events_kib = 4;
    config.admission.reserve_above_unbound_kib = 2;
    config.admission.retry_after_s = 7;
    config.storage.busy_timeout_ms = 20;
    config.writer.retry_pause_ms = 20;
    config.writer.retry_for_ms = 20_000;
    config.watch.receipt_timeout_ms = 20_000;
}

async fn bind(app: &TestApp, device: &str) {
    let path = format!("/api/v1/devices/{device}/binding");
    let bound = app.api(Method::PUT, &path, Some(&json!({ "customer_id": "1", "person_id": "p1" }))).await;
    assert_eq!(bound.status, StatusCode::OK, "{}", bound.body);
}

#[actix_web::test]
async fn at_the_limit_the_least_important_is_refused_first_and_what_was_let_in_is_stored() {
    let app = TestApp::start_with(small_gate).await;
    bind(&app, "BOUND").await;
    // The gate asks memory only, so the device has to have been heard of.
    assert_eq!(post(&app, EVENTS, &event("BOUND", "BOOT", 0)).await.status, StatusCode::OK);
    until_used(&app, 0).await;

    let lock = WriteLock::take(&app.database());
    // Each class fills what is left to it, and is refused one past that.
    let classes = [
        ("vitals", VITALS, "V", "", 4),
        ("event", EVENTS, "E", "CALL_STATE", 2),
        ("critical_unbound", EVENTS, "STRANGER", "SOS_EVENT", 2),
        ("critical_bound", EVENTS, "BOUND", "SOS_EVENT", 2),
    ];
    let body = |device: &str, event_type: &str, second| match event_type {
        "" => vitals(device, second),
        _ => event(device, event_type, second),
    };
    let (mut waiting, mut used_kib) = (Vec::new(), 0);
    for (class, path, device, event_type, room) in classes {
        for second in 1..=room {
            waiting.push(post_later(&app, path, &body(device, event_type, second)));
            used_kib += 1;
            until_used(&app, used_kib).await;
        }
        for (refused, path, device, event_type, _) in classes {
            let told = post(&app, path, &body(device, event_type, 30)).await;
            assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE, "{refused} while {class} is full");
            assert_eq!(told.retry_after.as_deref(), Some("7"));
            assert!(told.after < REFUSED_WITHIN, "{refused} was refused after {:?}", told.after);
            let counted = app.state.metrics.refused.get_or_create(&KindLabels { kind: refused }).get();
            assert!(counted > 0, "a refusal of {refused} is counted");
            if refused == class {
                break;
            }
        }
    }
    assert!(waiting.iter().all(|told| !told.is_finished()), "nothing is promised before it is stored");

    lock.release();
    for told in waiting {
        let told = told.await.expect("no panic");
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        assert_eq!(told.body["duplicate"], false);
    }
    until_used(&app, 0).await;
    assert_eq!(app.count("SELECT count(*) FROM vitals"), 4);
    assert_eq!(app.count("SELECT count(*) FROM event"), 1 + 2 + 2 + 2);
    assert_eq!(app.count("SELECT count(*) FROM alert"), 2);
    assert_eq!(app.count("SELECT sum(count) FROM alert"), 4);
    assert_gap_free(&app);
    app.stop().await;
}

#[actix_web::test]
async fn a_report_whose_receipt_timed_out_is_stored_all_the_same_and_its_retry_is_a_duplicate() {
    let app = TestApp::start_with(|config| {
        small_gate(config);
        config.watch.receipt_timeout_ms = 100;
    })
    .await;
    let (sos, pulse) = (event("A", "SOS_EVENT", 1), vitals("A", 1));
    let lock = WriteLock::take(&app.database());
    let (first, second) = (post_later(&app, EVENTS, &sos), post_later(&app, VITALS, &pulse));
    for told in [first.await.expect("no panic"), second.await.expect("no panic")] {
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(told.after >= Duration::from_millis(100));
    }
    assert_eq!(app.state.admission.pool.used_kib(), 2, "they are on their way");
    // A retry meanwhile waits for the same commit.
    assert_eq!(post(&app, EVENTS, &sos).await.status, StatusCode::SERVICE_UNAVAILABLE);
    lock.release();
    until_used(&app, 0).await;
    assert_eq!(app.count("SELECT count(*) FROM vitals"), 1);
    let retry = post(&app, EVENTS, &sos).await;
    assert_eq!(retry.status, StatusCode::OK);
    assert_eq!(retry.body["duplicate"], true);
    let stored = app.texts("SELECT CAST(alert_id AS TEXT) AS value FROM event");
    assert_eq!(stored, [retry.body["alert_id"].as_str().map(str::to_owned)]);
    assert_eq!(app.count("SELECT count FROM alert"), 1);
    assert_gap_free(&app);
    app.stop().await;
}

#[actix_web::test]
async fn a_body_of_many_reports_is_one_promise() {
    let app = TestApp::start_with(small_gate).await;
    // Five vitals weigh five, and there is room for four.
    let many: Vec<_> = (1..=5).map(|second| vitals("V", second)["data"].clone()).collect();
    let told = post(&app, VITALS, &json!({ "data": many })).await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.state.admission.pool.used_kib(), 0);
    let told = post(&app, VITALS, &json!({ "data": many[..4] })).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.body);
    assert_eq!(told.body["processed"], 4);
    until_used(&app, 0).await;
    assert_eq!(app.count("SELECT count(*) FROM vitals"), 4);
    app.stop().await;
}

/// Sends a head that announces `length` bytes, and `sent` of them.
fn slow_upload(addr: SocketAddr, length: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
    let head = format!(
        "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a head");
    stream.write_all(&vec![b' '; sent]).expect("some of the body");
    stream
}

/// The status code, once it has been sent.
fn status_of(stream: &mut TcpStream) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("an answer");
    std::str::from_utf8(&head[9..]).expect("text").parse().expect("a status code")
}

#[actix_web::test]
async fn large_slow_bodies_do_not_keep_a_small_sos_out_and_a_larger_one_is_refused() {
    const LARGE: usize = 64 * 1024;
    let app = TestApp::start_with(|config| {
        config.server.body_bytes_max = LARGE;
        config.server.body_reserve_bytes = 20 * 1024;
        config.server.body_budget_bytes = 100 * 1024;
    })
    .await;
    let refused = |kind| app.state.metrics.refused.get_or_create(&KindLabels { kind }).get();
    // There is room for one of them; the others are told at once.
    let slow: Vec<TcpStream> = (0..5).map(|_| slow_upload(app.addr, LARGE, 100)).collect();
    eventually("four refused bodies", || async { (refused("body") == 4).then_some(()) }).await;

    let sos = post(&app, EVENTS, &event("A", "SOS_EVENT", 1)).await;
    assert_eq!(sos.status, StatusCode::OK, "{}", sos.body);
    assert_eq!(app.count("SELECT count(*) FROM alert"), 1);

    let mut at_the_limit = slow_upload(app.addr, LARGE, 0);
    assert_eq!(status_of(&mut at_the_limit), 503);
    let mut one_past = slow_upload(app.addr, LARGE + 1, 0);
    assert_eq!(status_of(&mut one_past), 413);
    // The room comes back when the slow ones go, and a body of the largest size is read.
    drop(slow);
    let small = event("B", "SOS_EVENT", 1).to_string();
    let padded = " ".repeat(LARGE - small.len()) + &small;
    eventually("room for a large body", || async {
        let answer = app.post_bytes(EVENTS, padded.clone()).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(app.count("SELECT count(*) FROM alert"), 2);
    app.stop().await;
}
