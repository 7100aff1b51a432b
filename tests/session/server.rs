//! A real server on a free port, a real database in a temporary directory, real WebSocket clients.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Arbiter;
use actix_web::{App, HttpServer, web};
use awc::Client;
use awc::error::WsProtocolError as ProtocolError;
use awc::ws::{Frame, Message, WebsocketsRequest};
use diesel::prelude::*;
use futures_util::stream::LocalBoxStream;
use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use serde_json::{Value, json};
use watchpost::api::stream::StreamState;
use watchpost::config::{SessionConfig, StorageConfig};
use watchpost::domain::alert::LoggedChange;
use watchpost::domain::ids::Offset;
use watchpost::domain::owner::{Caller, Scope};
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;
use watchpost::session::delivery::RegistryLinks;
use watchpost::session::deps::SessionDeps;
use watchpost::session::messages::{AlertShown, Publish, VitalsInterest, Watermark};
use watchpost::session::registry_actor::{RegistryDeps, SessionRegistry};
use watchpost::session::revocations::Revocations;
use watchpost::session::slots::SessionSlots;
use watchpost::storage::database::{Conn, Database, Readers};
use watchpost::storage::migrate;
use watchpost::storage::schema::{alert, alert_change};
use watchpost::supervision::clock::Clock;
use watchpost::supervision::guard::Supervised;
use watchpost::supervision::link::Link;
use watchpost::telemetry::{KindLabels, Metrics};

use super::history::{History, customer};

pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Server {
    pub address: std::net::SocketAddr,
    pub epoch: String,
    pub links: RegistryLinks,
    pub metrics: Arc<Metrics>,
    pub interest: Arc<VitalsInterest>,
    pub shown: Arc<Mutex<Vec<AlertShown>>>,
    pub revocations: Revocations,
    pub history: History,
    pub accepting: Arc<AtomicBool>,
    watermark: Watermark,
    conn: Conn,
    http: actix_web::dev::ServerHandle,
    arbiter: Arbiter,
    _dir: tempfile::TempDir,
}

pub fn quick() -> SessionConfig {
    SessionConfig { reconcile_ms: 20, ..SessionConfig::default() }
}

impl Server {
    /// With `before` in the database.
    pub async fn start(config: SessionConfig, before: History) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database_url = testkit::database::url(dir.path());
        let storage = StorageConfig { data_dir: dir.path().into(), database_url, ..StorageConfig::default() };
        let database = Database::from_config(&storage).unwrap();
        let epoch = migrate::prepare(&database, &[], UtcMillis(0)).unwrap().epoch;
        let mut conn = testkit::database::connect(&storage);
        conn.transaction(|conn| {
            before.log.iter().for_each(|change| insert(conn, change));
            QueryResult::Ok(())
        })
        .unwrap();

        let metrics = Arc::new(Metrics::register().0);
        let supervised = Supervised::detached("session-registry", Clock::System, metrics.clone());
        let links = RegistryLinks::new(&supervised.health);
        let watermark = Watermark::default();
        watermark.advance(before.last());
        let interest = Arc::new(VitalsInterest::default());
        let arbiter = Arbiter::new();
        let registry = RegistryDeps {
            config: config.clone(),
            epoch: epoch.as_str().into(),
            readers: Readers::open(&database, &storage).unwrap(),
            watermark: watermark.clone(),
            interest: interest.clone(),
            metrics: metrics.clone(),
            supervised,
        };
        SessionRegistry::start(registry, &links, &arbiter.handle());

        let shown = Arc::new(Mutex::new(Vec::new()));
        let accepting = Arc::new(AtomicBool::new(true));
        let revocations = Revocations::default();
        let sessions = SessionDeps {
            registry: links.clone(),
            shown: Link::to_fn("writer", {
                let shown = shown.clone();
                move |fact: AlertShown| shown.lock().unwrap().push(fact)
            }),
            authenticate: Arc::new(|token| async move { Ok(caller(&token)) }.boxed()),
            revocations: revocations.clone(),
            stats: Arc::new(|| {
                serde_json::value::to_raw_value(&serde_json::json!({"window_s": 10})).unwrap()
            }),
            epoch: epoch.as_str().into(),
            slots: SessionSlots::new(&config, metrics.clone()),
            clock: Clock::System,
            metrics: metrics.clone(),
            config,
        };
        let state =
            web::Data::new(StreamState { sessions: Arc::new(sessions), accepting: accepting.clone() });
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .configure(watchpost::api::stream::configure)
                .configure(watchpost::dashboard::configure)
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .bind(("127.0.0.1", 0))
        .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let http = server.handle();
        actix_web::rt::spawn(server);
        Self {
            address,
            epoch,
            links,
            metrics,
            interest,
            shown,
            revocations,
            history: before,
            accepting,
            watermark,
            conn,
            http,
            arbiter,
            _dir: dir,
        }
    }

    /// Commits a change as the writer would, without telling anybody.
    pub fn commit(&mut self, change: impl FnOnce(&mut History) -> LoggedChange) -> LoggedChange {
        let change = change(&mut self.history);
        insert(&mut self.conn, &change);
        self.watermark.advance(change.offset);
        change
    }

    pub fn publish(&mut self, change: impl FnOnce(&mut History) -> LoggedChange) -> LoggedChange {
        let change = self.commit(change);
        let publish = Publish { changes: vec![change.clone()], vitals: Vec::new(), in_flight: None };
        self.links.publish.send(publish).unwrap();
        change
    }

    pub fn raise(&mut self, device: &str, customer: &str) -> Offset {
        self.publish(|history| history.raise(device, customer, Severity::Critical)).offset
    }

    pub fn closed(&self, kind: &'static str) -> u64 {
        self.metrics.sessions_closed.get_or_create(&KindLabels { kind }).get()
    }

    pub fn since(&self, offset: Offset) -> Value {
        json!({"epoch": self.epoch, "offset": offset})
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A socket without any credentials.
    pub async fn connect(&self) -> Socket {
        Socket::open(Client::new().ws(self.url("/api/v1/stream"))).await
    }

    /// Signed in, after `hello`.
    pub async fn enter(&self, token: &str) -> Socket {
        let request = Client::new().ws(self.url("/api/v1/stream"));
        let mut socket = Socket::open(request.header("authorization", format!("Bearer {token}"))).await;
        assert_eq!(socket.json().await["type"], "hello");
        socket
    }

    /// Signed in and subscribed to everything, after the snapshot.
    pub async fn subscribe(&self, token: &str) -> Socket {
        let mut socket = self.enter(token).await;
        socket.send(json!({"type": "subscribe", "id": "all"})).await;
        assert_eq!(socket.json().await["type"], "snapshot");
        socket
    }

    /// As if a panic had taken it away with its mailbox.
    pub fn kill_registry(&self) {
        self.arbiter.stop();
    }

    pub async fn stop(self) {
        self.http.stop(false).await;
        self.arbiter.stop();
        testkit::database::forget(self._dir.path());
    }
}

