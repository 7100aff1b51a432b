//! Tokens that were revoked while sessions are open.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::tokens::CHILD_MARK;

/// Revocations that are remembered. A session looks every second; one that has missed more than
/// these is closed, and its client signs in anew.
const REMEMBERED_MAX: usize = 1_024;

/// Cheap to clone; all clones are the same list. A session keeps the number of revocations that it
/// has looked at, and begins before its token is checked, so that none falls between.
#[derive(Debug, Clone, Default)]
pub struct Revocations(Arc<Mutex<Newest>>);

#[derive(Debug, Default)]
struct Newest {
    /// Revocations so far.
    count: u64,
    token_ids: VecDeque<String>,
}

/// What has become of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It stands; so many revocations have been looked at.
    Good(u64),
    Revoked,
    /// Too many have passed to say.
    Unknown,
}

impl Revocations {
    fn newest(&self) -> MutexGuard<'_, Newest> {
        // A list of ids is whole, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token has been revoked, and the sessions that were made from it. Call it after the commit.
    pub fn add(&self, token_id: &str) {
        let mut newest = self.newest();
        newest.count += 1;
        newest.token_ids.push_back(token_id.into());
        if newest.token_ids.len() > REMEMBERED_MAX {
            newest.token_ids.pop_front();
        }
    }

    /// Revocations so far.
    pub fn count(&self) -> u64 {
        self.newest().count
    }

    /// Whether one after the first `seen` was of this token.
    pub fn standing(&self, seen: u64, token_id: &str) -> Standing {
        let newest = self.newest();
        let missed = usize::try_from(newest.count.saturating_sub(seen)).unwrap_or(usize::MAX);
        let is_of = |revoked: &str| {
            let rest = token_id.strip_prefix(revoked);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(CHILD_MARK))
        };
        match newest.token_ids.len().checked_sub(missed) {
            None => Standing::Unknown,
            Some(skip) if newest.token_ids.iter().skip(skip).any(|revoked| is_of(revoked)) => {
                Standing::Revoked
            }
            Some(_) => Standing::Good(newest.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_with_its_sessions_and_with_nothing_else() {
        let revocations = Revocations::default();
        let seen = revocations.count();
        revocations.add("abc");
        for (token_id, expected) in [
            ("abc", Standing::Revoked),
            ("abc.def", Standing::Revoked),
            ("abcd", Standing::Good(1)),
            ("ab", Standing::Good(1)),
        ] {
            assert_eq!(revocations.standing(seen, token_id), expected, "{token_id}");
        }
        assert_eq!(revocations.standing(1, "abc"), Standing::Good(1));
        revocations.add("x.y");
        assert_eq!(revocations.standing(1, "x"), Standing::Good(2));
        assert_eq!(revocations.standing(1, "x.y"), Standing::Revoked);
    }

    #[test]
    fn whoever_has_missed_too_many_does_not_know() {
        let revocations = Revocations::default();
        for number in 0..=REMEMBERED_MAX {
            revocations.add(&format!("t{number}"));
        }
        assert_eq!(revocations.standing(0, "mine"), Standing::Unknown);
        assert_eq!(revocations.standing(1, "mine"), Standing::Good(REMEMBERED_MAX as u64 + 1));
        assert_eq!(revocations.standing(1, "t1"), Standing::Revoked);
    }
}
