//! What shards hand to the writer: batches and barriers, in the order in which they came.
//!
//! It is no mailbox, because a running job takes from it too: while there is work nobody has to be
//! woken up. It outlives the writer, as a mailbox outlives a guarded panic.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::messages::{Barrier, Wake, WriteBatch};
use crate::supervision::health::ActorHealth;
use crate::supervision::link::Link;

#[derive(Debug)]
pub enum Incoming {
    Batch(WriteBatch),
    Barrier(Barrier),
}

/// One per server. Bounded by the permits of what is in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
    wake: Link<Wake>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// For a job that lingers.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    incoming: VecDeque<Incoming>,
    /// Somebody has been told and will look until there is nothing.
    attended: bool,
    /// Whoever lingers, or is about to, shall look again.
    nudged: bool,
}

impl Inbox {
    /// `wake` leads to the writer.
    pub fn new(wake: Link<Wake>) -> Self {
        Self { shared: Arc::default(), wake }
    }

    /// One that wakes nobody, for whoever drives the writer's core without the actor.
    pub fn unattended() -> Self {
        Self::new(Link::new("batch-writer", ActorHealth::new("batch-writer")))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here can panic half way.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits. If there is no writer just now, the next one refuses it, which answers the receipts.
    pub fn batch(&self, batch: WriteBatch) {
        let told = {
            let mut queue = self.queue();
            queue.incoming.push_back(Incoming::Batch(batch));
            self.count(&queue);
            std::mem::replace(&mut queue.attended, true)
        };
        if told {
            self.shared.news.notify_one();
        } else {
            self.tell(Wake::Batch);
        }
    }

    /// Everything handed over before has been dealt with when it is answered. Only the writer's
    /// actor can do that, so it is always told.
    pub fn barrier(&self, barrier: Barrier) {
        {
            let mut queue = self.queue();
            queue.incoming.push_back(Incoming::Barrier(barrier));
            self.count(&queue);
            queue.attended = true;
        }
        self.tell(Wake::Barrier);
    }

    fn tell(&self, wake: Wake) {
        if self.wake.send(wake).is_err() {
            // A new writer begins with what is here. Until then everybody may try.
            self.queue().attended = false;
        }
    }

    /// Batches up to the first barrier.
    pub(super) fn take_batches(&self, mut each: impl FnMut(WriteBatch)) {
        let mut queue = self.queue();
        while let Some(incoming) = queue.incoming.pop_front() {
            match incoming {
                Incoming::Batch(batch) => each(batch),
                barrier => {
                    queue.incoming.push_front(barrier);
                    break;
                }
            }
        }
        self.count(&queue);
    }

    pub(super) fn take_all(&self) -> VecDeque<Incoming> {
        let mut queue = self.queue();
        let all = std::mem::take(&mut queue.incoming);
        self.count(&queue);
        all
    }

    /// Waits for a batch or a nudge for so long at most, and says whether to look again: not for what
    /// is behind a barrier, of which the actor has been told. Blocking.
    pub(super) fn linger(&self, limit: Duration) -> bool {
        let nothing = |queue: &mut Queue| queue.incoming.is_empty() && !queue.nudged;
        let mut queue = self.queue();
        if matches!(queue.incoming.front(), Some(Incoming::Barrier(_))) {
            return false;
        }
        queue.attended = true;
        let waited = self.shared.news.wait_timeout_while(queue, limit, nothing);
        let (mut queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.nudged = false;
        !waited.timed_out()
    }

    pub(super) fn nudge(&self) {
        self.queue().nudged = true;
        self.shared.news.notify_one();
    }

    /// True if whoever looks may stop looking: there is nothing, and the next to come is told of
    /// again; or a barrier, of which the actor has been told.
    pub(super) fn rest(&self) -> bool {
        let mut queue = self.queue();
        match queue.incoming.front() {
            None => {
                queue.attended = false;
                true
            }
            Some(incoming) => matches!(incoming, Incoming::Barrier(_)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue().incoming.is_empty()
    }

    fn count(&self, queue: &Queue) {
        self.wake.health().set_inbox_length(queue.incoming.len());
    }
}
