//! A real server on port 0. The pipeline behind it is played by functions: one that stores every
//! report, one that decides actions on the stored alerts, and a writer on its own connection.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::http::{Method, StatusCode};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use arc_swap::ArcSwap;
use diesel::prelude::*;
use serde_json::Value;
use testkit::database::connect;
use watchpost::api::intake::BodyBudget;
use watchpost::api::observe::observe;
use watchpost::api::overview::OverviewCache;
use watchpost::api::quarantine_desk::QuarantineDesk;
use watchpost::api::state::{ApiState, IntegrityReport};
use watchpost::config::{Config, StorageConfig};
use watchpost::device::messages::{Act, BindingChanged, IngestTurn};
use watchpost::domain::alert::{ActError, Alert};
use watchpost::domain::event::{DeviceReport, ReportBody};
use watchpost::domain::identity::{self, sha256};
use watchpost::domain::owner::Scope;
use watchpost::ingest::admission::Admission;
use watchpost::ingest::router::{Router, ShardLinks};
use watchpost::rules::messages::{ChangeRule, RuleChange};
use watchpost::rules::set::RuleSet;
use watchpost::session::messages::Watermark;
use watchpost::session::pending::PendingActions;
use watchpost::session::revocations::Revocations;
use watchpost::storage::alerts;
use watchpost::storage::command::{Command, CommandReply, NewToken, TokenKind};
use watchpost::storage::database::{Database, Readers};
use watchpost::supervision::clock::Clock;
use watchpost::supervision::health::{ActorHealth, ActorState, HealthBoard};
use watchpost::supervision::link::Link;
use watchpost::supervision::outage::Outage;
use watchpost::supervision::permits::{Outcome, PermitPool};
use watchpost::telemetry::Metrics;
use watchpost::telemetry::observer::{Observer, Sources};
use watchpost::writer::client::WriterClient;
use watchpost::writer::messages::Administer;

use super::rows::store_change;
use super::store::{NOW, Store, customer, run};

pub const ADMIN: &str = "wpt_admin";
/// Its reports cannot be decided upon.
pub const POISON: &str = "POISON";

pub struct Server {
    pub state: web::Data<ApiState>,
    pub store: Arc<Mutex<Store>>,
    pub url: String,
    pub reports: Arc<Mutex<Vec<DeviceReport>>>,
    pub rebound: Arc<Mutex<Vec<String>>>,
    pub health: Arc<ActorHealth>,
    handle: actix_web::dev::ServerHandle,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: actix_web::http::header::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// A header as text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// `adjust` changes the configuration.
    pub async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let store = Store::new();
        let mut config = Config::default();
        adjust(&mut config);
        config.storage = store.config.clone();
        let database = Database::from_config(&config.storage).expect("a path");
        let storage = config.storage.clone();
        let store = Arc::new(Mutex::new(store));
        let (reports, rebound) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (metrics, registry) = Metrics::register();
        let metrics = Arc::new(metrics);
        let rules = Arc::new(ArcSwap::from_pointee(RuleSet::built_in()));
        let clock = Clock::manual(NOW).0;
        let shard = ShardLinks {
            ingest: ingest(reports.clone()),
            act: act(storage.clone()),
            binding_changed: {
                let rebound = rebound.clone();
                Link::to_fn("binding_changed", move |message: BindingChanged| {
                    let serials = message.devices.iter().map(ToString::to_string);
                    rebound.lock().expect("no panic").extend(serials);
                })
            },
            drain: Link::to_fn("drain", |_| {}),
        };
        let admission = Admission {
            pool: PermitPool::new(&config.admission, metrics.clone()),
            rules: rules.clone(),
            router: Arc::new(Router::new(vec![shard], metrics.clone())),
            bound: Arc::new(|_| None),
            clock: clock.clone(),
            metrics: metrics.clone(),
            receipt_timeout: Duration::from_secs(5),
            outage: Outage::default(),
        };
        let health = ActorHealth::new("writer");
        health.set_state(ActorState::Running);
        let board = HealthBoard::default();
        board.add(health.clone());
        let (figures, pool) = (board.clone(), admission.pool.clone());
        let one = |board: HealthBoard| move || board.figures("writer").remove(0);
        let sources = Sources {
            shards: Box::new(move || figures.figures("writer")),
            writer: Box::new(one(board.clone())),
            registry: Box::new(one(board.clone())),
            permits: Box::new(move || (pool.used_kib(), pool.capacity_kib())),
            commit_lag: Box::new(|| Duration::ZERO),
            committed: Box::new(|| 0),
            readers: Box::new(|| (0, 0, 4)),
            readers_unreachable: Box::new(|| false),
            caches: Box::new(Vec::new),
            database: database.path().into(),
            data_dir: config.storage.data_dir.clone(),
        };
        let observer = Arc::new(Observer::new(metrics.clone(), sources, Instant::now()));
        let state = web::Data::new(ApiState {
            zone: config.time_zone().expect("a zone"),
            readers: Readers::open(&database, &config.storage).expect("readers"),
            writer: WriterClient::new(writer(storage.clone()), config.writer.commands_max),
            pending: PendingActions::new(Link::to_fn("pending", |_| {})),
            change_rule: change_rule(storage),
            config: Arc::new(config),
            clock,
            epoch: "epoch".into(),
            started: Instant::now(),
            metrics,
            registry: Arc::new(registry),
            board,
            ring_guard: None,
            integrity: Arc::new(Mutex::new(IntegrityReport::new(false))),
            admission,
            rules,
            watermark: Watermark::default(),
            overview: OverviewCache::default(),
            revocations: Revocations::default(),
            observer,
            accepting: Arc::new(AtomicBool::new(true)),
        });
        let data = state.clone();
        let budget = web::Data::from(BodyBudget::new(&state.config.server));
        let desk = web::Data::new(QuarantineDesk::new(
            &state.config.quarantine,
            state.writer.clone(),
            state.admission.clone(),
            state.metrics.clone(),
        ));
        let server = HttpServer::new(move || {
            App::new()
                .wrap(from_fn(observe))
                .app_data(data.clone())
                .app_data(budget.clone())
                .app_data(desk.clone())
                .configure(watchpost::api::watch::configure)
                .configure(watchpost::api::configure)
        });
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port");
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let this = Self { state, store, url, reports, rebound, health, handle };
        this.add_token("admin", ADMIN, None);
        this
    }

    pub async fn stop(self) {
        self.handle.stop(false).await;
    }

    pub fn add_token(&self, id: &str, text: &str, customer_id: Option<&str>) {
        let token = NewToken {
            token_id: id.into(),
            token_hash: sha256(text.as_bytes()),
            name: id.into(),
            kind: TokenKind::Admin,
            customer_id: customer_id.map(customer),
            expires: None,
        };
        self.with_store(|store| store.run(Command::CreateToken(token)).expect("a token"));
    }

    pub fn with_store<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut self.store.lock().expect("no panic"))
    }

    /// A request with these headers and this body.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Answer {
        let client = awc::Client::builder().timeout(Duration::from_secs(10)).finish();
        let mut request = client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let mut response = request.send_body(body.into()).await.expect("an answer");
        let bytes = response.body().await.expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    /// The same as the holder of a token.
    pub async fn call(&self, token: &str, method: Method, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        self.send(method, path, &headers, text).await
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, Method::GET, path, Value::Null).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(token, Method::POST, path, body).await
    }
}