fn caller(token: &str) -> Option<Caller> {
    let scope = match token {
        "admin" => Scope::All,
        "c1" | "c2" => Scope::Customer(customer(token)),
        _ => return None,
    };
    Some(Caller { token_id: token.into(), name: format!("Ann of {token}"), scope, expires: None })
}

fn insert(conn: &mut Conn, change: &LoggedChange) {
    let present = &change.alert;
    let body = serde_json::to_string(&**present).unwrap();
    diesel::delete(alert::table.find(present.alert_id.0)).execute(conn).unwrap();
    diesel::insert_into(alert::table)
        .values((
            alert::alert_id.eq(present.alert_id.0),
            alert::rule_id.eq(format!("rule{}", present.alert_id.0)),
            alert::device_sn.eq(present.device_sn.as_str()),
            alert::binding_id.eq(0),
            alert::customer_id.eq(present.customer_id.as_str()),
            alert::severity.eq(present.severity.name()),
            alert::state.eq(present.state.name()),
            alert::is_open.eq(present.state.is_open()),
            alert::count.eq(present.count as i32),
            alert::occurred_ms.eq(present.occurred_at.0),
            alert::raised_ms.eq(present.raised_at.0),
            alert::last_offset.eq(change.offset),
            alert::body.eq(&body),
        ))
        .execute(conn)
        .unwrap();
    diesel::insert_into(alert_change::table)
        .values((
            alert_change::change_offset.eq(change.offset),
            alert_change::alert_id.eq(present.alert_id.0),
            alert_change::transition.eq(change.transition.name()),
            alert_change::cause.eq(&*change.cause),
            alert_change::at_ms.eq(change.at.0),
            alert_change::quiet.eq(change.quiet),
            alert_change::device_sn.eq(present.device_sn.as_str()),
            alert_change::customer_id.eq(present.customer_id.as_str()),
            alert_change::severity.eq(present.severity.name()),
            alert_change::body.eq(&body),
        ))
        .execute(conn)
        .unwrap();
}

/// A client's end.
pub struct Socket {
    sink: Pin<Box<dyn Sink<Message, Error = ProtocolError>>>,
    stream: LocalBoxStream<'static, Result<Frame, ProtocolError>>,
}

/// What came.
#[derive(Debug, PartialEq)]
pub enum Received {
    Json(Value),
    Closed(u16),
    /// Without a close frame.
    Gone,
}

impl Socket {
    pub async fn open(request: WebsocketsRequest) -> Self {
        let (_, framed) = request.max_frame_size(64 * 1024 * 1024).connect().await.unwrap();
        let (sink, stream) = framed.split();
        Self { sink: Box::pin(sink), stream: stream.boxed_local() }
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_raw(Message::Text(frame.to_string().into())).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        self.sink.send(message).await.unwrap();
    }

    pub async fn receive(&mut self) -> Received {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("nothing came");
            match next {
                Some(Ok(Frame::Text(text))) => {
                    let frame = serde_json::from_slice(&text).unwrap();
                    testkit::schema::assert_frame(&frame);
                    return Received::Json(frame);
                }
                Some(Ok(Frame::Ping(payload))) => self.sink.send(Message::Pong(payload)).await.unwrap(),
                Some(Ok(Frame::Close(reason))) => {
                    return Received::Closed(reason.map_or(1005, |reason| reason.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Gone,
            }
        }
    }

    pub async fn json(&mut self) -> Value {
        match self.receive().await {
            Received::Json(value) => value,
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    /// The code of the close frame, frames before it left out.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.receive().await {
                Received::Json(_) => {}
                Received::Closed(code) => return Some(code),
                Received::Gone => return None,
            }
        }
    }

    pub async fn ask(&mut self, frame: Value) -> Value {
        self.send(frame).await;
        self.json().await
    }
}

/// Waits until it is so.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
