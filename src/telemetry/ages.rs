//! How old the oldest of many things is that come and go in any order: a wheel of counters, one
//! addition when a thing comes and one when it goes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Ages are told in steps of this.
pub const RESOLUTION: Duration = Duration::from_millis(RESOLUTION_MS);
const RESOLUTION_MS: u64 = 8;
const SLOTS: usize = 8192;
/// So many steps are the past. The others are the future: whoever asks may have looked at the clock before
/// something came, and what has just come must not count as what came a turn ago.
const PAST: u64 = SLOTS as u64 / 2;
/// What is older does not count, until its slot is the past again.
pub const AGE_MAX: Duration = Duration::from_millis(RESOLUTION_MS * (PAST - 1));

/// Counts things by when they came.
#[derive(Debug)]
pub struct Ages {
    began: Instant,
    slots: Box<[AtomicI64]>,
}

/// When a thing came; to be given back when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Born(u16);

impl Default for Ages {
    fn default() -> Self {
        Self { began: Instant::now(), slots: (0..SLOTS).map(|_| AtomicI64::new(0)).collect() }
    }
}

impl Ages {
    fn steps(&self, at: Instant) -> u64 {
        let age = at.saturating_duration_since(self.began);
        (age.as_secs() * 1_000 + u64::from(age.subsec_millis())) / RESOLUTION_MS
    }

    /// A thing has come.
    pub fn come(&self, at: Instant) -> Born {
        let born = Born((self.steps(at) % SLOTS as u64) as u16);
        self.come_with(born);
        born
    }

    /// Another one has come at the same time.
    pub fn come_with(&self, born: Born) {
        self.slots[usize::from(born.0)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn go(&self, born: Born) {
        self.slots[usize::from(born.0)].fetch_sub(1, Ordering::Relaxed);
    }

    /// Age of the oldest that has not gone, at most one step too low; zero if all have. `now` may be up to
    /// half a turn before things that have come.
    pub fn oldest(&self, now: Instant) -> Duration {
        let last = self.steps(now);
        let first = last.saturating_sub(PAST - 1);
        let held = |step: &u64| self.slots[(step % SLOTS as u64) as usize].load(Ordering::Relaxed) > 0;
        (first..=last).find(held).map_or(Duration::ZERO, |step| {
            let came_by = self.began + RESOLUTION * u32::try_from(step + 1).unwrap_or(u32::MAX);
            now.saturating_duration_since(came_by)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_until_it_goes() {
        let ages = Ages::default();
        let at = |ms: u64| ages.began + Duration::from_millis(ms);
        assert_eq!(ages.oldest(at(5_000)), Duration::ZERO);
        let first = ages.come(at(5_000));
        let second = ages.come(at(6_000));
        ages.come_with(first);
        let near = |age: Duration, ms: u64| {
            let exact = Duration::from_millis(ms);
            assert!(age <= exact && exact - age <= RESOLUTION, "{age:?} is not {exact:?}");
        };
        near(ages.oldest(at(6_500)), 1_500);
        ages.go(first);
        near(ages.oldest(at(6_500)), 1_500);
        ages.go(first);
        near(ages.oldest(at(6_500)), 500);
        ages.go(second);
        assert_eq!(ages.oldest(at(6_500)), Duration::ZERO);
    }

    #[test]
    fn what_has_just_come_is_not_old_to_one_who_looked_at_the_clock_before() {
        let ages = Ages::default();
        let now = ages.began + Duration::from_secs(100);
        for later in [RESOLUTION, Duration::from_secs(3), Duration::from_secs(30)] {
            let born = ages.come(now + later);
            assert_eq!(ages.oldest(now), Duration::ZERO, "{later:?} later");
            ages.go(born);
        }
    }

    #[test]
    fn the_wheel_turns_many_times() {
        let ages = Ages::default();
        let turn = RESOLUTION * SLOTS as u32;
        let at = ages.began + turn * 7 + Duration::from_secs(1);
        let born = ages.come(at);
        assert!(ages.oldest(at + AGE_MAX) >= AGE_MAX - RESOLUTION);
        ages.go(born);
        assert_eq!(ages.oldest(at + turn), Duration::ZERO);
    }
}
