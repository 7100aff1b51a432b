//! The pipeline at a glance: what `/api/v1/system` and the stream's `stats` frames show of the last
//! [`WINDOW_S`] seconds.

use std::collections::BTreeMap;

use serde::Serialize;

/// Rates and percentiles are of so many seconds.
pub const WINDOW_S: u64 = 10;

/// What was not measured, or is not known on this system, is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pipeline {
    pub window_s: u64,
    pub doors: Doors,
    pub shards: Vec<Shard>,
    pub writer: Writer,
    pub database: DatabaseFigures,
    pub sessions: Sessions,
    pub process: Process,
}

/// All HTTP requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Doors {
    pub requests_per_s: f64,
    pub in_flight: i64,
    /// Answers in the window, by status code.
    pub by_code: BTreeMap<u16, u64>,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub permits_used_kib: u64,
    pub permits_max_kib: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shard {
    pub name: String,
    pub state: &'static str,
    /// Reports and messages that wait.
    pub queue: i64,
    pub restarts: u64,
    /// Device states in memory.
    pub devices: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Writer {
    pub state: &'static str,
    /// Messages, and reports for the next transactions.
    pub queue: i64,
    pub restarts: u64,
    pub rows_per_s: f64,
    pub batches_per_s: f64,
    pub rows_per_batch: Option<f64>,
    pub commit_p50_ms: Option<f64>,
    pub commit_p99_ms: Option<f64>,
    /// Age of the oldest report that waits for its commit.
    pub commit_lag_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatabaseFigures {
    pub size_bytes: Option<u64>,
    pub wal_bytes: Option<u64>,
    pub disk_free_bytes: Option<u64>,
    pub checkpoint_last_ms: Option<f64>,
    pub readers_used: u32,
    pub readers_max: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sessions {
    pub open: i64,
    /// Of the registry.
    pub state: &'static str,
    pub restarts: u64,
    pub offset_committed: i64,
    pub offset_published: i64,
    /// Changes that the slowest session has not been given yet.
    pub slowest_behind: i64,
    /// From a report's arrival to the first socket that has its alert.
    pub to_socket_p50_ms: Option<f64>,
    pub to_socket_p99_ms: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    pub rss_bytes: Option<u64>,
    /// 100 is one core.
    pub cpu_percent: Option<f64>,
    pub uptime_s: u64,
}

/// An actor as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorFigures {
    pub name: String,
    pub state: &'static str,
    pub queue: i64,
    pub restarts: u64,
    /// Device states that it holds.
    pub devices: i64,
}

impl ActorFigures {
    /// Of an actor that does not exist.
    pub fn absent(name: &str) -> Self {
        Self { name: name.into(), state: "absent", queue: 0, restarts: 0, devices: 0 }
    }
}

impl From<ActorFigures> for Shard {
    fn from(actor: ActorFigures) -> Self {
        let ActorFigures { name, state, queue, restarts, devices } = actor;
        Self { name, state, queue, restarts, devices }
    }
}
