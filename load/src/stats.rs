//! What was measured: latencies, answers, and their summary.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::body::Kind;

/// Three digits from a microsecond to a minute; longer ones count as a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Latencies, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3);
        Self(histogram.expect("the bounds are in order"))
    }

    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn merge(&mut self, other: &Latencies) {
        // Both have the same bounds, so there is nothing that could not be added.
        self.0.add(&other.0).expect("same bounds");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Quantile and milliseconds, closer to each other the nearer to 1: for a plot.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        const PER_DECADE: u32 = 12;
        let rest_min = 0.5 / (self.0.len().max(1) as f64);
        let rests = (0..).map(|step| 10_f64.powf(-f64::from(step) / f64::from(PER_DECADE)));
        let quantiles = rests.take_while(|rest| *rest > rest_min).map(|rest| 1.0 - rest);
        quantiles.map(|quantile| (quantile, self.0.value_at_quantile(quantile) as f64 / 1e6)).collect()
    }

    /// `over`: how long it took to record them.
    pub fn summary(&self, over: Duration) -> Summary {
        let ms = |ns: f64| ns / 1e6;
        let at = |quantile| ms(self.0.value_at_quantile(quantile) as f64);
        let per_s = self.0.len() as f64 / over.as_secs_f64().max(f64::EPSILON);
        Summary {
            count: self.0.len(),
            per_s: if over.is_zero() { 0.0 } else { per_s },
            mean_ms: ms(self.0.mean()),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(self.0.max() as f64),
        }
    }
}

/// What a table and the JSON say about latencies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    pub count: u64,
    pub per_s: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Summary {
    pub fn columns(&self) -> [(&'static str, f64); 7] {
        [
            ("per_s", self.per_s),
            ("mean_ms", self.mean_ms),
            ("p50_ms", self.p50_ms),
            ("p95_ms", self.p95_ms),
            ("p99_ms", self.p99_ms),
            ("p999_ms", self.p999_ms),
            ("max_ms", self.max_ms),
        ]
    }

    pub fn to_json(self) -> Value {
        let mut object = json!({ "count": self.count });
        for (name, value) in self.columns() {
            object[name] = json!((value * 1_000.0).round() / 1_000.0);
        }
        object
    }

    /// Each column of `self` by the same of `other`; 0 where there is nothing to divide by.
    pub fn ratio(&self, other: &Summary) -> Value {
        let pairs = self.columns().into_iter().zip(other.columns());
        let ratios = pairs.map(|((name, mine), (_, theirs))| {
            let ratio = if theirs == 0.0 { 0.0 } else { mine / theirs };
            (name.trim_end_matches("_ms").to_owned(), json!((ratio * 1_000.0).round() / 1_000.0))
        });
        Value::Object(ratios.collect())
    }
}

/// Of the two in the middle, the mean; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count => f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]),
    }
}

/// Why an answer is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    Status(u16),
    /// 200 without `"success":true`.
    NotSuccess,
    /// No answer: the connection broke.
    Broken,
}

impl Failure {
    pub fn name(self) -> String {
        match self {
            Failure::Status(status) => status.to_string(),
            Failure::NotSuccess => "200 without success".into(),
            Failure::Broken => "connection broken".into(),
        }
    }
}

/// Answers of a run, warm-up included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// Successes by [`Kind`].
    stored: [u64; Kind::ALL.len()],
    /// Of the bodies of all successes.
    body_bytes: u64,
    pub failures: BTreeMap<Failure, u64>,
}

impl Answers {
    pub fn success(&mut self, kind: Kind, body_bytes: usize) {
        self.stored[kind as usize] += 1;
        self.body_bytes += body_bytes as u64;
    }

    pub fn failure(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Answers) {
        for (mine, theirs) in self.stored.iter_mut().zip(other.stored) {
            *mine += theirs;
        }
        self.body_bytes += other.body_bytes;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
    }

    /// Successes of these kinds.
    pub fn stored(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().map(|kind| self.stored[*kind as usize]).sum()
    }

    /// Length of the body of a success, on average.
    pub fn body_bytes_mean(&self) -> f64 {
        self.body_bytes as f64 / self.stored(&Kind::ALL).max(1) as f64
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub fn failures_json(&self) -> Value {
        self.failures.iter().map(|(failure, count)| (failure.name(), json!(count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.002
    }

    #[test]
    fn a_summary_is_of_what_was_recorded() {
        let (mut odd, mut even) = (Latencies::new(), Latencies::new());
        for ms in 1..=1_000 {
            let half = if ms % 2 == 0 { &mut even } else { &mut odd };
            half.record(Duration::from_millis(ms));
        }
        odd.merge(&even);
        let summary = odd.summary(Duration::from_secs(4));
        assert_eq!((summary.count, summary.per_s), (1_000, 250.0));
        for (value, expected) in [
            (summary.mean_ms, 500.5),
            (summary.p50_ms, 500.0),
            (summary.p95_ms, 950.0),
            (summary.p99_ms, 990.0),
            (summary.p999_ms, 999.0),
            (summary.max_ms, 1_000.0),
        ] {
            assert!(near(value, expected), "{value} is not {expected}");
        }
        assert_eq!(summary.ratio(&summary)["p999"], 1.0);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn nothing_and_too_much_are_no_trouble() {
        let mut latencies = Latencies::new();
        let empty = latencies.summary(Duration::ZERO);
        assert!(empty.columns().iter().all(|(_, value)| *value == 0.0), "{empty:?}");
        assert_eq!(empty.ratio(&empty)["per_s"], 0.0);
        latencies.record(Duration::from_secs(3_600));
        latencies.record(Duration::ZERO);
        assert!(near(latencies.summary(Duration::from_secs(1)).max_ms, 60_000.0));
    }

    #[test]
    fn answers_add_up_by_kind_and_failure() {
        let mut answers = Answers::default();
        answers.success(Kind::Sos, 300);
        answers.failure(Failure::Status(503));
        let mut sum = answers.clone();
        sum.merge(&answers);
        sum.success(Kind::Event, 240);
        sum.failure(Failure::Broken);
        assert_eq!(sum.stored(&[Kind::Event, Kind::Sos]), 3);
        assert_eq!(sum.stored(&[Kind::Vitals]), 0);
        assert_eq!(sum.body_bytes_mean(), 280.0);
        assert_eq!(sum.failed(), 3);
        assert_eq!(sum.failures_json(), json!({ "503": 2, "connection broken": 1 }));
    }
}
