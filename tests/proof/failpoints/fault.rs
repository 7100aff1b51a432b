//! Arms fail points and knows when they have struck.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use testkit::eventually;

/// A panic that strikes so many times. Disarmed when dropped.
pub struct Panics {
    point: &'static str,
    struck: Arc<AtomicUsize>,
}

impl Panics {
    pub fn arm(point: &'static str, times: usize) -> Self {
        Self::arm_where(point, times, || true)
    }

    /// Only on the thread that gets there first: of all shards, only that one.
    pub fn arm_on_first_thread(point: &'static str, times: usize) -> Self {
        let first = OnceLock::new();
        Self::arm_where(point, times, move || {
            let here = std::thread::current().id();
            *first.get_or_init(|| here) == here
        })
    }

    fn arm_where(point: &'static str, times: usize, here: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let (left, struck) = (AtomicUsize::new(times), Arc::new(AtomicUsize::new(0)));
        let count = struck.clone();
        fail::cfg_callback(point, move || {
            if !here() {
                return;
            }
            let taken = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
            if taken.is_ok() {
                count.fetch_add(1, Ordering::AcqRel);
                panic!("the fail point {point} struck");
            }
        })
        .expect("a fail point");
        Self { point, struck }
    }

    pub fn struck(&self) -> usize {
        self.struck.load(Ordering::Acquire)
    }

    pub async fn wait_for(&self, times: usize) {
        let what = format!("{} strikes {times} times", self.point);
        eventually(&what, || async { (self.struck() >= times).then_some(()) }).await;
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        fail::remove(self.point);
    }
}

/// Counts who passes a point, and harms nobody.
pub struct Passes {
    point: &'static str,
    passed: Arc<AtomicUsize>,
}

impl Passes {
    pub fn count(point: &'static str) -> Self {
        let passed = Arc::new(AtomicUsize::new(0));
        let count = passed.clone();
        fail::cfg_callback(point, move || {
            count.fetch_add(1, Ordering::AcqRel);
        })
        .expect("a fail point");
        Self { point, passed }
    }

    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::Acquire)
    }
}

impl Drop for Passes {
    fn drop(&mut self) {
        fail::remove(self.point);
    }
}
