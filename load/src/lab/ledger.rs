//! The book of a run: what was answered how, and how fast.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::request::{Key, Kind};
use crate::stats::Latencies;

/// A critical event that was answered 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promised {
    pub key: Key,
    pub event_id: u128,
    /// When it was due, nanoseconds since the start of the run.
    pub due_ns: u64,
    pub phase: u8,
}

/// Why there is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// 503: not promised.
    Refused,
    Status(u16),
    /// 200 without `"success":true`.
    NotSuccess,
    /// A body that is no report got 400 again.
    RefusedAgain,
    /// The connection broke, or could not be made.
    Broken,
    TimedOut,
    /// Every connection was busy for longer than a watch waits.
    NeverSent,
}

impl Failure {
    pub fn name(self) -> String {
        match self {
            Failure::Refused => "503".into(),
            Failure::Status(status) => status.to_string(),
            Failure::NotSuccess => "200 without success".into(),
            Failure::RefusedAgain => "400 again".into(),
            Failure::Broken => "connection broken".into(),
            Failure::TimedOut => "no answer in time".into(),
            Failure::NeverSent => "no free connection in time".into(),
        }
    }
}

/// Of one phase.
#[derive(Debug, Clone)]
pub struct PhaseBook {
    /// From when it was due to the answer.
    pub latency: Latencies,
    /// From sending to the answer.
    pub service: Latencies,
    /// Of answers 503, from sending.
    pub refused: Latencies,
    pub successes: u64,
    pub failures: BTreeMap<Failure, u64>,
    /// Since the start of the run.
    pub last_answer_ns: u64,
    /// What an open loop offered when it began.
    pub offered_per_s: Option<f64>,
}

impl PhaseBook {
    pub fn new() -> Self {
        Self {
            latency: Latencies::new(),
            service: Latencies::new(),
            refused: Latencies::new(),
            successes: 0,
            failures: BTreeMap::new(),
            last_answer_ns: 0,
            offered_per_s: None,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        self.refused.merge(&other.refused);
        self.successes += other.successes;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        self.last_answer_ns = self.last_answer_ns.max(other.last_answer_ns);
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// Reports that simulated watches made during a run, and what became of them on their side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Made {
    pub made: u64,
    pub answered_200: u64,
    /// The oldest of a full ring.
    pub dropped: u64,
    /// Never answered 200, and gone when a 200 for something else emptied the ring.
    pub cleared: u64,
    /// In a ring when the run ended.
    pub waiting: u64,
}

/// One second of the run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Second {
    pub second: u32,
    pub answered: u32,
    pub failed: u32,
    pub p50_ms: f32,
    pub p90_ms: f32,
    pub p99_ms: f32,
    pub max_ms: f32,
}

pub struct Ledger {
    pub phases: Vec<PhaseBook>,
    pub seconds: Vec<Second>,
    /// Uploads answered 200 whose rows must be there.
    pub promised: Vec<Key>,
    pub critical: Vec<Promised>,
    /// Sent, and not answered 200: may be stored or not.
    pub unsure: Vec<Key>,
    /// Events of bodies of the corpus that were answered 200.
    pub corpus_events: Vec<u128>,
    /// 200 as a duplicate of something that had not been sent before.
    pub false_duplicates: Vec<Key>,
    pub successes_by_kind: [u64; Kind::ALL.len()],
    /// Answers 200 to something that had been sent before.
    pub repeated: u64,
    /// Not sent at all: left in a queue at the end of the run.
    pub unsent: u64,
    /// Dropped from full rings.
    pub dropped: u64,
    /// From when it was due to when it was sent: whether the generator kept up.
    pub lag: Latencies,
    /// When the last upload that an outage had held back was answered 200.
    pub replayed_ns: Option<u64>,
    /// What became of all that the simulated watches made.
    pub simulated: Option<Made>,
    /// First answer 400 of each body of the corpus.
    first_400_ns: HashMap<u32, u64>,
    window: Window,
}

struct Window {
    second: u32,
    failed: u32,
    latencies: Histogram<u32>,
}

impl Ledger {
    pub fn new(phases: usize) -> Self {
        let latencies = Histogram::new_with_bounds(1_000, 60_000_000_000, 2);
        Self {
            phases: vec![PhaseBook::new(); phases],
            seconds: Vec::new(),
            promised: Vec::new(),
            critical: Vec::new(),
            unsure: Vec::new(),
            corpus_events: Vec::new(),
            false_duplicates: Vec::new(),
            successes_by_kind: [0; Kind::ALL.len()],
            repeated: 0,
            unsent: 0,
            dropped: 0,
            lag: Latencies::new(),
            replayed_ns: None,
            simulated: None,
            first_400_ns: HashMap::new(),
            window: Window { second: 0, failed: 0, latencies: latencies.expect("the bounds are in order") },
        }
    }

