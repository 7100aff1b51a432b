//! When the log is moved into the file. Each time costs an fsync of the file, which makes the next
//! commit wait, so not for a few items; but not never either. Nor right after the last time, since a
//! page that is written again and again is moved once; nor later than need be, since the next part
//! of a log that has all been moved is written over what is there. Time passed in.

use std::time::{Duration, Instant};

/// Items stored since, from which on it is worth an fsync.
const ITEMS: u64 = 256;
/// With fewer it is done after this.
const AGE_MAX: Duration = Duration::from_secs(5);
/// Questions in the time that lies between two.
const TICKS: u32 = 5;

/// Remembers the last time.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoints {
    apart: Duration,
    at: Instant,
    /// Items that had been stored by then.
    taken: u64,
}

impl Checkpoints {
    /// At least so far apart.
    pub fn new(apart: Duration, now: Instant) -> Self {
        Self { apart, at: now, taken: 0 }
    }

    /// How often to ask.
    pub fn tick(&self) -> Duration {
        (self.apart / TICKS).max(Duration::from_millis(1))
    }

    /// Asked every tick, with the number of items stored so far. True begins a new count.
    pub fn is_due(&mut self, taken: u64, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        let enough = taken.saturating_sub(self.taken) >= ITEMS && age >= self.apart;
        if !enough && age < AGE_MAX.max(self.apart) {
            // Less than before: a writer that was restarted counts anew.
            self.taken = self.taken.min(taken);
            return false;
        }
        *self = Self { at: now, taken, ..*self };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_is_due_after_256_items_or_5_seconds() {
        let begun = Instant::now();
        let mut checkpoints = Checkpoints::new(after(100), begun);
        assert!(!checkpoints.is_due(255, begun + after(100)));
        assert!(checkpoints.is_due(256, begun + after(200)));
        assert!(!checkpoints.is_due(511, begun + after(300)), "255 since the last");
        assert!(checkpoints.is_due(512, begun + after(400)));
        assert!(!checkpoints.is_due(512, begun + after(5_399)));
        assert!(checkpoints.is_due(512, begun + after(5_400)), "nothing new, and 5 s");
    }

    #[test]
    fn a_writer_that_counts_anew_does_not_wait_for_the_count_of_the_old() {
        let begun = Instant::now();
        let mut checkpoints = Checkpoints::new(after(100), begun);
        assert!(checkpoints.is_due(10_000, begun + after(100)));
        assert!(!checkpoints.is_due(3, begun + after(200)));
        assert!(!checkpoints.is_due(258, begun + after(300)));
        assert!(checkpoints.is_due(259, begun + after(400)));
    }

    #[test]
    fn under_load_it_is_not_due_before_its_time_and_then_at_the_next_question() {
        let begun = Instant::now();
        let mut checkpoints = Checkpoints::new(after(500), begun);
        assert_eq!(checkpoints.tick(), after(100));
        assert!(!checkpoints.is_due(10_000, begun + after(499)));
        assert!(checkpoints.is_due(10_000, begun + after(500)));
        assert!(!checkpoints.is_due(10_255, begun + after(1_000)), "255 since the last");
        assert!(checkpoints.is_due(10_256, begun + after(1_100)));
        let rare = Checkpoints::new(after(60_000), begun).is_due(10_000, begun + after(59_999));
        assert!(!rare, "no sooner than was asked for");
    }
}
