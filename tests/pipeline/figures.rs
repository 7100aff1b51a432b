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

#[actix_web::test]
async fn events_and_alerts_are_counted_by_what_they_are() {
    let app = TestApp::start().await;
    let first = app.stored(EVENTS, &sos("w1", 0)).await;
    app.stored(EVENTS, &sos("w1", 0)).await;
    app.stored(EVENTS, &event("w2", "MADE_UP_TYPE", "1", 0)).await;
    app.act(&first["alert_id"], "acknowledge").await;
    app.stored(EVENTS, &sos("w3", 0)).await;

    let text = metrics(&app).await;
    for (series, expected) in [
        (r#"watchpost_events_total{type="SOS_EVENT",outcome="stored"}"#, 2.0),
        (r#"watchpost_events_total{type="SOS_EVENT",outcome="duplicate"}"#, 1.0),
        (r#"watchpost_events_total{type="other",outcome="stored"}"#, 1.0),
        (r#"watchpost_alert_changes_total{kind="raised",severity="critical"}"#, 2.0),
        (r#"watchpost_alert_changes_total{kind="acknowledged",severity="critical"}"#, 1.0),
        ("watchpost_device_state_hits_total", 1.0),
        ("watchpost_device_state_misses_total", 3.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    eventually("the registry holds both alerts", || async {
        let text = metrics(&app).await;
        let open = |state: &str, severity: &str| {
            value(&text, &format!(r#"watchpost_open_alerts{{state="{state}",severity="{severity}"}}"#))
        };
        assert_eq!(open("raised", "low"), Some(0.0), "those without one are there too");
        ((open("raised", "critical"), open("acknowledged", "critical")) == (Some(1.0), Some(1.0)))
            .then_some(())
    })
    .await;
}

#[actix_web::test]
async fn transactions_and_traffic_have_sizes() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let before = metrics(&app).await;
    let body = sos("w1", 0);
    app.stored(EVENTS, &body).await;
    screen.next_alert().await;
    let after = metrics(&app).await;
    let grown = |series: &str| value(&after, series).expect(series) - value(&before, series).unwrap_or(0.0);
    assert_eq!(grown("watchpost_received_bytes_total") as usize, body.to_string().len());
    // The answer, the frame to the screen, and the metrics themselves.
    assert!(grown("watchpost_sent_bytes_total") as usize > before.len());
    assert_eq!((grown("watchpost_batch_rows_count"), grown("watchpost_batch_rows_sum")), (1.0, 1.0));
    let bytes = grown("watchpost_batch_bytes_sum");
    assert!(bytes >= 1024.0 && bytes % 1024.0 == 0.0, "{bytes}: by admission weight");
    assert!(value(&after, "watchpost_connections") >= Some(2.0), "the screen's and this one's");
}

#[actix_web::test]
async fn a_slow_read_is_counted_and_no_other() {
    let app = TestApp::start_with(|config| config.storage.slow_statement_ms = 60_000).await;
    app.get("/api/v1/alerts").await;
    let text = metrics(&app).await;
    assert_eq!(value(&text, r#"watchpost_slow_statements_total{kind="read"}"#), None);
    assert!(value(&text, "watchpost_database_read_duration_seconds_count") > Some(0.0), "{text}");

    let app = TestApp::start_with(|config| config.storage.slow_statement_ms = 1).await;
    let slow = |conn: &mut _| {
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) \
                       SELECT max(i) FROM n";
        diesel::RunQueryDsl::execute(diesel::sql_query(numbers), conn)?;
        Ok(())
    };
    app.state.readers.read(slow).await.expect("an answer");
    let counted = value(&metrics(&app).await, r#"watchpost_slow_statements_total{kind="read"}"#);
    assert!(counted >= Some(1.0), "{counted:?}");
}

#[actix_web::test]
async fn the_number_of_series_does_not_grow_with_devices() {
    // Slowness would be counted, on a busy machine.
    let app = TestApp::start_with(|config| config.storage.slow_statement_ms = 0).await;
    let series = async |devices: std::ops::Range<u32>| {
        for device in devices {
            let serial = format!("w{device}");
            let kind = format!("TYPE_{device}");
            app.stored(EVENTS, &event(&serial, &kind, "1", 0)).await;
            app.stored(EVENTS, &sos(&serial, 1)).await;
            app.stored(HEALTH, &heart_rate(&serial, 2, 70)).await;
        }
        // Twice: the first look is itself counted.
        metrics(&app).await;
        let text = metrics(&app).await;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect::<Vec<_>>()
    };
    let few = series(0..2).await;
    let many = series(2..60).await;
    let new: Vec<_> = many.iter().filter(|line| !few.contains(line)).collect();
    assert!(new.is_empty(), "{new:?}");
}
