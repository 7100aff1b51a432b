//! What a device's state remembers of its own past: enough to know a duplicate without asking
//! the database, and to judge several samples in a row.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::identity::EventIdentity;
use super::ids::{AlertId, EventId};
use super::time::UtcMillis;
use super::vitals::{Metric, Metrics};

/// Event ids remembered per device, and as many by hash. More than a watch keeps in its ring of
/// 100 is not needed for its replays.
pub const EVENTS_MAX: usize = 128;
/// Samples remembered per device.
pub const SAMPLES_MAX: usize = 16;
/// Hashes of timeless records remembered per device: a watch replays at most 100 of them.
pub const HASHES_MAX: usize = 128;

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
/// What has not committed is here however old it is, because storage could not tell of it.
#[derive(Debug, Clone, Default)]
pub struct RecentEvents {
    /// Committed, by id. A third of what a tree of them takes.
    timed: VecDeque<(EventId, Option<AlertId>)>,
    timed_floor: Option<EventId>,
    hashed: HashMap<[u8; 32], (EventId, UtcMillis, SeenEvent)>,
    /// Arrival time up to which hashes may be missing.
    hashed_floor: Option<UtcMillis>,
    /// Not committed yet. Bounded by their permits.
    pending: HashMap<EventId, Pending>,
    pending_hashes: HashMap<[u8; 32], EventId>,
    /// Came when memory held as many newer ones; the last of them, in order of their commits. A
    /// read of storage that began before such a commit does not know of it.
    late: VecDeque<(EventId, SeenEvent)>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    hash: Option<([u8; 32], UtcMillis)>,
    seen: SeenEvent,
}

