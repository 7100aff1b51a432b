//! Bodies, requests that are waited for later, and a hand on the database's write lock.

use std::path::Path;
use std::time::{Duration, Instant};

use actix_web::rt::task::JoinHandle;
use awc::http::StatusCode;
use diesel::prelude::*;
use serde_json::{Value, json};

use crate::support::{DEADLINE, TestApp, eventually};

pub const EVENTS: &str = "/upload_common_event";
pub const VITALS: &str = "/upload_health_data";

/// An event of `second` in the minute before the test's now.
pub fn event(device: &str, event_type: &str, second: u32) -> Value {
    json!({
        "eventType": format!("com.tdtech.ohos.health.action.{event_type}"),
        "eventValue": "1",
        "deviceSn": device,
        "timestamp": format!("2025-09-10 13:04:{second:02}"),
    })
}

pub fn vitals(device: &str, second: u32) -> Value {
    json!({ "data": {
        "deviceSn": device,
        "heart_rate": 80,
        "timestamp": format!("2025-09-10 13:04:{second:02}"),
    } })
}

/// What a watch was told, and how long it took.
#[derive(Debug)]
pub struct Told {
    pub status: StatusCode,
    pub retry_after: Option<String>,
    pub body: Value,
    pub after: Duration,
}

/// Posts now; the answer is waited for later.
pub fn post_later(app: &TestApp, path: &str, body: &Value) -> JoinHandle<Told> {
    let (url, body) = (app.url(path), body.to_string());
    actix_web::rt::spawn(async move {
        let begun = Instant::now();
        let client = awc::Client::builder().timeout(DEADLINE).finish();
        let request = client.post(url).insert_header(("Connection", "close"));
        let mut response =
            request.content_type("application/json").send_body(body).await.expect("the server answers");
        let after = begun.elapsed();
        let retry_after = response.headers().get("Retry-After");
        let retry_after = retry_after.map(|value| value.to_str().expect("text").to_owned());
        let bytes = response.body().await.expect("a whole answer");
        let body = serde_json::from_slice(&bytes).expect("JSON");
        Told { status: response.status(), retry_after, body, after }
    })
}

/// Posts and waits.
pub async fn post(app: &TestApp, path: &str, body: &Value) -> Told {
    post_later(app, path, body).await.expect("no panic")
}

/// Waits until the reports that were admitted and are not stored weigh this much.
pub async fn until_used(app: &TestApp, used_kib: u64) {
    eventually(&format!("{used_kib} KiB in use"), || async {
        (app.state.admission.pool.used_kib() == used_kib).then_some(())
    })
    .await;
}

/// Offsets are handed out without a gap and as often as there are changes.
pub fn assert_gap_free(app: &TestApp) {
    let (count, last) = (
        app.count("SELECT count(*) FROM alert_change"),
        app.count("SELECT coalesce(max(change_offset), 0) FROM alert_change"),
    );
    assert_eq!(count, last, "offsets without a gap");
    let stale = "SELECT count(*) FROM alert WHERE last_offset != (SELECT max(change_offset) \
                 FROM alert_change WHERE alert_change.alert_id = alert.alert_id)";
    assert_eq!(app.count(stale), 0, "every alert is as its last change left it");
}

/// Nobody else writes while this lives.
pub struct WriteLock {
    conn: SqliteConnection,
}

impl WriteLock {
    pub fn take(database: &Path) -> Self {
        let mut conn = SqliteConnection::establish(&database.to_string_lossy()).expect("the file");
        for statement in ["PRAGMA busy_timeout = 5000", "BEGIN IMMEDIATE"] {
            diesel::sql_query(statement).execute(&mut conn).expect("the lock");
        }
        Self { conn }
    }

    pub fn release(mut self) {
        diesel::sql_query("ROLLBACK").execute(&mut self.conn).expect("the lock is given back");
    }
}
