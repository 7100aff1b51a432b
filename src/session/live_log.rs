//! Follows the log of alert changes: what is open, and the recent changes, up to one offset.
//!
//! Changes come in two ways that may overlap: published by the writer (a hint), and read from
//! storage because a hint was lost. Offsets decide: only `last + 1` is ever applied.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::open_alerts::OpenAlerts;
use super::registry::Limits;
use super::ring::{Frame, Ring};
use crate::domain::alert::LoggedChange;
use crate::domain::ids::{AlertId, Offset};
use crate::storage::alert_log::OpenSnapshot;

/// A hint that is this late is looked for in storage. Usually it is only behind in the mailbox.
pub const HINT_GRACE: Duration = Duration::from_millis(20);

/// A read that the log wants. At most one is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRead {
    /// Open alerts and last offset, to start from.
    Load { limit: usize },
    /// Changes that no hint brought.
    CatchUp { after: Offset, until: Offset, limit: usize },
    /// Open alerts that were left out while there were too many.
    Refill { limit: usize },
}

/// Why a read brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFailure {
    /// Worth another attempt.
    Unavailable,
    /// A row is not readable: no attempt will get past it.
    Unreadable,
}

#[derive(Debug)]
pub struct LiveLog {
    limits: Limits,
    /// False until storage has been read.
    loaded: bool,
    under_way: Option<LogRead>,
    wanted: Option<LogRead>,
    pub(super) open: OpenAlerts,
    pub(super) ring: Ring,
    /// Published changes that wait for a read to fill the hole before them.
    early: BTreeMap<Offset, LoggedChange>,
    /// Largest offset known to have committed.
    committed: Offset,
    behind_since: Option<Instant>,
    /// With fewer open alerts than this, it is worth looking for those that were left out.
    refill_below: usize,
}

impl LiveLog {
    pub fn new(limits: Limits) -> Self {
        Self {
            loaded: false,
            under_way: None,
            wanted: None,
            open: OpenAlerts::new(limits.snapshot_alerts_max, false),
            ring: Ring::new(0, limits.ring_changes, limits.ring_bytes),
            early: BTreeMap::new(),
            committed: 0,
            behind_since: None,
            refill_below: 0,
            limits,
        }
    }

    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    pub fn last(&self) -> Offset {
        self.ring.last()
    }

    /// The read to begin now, if any. Its end must be reported.
    pub fn take_read(&mut self) -> Option<LogRead> {
        let read = self.wanted.take()?;
        self.under_way = Some(read);
        Some(read)
    }

    fn is_reading(&self) -> bool {
        self.under_way.is_some() || self.wanted.is_some()
    }

    /// Starts anew from what is open.
    pub fn load(&mut self) {
        self.loaded = false;
        if !self.is_reading() {
            self.wanted = Some(LogRead::Load { limit: self.limits.snapshot_alerts_max });
        }
    }

    /// A failed load is tried again with the next [`LiveLog::reconcile`].
    pub fn loaded(&mut self, result: Result<OpenSnapshot, ReadFailure>) {
        self.under_way = None;
        let Ok(snapshot) = result else { return };
        self.loaded = true;
        self.behind_since = None;
        self.committed = self.committed.max(snapshot.last_offset);
        self.ring = Ring::new(snapshot.last_offset, self.limits.ring_changes, self.limits.ring_bytes);
        self.open = OpenAlerts::new(self.limits.snapshot_alerts_max, snapshot.truncated);
        self.refill_below = self.limits.snapshot_alerts_max / 4 * 3;
        for alert in snapshot.alerts {
            self.open.apply(Arc::new(alert));
        }
        self.apply_early();
        self.catch_up();
    }

    /// Changes from the writer, in order; none says that only the watermark has moved.
    pub fn publish(&mut self, changes: Vec<LoggedChange>, committed: Offset, now: Instant) {
        let only_a_watermark = changes.is_empty();
        for change in changes {
            self.committed = self.committed.max(change.offset);
            if self.loaded && change.offset == self.last() + 1 {
                self.apply(&change);
            } else if (!self.loaded || change.offset > self.last())
                && self.early.len() < self.limits.early_changes
            {
                self.early.insert(change.offset, change);
            }
        }
        self.apply_early();
        self.observe(committed, now);
        if only_a_watermark || !self.early.is_empty() {
            self.catch_up();
        }
    }

    /// Compares with the writer's watermark.
    pub fn observe(&mut self, committed: Offset, now: Instant) {
        self.committed = self.committed.max(committed);
        if self.committed <= self.last() {
            self.behind_since = None;
        } else if now.saturating_duration_since(*self.behind_since.get_or_insert(now)) >= HINT_GRACE {
            self.catch_up();
        }
    }

    /// The same without further waiting, and what else is due from time to time.
    pub fn reconcile(&mut self, committed: Offset) {
        self.committed = self.committed.max(committed);
        if !self.loaded {
            return self.load();
        }
        self.catch_up();
        if !self.is_reading() && self.open.is_truncated() && self.open.len() < self.refill_below {
            self.wanted = Some(LogRead::Refill { limit: self.limits.snapshot_alerts_max });
        }
    }

    fn catch_up(&mut self) {
        if self.is_reading() || !self.loaded || self.committed <= self.last() {
            return;
        }
        let until = self.early.first_key_value().map_or(self.committed, |(offset, _)| offset - 1);
        self.wanted = Some(LogRead::CatchUp { after: self.last(), until, limit: self.limits.read_changes });
    }

    pub fn caught_up(&mut self, result: Result<Vec<LoggedChange>, ReadFailure>) {
        let before = self.last();
        let asked_until = match self.under_way.take() {
            Some(LogRead::CatchUp { until, .. }) => until,
            _ => before,
        };
        match result {
            Ok(changes) => {
                for change in &changes {
                    if change.offset == self.last() + 1 {
                        self.apply(change);
                    }
                }
                self.apply_early();
                // The log has no holes. If it shows one nevertheless, go on from what is open.
                if self.last() == before && before < asked_until { self.load() } else { self.catch_up() }
            }
            Err(ReadFailure::Unreadable) if self.last() < asked_until => self.load(),
            Err(_) => {}
        }
    }

    /// Takes in alerts that had been left out, unless they have changed since they were read.
    pub fn refilled(&mut self, result: Result<OpenSnapshot, ReadFailure>) {
        self.under_way = None;
        if let Ok(snapshot) = result
            && let Some(changes) = self.ring.after(snapshot.last_offset)
        {
            let changed: HashSet<AlertId> = changes.map(|frame| frame.alert_id).collect();
            self.open.set_truncated(snapshot.truncated);
            for alert in snapshot.alerts {
                if !changed.contains(&alert.alert_id) {
                    self.open.apply(Arc::new(alert));
                }
            }
            self.refill_below = self.open.len() / 4 * 3;
        }
        self.catch_up();
    }

    fn apply(&mut self, change: &LoggedChange) {
        self.open.apply(change.alert.clone());
        self.ring.push(Frame::new(change));
        self.behind_since = None;
    }

    fn apply_early(&mut self) {
        while self.loaded
            && let Some(entry) = self.early.first_entry()
            && *entry.key() <= self.ring.last() + 1
        {
            let change = entry.remove();
            if change.offset == self.last() + 1 {
                self.apply(&change);
            }
        }
    }
}