    pub fn success(&mut self, phase: u8, key: Key, due_ns: u64, sent_ns: u64, now_ns: u64) {
        let book = &mut self.phases[usize::from(phase)];
        book.latency.record(since(due_ns, now_ns));
        book.service.record(since(sent_ns, now_ns));
        book.successes += 1;
        book.last_answer_ns = book.last_answer_ns.max(now_ns);
        self.successes_by_kind[key.kind() as usize] += 1;
        self.tick(now_ns);
        self.window.latencies.saturating_record(now_ns.saturating_sub(due_ns));
    }

    pub fn failure(&mut self, phase: u8, failure: Failure, sent_ns: u64, now_ns: u64) {
        let book = &mut self.phases[usize::from(phase)];
        *book.failures.entry(failure).or_default() += 1;
        book.last_answer_ns = book.last_answer_ns.max(now_ns);
        if failure == Failure::Refused {
            book.refused.record(since(sent_ns, now_ns));
        }
        self.tick(now_ns);
        self.window.failed += 1;
    }

    /// 400 for a body of the corpus: whether it is the first. One that was sent before that
    /// answer was there is none more.
    pub fn is_first_400(&mut self, body: u32, sent_ns: u64, now_ns: u64) -> bool {
        sent_ns <= *self.first_400_ns.entry(body).or_insert(now_ns)
    }

    /// Ends the seconds that are over, and says whether there were any.
    pub fn tick(&mut self, now_ns: u64) -> bool {
        let now = u32::try_from(now_ns / 1_000_000_000).unwrap_or(u32::MAX);
        let over = now > self.window.second;
        while self.window.second < now {
            self.end_second();
        }
        over
    }

    pub fn end_second(&mut self) {
        let Window { second, failed, latencies } = &mut self.window;
        let at = |quantile| latencies.value_at_quantile(quantile) as f32 / 1e6;
        self.seconds.push(Second {
            second: *second,
            answered: u32::try_from(latencies.len()).unwrap_or(u32::MAX),
            failed: *failed,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: latencies.max() as f32 / 1e6,
        });
        latencies.reset();
        *second += 1;
        *failed = 0;
    }
}

pub fn since(from_ns: u64, to_ns: u64) -> Duration {
    Duration::from_nanos(to_ns.saturating_sub(from_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_has_its_point_also_an_empty_one() {
        let mut ledger = Ledger::new(1);
        let key = Key::new(Kind::Vitals, 1, 1);
        ledger.success(0, key, 0, 0, 500_000_000);
        ledger.failure(0, Failure::Refused, 2_100_000_000, 2_200_000_000);
        ledger.end_second();
        let counts: Vec<_> = ledger.seconds.iter().map(|s| (s.second, s.answered, s.failed)).collect();
        assert_eq!(counts, [(0, 1, 0), (1, 0, 0), (2, 0, 1)]);
        assert!((ledger.seconds[0].p99_ms - 500.0).abs() < 10.0);
        assert_eq!((ledger.phases[0].successes, ledger.phases[0].failed()), (1, 1));
    }

    #[test]
    fn latency_counts_from_when_it_was_due() {
        let mut ledger = Ledger::new(1);
        ledger.success(0, Key::new(Kind::Vitals, 1, 1), 0, 90_000_000, 100_000_000);
        let over = Duration::from_secs(1);
        assert!((ledger.phases[0].latency.summary(over).p50_ms - 100.0).abs() < 0.2);
        assert!((ledger.phases[0].service.summary(over).p50_ms - 10.0).abs() < 0.1);
    }

    #[test]
    fn a_second_400_is_a_fault_unless_they_overlapped() {
        let mut ledger = Ledger::new(1);
        assert!(ledger.is_first_400(7, 10, 20));
        assert!(ledger.is_first_400(7, 15, 30));
        assert!(!ledger.is_first_400(7, 21, 40));
        assert!(ledger.is_first_400(8, 21, 40));
    }
}
