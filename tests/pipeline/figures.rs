//! The figures of the server: the pipeline's last seconds, and the metrics behind them.

use serde_json::{Value, json};

use crate::support::bodies::{EVENTS, HEALTH, event, heart_rate, sos};
use crate::support::stream::StreamClient;
use crate::support::{TestApp, eventually};

async fn pipeline(app: &TestApp) -> Value {
    app.get("/api/v1/system").await.body["pipeline"].clone()
}

/// The metrics as they are written out.
pub async fn metrics(app: &TestApp) -> String {
    app.get("/metrics").await.body.as_str().expect("text").to_owned()
}

/// The value of one series, by its name with labels.
pub fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap_or_else(|err| panic!("{series} {line}: {err}")))
}

#[actix_web::test]
async fn the_pipeline_shows_what_has_just_happened() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    app.stored(EVENTS, &sos("w1", 0)).await;
    screen.next_alert().await;
    for second in 0..9 {
        app.stored(HEALTH, &heart_rate("w2", second, 70)).await;
    }
    assert_eq!(app.post_bytes(EVENTS, "not JSON").await.status, 400);

    let shown = pipeline(&app).await;
    assert_eq!(shown["window_s"], 10);
    assert_eq!(shown["doors"]["by_code"], json!({ "101": 1, "200": 10, "400": 1 }));
    assert!(shown["doors"]["requests_per_s"].as_f64() > Some(0.5), "{shown}");
    assert_eq!(shown["doors"]["in_flight"], 1, "the request that asks");
    assert_eq!(shown["doors"]["permits_used_kib"], 0);
    assert_eq!(shown["doors"]["permits_max_kib"], 64 * 1024);
    let percentile = |name: &str| shown["doors"][name].as_f64().expect("requests were measured");
    assert!(percentile("p50_ms") > 0.0 && percentile("p50_ms") <= percentile("p95_ms"));
    assert!(percentile("p95_ms") <= percentile("p99_ms"));

    let shards = shown["shards"].as_array().expect("shards");
    let names: Vec<_> = shards.iter().map(|shard| shard["name"].as_str()).collect();
    assert_eq!(names, [Some("device-shard-0"), Some("device-shard-1")]);
    assert!(shards.iter().all(|shard| shard["state"] == "running" && shard["restarts"] == 0));
    let devices: i64 = shards.iter().filter_map(|shard| shard["devices"].as_i64()).sum();
    assert_eq!(devices, 2);

    let writer = &shown["writer"];
    assert_eq!((&writer["state"], &writer["commit_lag_ms"]), (&json!("running"), &json!(0)));
    assert!(writer["rows_per_batch"].as_f64() >= Some(1.0) && writer["rows_per_s"].as_f64() > Some(0.0));
    assert!(writer["commit_p50_ms"].as_f64() > Some(0.0), "{writer}");

    let sessions = &shown["sessions"];
    assert_eq!((&sessions["open"], &sessions["slowest_behind"]), (&json!(1), &json!(0)));
    assert_eq!((&sessions["offset_committed"], &sessions["offset_published"]), (&json!(1), &json!(1)));
    assert!(sessions["to_socket_p99_ms"].as_f64() > Some(0.0), "{sessions}");

    assert!(shown["database"]["size_bytes"].as_u64() > Some(0), "{shown}");
    assert_eq!(shown["database"]["readers_max"], 4);
    assert!(app.get("/api/v1/system").await.body["actors"].is_array(), "the other fields are still there");
}

#[cfg(target_os = "linux")]
#[actix_web::test]
async fn memory_and_cpu_are_looked_at_once_a_second() {
    let app = TestApp::start().await;
    let process = eventually("a second look at the process", || async {
        let process = pipeline(&app).await["process"].clone();
        process["cpu_percent"].is_number().then_some(process)
    })
    .await;
    assert!(process["rss_bytes"].as_u64() > Some(1 << 20), "{process}");
}

#[actix_web::test]
async fn metrics_tell_how_far_the_log_has_gone() {
    let app = TestApp::start().await;
    for serial in ["w1", "w2", "w3"] {
        app.stored(EVENTS, &sos(serial, 0)).await;
    }
    let text = metrics(&app).await;
    assert_eq!(value(&text, "watchpost_offset_committed"), Some(3.0));
    assert_eq!(value(&text, "watchpost_cache_entries{kind=\"rules\"}"), Some(12.0));
    app.stored(EVENTS, &event("w4", "CALL_STATE", "1", 0)).await;
    assert_eq!(value(&metrics(&app).await, "watchpost_offset_committed"), Some(3.0));
}
