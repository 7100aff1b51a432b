//! Inbox and lanes as the writer and its running job share them: the job takes the next batch itself,
//! so that between two transactions nobody has to be woken up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::inbox::{Inbox, Incoming};
use super::lanes::{Lanes, Queued};
use super::messages::Barrier;
use crate::config::WriterConfig;

/// One per writer. Its lock is held for moments only, and never across a transaction.
#[derive(Debug, Clone)]
pub struct Backlog {
    shared: Arc<Mutex<Shared>>,
    inbox: Inbox,
}

#[derive(Debug)]
struct Shared {
    lanes: Lanes,
    /// The running job shall end with the batch that it has: something else is to be done.
    paused: bool,
    /// Items handed out so far.
    taken: u64,
}

impl Backlog {
    pub fn new(lanes: Lanes, inbox: Inbox) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { lanes, paused: false, taken: 0 })), inbox }
    }

    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // What panics in there is a fault of the lanes, and ends the writer anyway.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn with<T>(&self, use_lanes: impl FnOnce(&mut Lanes) -> T) -> T {
        use_lanes(&mut self.shared().lanes)
    }

    /// Lets a running job go on, or not.
    pub fn pause(&self, paused: bool) {
        let look = {
            let mut shared = self.shared();
            shared.paused = paused;
            paused || !shared.lanes.is_empty()
        };
        if look {
            self.inbox.nudge();
        }
    }

    /// Moves the inbox into the lanes, where each barrier has its place in the order. Only its answer
    /// has to wait.
    pub fn take_in(&self) -> Vec<Barrier> {
        let (mut barriers, mut refused) = (Vec::new(), Vec::new());
        let mut shared = self.shared();
        for incoming in self.inbox.take_all() {
            match incoming {
                Incoming::Batch(batch) => refused.extend(shared.lanes.push(batch)),
                Incoming::Barrier(barrier) => {
                    shared.lanes.accept(barrier.shard, barrier.devices.as_deref());
                    barriers.push(barrier);
                }
            }
        }
        // Dropping what is refused answers its receipts: not while others wait.
        drop(shared);
        drop(refused);
        barriers
    }

    /// The next batch, for which it lingers; nothing while it is paused.
    fn next(&self, rows_max: usize, bytes_max: usize, linger: Duration) -> Vec<Queued> {
        let mut refused = Vec::new();
        let mut may_linger = !linger.is_zero();
        loop {
            let mut shared = self.shared();
            if shared.paused {
                return Vec::new();
            }
            self.inbox.take_batches(|batch| refused.extend(shared.lanes.push(batch)));
            let batch = shared.lanes.take(rows_max, bytes_max);
            shared.taken += batch.len() as u64;
            drop(shared);
            if !batch.is_empty() {
                return batch;
            }
            // What is refused is told so before.
            refused.clear();
            if may_linger {
                may_linger = self.inbox.linger(linger);
            } else if self.inbox.rest() {
                return batch;
            }
        }
    }

    /// Items handed out so far.
    pub fn taken(&self) -> u64 {
        self.shared().taken
    }
}

/// Where a job finds what to do after its own batch.
#[derive(Debug, Clone)]
pub struct More {
    pub backlog: Backlog,
    pub rows_max: usize,
    pub bytes_max: usize,
    /// Where nothing waits: so long is waited for more.
    pub linger: Duration,
}

impl More {
    pub fn new(backlog: &Backlog, config: &WriterConfig) -> Self {
        Self {
            backlog: backlog.clone(),
            rows_max: config.batch_rows,
            bytes_max: config.batch_bytes,
            linger: Duration::from_millis(config.linger_ms),
        }
    }

    /// What is there.
    pub fn take(&self) -> Vec<Queued> {
        self.backlog.next(self.rows_max, self.bytes_max, Duration::ZERO)
    }

    /// Waits if there is nothing. Blocking.
    pub fn linger(&self) -> Vec<Queued> {
        self.backlog.next(self.rows_max, self.bytes_max, self.linger)
    }
}
