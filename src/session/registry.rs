//! The registry's core: the log as it is followed, and the audience that it is shown to. No actix,
//! no I/O, no clock.

use std::sync::Arc;
use std::time::Instant;

use super::audience::{Audience, ReplayRead};
use super::delivery::{SessionId, Subscription, ToSession};
use super::interest::Interest;
use super::live_log::{LiveLog, LogRead, ReadFailure};
use super::messages::VitalsUpdate;
use super::open_alerts::OpenCounts;
use super::pending::PendingList;
use crate::config::SessionConfig;
use crate::domain::alert::LoggedChange;
use crate::domain::ids::Offset;
use crate::domain::owner::Scope;
use crate::storage::alert_log::OpenSnapshot;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub ring_changes: usize,
    pub ring_bytes: usize,
    pub snapshot_alerts_max: usize,
    pub resume_changes_max: usize,
    /// One hand-over to one session, and one read for a session that resumes.
    pub slice_frames: usize,
    pub slice_bytes: usize,
    /// One read of changes that no hint brought.
    pub read_changes: usize,
    /// Published changes that wait for a read to fill the hole before them.
    pub early_changes: usize,
}

impl From<&SessionConfig> for Limits {
    fn from(config: &SessionConfig) -> Self {
        Self {
            ring_changes: config.ring_changes,
            ring_bytes: 64 * 1024 * 1024,
            snapshot_alerts_max: config.snapshot_alerts_max,
            resume_changes_max: config.resume_changes_max,
            slice_frames: 256,
            slice_bytes: 256 * 1024,
            read_changes: 512,
            early_changes: 10_000,
        }
    }
}

/// What the shell shall do.
#[derive(Debug)]
pub enum Effect {
    Tell(SessionId, ToSession),
    ReadLog(LogRead),
    ReadReplay(ReplayRead),
}

#[derive(Debug)]
pub struct Registry {
    log: LiveLog,
    audience: Audience,
}

impl Registry {
    /// Wants to read at once; until it has, requests wait, at most one of each session.
    pub fn new(limits: Limits, epoch: Arc<str>) -> Self {
        let mut log = LiveLog::new(limits);
        log.load();
        Self { log, audience: Audience::new(limits, epoch) }
    }

    pub fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self
            .audience
            .take_messages()
            .into_iter()
            .map(|(session, message)| Effect::Tell(session, message))
            .collect();
        effects.extend(self.log.take_read().map(Effect::ReadLog));
        effects.extend(self.audience.take_read().map(Effect::ReadReplay));
        effects
    }

    pub fn interest(&mut self) -> &mut Interest {
        &mut self.audience.interest
    }

    /// Offset of the newest change that it holds.
    pub fn last(&self) -> Offset {
        self.log.last()
    }

    pub fn open_alerts(&self) -> usize {
        self.log.open.len()
    }

    pub fn open_counts(&self) -> &OpenCounts {
        self.log.open.counts()
    }

    /// Changes that the slowest session has not been given yet.
    pub fn slowest_behind(&self) -> Offset {
        self.audience.slowest_behind(self.log.last())
    }

    pub fn publish(&mut self, changes: Vec<LoggedChange>, committed: Offset, now: Instant) {
        self.follow(|log| log.publish(changes, committed, now));
    }

    /// Compares with the writer's watermark; called with every message.
    pub fn observe(&mut self, committed: Offset, now: Instant) {
        self.log.observe(committed, now);
    }

    pub fn reconcile(&mut self, committed: Offset) {
        self.log.reconcile(committed);
        self.audience.take_up(&self.log);
    }

    /// The end of a [`LogRead::Load`] or [`LogRead::Refill`].
    pub fn open_read(&mut self, read: LogRead, result: Result<OpenSnapshot, ReadFailure>) {
        if matches!(read, LogRead::Refill { .. }) {
            return self.log.refilled(result);
        }
        self.log.loaded(result);
        if self.log.is_loaded() {
            self.audience.loaded(&self.log);
        }
    }

    /// The end of a [`LogRead::CatchUp`].
    pub fn caught_up(&mut self, result: Result<Vec<LoggedChange>, ReadFailure>) {
        self.follow(|log| log.caught_up(result));
    }

    /// The end of a [`ReplayRead`].
    pub fn replayed(&mut self, read: ReplayRead, result: Result<Vec<LoggedChange>, ReadFailure>) {
        self.audience.replayed(&self.log, read, result);
    }

    fn follow(&mut self, change: impl FnOnce(&mut LiveLog)) {
        let before = self.log.last();
        change(&mut self.log);
        if self.log.last() != before {
            self.audience.deliver_all(&self.log);
        }
    }

    pub fn enter(&mut self, session: SessionId, scope: Scope) {
        self.audience.enter(&self.log, session, scope);
    }

    pub fn subscribe(&mut self, session: SessionId, subscription: Subscription) {
        self.audience.subscribe(&self.log, session, subscription);
    }

    pub fn pull(&mut self, session: SessionId, serial: u64) {
        self.audience.pull(&self.log, session, serial);
    }

    /// True if there is more for a session as soon as it has written what it has.
    pub fn wants_pulls(&self) -> bool {
        self.audience.wants_pulls(self.log.last())
    }

    pub fn leave(&mut self, session: SessionId) {
        self.audience.leave(session);
    }

    /// What is acknowledged and not stored, as it is now; called with every message. What has been stored
    /// comes as a change first.
    pub fn pending(&mut self, list: PendingList, committed: Offset) {
        if self.log.is_loaded() && self.log.last() >= committed {
            self.audience.pending(&self.log, list);
        }
    }

    pub fn vitals(&mut self, update: VitalsUpdate) {
        self.audience.vitals(update);
    }
}
