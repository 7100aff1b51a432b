//! A histogram for hot paths: two additions per observation, no lock. It is written out with the few
//! bounds of its metric, and keeps finer ones from which percentiles of any span of time follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use histogram::{AtomicHistogram, Config};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Fine buckets are this power of two per doubling: a value is known to 1/32 of itself.
const GROUPING_POWER: u8 = 5;
/// Values beyond 2^26 units (67 s in µs, 64 Mi in bytes) are counted as that.
const MAX_VALUE_POWER: u8 = 26;
const VALUE_MAX: u64 = (1 << MAX_VALUE_POWER) - 1;

/// Seconds, from 100 µs to 10 s.
pub const LATENCY_BOUNDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
pub const ROW_BOUNDS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
/// 1 KiB to 8 MiB.
pub const BYTE_BOUNDS: [f64; 8] =
    [1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 8_388_608.0];

#[derive(Debug)]
struct Inner {
    fine: AtomicHistogram,
    /// Of all values, in units.
    sum: AtomicU64,
    bounds: &'static [f64],
    units_per_one: f64,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

impl Histogram {
    /// Of seconds, kept in µs.
    pub fn of_seconds() -> Self {
        Self::new(&LATENCY_BOUNDS, 1e6)
    }

    pub fn of_rows() -> Self {
        Self::new(&ROW_BOUNDS, 1.0)
    }

    pub fn of_bytes() -> Self {
        Self::new(&BYTE_BOUNDS, 1.0)
    }

    fn new(bounds: &'static [f64], units_per_one: f64) -> Self {
        let config = Config::new(GROUPING_POWER, MAX_VALUE_POWER).expect("two constants that go together");
        let (fine, sum) = (AtomicHistogram::with_config(&config), AtomicU64::new(0));
        Self(Arc::new(Inner { fine, sum, bounds, units_per_one }))
    }

    /// Counts a value that is not negative.
    pub fn observe(&self, value: f64) {
        // A negative value or NaN becomes 0.
        let units = (value * self.0.units_per_one + 0.5) as u64;
        self.0.sum.fetch_add(units, Ordering::Relaxed);
        // The value is in range.
        let _ = self.0.fine.increment(units.min(VALUE_MAX));
    }

    /// What has been counted so far.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            sum: self.0.sum.load(Ordering::Relaxed) as f64 / self.0.units_per_one,
            fine: self.0.fine.load(),
            units_per_one: self.0.units_per_one,
        }
    }
}

/// The counts of a histogram at one moment, or between two.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub sum: f64,
    fine: histogram::Histogram,
    units_per_one: f64,
}

impl Snapshot {
    /// What was counted since an earlier snapshot of the same histogram.
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        // Counts only grow, so it cannot fail; an impossible difference counts as nothing new.
        let fine = self.fine.checked_sub(&earlier.fine);
        let fine = fine.unwrap_or_else(|_| histogram::Histogram::with_config(&self.fine.config()));
        Snapshot { sum: self.sum - earlier.sum, fine, units_per_one: self.units_per_one }
    }

    pub fn count(&self) -> u64 {
        self.fine.as_slice().iter().sum()
    }

    /// The value that `quantile` (0 to 1) of all are at or below, within 1/32; `None` if there is
    /// none.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let bucket = self.fine.quantile_bucket(quantile).ok().flatten()?;
        Some(bucket.end() as f64 / self.units_per_one)
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let Snapshot { sum, fine, units_per_one } = self.snapshot();
        let mut buckets: Vec<(f64, u64)> = self.0.bounds.iter().map(|bound| (*bound, 0)).collect();
        buckets.push((f64::INFINITY, 0));
        let mut at = 0;
        for bucket in fine.iter().filter(|bucket| bucket.count() > 0) {
            // By its lower end: a full batch of 1,000 counts as at most 1,000.
            while bucket.start() as f64 > buckets[at].0 * units_per_one {
                at += 1;
            }
            buckets[at].1 += bucket.count();
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn percentiles_are_those_of_the_span_between_two_snapshots() {
        let latency = Histogram::of_seconds();
        (0..1000).for_each(|_| latency.observe(5.0));
        let before = latency.snapshot();
        for ms in 1..=100 {
            latency.observe(f64::from(ms) / 1000.0);
        }
        let span = latency.snapshot().since(&before);
        assert_eq!(span.count(), 100);
        assert!((span.sum - 5.05).abs() < 1e-9, "{}", span.sum);
        for (quantile, exact) in [(0.5, 0.050), (0.95, 0.095), (0.99, 0.099)] {
            let found = span.quantile(quantile).expect("there are values");
            assert!((exact..exact * (1.0 + 1.0 / 32.0)).contains(&found), "{quantile}: {found}");
        }
        assert!(before.since(&before).quantile(0.5).is_none(), "nothing was measured");
    }

    #[test]
    fn it_is_written_out_with_the_bounds_of_its_metric() {
        let mut registry = Registry::default();
        let rows = Histogram::of_rows();
        registry.register("rows", "Rows", rows.clone());
        for value in [1.0, 2.0, 2.0, 1000.0, 5000.0, 1e12] {
            rows.observe(value);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a text");
        for line in [
            r#"rows_bucket{le="1.0"} 1"#,
            r#"rows_bucket{le="2.0"} 3"#,
            r#"rows_bucket{le="500.0"} 3"#,
            r#"rows_bucket{le="1000.0"} 4"#,
            r#"rows_bucket{le="+Inf"} 6"#,
            "rows_count 6",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
