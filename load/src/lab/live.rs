//! What the run's threads tell the one that shows progress.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;

pub struct Live {
    pub phase: AtomicU64,
    pub sent: AtomicU64,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    /// Alert frames that dashboards received.
    pub pushes: AtomicU64,
    pub screens_connected: AtomicU64,
    /// Latencies since they were last shown.
    recent: Mutex<Histogram<u32>>,
}

impl Live {
    pub fn new() -> Self {
        let recent = Histogram::new_with_bounds(1_000, 60_000_000_000, 2);
        Self {
            phase: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            pushes: AtomicU64::new(0),
            screens_connected: AtomicU64::new(0),
            recent: Mutex::new(recent.expect("the bounds are in order")),
        }
    }

    pub fn record(&self, latency_ns: u64) {
        self.recent.lock().expect("nobody panics with it").saturating_record(latency_ns);
    }

    /// p50 and p99 in milliseconds since the last call.
    pub fn take_recent(&self) -> (f64, f64) {
        let mut recent = self.recent.lock().expect("nobody panics with it");
        let at = |quantile| recent.value_at_quantile(quantile) as f64 / 1e6;
        let percentiles = (at(0.5), at(0.99));
        recent.reset();
        percentiles
    }

    pub fn count(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }
}
