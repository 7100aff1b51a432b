//! The ring guard: keeps a watch from throwing away events that it never sent.
//!
//! A watch keeps unsent events in a ring and clears the *whole* ring when one live upload gets 200, so
//! an SOS that waits there after a gap in coverage is lost by the watch. With the guard, a live event
//! of an armed watch is stored and alerted as ever and then answered 503. The watch keeps its ring and
//! replays it, oldest first, within 120 s; replays get 200, and only a replay that went through to
//! its end clears the ring.
//!
//! Live is what was not stored before and whose device time is no older than [`LIVE_WITHIN_MS`], by
//! the watch's own clock as learned from what it has sent. Everything here is a guess about the other
//! side; a wrong one costs a watch a second upload, never a stored event.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cached::{Cached, LruCache};

use crate::domain::event::{DeviceReport, ReportBody};
use crate::domain::ids::{DeviceSn, EventId};
use crate::domain::time::UtcMillis;

/// An event that is older on arrival comes from a ring.
pub const LIVE_WITHIN_MS: i64 = 30_000;
/// A watch stays armed for at most this long after its last reason.
pub const ARMED_FOR_MS: i64 = 600_000;
/// The smallest delay of a watch counts for one to two of these.
const DELAY_WINDOW_MS: i64 = 600_000;
/// Guarded events remembered per watch: more than its ring holds.
const GUARDED_MAX: usize = 128;

/// One per server. Knows a bounded number of watches; of those that it forgets it believes that
/// they were silent.
#[derive(Debug)]
pub struct RingGuard {
    silence_ms: i64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    watches: LruCache<DeviceSn, Watch>,
    /// When a reason came up that may concern every watch.
    all_armed_at: Option<UtcMillis>,
}

/// A single event as the guard sees it before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    device_sn: DeviceSn,
    occurred_at: UtcMillis,
}

#[derive(Debug, Default)]
struct Watch {
    heard_at: Option<UtcMillis>,
    armed_at: Option<UtcMillis>,
    /// When a replay of it was last complete.
    replayed_at: Option<UtcMillis>,
    delay: SmallestDelay,
    /// Answered 503 and not replayed yet, oldest first.
    guarded: Vec<EventId>,
}

impl RingGuard {
    /// Arms a watch that was silent for `silence_ms`; 0 guards every live event. Remembers
    /// `watches_max` watches. `known_data`: watches may hold what they could not send before this
    /// start.
    pub fn new(silence_ms: i64, watches_max: usize, known_data: bool, now: UtcMillis) -> Self {
        let inner =
            Inner { watches: LruCache::new(watches_max.max(1)), all_armed_at: known_data.then_some(now) };
        Self { silence_ms, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Poisoned only by a panic between two assignments, which leaves a guess, not a fault.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a sign of life: a poll, a body that was read.
    pub fn heard(&self, device: &DeviceSn, now: UtcMillis) {
        let silence_ms = self.silence_ms;
        self.inner().watch(device).heard(now, silence_ms);
    }

    /// Takes note of the reports of one body and their clocks. Answers what there is to guard: the
    /// body of a watch with a ring is a single event, and has a time.
    pub fn received(&self, reports: &[DeviceReport], now: UtcMillis) -> Option<Candidate> {
        let mut inner = self.inner();
        for report in reports {
            let watch = inner.watch(&report.device_sn);
            watch.heard(now, self.silence_ms);
            if let Some(at) = time_of(report) {
                watch.delay.learn(now.ms_since(at), now);
            }
        }
        match reports {
            [DeviceReport { device_sn, body: ReportBody::Event(event), .. }] => {
                let occurred_at = event.time.at()?.utc;
                Some(Candidate { device_sn: device_sn.clone(), occurred_at })
            }
            _ => None,
        }
    }

    /// Whether an event that has been stored is to be answered 503 all the same.
    pub fn holds(&self, event: &Candidate, event_id: EventId, duplicate: bool, now: UtcMillis) -> bool {
        let mut inner = self.inner();
        let all_armed_at = inner.all_armed_at;
        let watch = inner.watch(&event.device_sn);
        if duplicate {
            watch.replayed(event_id, now);
            return false;
        }
        let is_live = now.ms_since(event.occurred_at) - watch.delay.smallest(now) <= LIVE_WITHIN_MS;
        if !is_live || !watch.is_armed(all_armed_at, now) {
            return false;
        }
        if watch.guarded.len() >= GUARDED_MAX {
            watch.guarded.remove(0);
        }
        watch.guarded.push(event_id);
        true
    }

    /// A body of these devices was answered 503, or not in time: they keep what was in it.
    pub fn refused<'a>(&self, devices: impl IntoIterator<Item = &'a DeviceSn>, now: UtcMillis) {
        let mut inner = self.inner();
        for device in devices {
            inner.watch(device).armed_at = Some(now);
        }
    }

    /// A body was answered 503 before anybody knew whose it was.
    pub fn refused_unread(&self, now: UtcMillis) {
        self.inner().all_armed_at = Some(now);
    }
}

impl Inner {
    fn watch(&mut self, device: &DeviceSn) -> &mut Watch {
        self.watches.cache_get_or_set_with_mut(device.clone(), Watch::default)
    }
}

impl Watch {
    /// Whatever ends a silence arms it, not only an event: polls and device posts come first.
    fn heard(&mut self, now: UtcMillis, silence_ms: i64) {
        if self.heard_at.is_none_or(|last| now.ms_since(last) >= silence_ms) {
            self.armed_at = Some(now);
        }
        self.heard_at = Some(now);
    }

