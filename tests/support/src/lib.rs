//! A real server in this process, on a free port and a temporary database file, and what tests do
//! to it. The truth is read from the file with queries of the test's own.

pub mod bodies;
pub mod cluster;
pub mod dashboard;
pub mod database;
pub mod disk;
pub mod preload;
pub mod process;
pub mod proxy;
pub mod scale;
pub mod schema;
pub mod stream;
pub mod traffic;
pub mod truth;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use actix_web::web;
use awc::http::{Method, StatusCode};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use watchpost::api::state::ApiState;
use watchpost::app::{App, AppError};
use watchpost::config::Config;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::database::Conn;
use watchpost::supervision::clock::Clock;

/// For conditions; ten times what anything here takes.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// 2025-09-10 13:05:30 in Shanghai: shortly after the protocol's example bodies.
pub const NOW: UtcMillis = UtcMillis(1_757_480_730_000);

pub struct TestApp {
    pub addr: SocketAddr,
    pub state: web::Data<ApiState>,
    pub dir: Arc<tempfile::TempDir>,
    /// The hand of the server's clock, milliseconds since 1970.
    pub hand: Arc<AtomicI64>,
    pub admin: String,
    stop: Option<oneshot::Sender<()>>,
    ended: actix_web::rt::task::JoinHandle<Result<(), AppError>>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: awc::http::header::HeaderMap,
    pub body: Value,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A fresh database; `adjust` changes the configuration. The clock stands at [`NOW`].
    pub async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        Self::start_in(dir, NOW, adjust).await
    }

    /// On an existing data directory, for restarts.
    pub async fn start_in(
        dir: Arc<tempfile::TempDir>,
        now: UtcMillis,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::default();
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.server.http_workers = 1;
        config.server.shutdown_timeout_s = 10;
        config.storage.data_dir = dir.path().join("data");
        config.storage.database_url = database::url(&config.storage.data_dir);
        // What has been answered is looked for in PostgreSQL, not in a spool.
        config.storage.postgres_commit_limit_ms = 60_000;
        config.device.shards = 2;
        // On a busy machine a load may take longer than the default, and without its state an
        // emergency of a bound device is taken for a stranger's.
        config.device.emergency_load_timeout_ms = 4_000;
        adjust(&mut config);
        let (clock, hand) = Clock::manual(now);
        let app = App::build_with(config.clone(), clock).await.expect("the server starts");
        let (addr, state) = (app.addr(), app.state());
        let admin = std::fs::read_to_string(config.storage.data_dir.join("admin.token"))
            .expect("an admin token")
            .trim()
            .to_owned();
        let (stop, stopped) = oneshot::channel();
        let ended = actix_web::rt::spawn(app.run_until(async {
            let _ = stopped.await;
        }));
        Self { addr, state, dir, hand, admin, stop: Some(stop), ended }
    }

    /// Stops it as SIGTERM would and hands the data directory on.
    pub async fn stop(mut self) -> Arc<tempfile::TempDir> {
        drop(self.stop.take());
        let ended = (&mut self.ended).await;
        ended.expect("the server does not panic").expect("the server ends well");
        self.dir.clone()
    }

    /// Stops it and starts it again on the same data, at the time that its clock shows.
    pub async fn restart(self) -> Self {
        let now = UtcMillis(self.hand.load(Ordering::Relaxed));
        let dir = self.stop().await;
        Self::start_in(dir, now, |_| {}).await
    }

    /// Moves the server's clock.
    pub fn advance_ms(&self, ms: i64) {
        self.hand.fetch_add(ms, Ordering::Relaxed);
    }

    /// A token that sees what belongs to `customer`.
    pub async fn token_of(&self, customer: &str) -> String {
        let body = json!({"name": format!("desk of {customer}"), "customer_id": customer});
        let made = self.api(Method::POST, "/api/v1/tokens", Some(&body)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["token"].as_str().expect("a token").to_owned()
    }

    /// Gives a watch to a customer.
    pub async fn bind(&self, device_sn: &str, binding: &Value) {
        let path = format!("/api/v1/devices/{device_sn}/binding");
        let bound = self.api(Method::PUT, &path, Some(binding)).await;
        assert_eq!(bound.status, 200, "{}", bound.body);
    }

    /// Posts a report that must be stored, and answers what was answered.
    pub async fn stored(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{body} got {}", answer.body);
        assert_eq!((&answer.body["status"], &answer.body["success"]), (&json!("success"), &json!(true)));
        answer.body
    }

    /// Posts a report as a watch does while the server recovers: "send it again" is an answer, for a while.
    pub async fn stored_in_the_end(&self, path: &str, body: &Value) -> Value {
        eventually(&format!("{body} is stored"), || async {
            let answer = self.post(path, body).await;
            assert!(
                [200, 503].contains(&answer.status.as_u16()),
                "{body} got {} {}",
                answer.status,
                answer.body
            );
            (answer.status == 200).then_some(answer.body)
        })
        .await
    }

    /// An operator's action on an alert; answers the alert.
    pub async fn act(&self, alert_id: &Value, action: &str) -> Value {
        self.act_with(alert_id, action, &json!({})).await
    }

    /// The same with what the operator says.
    pub async fn act_with(&self, alert_id: &Value, action: &str, said: &Value) -> Value {
        let path = format!("/api/v1/alerts/{}/{action}", alert_id.as_str().expect("an alert id"));
        let acted = self.api(Method::POST, &path, Some(said)).await;
        assert_eq!(acted.status, 200, "{}", acted.body);
        acted.body
    }

    /// Transitions in the log, in order of their offsets.
    pub fn logged_transitions(&self) -> Vec<String> {
        let rows = self.texts("SELECT transition AS value FROM alert_change ORDER BY change_offset");
        rows.into_iter().flatten().collect()
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("data/watchpost.db")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Posts bytes to the watch API.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Method::POST, path, None, Some(("application/json", body.into()))).await
    }

    /// Posts an event or another report to the watch API.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, body.to_string()).await
    }

    /// A request to the REST API as the administrator.
    pub async fn api(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.api_as(&self.admin, method, path, body).await
    }

    pub async fn api_as(&self, token: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send(method, path, Some(token), body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.api(Method::GET, path, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Answer {
        // No pooled connections: a server that is stopped must not be waited for.
        let client = awc::Client::builder().timeout(DEADLINE).no_default_headers().finish();
        let mut request = client.request(method, self.url(path)).insert_header(("Connection", "close"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let mut response = match body {
            None => request.send().await,
            Some((content_type, body)) => request.content_type(content_type).send_body(body).await,
        }
        .expect("the server answers");
        let bytes = response.body().limit(64 * 1024 * 1024).await.expect("a whole answer");
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: response.status(), headers: response.headers().clone(), body }
    }

    /// The first column of the first row, from the file itself.
    pub fn count(&self, query: &str) -> i64 {
        let texts = self.texts(&format!("SELECT ({query}) AS value"));
        let text = texts[0].as_deref().expect("a number");
        // A measurement has a fraction, if only of nothing.
        text.parse().unwrap_or_else(|_| text.parse::<f64>().expect("a number") as i64)
    }

    /// The first column of every row as text, from the file itself.
    pub fn texts(&self, query: &str) -> Vec<Option<String>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Nullable<Text>)]
            value: Option<String>,
        }
        let mut conn = self.connect();
        let query = database::texts_query(query, database::is_postgres(&self.dir.path().join("data")));
        let rows: Vec<Row> = diesel::sql_query(query).load(&mut conn).expect("rows");
        rows.into_iter().map(|row| row.value).collect()
    }

    /// A connection of the test's own.
    pub fn connect(&self) -> Conn {
        database::connect_in(&self.dir.path().join("data"))
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if self.stop.is_some() && Arc::strong_count(&self.dir) == 1 {
            database::forget(&self.dir.path().join("data"));
        }
    }
}

/// Waits until `condition` answers something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "{what} within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
