//! The one memory bound of the pipeline, and the promise that goes with it.
//!
//! A permit travels inside the message from admission to commit, so the bound holds through
//! `do_send`, cloned addresses and panics. Dropping what was not committed answers its receipt
//! with "not promised".

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::Span;

use crate::config::AdmissionConfig;
use crate::domain::ids::{AlertId, EventId};
use crate::telemetry::Metrics;
use crate::telemetry::ages::{Ages, Born, RESOLUTION};

/// Importance of a report, least first: at the limit the first are refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Vitals,
    Event,
    /// A critical event of a device that nobody is bound to.
    CriticalUnbound,
    CriticalBound,
}

impl Priority {
    pub fn is_critical(self) -> bool {
        self >= Priority::CriticalUnbound
    }

    pub fn name(self) -> &'static str {
        match self {
            Priority::Vitals => "vitals",
            Priority::Event => "event",
            Priority::CriticalUnbound => "critical_unbound",
            Priority::CriticalBound => "critical_bound",
        }
    }
}

/// Memory of admitted reports, in KiB, with a reserve for what is more important.
#[derive(Debug)]
pub struct PermitPool {
    used_kib: AtomicU64,
    /// How much may be used in all when a class asks, by [`Priority`].
    limits_kib: [u64; 4],
    /// When the permits were taken that have not come back.
    ages: Ages,
    /// Beyond it what is admitted would wait too long.
    wait_max: Duration,
    wait: WaitReading,
}

/// The age of the oldest, read anew at most once per step of the ages: it is asked for with every report.
#[derive(Debug)]
struct WaitReading {
    began: Instant,
    /// Step of the last reading.
    step: AtomicU64,
    too_long: AtomicBool,
}

/// No room for that class now: 503 and `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("the server is at its limit for {}", .0.name())]
    Memory(Priority),
    /// What was admitted earlier has waited for its commit longer than is allowed.
    #[error("what came before waits too long for the server to take more ({})", .0.name())]
    Wait(Priority),
}

impl Full {
    /// What it is counted under.
    pub fn name(self) -> &'static str {
        match self {
            Full::Memory(priority) => priority.name(),
            Full::Wait(_) => "wait",
        }
    }
}

impl PermitPool {
    pub fn new(config: &AdmissionConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        let capacity = u64::from(config.capacity_kib);
        let below = |reserve: u32| capacity - u64::from(reserve);
        let limits_kib = [
            below(config.reserve_above_vitals_kib),
            below(config.reserve_above_events_kib),
            below(config.reserve_above_unbound_kib),
            capacity,
        ];
        metrics.permits_max_kib.set(config.capacity_kib.into());
        let began = Instant::now();
        Arc::new(Self {
            used_kib: AtomicU64::new(0),
            limits_kib,
            ages: Ages::default(),
            wait_max: Duration::from_millis(config.wait_max_ms),
            wait: WaitReading { began, step: AtomicU64::new(0), too_long: AtomicBool::new(false) },
        })
    }

    /// Takes room for `bytes`, at least 1 KiB. Critical reports are taken however long others have waited:
    /// they overtake them.
    pub fn acquire(self: &Arc<Self>, priority: Priority, bytes: usize) -> Result<Permit, Full> {
        self.acquire_for(priority, bytes, Instant::now())
    }

    /// The same for what arrived at that moment.
    pub fn acquire_for(
        self: &Arc<Self>,
        priority: Priority,
        bytes: usize,
        arrived: Instant,
    ) -> Result<Permit, Full> {
        if !priority.is_critical() && self.waits_too_long(arrived) {
            return Err(Full::Wait(priority));
        }
        let weight_kib = (bytes as u64).div_ceil(1024).max(1);
        let limit = self.limits_kib[priority as usize];
        self.used_kib
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used + weight_kib <= limit).then_some(used + weight_kib)
            })
            .map_err(|_| Full::Memory(priority))?;
        Ok(Permit { pool: self.clone(), weight_kib, born: self.ages.come(arrived) })
    }

    fn waits_too_long(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.wait.began);
        // The first reading is not at step 0.
        let step = 1 + since.as_millis() as u64 / RESOLUTION.as_millis() as u64;
        // Whoever arrived before the last reading, and took long to be read, does not turn it back.
        if self.wait.step.fetch_max(step, Ordering::Relaxed) < step {
            self.wait.too_long.store(self.oldest(now) > self.wait_max, Ordering::Relaxed);
        }
        self.wait.too_long.load(Ordering::Relaxed)
    }

    /// Age of the oldest report that was admitted and has not committed, to 8 ms.
    pub fn oldest(&self, now: Instant) -> Duration {
        self.ages.oldest(now)
    }

    pub fn used_kib(&self) -> u64 {
        self.used_kib.load(Ordering::Acquire)
    }

    pub fn capacity_kib(&self) -> u64 {
        self.limits_kib[Priority::CriticalBound as usize]
    }
}

