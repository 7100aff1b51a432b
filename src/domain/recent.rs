//! What a device's state remembers of its own past: enough to know a duplicate without asking
//! the database, and to judge several samples in a row.

use std::collections::{BTreeMap, HashMap};

use super::identity::EventIdentity;
use super::ids::{AlertId, EventId};
use super::time::UtcMillis;
use super::vitals::{Metric, Metrics};

/// Event ids remembered per device, and as many by hash. More than a watch keeps in its ring of
/// 100 is not needed for its replays.
pub const EVENTS_MAX: usize = 128;
/// Samples remembered per device.
pub const SAMPLES_MAX: usize = 16;

/// An event that the shard has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEvent {
    pub alert_id: Option<AlertId>,
    /// False while its transaction has not committed: a duplicate waits for it.
    pub committed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    New,
    Duplicate {
        event_id: EventId,
        seen: SeenEvent,
    },
    /// Older than what is remembered: one indexed read decides.
    AskStorage,
}

/// The newest event ids of a device.
///
/// Ids begin with their time, so the newest by id are known to be complete down to the smallest
/// one that was ever dropped or not loaded: above that floor, what is not here does not exist.
#[derive(Debug, Clone, Default)]
pub struct RecentEvents {
    timed: BTreeMap<EventId, SeenEvent>,
    timed_floor: Option<EventId>,
    hashed: HashMap<[u8; 32], (EventId, UtcMillis, SeenEvent)>,
    /// Arrival time up to which hashes may be missing.
    hashed_floor: Option<UtcMillis>,
}

impl RecentEvents {
    pub fn lookup(&self, identity: &EventIdentity, now: UtcMillis) -> Lookup {
        if let Some(id) = identity.timed
            && let Some(seen) = self.timed.get(&id)
        {
            return Lookup::Duplicate { event_id: id, seen: *seen };
        }
        if let Some(hashed) = identity.hashed
            && let Some((id, first, seen)) = self.hashed.get(&hashed.hash)
            && now.ms_since(*first) < hashed.window_ms
        {
            return Lookup::Duplicate { event_id: *id, seen: *seen };
        }
        let below_timed = match (identity.timed, self.timed_floor) {
            (Some(id), Some(floor)) => id <= floor,
            _ => false,
        };
        let below_hashed = match (identity.hashed, self.hashed_floor) {
            (Some(hashed), Some(floor)) => now.ms_since(floor) < hashed.window_ms,
            _ => false,
        };
        if below_timed || below_hashed { Lookup::AskStorage } else { Lookup::New }
    }

    /// Remembers an event; `hash` and arrival for one whose bytes are its identity.
    pub fn insert(&mut self, id: EventId, hash: Option<([u8; 32], UtcMillis)>, seen: SeenEvent) {
        if let Some((hash, arrival)) = hash {
            self.hashed.insert(hash, (id, arrival, seen));
            if self.hashed.len() > EVENTS_MAX
                && let Some((oldest, at)) = self
                    .hashed
                    .iter()
                    .min_by_key(|(_, (_, at, _))| *at)
                    .map(|(hash, (_, at, _))| (*hash, *at))
            {
                self.hashed.remove(&oldest);
                self.hashed_floor = self.hashed_floor.max(Some(at));
            }
        }
        self.timed.insert(id, seen);
        if self.timed.len() > EVENTS_MAX
            && let Some((oldest, _)) = self.timed.pop_first()
        {
            self.timed_floor = self.timed_floor.max(Some(oldest));
        }
    }

    /// Says that storage holds more than what has been inserted so far.
    pub fn mark_incomplete(&mut self, timed: bool, hashed: bool) {
        if timed {
            self.timed_floor = self.timed_floor.max(self.timed.first_key_value().map(|(id, _)| *id));
        }
        if hashed {
            self.hashed_floor = self.hashed_floor.max(self.hashed.values().map(|(_, at, _)| *at).min());
        }
    }

    /// The transaction of `id` has committed, with this alert.
    pub fn committed(&mut self, id: EventId, alert_id: Option<AlertId>) {
        let now_seen = SeenEvent { alert_id, committed: true };
        if let Some(seen) = self.timed.get_mut(&id) {
            *seen = now_seen;
        }
        for (other, _, seen) in self.hashed.values_mut() {
            if *other == id {
                *seen = now_seen;
            }
        }
    }
}

/// One remembered sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub metrics: Metrics,
    /// False if the watch was off the wrist: such samples count for nothing.
    pub worn: bool,
}

/// The newest samples of a device, by device time.
#[derive(Debug, Clone, Default)]
pub struct RecentSamples {
    by_time: BTreeMap<UtcMillis, Sample>,
    /// Samples at or before this may be missing.
    floor: Option<UtcMillis>,
    /// Hashes of timeless records with the time that they were stored under.
    by_hash: Vec<([u8; 32], UtcMillis)>,
}

impl RecentSamples {
    /// Merges a sample under its time. Returns the metrics that were empty before, which are the
    /// only ones that may advance a streak, or `None` if it is too old to be judged.
    pub fn merge(&mut self, at: UtcMillis, sample: Sample) -> Option<Metrics> {
        if self.floor.is_some_and(|floor| at <= floor) {
            return None;
        }
        let fresh = match self.by_time.get_mut(&at) {
            None => {
                self.by_time.insert(at, sample);
                sample.metrics
            }
            Some(known) => {
                let mut fresh = Metrics::default();
                for (metric, value) in sample.metrics.iter() {
                    if known.metrics.get(metric).is_none() {
                        fresh.set(metric, value);
                    }
                }
                known.metrics.fill_from(&sample.metrics);
                fresh
            }
        };
        if self.by_time.len() > SAMPLES_MAX
            && let Some((oldest, _)) = self.by_time.pop_first()
        {
            self.floor = Some(oldest);
            if oldest == at {
                return None;
            }
        }
        Some(fresh)
    }

    pub fn mark_incomplete(&mut self) {
        self.floor = self.floor.max(self.by_time.first_key_value().map(|(at, _)| *at));
    }

    /// Values of `metric` while worn, newest first, from the newest sample down.
    pub fn worn_values(&self, metric: Metric) -> impl Iterator<Item = (UtcMillis, f64)> + '_ {
        self.by_time
            .iter()
            .rev()
            .filter(|(_, sample)| sample.worn)
            .filter_map(move |(at, sample)| Some((*at, sample.metrics.get(metric)?)))
    }

    /// The newest heart rate before `at`, worn or not.
    pub fn heart_rate_before(&self, at: UtcMillis) -> Option<f64> {
        self.by_time.range(..at).rev().find_map(|(_, sample)| sample.metrics.get(Metric::HeartRate))
    }

    /// Where a timeless record with this hash was stored, if less than `window_ms` ago.
    pub fn stored_by_hash(&self, hash: &[u8; 32], now: UtcMillis, window_ms: i64) -> Option<UtcMillis> {
        self.by_hash
            .iter()
            .find(|(other, at)| other == hash && now.ms_since(*at) < window_ms)
            .map(|(_, at)| *at)
    }

    pub fn remember_hash(&mut self, hash: [u8; 32], at: UtcMillis) {
        self.by_hash.retain(|(other, _)| *other != hash);
        self.by_hash.push((hash, at));
        if self.by_hash.len() > SAMPLES_MAX {
            self.by_hash.remove(0);
        }
    }
}
