//! The HTTP server: all doors on one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix_web::{App as WebApp, HttpServer, middleware, web};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::value::RawValue;

use super::AppError;
use super::actors::Pipeline;
use crate::api::intake::BodyBudget;
use crate::api::observe::observe;
use crate::api::quarantine_desk::QuarantineDesk;
use crate::api::state::ApiState;
use crate::api::stream::StreamState;
use crate::api::{self, auth};
use crate::config::Config;
use crate::dashboard;
use crate::session::deps::{Authenticate, SessionDeps, Stats};
use crate::session::slots::SessionSlots;

/// Connections that may wait in the kernel: a fleet that comes back after an outage comes at once.
const BACKLOG: u32 = 4_096;

/// Counts the connections that are open, idle ones and sockets included.
#[derive(Clone)]
pub struct Connections(pub Gauge);

impl Connections {
    pub fn any(&self) -> bool {
        self.0.get() > 0
    }

    /// Counts one more for as long as what it returns lives.
    fn open(&self) -> OpenConnection {
        self.0.inc();
        OpenConnection(self.clone())
    }
}

struct OpenConnection(Connections);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.dec();
    }
}

/// Binds and starts accepting.
pub fn listen(
    config: &Config,
    state: &web::Data<ApiState>,
    pipeline: &Pipeline,
    accepting: &Arc<AtomicBool>,
    connections: &Connections,
) -> Result<(actix_web::dev::Server, SocketAddr), AppError> {
    let stream = web::Data::new(StreamState {
        sessions: Arc::new(SessionDeps {
            config: config.session.clone(),
            registry: pipeline.registry.clone(),
            shown: pipeline.shown.clone(),
            authenticate: authenticator(state),
            revocations: state.revocations.clone(),
            stats: stats(state),
            epoch: state.epoch.clone(),
            slots: SessionSlots::new(&config.session, state.metrics.clone()),
            clock: state.clock.clone(),
            metrics: state.metrics.clone(),
        }),
        accepting: accepting.clone(),
    });
    let budget =
        web::Data::from(BodyBudget::counted_in(&config.server, state.metrics.received_bytes.clone()));
    let desk = web::Data::new(QuarantineDesk::new(
        &config.quarantine,
        state.writer.clone(),
        state.admission.clone(),
        state.metrics.clone(),
    ));
    let screen = web::Data::new(config.dashboard.clone());
    let app_state = state.clone();
    let factory = move || {
        WebApp::new()
            .app_data(app_state.clone())
            .app_data(stream.clone())
            .app_data(budget.clone())
            .app_data(desk.clone())
            .app_data(screen.clone())
            .wrap(middleware::from_fn(observe))
            .configure(api::watch::configure)
            .configure(api::stream::configure)
            .configure(dashboard::configure)
            // Last: it answers 404 for the rest of /api.
            .configure(api::configure)
    };
    let addr = config.server.listen;
    let workers = match config.server.http_workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        workers => workers,
    };
    let connections = connections.clone();
    let unread = Duration::from_millis(config.server.unread_timeout_ms);
    let server = HttpServer::new(factory)
        .on_connect(move |connection, data| {
            data.insert(connections.open());
            end_when_unread(connection, unread);
        })
        .workers(workers)
        .max_connections(config.server.connections_per_worker_max)
        .backlog(BACKLOG)
        // Without it an alert that follows another waits for the acknowledgement of the first: 40 ms.
        .tcp_nodelay(true)
        .keep_alive(Duration::from_secs(config.server.keep_alive_s))
        .client_request_timeout(Duration::from_millis(config.server.client_timeout_ms))
        .shutdown_timeout(config.server.shutdown_timeout_s)
        .disable_signals()
        .bind(addr)
        .map_err(|source| AppError::Listen { addr, source })?;
    let bound = server.addrs().first().copied().unwrap_or(addr);
    Ok((server.run(), bound))
}

/// A client that takes nothing of what it was sent, because it does not read or is not there any more,
/// loses its connection after this: actix waits for such a socket for ever. The kernel counts.
fn end_when_unread(connection: &dyn std::any::Any, unread: Duration) {
    #[cfg(target_os = "linux")]
    if let Some(socket) = connection.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Err(err) = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(unread))
    {
        tracing::debug!("a connection has no limit for what is not read: {err}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (connection, unread);
}

/// What `GET /api/v1/system` says, for sessions that ask for it.
fn stats(state: &web::Data<ApiState>) -> Stats {
    let observer = state.observer.clone();
    Arc::new(move || {
        serde_json::value::to_raw_value(&observer.pipeline()).unwrap_or_else(|err| {
            tracing::error!("the figures of the pipeline could not be written out: {err}");
            RawValue::NULL.to_owned()
        })
    })
}

/// Tokens of the stream are checked where those of the REST API are.
fn authenticator(state: &web::Data<ApiState>) -> Authenticate {
    let state = state.clone();
    Arc::new(move |token| {
        let state = state.clone();
        Box::pin(async move { auth::authenticate(&state.readers, &state.clock, &token).await })
    })
}