/// Room in the pool; gives it back when dropped.
#[derive(Debug)]
pub struct Permit {
    pool: Arc<PermitPool>,
    weight_kib: u64,
    born: Born,
}

impl Permit {
    pub fn weight_kib(&self) -> u64 {
        self.weight_kib
    }

    /// Splits off a part, so that each report of a body carries its own share. The shares of `n`
    /// calls with the same total add up to no more than the whole.
    pub fn split(&mut self, weight_kib: u64) -> Permit {
        let taken = weight_kib.min(self.weight_kib);
        self.weight_kib -= taken;
        self.pool.ages.come_with(self.born);
        Permit { pool: self.pool.clone(), weight_kib: taken, born: self.born }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.used_kib.fetch_sub(self.weight_kib, Ordering::AcqRel);
        self.pool.ages.go(self.born);
    }
}

/// How the promise about one report ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed (or was before: `duplicate`).
    Stored { event_id: Option<EventId>, alert_id: Option<AlertId>, duplicate: bool },
    /// It could not be read by the pipeline (a panic); a copy is in quarantine.
    Quarantined,
    /// It may or may not be stored later; the sender keeps its copy.
    NotPromised,
}

struct ReceiptInner {
    remaining: AtomicUsize,
    outcomes: Mutex<Vec<Outcome>>,
    done: Mutex<Option<oneshot::Sender<Vec<Outcome>>>>,
}

/// One report's share of its request's receipt. Dropped unanswered, it says "not promised".
pub struct Receipt {
    inner: Option<Arc<ReceiptInner>>,
    index: usize,
    span: Span,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({})", self.index)
    }
}

impl Receipt {
    /// Receipts for the `count` reports of one request, and what the handler awaits: it resolves
    /// when all have been answered, with the outcomes in order.
    pub fn for_request(count: usize) -> (Vec<Receipt>, oneshot::Receiver<Vec<Outcome>>) {
        let (done, receiver) = oneshot::channel();
        let inner = Arc::new(ReceiptInner {
            remaining: AtomicUsize::new(count),
            outcomes: Mutex::new(vec![Outcome::NotPromised; count]),
            done: Mutex::new(Some(done)),
        });
        let share = |index| Receipt { inner: Some(inner.clone()), index, span: Span::none() };
        let receipts = (0..count).map(share).collect();
        (receipts, receiver)
    }

    /// The trace of its report, from here to the answer.
    pub fn traced_by(&mut self, span: Span) {
        self.span = span;
    }

    /// Disabled if nobody traces it.
    pub fn span(&self) -> &Span {
        &self.span
    }

    pub fn answer(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        let Some(inner) = self.inner.take() else { return };
        // A poisoned lock only means that another thread panicked between two assignments.
        inner.outcomes.lock().unwrap_or_else(PoisonError::into_inner)[self.index] = outcome;
        if inner.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            let outcomes =
                std::mem::take(&mut *inner.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(done) = inner.done.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // The client may have gone; then nobody wants to know.
                let _ = done.send(outcomes);
            }
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.settle(Outcome::NotPromised);
    }
}

/// What a report carries with it until it has committed.
#[derive(Debug)]
pub struct Ticket {
    pub permit: Permit,
    pub receipt: Receipt,
    pub priority: Priority,
}