impl RecentEvents {
    pub fn lookup(&self, identity: &EventIdentity, now: UtcMillis) -> Lookup {
        if let Some(id) = identity.timed
            && let Some(seen) = self.by_id(id)
        {
            return Lookup::Duplicate { event_id: id, seen };
        }
        if let Some(hashed) = identity.hashed
            && let Some((id, first, seen)) = self.by_hash(&hashed.hash)
            && now.ms_since(first) < hashed.window_ms
        {
            return Lookup::Duplicate { event_id: id, seen };
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

    fn by_id(&self, id: EventId) -> Option<SeenEvent> {
        let pending = || self.pending.get(&id).map(|pending| pending.seen);
        let late = || self.late.iter().find(|(late, _)| *late == id).map(|(_, seen)| *seen);
        self.stored(id).or_else(pending).or_else(late)
    }

    fn stored(&self, id: EventId) -> Option<SeenEvent> {
        let at = self.timed.binary_search_by_key(&id, |(known, _)| *known).ok()?;
        Some(SeenEvent { alert_id: self.timed[at].1, committed: true })
    }

    fn by_hash(&self, hash: &[u8; 32]) -> Option<(EventId, UtcMillis, SeenEvent)> {
        // An event under way is newer than what is stored under the same hash.
        let pending = self.pending_hashes.get(hash).and_then(|id| {
            let pending = self.pending.get(id)?;
            Some((*id, pending.hash?.1, pending.seen))
        });
        pending.or_else(|| self.hashed.get(hash).copied())
    }

    /// Remembers an event; `hash` and arrival for one whose bytes are its identity.
    pub fn insert(&mut self, id: EventId, hash: Option<([u8; 32], UtcMillis)>, seen: SeenEvent) {
        if !seen.committed {
            if let Some((hash, _)) = hash {
                self.pending_hashes.insert(hash, id);
            }
            self.pending.insert(id, Pending { hash, seen });
            return;
        }
        if let Some((hash, arrival)) = hash {
            self.insert_hashed(hash, id, arrival, seen);
        }
        let at = match self.timed.binary_search_by_key(&id, |(known, _)| *known) {
            Ok(at) => {
                self.timed[at].1 = seen.alert_id;
                return;
            }
            Err(at) => at,
        };
        if self.timed.len() < EVENTS_MAX {
            self.timed.insert(at, (id, seen.alert_id));
        } else if at == 0 {
            self.timed_floor = self.timed_floor.max(Some(id));
            self.late.push_back((id, seen));
            if self.late.len() > EVENTS_MAX {
                self.late.pop_front();
            }
        } else {
            // The oldest goes first: the memory for one more would be twice as much.
            self.timed_floor = self.timed_floor.max(self.timed.pop_front().map(|(oldest, _)| oldest));
            self.timed.insert(at - 1, (id, seen.alert_id));
        }
    }

    fn insert_hashed(&mut self, hash: [u8; 32], id: EventId, arrival: UtcMillis, seen: SeenEvent) {
        // The same bytes after their window are another event; the newest one counts.
        if self.hashed.get(&hash).is_some_and(|(_, known, _)| *known > arrival) {
            return;
        }
        self.hashed.insert(hash, (id, arrival, seen));
        if self.hashed.len() > EVENTS_MAX
            && let Some((oldest, at)) =
                self.hashed.iter().min_by_key(|(_, (_, at, _))| *at).map(|(hash, (_, at, _))| (*hash, *at))
        {
            self.hashed.remove(&oldest);
            self.hashed_floor = self.hashed_floor.max(Some(at));
        }
    }

    /// Says that storage holds more than what has been inserted so far.
    pub fn mark_incomplete(&mut self, timed: bool, hashed: bool) {
        if timed {
            self.timed_floor = self.timed_floor.max(self.timed.front().map(|(id, _)| *id));
        }
        if hashed {
            self.hashed_floor = self.hashed_floor.max(self.hashed.values().map(|(_, at, _)| *at).min());
        }
    }

    /// The transaction of `id` has committed, with this alert.
    pub fn committed(&mut self, id: EventId, alert_id: Option<AlertId>) {
        let Some(Pending { hash, .. }) = self.pending.remove(&id) else { return };
        if let Some((hash, _)) = hash
            && self.pending_hashes.get(&hash) == Some(&id)
        {
            self.pending_hashes.remove(&hash);
        }
        self.insert(id, hash, SeenEvent { alert_id, committed: true });
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
        if self.by_hash.len() > HASHES_MAX {
            self.by_hash.remove(0);
        }
    }

    /// Where to store a timeless record that arrives now: one of its own, although a batch of
    /// them arrives at one time.
    pub fn free_time(&self, now: UtcMillis) -> UtcMillis {
        let last = self.by_hash.iter().map(|(_, at)| *at).max();
        last.map_or(now, |last| now.max(last.saturating_add_ms(1)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn timed(id: EventId) -> EventIdentity {
        EventIdentity { timed: Some(id), hashed: None, new_id: id, new_hash: None }
    }

    /// Ids from 1 to 512 in an order that meets each once, or twice with another alert.
    fn ids() -> impl Iterator<Item = (EventId, Option<AlertId>)> {
        (0..1024u64).map(|n| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(n * 387 % 512 + 1).to_be_bytes());
            (EventId(id), (n % 3 == 0).then_some(AlertId(n as i64)))
        })
    }

    #[test]
    fn the_newest_ids_are_known_with_their_alert_and_below_them_storage_is_asked() {
        let mut recent = RecentEvents::default();
        // The newest of all that came.
        let mut model = BTreeMap::new();
        for (id, alert_id) in ids() {
            recent.insert(id, None, SeenEvent { alert_id, committed: true });
            model.insert(id, alert_id);
            let newest: BTreeMap<_, _> = model.iter().rev().take(EVENTS_MAX).collect();
            for (known, alert_id) in newest {
                let seen = SeenEvent { alert_id: *alert_id, committed: true };
                assert_eq!(
                    recent.lookup(&timed(*known), UtcMillis(0)),
                    Lookup::Duplicate { event_id: *known, seen }
                );
            }
            if model.len() > EVENTS_MAX {
                assert_eq!(recent.lookup(&timed(EventId([0; 16])), UtcMillis(0)), Lookup::AskStorage);
            }
            let unseen = EventId([255; 16]);
            assert_eq!(recent.lookup(&timed(unseen), UtcMillis(0)), Lookup::New);
        }
        assert_eq!((recent.timed.len(), recent.timed.capacity()), (EVENTS_MAX, EVENTS_MAX));
        assert_eq!(recent.late.len(), EVENTS_MAX, "bounded too");
    }
}
