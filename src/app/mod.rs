//! The composition root: knows everyone, and in which order they come and go.

mod actors;
pub mod databases;
mod descriptors;
mod figures;
mod http;
mod integrity;
mod lock;
pub mod maintenance;
mod standby;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::web;
use tokio::sync::oneshot;

use crate::api::credentials::{self, CredentialError};
use crate::api::overview::OverviewCache;
use crate::api::state::{ApiState, IntegrityReport};
use crate::config::{Config, ConfigError};
use crate::domain::rule_seeds;
use crate::ingest::ring_guard::RingGuard;
use crate::session::revocations::Revocations;
use crate::storage::database::StorageError;
use crate::storage::migrate;
use crate::supervision::clock::Clock;
use crate::supervision::root::Fatal;
use crate::telemetry::Metrics;

use actors::Pipeline;
use integrity::IntegrityCheck;

/// Why the server does not start, or ended. One line each that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "listening on {0} lets anybody who reaches it post as any watch; \
         add --allow-open-ingest if that is what you want, or listen on 127.0.0.1"
    )]
    OpenIngest(SocketAddr),
    #[error("data directory {path}: {source}; create it, make it writable, or choose another --data-dir")]
    DataDir { path: String, source: std::io::Error },
    #[error("data directory {0} is in use by another watchpost; stop that one or choose another --data-dir")]
    Locked(String),
    #[error("listen on {addr}: {source}; stop what uses the port or choose another --listen")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("make the admin token: {0}")]
    AdminToken(#[from] CredentialError),
    #[error("the server did not become ready within {0:?}; see the log above")]
    NotReady(Duration),
    #[error(transparent)]
    Fatal(#[from] Fatal),
    #[error("serve: {0}")]
    Serve(#[from] std::io::Error),
}

/// Start-up to ready at the latest.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often the end of accepted requests is looked for while shutting down.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// After the last accepted request has been answered its bytes may take this long to leave, and
/// clients of the stream to go.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// After a fatal error `/readyz` says so for this long before the process ends.
const FATAL_NOTICE: Duration = Duration::from_millis(500);

/// A server that listens and is ready.
pub struct App {
    addr: SocketAddr,
    state: web::Data<ApiState>,
    pipeline: Pipeline,
    server: actix_web::dev::Server,
    accepting: Arc<AtomicBool>,
    connections: http::Connections,
    beat: actix_web::rt::task::JoinHandle<()>,
    shutdown_timeout: Duration,
    /// Ends with the server.
    _integrity: Option<IntegrityCheck>,
    /// Held as long as the data directory is in use.
    _lock: lock::DataDirLock,
}

impl App {
    /// Prepares the database, starts the actors from the end of the pipeline backwards, and
    /// listens. Needs a running actix system.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        Self::build_with(config, Clock::System).await
    }

    /// The same with a clock that a test turns.
    pub async fn build_with(config: Config, clock: Clock) -> Result<Self, AppError> {
        config.validate()?;
        if !config.server.listen.ip().is_loopback() && !config.watch.allow_open_ingest {
            return Err(AppError::OpenIngest(config.server.listen));
        }
        let started = Instant::now();
        descriptors::raise();
        let lock = lock::DataDirLock::take(&config.storage.data_dir)?;
        let (database, opened) = migrate::prepare_server(&config.storage, &rule_seeds::seeds(), clock.now())?;
        if opened.newly_created {
            tracing::info!(database = database.name(), "made a new database");
        }
        let config = Arc::new(config);
        let (metrics, registry) = Metrics::register();
        let (metrics, registry) = (Arc::new(metrics), Arc::new(registry));
        let accepting = Arc::new(AtomicBool::new(false));
        let database_path = database.path().to_path_buf();
        let epoch = standby::epoch(&database, &opened.epoch, &metrics);
        let mut pipeline = Pipeline::start(&config, &clock, &metrics, database.clone(), &epoch)?;
        let observer = figures::observer(&pipeline, metrics.clone(), &config, &database_path, started);
        let ring_guard = config.watch.ring_guard.then(|| {
            let silence_ms = i64::from(config.watch.ring_guard_silence_s) * 1000;
            RingGuard::new(silence_ms, config.device.states_max, !opened.newly_created, clock.now())
        });
        let integrity = Arc::new(Mutex::new(IntegrityReport::new(opened.stopped_uncleanly)));
        metrics.unclean_start.set(i64::from(opened.stopped_uncleanly));
        let state = web::Data::new(ApiState {
            config: config.clone(),
            clock: clock.clone(),
            zone: config.time_zone()?,
            epoch,
            started,
            metrics: metrics.clone(),
            registry,
            board: pipeline.board.clone(),
            readers: pipeline.readers.clone(),
            admission: pipeline.admission.clone(),
            ring_guard,
            writer: pipeline.writer.clone(),
            pending: pipeline.registry.pending.clone(),
            change_rule: pipeline.change_rule.clone(),
            rules: pipeline.rules.clone(),
            watermark: pipeline.watermark.clone(),
            overview: OverviewCache::default(),
            revocations: Revocations::default(),
            observer: observer.clone(),
            accepting: accepting.clone(),
            integrity: integrity.clone(),
        });
        // The first command goes through the whole writer: after it, storing works.
        let token = credentials::ensure_admin_token(
            &config.storage.data_dir,
            &pipeline.readers,
            &pipeline.writer,
            &clock,
        );
        let running = pipeline.running();
        let ready = tokio::time::timeout(READY_WITHIN, async {
            let token = token.await;
            running.await;
            token
        });
        let token_file = tokio::select! {
            fatal = pipeline.fatal.recv() => return Err(fatal.unwrap_or(Fatal::RootDied).into()),
            ready = ready => ready.map_err(|_| AppError::NotReady(READY_WITHIN))??,
        };
        tracing::info!(file = %token_file.display(), "the admin token is in this file");

        let beat = actix_web::rt::spawn(figures::beat(observer));
        let connections = http::Connections(metrics.connections.clone());
        let (server, addr) = http::listen(&config, &state, &pipeline, &accepting, &connections)?;
        // A start that fails before has left nothing undone.
        let mark = pipeline.mark_running();
        tokio::select! {
            fatal = pipeline.fatal.recv() => return Err(fatal.unwrap_or(Fatal::RootDied).into()),
            () = mark => {}
        }
        accepting.store(true, Ordering::Release);
        let shutdown_timeout = Duration::from_secs(config.server.shutdown_timeout_s);
        let check =
            opened.stopped_uncleanly && !database.is_shared() && config.storage.check_after_unclean_stop;
        let check = check.then(|| IntegrityCheck::begin(&database, &metrics, &integrity));
        Ok(Self {
            addr,
            state,
            pipeline,
            server,
            accepting,
            connections,
            beat,
            shutdown_timeout,
            _integrity: check,
            _lock: lock,
        })
    }

    /// Where it listens; with port 0 configured, the port that it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the handlers see, for the process's own use and for tests.
    pub fn state(&self) -> web::Data<ApiState> {
        self.state.clone()
    }

    /// Serves until `shutdown` resolves, then drains: readiness fails, sockets close with 1001,
    /// accepted requests finish, shards drain, the writer flushes.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), AppError> {
        let App { mut pipeline, server, accepting, connections, beat, shutdown_timeout, state, .. } = self;
        let handle = server.handle();
        let serving = actix_web::rt::spawn(server);
        let fatal = tokio::select! {
            () = shutdown => None,
            fatal = pipeline.fatal.recv() => Some(fatal.unwrap_or(Fatal::RootDied)),
        };
        accepting.store(false, Ordering::Release);
        if let Some(fatal) = &fatal {
            tracing::error!("the server ends: {fatal}");
            tokio::time::sleep(FATAL_NOTICE).await;
        } else {
            tracing::info!("shutting down: closing sockets, finishing requests, flushing");
        }
        let drained = tokio::time::timeout(shutdown_timeout, async {
            if fatal.is_some() {
                return handle.stop(false).await;
            }
            store_pending(&state).await;
            pipeline.close_sessions().await;
            // Nobody new is let in, idle connections are closed, and busy ones after their answer.
            // actix looks only once a second whether that is done.
            tokio::select! {
                () = handle.stop(true) => {}
                () = requests_done(&state, &connections) => {}
            }
            pipeline.drain().await;
        });
        if drained.await.is_err() {
            // What was not flushed was not answered 200 either.
            tracing::error!(
                "not everything was flushed within {shutdown_timeout:?}; its watches were told 503"
            );
        }
        beat.abort();
        pipeline.stop();
        // It may still be waiting: for its next look, or for requests that have no time left.
        serving.abort();
        match serving.await {
            Ok(served) => served?,
            Err(err) if err.is_cancelled() => {}
            Err(err) => return Err(AppError::Serve(std::io::Error::other(err))),
        }
        fatal.map_or(Ok(()), |fatal| Err(fatal.into()))
    }
}

/// What was acknowledged while nothing could be stored, if it can be by now.
async fn store_pending(state: &ApiState) {
    let left = || state.pending.list().len();
    while left() > 0 && state.admission.outage.current().is_none() {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    if left() > 0 {
        tracing::error!(
            "{} acknowledgements could not be stored; their alerts wait for somebody again",
            left()
        );
    }
}

/// Resolves when no connection is open, or when for [`LAST_ANSWERS`] no request was in work.
async fn requests_done(state: &ApiState, connections: &http::Connections) {
    let mut idle_since = None;
    while connections.any() {
        if state.metrics.in_flight.get() > 0 {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() >= LAST_ANSWERS {
            return;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// Sends a message that carries a reply channel and waits for the reply. A receiver that is gone
/// has nothing left to do.
async fn ask<M: Send + 'static>(
    link: &crate::supervision::link::Link<M>,
    message: impl FnOnce(oneshot::Sender<()>) -> M,
) {
    let (done, finished) = oneshot::channel();
    if link.send(message(done)).is_ok() {
        let _ = finished.await;
    }
}
