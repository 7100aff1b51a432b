//! How often an actor may come back, and how soon.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Restarts within [`BURST_WINDOW`] that spend the budget.
pub const BURST_MAX: usize = 10;
pub const BURST_WINDOW: Duration = Duration::from_secs(1);
/// Restarts within [`LONG_WINDOW`] that spend the budget.
pub const LONG_MAX: usize = 100;
pub const LONG_WINDOW: Duration = Duration::from_secs(60);
/// The first two restarts within [`BURST_WINDOW`] are immediate; from the third on this doubles.
pub const BACK_OFF_START: Duration = Duration::from_millis(10);
/// So small that an actor that panics at once each time spends the budget of a burst: all its
/// back-offs together must fit into [`BURST_WINDOW`].
pub const BACK_OFF_MAX: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    RestartAfter(Duration),
    /// It will not get better by itself: end the process and let the service manager decide.
    BudgetSpent,
}

/// Restart times of one actor, the newest [`LONG_MAX`].
#[derive(Debug, Default)]
pub struct RestartBudget {
    times: VecDeque<Instant>,
}

impl RestartBudget {
    /// Takes note of a restart at `now`.
    pub fn restart(&mut self, now: Instant) -> Verdict {
        self.times.push_back(now);
        while self.times.front().is_some_and(|first| now.duration_since(*first) > LONG_WINDOW) {
            self.times.pop_front();
        }
        let recent = self.times.iter().filter(|time| now.duration_since(**time) <= BURST_WINDOW).count();
        if recent >= BURST_MAX || self.times.len() >= LONG_MAX {
            return Verdict::BudgetSpent;
        }
        Verdict::RestartAfter(match recent {
            0..=2 => Duration::ZERO,
            third_or_later => {
                let doublings = u32::try_from(third_or_later - 3).unwrap_or(u32::MAX).min(16);
                (BACK_OFF_START * 2u32.pow(doublings)).min(BACK_OFF_MAX)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_the_third_waits() {
        let (mut budget, now) = (RestartBudget::default(), Instant::now());
        assert_eq!(budget.restart(now), Verdict::RestartAfter(Duration::ZERO));
        assert_eq!(budget.restart(now), Verdict::RestartAfter(Duration::ZERO));
        assert_eq!(budget.restart(now), Verdict::RestartAfter(BACK_OFF_START));
        assert_eq!(budget.restart(now), Verdict::RestartAfter(BACK_OFF_START * 2));
    }

    #[test]
    fn an_actor_that_panics_at_once_each_time_spends_the_budget_in_spite_of_the_back_off() {
        let (mut budget, mut now) = (RestartBudget::default(), Instant::now());
        let mut restarts = 1;
        while let Verdict::RestartAfter(wait) = budget.restart(now) {
            now += wait;
            restarts += 1;
        }
        assert_eq!(restarts, BURST_MAX);
    }

    #[test]
    fn ten_in_a_second_or_a_hundred_in_a_minute_spend_the_budget() {
        let (mut budget, now) = (RestartBudget::default(), Instant::now());
        let verdicts: Vec<Verdict> = (0..BURST_MAX).map(|_| budget.restart(now)).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::BudgetSpent));
        assert!(verdicts[..BURST_MAX - 1].iter().all(|verdict| *verdict != Verdict::BudgetSpent));

        let mut budget = RestartBudget::default();
        let apart = Duration::from_millis(500);
        let spent = (0..LONG_MAX as u32)
            .map(|n| budget.restart(now + apart * n))
            .position(|verdict| verdict == Verdict::BudgetSpent);
        assert_eq!(spent, Some(LONG_MAX - 1));
    }
}
