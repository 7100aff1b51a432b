//! What the handlers need, put together by `app`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use prometheus_client::registry::Registry;
use serde::Serialize;

use super::overview::OverviewCache;
use crate::config::Config;
use crate::domain::presence::Patience;
use crate::ingest::admission::Admission;
use crate::ingest::ring_guard::RingGuard;
use crate::rules::messages::ChangeRule;
use crate::rules::set::Published;
use crate::session::messages::{Epoch, Watermark};
use crate::session::pending::PendingActions;
use crate::session::revocations::Revocations;
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
    pub epoch: Epoch,
    pub started: Instant,
    pub metrics: Arc<Metrics>,
    pub registry: Arc<Registry>,
    pub board: HealthBoard,
    pub readers: Readers,
    pub admission: Admission,
    /// `None` unless `watch.ring_guard` is set.
    pub ring_guard: Option<RingGuard>,
    pub writer: WriterClient,
    /// What is acknowledged while nothing can be stored.
    pub pending: PendingActions,
    pub change_rule: Link<ChangeRule>,
    pub rules: Published,
    pub watermark: Watermark,
    pub overview: OverviewCache,
    /// What open sessions look at.
    pub revocations: Revocations,
    pub observer: Arc<Observer>,
    /// False while starting and from SIGTERM on.
    pub accepting: Arc<AtomicBool>,
    pub integrity: Arc<Mutex<IntegrityReport>>,
}

/// How the last server ended, and what a check of the database has found since.
#[derive(Debug, Clone, Serialize)]
pub struct IntegrityReport {
    /// False if it was killed, lost its power, or could not write what it had.
    pub last_stop_clean: bool,
    pub check: IntegrityState,
    /// At most 100 of each sort.
    pub faults: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntegrityState {
    /// The last server was stopped well, or the check is switched off.
    NotRun,
    Running,
    Sound,
    Damaged,
    /// It could not be done; why is in the faults.
    Failed,
}

impl IntegrityReport {
    pub fn new(stopped_uncleanly: bool) -> Self {
        Self { last_stop_clean: !stopped_uncleanly, check: IntegrityState::NotRun, faults: Vec::new() }
    }
}

/// A device that missed this many of its uploads in a row is silent.
const UPLOADS_MISSED_MAX: u32 = 3;

impl ApiState {
    /// Seconds without a sign of life after which a device is silent: by what watches are told.
    pub fn silent_after_s(&self) -> u32 {
        let watch = &self.config.watch;
        watch.upload_device_interval_s.max(watch.upload_health_interval_s).saturating_mul(UPLOADS_MISSED_MAX)
    }

    /// From when on a device that said nothing is silent.
    pub fn patience(&self) -> Patience {
        Patience { now: self.clock.now(), silent_after_s: self.silent_after_s() }
    }

    pub fn is_ready(&self) -> bool {
        self.accepting.load(Ordering::Acquire) && self.board.all_running()
    }
}