    /// A clock that was turned back does not arm it for longer.
    fn is_armed(&self, all_armed_at: Option<UtcMillis>, now: UtcMillis) -> bool {
        let reason = self.armed_at.max(all_armed_at);
        let replayed_since = self.replayed_at > reason;
        reason.is_some_and(|at| now.ms_since(at).abs() < ARMED_FOR_MS) && !replayed_since
    }

    fn replayed(&mut self, event_id: EventId, now: UtcMillis) {
        let before = self.guarded.len();
        self.guarded.retain(|id| *id != event_id);
        // A replay stops at its first failure, so the last of them tells that all got through.
        if before > 0 && self.guarded.is_empty() {
            self.replayed_at = Some(now);
        }
    }
}

/// How far behind the server's a watch's clock seems to be: the smallest delay of late, since what
/// waits in a ring is only ever later. Milliseconds; negative if its clock is ahead.
#[derive(Debug, Default)]
struct SmallestDelay {
    /// Number of the present window, and the smallest in it.
    present: Option<(i64, i64)>,
    /// The smallest in the window before.
    before: Option<i64>,
}

impl SmallestDelay {
    fn learn(&mut self, delay_ms: i64, now: UtcMillis) {
        let window = now.0.div_euclid(DELAY_WINDOW_MS);
        self.present = Some(match self.present {
            Some((known, smallest)) if known == window => (window, smallest.min(delay_ms)),
            Some((known, smallest)) => {
                self.before = (known + 1 == window).then_some(smallest);
                (window, delay_ms)
            }
            None => (window, delay_ms),
        });
    }

    /// Zero if nothing is known: clocks are right until they show otherwise.
    fn smallest(&self, now: UtcMillis) -> i64 {
        let window = now.0.div_euclid(DELAY_WINDOW_MS);
        let Some((known, smallest)) = self.present else { return 0 };
        match self.before.filter(|_| known == window) {
            Some(before) => smallest.min(before),
            None => smallest,
        }
    }
}

/// The device time of a report, if it has one.
fn time_of(report: &DeviceReport) -> Option<UtcMillis> {
    match &report.body {
        ReportBody::Event(event) => event.time.at().map(|time| time.utc),
        ReportBody::Vitals(sample) => sample.time.map(|time| time.utc),
        ReportBody::Status(status) => status.time.map(|time| time.utc),
    }
}
