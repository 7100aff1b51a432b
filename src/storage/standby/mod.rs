//! The file beside a main database that may go away: `standby.db`, a whole database of its own with
//! the same tables.
//!
//! While the main database is there the file *mirrors* what start-up, rules, duplicates and open
//! alerts need ([`mirror`], [`prune`]). When a batch cannot be committed there, or not within its
//! time, the file takes it, synced, and everything after it (it *spools*): with the ids and offsets
//! that it would have got, written by the same code. Triggers log what was written ([`journal`]). When
//! the main database is back the log is handed on in the background ([`remote`], [`hand_on`]), and
//! between two batches everything is as before. Where both have gone on alone, [`rejoin`] puts what
//! was spooled on top of what the main database has.

mod between;
mod bound;
mod fill;
pub(super) mod guarded;
mod hand_on;
mod journal;
mod mirror;
mod poison;
mod prune;
mod rejoin;
mod remote;
mod salvage;
mod small;
pub(super) mod start;
mod torn;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::command::NewQuarantine;
use super::commit::Committed;
use super::database::Database;
use super::readers::{Mode, SpoolReport};
use crate::config::StorageConfig;
use crate::domain::ids::Offset;
use crate::telemetry::Metrics;

use mirror::OwnedBatch;

/// Of the file, in the data directory.
pub const FILE: &str = "standby.db";
/// Whoever reads the mirror waits for a batch that is being applied at most so long.
const MIRRORED_WITHIN: Duration = Duration::from_secs(2);

/// A batch that has committed in the main database and is not in the mirror yet.
struct Pending {
    batch: Arc<OwnedBatch>,
    committed: Committed,
    last: Offset,
}

/// What the main database has that was not known here.
#[derive(Debug, Clone)]
struct Conflict {
    /// Up to here both have the same changes of alerts.
    common: Offset,
    /// The last that the main database has.
    last: Offset,
    /// Its rows behind `common`, as JSON.
    changes: Vec<String>,
    /// Its alerts that are open or that any of both has changed since, as JSON.
    alerts: Vec<String>,
}

/// Limits from the configuration.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// A transaction of the main database that takes longer is not waited for.
    commit: Duration,
    /// The file and its log may take so many bytes.
    bytes_max: u64,
    /// Events that raised no alert, and vital signs, are mirrored for so long.
    keep_ms: i64,
}

/// What the writer, its readers and the thread that hands on share.
pub struct Standby {
    file: Database,
    limits: Limits,
    mode: watch::Sender<Mode>,
    since: Mutex<Option<(Instant, String)>>,
    /// A read of the main database has failed; nothing has been written since.
    suspected: AtomicBool,
    /// One takes long; nothing has been written since.
    doubted: AtomicBool,
    /// The mirror lacks something.
    stale: AtomicBool,
    /// The main database may have rows that were never here.
    unsure: AtomicBool,
    pending: Mutex<Option<Pending>>,
    mirrored: Condvar,
    /// Numbers of the log up to which it has been handed on: small tables, large ones.
    small_until: AtomicI64,
    large_until: AtomicI64,
    /// The file has the batch for whose sake it spools: until then it lacks what the main database may
    /// have of it.
    settled: AtomicBool,
    /// So little is left that the writer can wait for it.
    caught_up: AtomicBool,
    conflict: Mutex<Option<Conflict>>,
    /// Rows that the main database refuses, on their way into quarantine.
    refused: Mutex<Vec<NewQuarantine>>,
    /// The main database was away at the start: its schema has not been looked at.
    unprepared: AtomicBool,
    /// Another server has written to the main database: nothing is taken here any more.
    superseded: AtomicBool,
    rebased: AtomicBool,
    rows: AtomicU64,
    /// Grows when what is stored has changed behind everybody's back.
    generation: AtomicU64,
    epoch: watch::Sender<String>,
    metrics: OnceLock<Arc<Metrics>>,
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "standby {:?}", self.mode())
    }
}

