//! What the handlers need, put together by `app`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::ingest::admission::Admission;
use crate::ingest::ring_guard::RingGuard;
use crate::rules::messages::ChangeRule;
use crate::rules::set::Published;
use crate::session::messages::Watermark;
use crate::storage::database::Readers;
use crate::supervision::clock::Clock;
use crate::supervision::health::HealthBoard;
use crate::supervision::link::Link;
use crate::telemetry::Metrics;
use crate::telemetry::observer::Observer;
use crate::writer::client::WriterClient;

/// One per server, shared by all HTTP workers as `web::Data<ApiState>`.
pub struct ApiState {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub zone: chrono_tz::Tz,
    pub epoch: String,
    pub started: Instant,
    pub metrics: Arc<Metrics>,
    pub registry: Arc<Registry>,
    pub board: HealthBoard,
    pub readers: Readers,
    pub admission: Admission,
    /// `None` unless `watch.ring_guard` is set.
    pub ring_guard: Option<RingGuard>,
    pub writer: WriterClient,
    pub change_rule: Link<ChangeRule>,
    pub rules: Published,
    pub watermark: Watermark,
    pub observer: Arc<Observer>,
    /// False while starting and from SIGTERM on.
    pub accepting: Arc<AtomicBool>,
}

impl ApiState {
    pub fn is_ready(&self) -> bool {
        self.accepting.load(Ordering::Acquire) && self.board.all_running()
    }
}
