//! Which alerts have been on a viewer's screen: what was sent waits here until the client confirms it.

use std::collections::{BTreeSet, HashSet, VecDeque};

use crate::domain::ids::{AlertId, Offset};
use crate::domain::time::UtcMillis;

/// Alerts that a session remembers as sent or confirmed. Beyond it the confirmed ones are forgotten
/// first (confirming one again is harmless), then those that have waited longest.
pub const ALERTS_MAX: usize = 2_000;

/// What one session has been sent and has confirmed.
#[derive(Debug, Default)]
pub struct Seen {
    /// Sent with the frame of this offset, not confirmed yet.
    sent: BTreeSet<(Offset, AlertId)>,
    /// All of `sent` and of `forgettable`.
    known: HashSet<AlertId>,
    /// What has been confirmed, the first first.
    forgettable: VecDeque<AlertId>,
    confirmed: Vec<(AlertId, UtcMillis)>,
}

impl Seen {
    /// An alert goes to the client in the frame of `offset`.
    pub fn send(&mut self, offset: Offset, alert_id: AlertId) {
        if self.known.contains(&alert_id) {
            return;
        }
        // One for one: many a client never confirms, and is at the bound with each frame.
        if self.known.len() >= ALERTS_MAX {
            let oldest =
                self.forgettable.pop_front().or_else(|| self.sent.pop_first().map(|(_, oldest)| oldest));
            if let Some(oldest) = oldest {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(alert_id);
        self.sent.insert((offset, alert_id));
    }

    /// Everything up to `offset` has been on the screen.
    pub fn confirm(&mut self, offset: Offset, at: UtcMillis) {
        let later = self.sent.split_off(&(offset.saturating_add(1), AlertId(i64::MIN)));
        for (_, alert_id) in std::mem::replace(&mut self.sent, later) {
            self.confirmed.push((alert_id, at));
            self.forgettable.push_back(alert_id);
        }
    }

    /// What was handed over for `offset` and later has not been written: it is of a subscription that
    /// has been replaced.
    pub fn forget_after(&mut self, offset: Offset) {
        for (_, alert_id) in self.sent.split_off(&(offset.saturating_add(1), AlertId(i64::MIN))) {
            self.known.remove(&alert_id);
        }
    }

    /// What to record now.
    pub fn take(&mut self) -> Option<Vec<(AlertId, UtcMillis)>> {
        (!self.confirmed.is_empty()).then(|| std::mem::take(&mut self.confirmed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcMillis = UtcMillis(7);

    fn ids(seen: &mut Seen) -> Vec<i64> {
        seen.take().unwrap_or_default().into_iter().map(|(alert_id, _)| alert_id.0).collect()
    }

    #[test]
    fn only_what_was_sent_is_confirmed_and_only_once() {
        let mut seen = Seen::default();
        for (offset, alert_id) in [(5, 50), (5, 51), (6, 60), (7, 50)] {
            seen.send(offset, AlertId(alert_id));
        }
        seen.confirm(5, NOW);
        assert_eq!(ids(&mut seen), [50, 51]);
        seen.confirm(9, NOW);
        assert_eq!(ids(&mut seen), [60]);
        seen.confirm(9, NOW);
        assert_eq!(seen.take(), None);
    }

    #[test]
    fn a_replaced_subscription_confirms_nothing_that_was_not_written() {
        let mut seen = Seen::default();
        seen.send(5, AlertId(1));
        seen.send(6, AlertId(2));
        seen.forget_after(5);
        seen.confirm(6, NOW);
        assert_eq!(ids(&mut seen), [1]);
        seen.send(7, AlertId(2));
        seen.confirm(7, NOW);
        assert_eq!(ids(&mut seen), [2]);
    }

    #[test]
    fn it_is_bounded_and_what_waited_longest_goes_first() {
        let mut seen = Seen::default();
        for number in 0..ALERTS_MAX as i64 + 10 {
            seen.send(number, AlertId(number));
        }
        assert_eq!((seen.sent.len(), seen.known.len()), (ALERTS_MAX, ALERTS_MAX));
        seen.confirm(i64::MAX, NOW);
        assert_eq!(ids(&mut seen)[0], 10);
    }

    #[test]
    fn at_the_bound_what_is_confirmed_makes_room_for_what_is_not() {
        let mut seen = Seen::default();
        let max = ALERTS_MAX as i64;
        for number in 0..max {
            seen.send(number, AlertId(number));
        }
        seen.confirm(1, NOW);
        assert_eq!(ids(&mut seen), [0, 1]);
        for number in max..max + 3 {
            seen.send(number, AlertId(number));
        }
        assert_eq!((seen.sent.len(), seen.known.len()), (ALERTS_MAX, ALERTS_MAX));
        // The confirmed two are forgotten, and then the one that has waited longest.
        seen.confirm(i64::MAX, NOW);
        let expected: Vec<i64> = (3..max + 3).collect();
        assert_eq!(ids(&mut seen), expected);
    }
}