impl Standby {
    fn new(file: Database, config: &StorageConfig, mode: Mode, epoch: String) -> Self {
        Self {
            file,
            limits: Limits {
                commit: Duration::from_millis(config.postgres_commit_limit_ms),
                bytes_max: config.spool_max_bytes,
                keep_ms: i64::from(config.mirror_hours) * 3_600_000,
            },
            mode: watch::Sender::new(mode),
            since: Mutex::new(None),
            suspected: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            unsure: AtomicBool::new(false),
            pending: Mutex::new(None),
            mirrored: Condvar::new(),
            small_until: AtomicI64::new(0),
            large_until: AtomicI64::new(0),
            settled: AtomicBool::new(true),
            caught_up: AtomicBool::new(false),
            conflict: Mutex::new(None),
            refused: Mutex::default(),
            unprepared: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            rebased: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            epoch: watch::Sender::new(epoch),
            metrics: OnceLock::new(),
        }
    }

    pub fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    pub fn is_spooling(&self) -> bool {
        self.mode() == Mode::Spooling
    }

    /// True if reads do not see everything that is stored.
    pub fn is_incomplete(&self) -> bool {
        self.is_spooling() || self.suspected.load(Ordering::Acquire)
    }

    /// The writer has something to do although nobody wrote: to find out whether the main database
    /// is there, or to go back to it.
    pub fn wants_turn(&self) -> bool {
        let caught_up = self.is_spooling() && self.caught_up.load(Ordering::Acquire);
        caught_up
            || self.suspected.load(Ordering::Acquire)
            || self.doubted.load(Ordering::Acquire)
            || self.stale.load(Ordering::Acquire)
            || lock(&self.conflict).is_some()
            || !lock(&self.refused).is_empty()
    }

    /// The file beside the main database.
    pub fn file(&self) -> &Database {
        &self.file
    }

    /// Resolves when batches go into the spool.
    pub async fn spooling(&self) {
        let mut mode = self.mode.subscribe();
        // Its sender lives as long as this.
        let _ = mode.wait_for(|mode| *mode == Mode::Spooling).await;
    }

    /// A read of the main database has failed.
    pub fn suspect(&self) {
        self.suspected.store(true, Ordering::Release);
    }

    /// A read of the main database takes long: whoever writes shall see whether it is there.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Release);
    }

    /// The main database has answered a write.
    fn answers(&self) {
        self.suspected.store(false, Ordering::Release);
        self.doubted.store(false, Ordering::Release);
    }

    /// Waits until the mirror has what has been announced.
    pub fn wait_mirrored(&self) {
        let pending = lock(&self.pending);
        let waited = self.mirrored.wait_timeout_while(pending, MIRRORED_WITHIN, |pending| pending.is_some());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Grows when what is stored has changed behind everybody's back.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The epoch of the log, which changes when offsets were given anew.
    pub fn epoch(&self) -> watch::Receiver<String> {
        self.epoch.subscribe()
    }

    /// Counts there.
    pub fn count_in(&self, metrics: Arc<Metrics>) {
        metrics.spooling.set(i64::from(self.is_spooling()));
        let _ = self.metrics.set(metrics);
    }

    fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.metrics.get()
    }

    pub fn report(&self) -> SpoolReport {
        let since = lock(&self.since).clone();
        SpoolReport {
            mode: self.mode(),
            for_s: since.as_ref().map(|(since, _)| since.elapsed().as_secs()),
            rows: self.rows.load(Ordering::Acquire),
            bytes: self.bytes(),
            stale: self.stale.load(Ordering::Acquire),
            error: since.map(|(_, error)| error),
        }
    }

    /// Numbers of the log up to which it has been handed on: small tables, large ones.
    fn handed_on(&self) -> (i64, i64) {
        (self.small_until.load(Ordering::Acquire), self.large_until.load(Ordering::Acquire))
    }

    /// Size of the file and its log.
    fn bytes(&self) -> u64 {
        size(self.file.path()) + self.log_bytes()
    }

    fn log_bytes(&self) -> u64 {
        let mut log = self.file.path().as_os_str().to_owned();
        log.push("-wal");
        size(log.as_ref())
    }

    fn set_mode(&self, mode: Mode, error: Option<String>) {
        *lock(&self.since) = error.map(|error| (Instant::now(), error));
        if let Some(metrics) = self.metrics() {
            metrics.spooling.set(i64::from(mode == Mode::Spooling));
        }
        self.mode.send_replace(mode);
    }

    fn set_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Release);
        if let Some(metrics) = self.metrics() {
            metrics.spool_rows.set(rows as i64);
        }
    }

    fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
        if let Some(metrics) = self.metrics() {
            metrics.mirror_stale.set(i64::from(stale));
        }
    }
}

fn size(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Values in there are replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
