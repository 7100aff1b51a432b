//! What an operator sees of an actor: state, restarts, queue length, last error.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::domain::time::UtcMillis;
use crate::telemetry::pipeline::ActorFigures;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    Starting = 0,
    Running = 1,
    /// Down, or waiting for its turn to start again.
    Restarting = 2,
    /// Its restart budget is spent; the process is about to end.
    Failed = 3,
}

impl ActorState {
    /// As it is written in answers.
    pub fn name(self) -> &'static str {
        match self {
            ActorState::Starting => "starting",
            ActorState::Running => "running",
            ActorState::Restarting => "restarting",
            ActorState::Failed => "failed",
        }
    }
}

/// Shared by the actor (writes), its links (queue length) and the operator's views (read).
#[derive(Debug)]
pub struct ActorHealth {
    pub name: String,
    state: AtomicU8,
    queued: AtomicI64,
    inbox: AtomicI64,
    /// Taken from the mailbox and not done, and entries in memory, as the actor says.
    waiting: AtomicI64,
    entries: AtomicI64,
    restarts: AtomicU64,
    last_error: Mutex<Option<(UtcMillis, String)>>,
}

/// One actor as `/api/v1/system` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ActorReport {
    pub name: String,
    pub state: ActorState,
    pub restarts: u64,
    /// Messages and reports that wait.
    pub queue_length: i64,
    pub last_error: Option<String>,
    pub last_error_at: Option<UtcMillis>,
}

impl ActorHealth {
    pub fn new(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            state: AtomicU8::new(ActorState::Starting as u8),
            queued: AtomicI64::new(0),
            inbox: AtomicI64::new(0),
            waiting: AtomicI64::new(0),
            entries: AtomicI64::new(0),
            restarts: AtomicU64::new(0),
            last_error: Mutex::new(None),
        })
    }

    pub fn state(&self) -> ActorState {
        match self.state.load(Ordering::Acquire) {
            0 => ActorState::Starting,
            1 => ActorState::Running,
            2 => ActorState::Restarting,
            _ => ActorState::Failed,
        }
    }

    pub fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Messages sent and not handled, and what the actor holds of those that it took.
    pub fn queue_length(&self) -> i64 {
        self.queued.load(Ordering::Relaxed).max(0)
            + self.waiting.load(Ordering::Relaxed)
            + self.inbox.load(Ordering::Relaxed)
    }

    /// What waits beside the mailbox, and outlives it.
    pub(crate) fn set_inbox_length(&self, length: usize) {
        self.inbox.store(length as i64, Ordering::Relaxed);
    }

    /// The actor says what it has taken and not done yet, and how much it holds in memory.
    pub fn holds(&self, (waiting, entries): (usize, usize)) {
        self.waiting.store(waiting as i64, Ordering::Relaxed);
        self.entries.store(entries as i64, Ordering::Relaxed);
    }

    pub fn figures(&self) -> ActorFigures {
        ActorFigures {
            name: self.name.clone(),
            state: self.state().name(),
            queue: self.queue_length(),
            restarts: self.restarts(),
            devices: self.entries.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn enqueued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dequeued(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// The mailbox is gone with all that was in it.
    pub(crate) fn mailbox_lost(&self) {
        self.queued.store(0, Ordering::Relaxed);
        self.holds((0, 0));
    }

    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub fn record_error(&self, at: UtcMillis, error: impl Into<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, error.into()));
    }

    pub fn report(&self) -> ActorReport {
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ActorReport {
            name: self.name.clone(),
            state: self.state(),
            restarts: self.restarts(),
            queue_length: self.queue_length(),
            last_error_at: last_error.as_ref().map(|(at, _)| *at),
            last_error: last_error.map(|(_, error)| error),
        }
    }
}

/// All supervised actors of a server, in spawn order.
#[derive(Debug, Clone, Default)]
pub struct HealthBoard(Arc<Mutex<Vec<Arc<ActorHealth>>>>);

impl HealthBoard {
    pub fn add(&self, health: Arc<ActorHealth>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(health);
    }

    pub fn all(&self) -> Vec<Arc<ActorHealth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those whose name begins like that.
    pub fn figures(&self, name: &str) -> Vec<ActorFigures> {
        let all = self.all();
        all.iter().filter(|health| health.name.starts_with(name)).map(|health| health.figures()).collect()
    }

    pub fn all_running(&self) -> bool {
        self.all().iter().all(|health| health.state() == ActorState::Running)
    }
}
