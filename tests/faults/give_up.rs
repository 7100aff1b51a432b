//! Writes that fail: tried again for a while, then given up with all that was built on them.

use std::time::Duration;

use actix_web::http::StatusCode;
use watchpost::config::Config;
use watchpost::telemetry::KindLabels;

use super::tools::{EVENTS, WriteLock, assert_gap_free, event, post, post_later, until_used};
use crate::support::{TestApp, eventually};

fn impatient(config: &mut Config) {
    config.storage.busy_timeout_ms = 10;
    config.writer.retry_pause_ms = 10;
    config.writer.retry_for_ms = 500;
}

fn failed(app: &TestApp, kind: &'static str) -> u64 {
    app.state.metrics.failed_batches.get_or_create(&KindLabels { kind }).get()
}

#[actix_web::test]
async fn a_write_that_fails_for_too_long_is_given_up_with_what_was_queued_behind_it() {
    let app = TestApp::start_with(impatient).await;
    // Known beforehand, so that nothing of A waits for its state.
    assert_eq!(post(&app, EVENTS, &event("A", "BOOT", 0)).await.status, StatusCode::OK);
    until_used(&app, 0).await;

    let lock = WriteLock::take(&app.database());
    let sos = post_later(&app, EVENTS, &event("A", "SOS_EVENT", 1));
    eventually("a first failure", || async { (failed(&app, "retried") > 0).then_some(()) }).await;
    let again = post_later(&app, EVENTS, &event("A", "SOS_EVENT", 2));
    until_used(&app, 2).await;
    let (sos, again) = (sos.await.expect("no panic"), again.await.expect("no panic"));
    assert_eq!(sos.status, StatusCode::SERVICE_UNAVAILABLE, "{}", sos.body);
    assert!(sos.after >= Duration::from_millis(500), "given up after {:?}", sos.after);
    assert_eq!(again.status, StatusCode::SERVICE_UNAVAILABLE, "decided on a state that never became true");
    assert_eq!(failed(&app, "given_up"), 1);
    assert_eq!(app.state.metrics.given_up_reports.get(), 2);
    assert_eq!(app.state.admission.pool.used_kib(), 0);
    lock.release();

    assert_eq!(app.count("SELECT count(*) FROM alert_change"), 0);
    let (sos, again) = (event("A", "SOS_EVENT", 1), event("A", "SOS_EVENT", 2));
    // The watch sends the newer one first this time; nothing of the lost decision is left.
    for body in [&again, &sos] {
        let told = post(&app, EVENTS, body).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        assert_eq!(told.body["duplicate"], false);
    }
    assert_eq!(post(&app, EVENTS, &sos).await.body["duplicate"], true);
    assert_eq!(app.count("SELECT count(*) FROM event"), 3);
    assert_eq!(app.count("SELECT count(*) FROM alert"), 1);
    assert_eq!(app.count("SELECT count FROM alert"), 2);
    let transitions = app.texts("SELECT transition AS value FROM alert_change ORDER BY change_offset");
    assert_eq!(transitions, [Some("raised".into()), Some("repeated".into())]);
    assert_gap_free(&app);
    // Nothing is left that a drain would wait for.
    app.stop().await;
}

#[actix_web::test]
async fn other_devices_are_not_given_up_with_it() {
    let app = TestApp::start_with(impatient).await;
    let lock = WriteLock::take(&app.database());
    let first = post_later(&app, EVENTS, &event("A", "SOS_EVENT", 1));
    eventually("a first failure", || async { (failed(&app, "retried") > 0).then_some(()) }).await;
    let other = post_later(&app, EVENTS, &event("B", "SOS_EVENT", 1));
    assert_eq!(first.await.expect("no panic").status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!other.is_finished(), "the next batch has its own time");
    lock.release();
    assert_eq!(other.await.expect("no panic").status, StatusCode::OK);
    assert_eq!(app.state.metrics.given_up_reports.get(), 1);
    assert_eq!(app.texts("SELECT device_sn AS value FROM alert"), [Some("B".into())]);
    assert_gap_free(&app);
    app.stop().await;
}

#[actix_web::test]
async fn a_write_that_succeeds_within_the_time_is_stored_once() {
    let app = TestApp::start_with(|config| {
        impatient(config);
        config.writer.retry_for_ms = 20_000;
    })
    .await;
    let lock = WriteLock::take(&app.database());
    let told = post_later(&app, EVENTS, &event("A", "SOS_EVENT", 1));
    eventually("three failures", || async { (failed(&app, "retried") >= 3).then_some(()) }).await;
    lock.release();
    assert_eq!(told.await.expect("no panic").status, StatusCode::OK);
    assert_eq!(failed(&app, "given_up"), 0);
    assert_eq!(app.count("SELECT count(*) FROM event"), 1);
    assert_eq!(app.count("SELECT count FROM alert"), 1);
    assert_gap_free(&app);
    app.stop().await;
}

/// Strangers beyond the limit have no state; what the shard counts as being with the writer must
/// come down all the same, or a drain would wait for them in vain.
#[actix_web::test]
async fn reports_without_a_state_that_were_given_up_do_not_hold_up_the_end() {
    let app = TestApp::start_with(|config| {
        impatient(config);
        config.writer.retry_for_ms = 50;
        config.device.devices_unbound_max = 0;
    })
    .await;
    let lock = WriteLock::take(&app.database());
    let told = post(&app, EVENTS, &event("STRANGER", "SOS_EVENT", 1)).await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    lock.release();
    let limit = Duration::from_secs(app.state.config.server.shutdown_timeout_s);
    let begun = std::time::Instant::now();
    app.stop().await;
    assert!(begun.elapsed() < limit / 2, "it took {:?} of {limit:?} to stop", begun.elapsed());
}

/// A shard begins with a barrier, and is deaf until the writer has answered it.
#[actix_web::test]
async fn every_shard_takes_reports_from_the_first_moment_of_every_start() {
    for _ in 0..10 {
        let app = TestApp::start_with(|config| {
            config.device.shards = 8;
            config.watch.receipt_timeout_ms = 5_000;
        })
        .await;
        let posts: Vec<_> =
            (0..24).map(|n| post_later(&app, EVENTS, &event(&format!("D{n}"), "BOOT", 1))).collect();
        for told in posts {
            let told = told.await.expect("no panic");
            assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        }
        app.stop().await;
    }
}