/// A value that was admitted.
#[derive(Debug)]
pub struct Admitted<T> {
    pub value: T,
    pub ticket: Ticket,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Arc<PermitPool> {
        let config = AdmissionConfig {
            capacity_kib: 10,
            reserve_above_vitals_kib: 6,
            reserve_above_events_kib: 4,
            reserve_above_unbound_kib: 2,
            wait_max_ms: 100,
            retry_after_s: 1,
        };
        PermitPool::new(&config, Arc::new(Metrics::register().0))
    }

    #[test]
    fn the_least_important_is_refused_first_and_room_comes_back() {
        let pool = pool();
        let held: Vec<Permit> =
            (0..4).map(|_| pool.acquire(Priority::Vitals, 1).expect("room for vitals")).collect();
        assert_eq!(pool.acquire(Priority::Vitals, 1).unwrap_err(), Full::Memory(Priority::Vitals));
        let event = pool.acquire(Priority::Event, 2048).expect("the reserve of events");
        assert_eq!(pool.acquire(Priority::Event, 1).unwrap_err(), Full::Memory(Priority::Event));
        let unbound = pool.acquire(Priority::CriticalUnbound, 2048).expect("the reserve of emergencies");
        assert!(pool.acquire(Priority::CriticalUnbound, 1).is_err());
        let bound = pool.acquire(Priority::CriticalBound, 2048).expect("the last reserve");
        assert!(pool.acquire(Priority::CriticalBound, 1).is_err());
        drop((held, event, unbound, bound));
        assert_eq!(pool.used_kib(), 0);
    }

    #[test]
    fn while_one_waits_too_long_only_the_critical_are_taken() {
        let pool = pool();
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let ask = |priority, ms| pool.acquire_for(priority, 1, at(ms)).map(drop);
        let slow = pool.acquire_for(Priority::Event, 1, begun).expect("room");
        assert_eq!(ask(Priority::Vitals, 80), Ok(()));
        assert_eq!(ask(Priority::Vitals, 150), Err(Full::Wait(Priority::Vitals)));
        assert_eq!(ask(Priority::Event, 151), Err(Full::Wait(Priority::Event)));
        assert_eq!(ask(Priority::CriticalUnbound, 151), Ok(()));
        assert_eq!(ask(Priority::CriticalBound, 5_000), Ok(()));
        drop(slow);
        assert_eq!(ask(Priority::Vitals, 5_020), Ok(()), "nothing waits any more");
    }

    #[test]
    fn a_report_that_took_long_to_be_read_does_not_take_newer_ones_for_old() {
        let pool = pool();
        let begun = Instant::now();
        let ask = |priority, ms: u64| {
            pool.acquire_for(priority, 1, begun + Duration::from_millis(ms)).map_err(|_| ms)
        };
        let newer = [1_000, 1_010, 1_020].map(|ms| ask(Priority::CriticalBound, ms).expect("room"));
        for ms in [990, 1_000, 1_005, 1_012, 100, 1_021] {
            drop(ask(Priority::Vitals, ms).expect("nothing waits too long"));
        }
        drop(newer);
    }

    #[test]
    fn splitting_a_permit_conserves_its_weight() {
        let pool = pool();
        let mut whole = pool.acquire(Priority::CriticalBound, 8 * 1024).expect("room");
        let parts: Vec<Permit> = (0..3).map(|_| whole.split(3)).collect();
        assert_eq!(parts.iter().map(Permit::weight_kib).collect::<Vec<_>>(), [3, 3, 2]);
        drop(whole);
        assert_eq!(pool.used_kib(), 8);
        let later = Instant::now() + Duration::from_secs(2);
        assert!(pool.oldest(later) >= Duration::from_millis(1_900), "they have been waiting since then");
        drop(parts);
        assert_eq!((pool.used_kib(), pool.oldest(later)), (0, Duration::ZERO));
    }

    #[test]
    fn a_receipt_counts_down_and_a_dropped_share_is_not_promised() {
        let (mut receipts, mut done) = Receipt::for_request(2);
        let stored = Outcome::Stored { event_id: None, alert_id: None, duplicate: false };
        receipts.remove(0).answer(stored);
        assert!(done.try_recv().is_err());
        drop(receipts);
        assert_eq!(done.try_recv().expect("both are answered"), [stored, Outcome::NotPromised]);
    }
}