/// Answers every receipt as stored, and the second time as a duplicate.
fn ingest(reports: Arc<Mutex<Vec<DeviceReport>>>) -> Link<IngestTurn> {
    let known = Mutex::new(HashSet::new());
    Link::to_fn("ingest", move |turn: IngestTurn| {
        for message in turn.reports {
            let (report, ticket) = (message.report.value, message.report.ticket);
            let event_id = match &report.body {
                ReportBody::Event(event) => identity::identify(&report, event, message.received_at).new_id,
                other => unreachable!("{other:?}"),
            };
            // As a shard answers that panicked over it.
            if report.device_sn.as_str() == POISON {
                ticket.receipt.answer(Outcome::Quarantined);
                continue;
            }
            let duplicate = !known.lock().expect("no panic").insert(event_id);
            reports.lock().expect("no panic").push(report);
            ticket.receipt.answer(Outcome::Stored { event_id: Some(event_id), alert_id: None, duplicate });
        }
    })
}

/// Decides an action by the stored alert, as its device's shard does.
fn act(storage: StorageConfig) -> Link<Act> {
    Link::to_fn("act", move |message: Act| {
        let mut conn = connect(&storage);
        let present = alerts::get(&mut conn, &Scope::All, message.action.alert_id).expect("a look-up");
        let open = present.filter(|alert: &Alert| alert.state.is_open());
        let result = match open.or(message.resolved.map(|alert| *alert)) {
            None => Err(ActError::NotOpen),
            Some(mut alert) => match alert.act(&message.action, NOW) {
                Err(illegal) => Err(illegal.into()),
                Ok(change) => {
                    testkit::database::write(&mut conn, |conn| {
                        store_change(conn, &change);
                        QueryResult::Ok(())
                    })
                    .expect("a change");
                    Ok(change.alert)
                }
            },
        };
        let _ = message.reply.send(result);
    })
}

fn writer(storage: StorageConfig) -> Link<Administer> {
    Link::to_fn("writer", move |message: Administer| {
        let result = run(&mut connect(&storage), message.command, NOW);
        let _ = message.reply.send(result);
    })
}

fn change_rule(storage: StorageConfig) -> Link<ChangeRule> {
    Link::to_fn("rules", move |message: ChangeRule| {
        let actor = message.actor;
        let command = match message.change {
            RuleChange::Create(rule) => Command::PutRule { rule, replace: false, actor },
            RuleChange::Replace(rule) => Command::PutRule { rule, replace: true, actor },
            RuleChange::Delete(rule_id) => Command::DeleteRule { rule_id, actor },
        };
        let result = run(&mut connect(&storage), command, NOW).map(|reply| match reply {
            CommandReply::Rule(rule) => Some(rule),
            _ => None,
        });
        let _ = message.reply.send(result);
    })
}
