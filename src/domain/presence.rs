//! Whether a watch is there, in one word: what a list of devices shows and counts.

use serde::{Deserialize, Serialize};

use super::time::UtcMillis;

/// Exactly one applies to a device. What was last heard is worth nothing once it is silent, and
/// a watch on its charger is not worn for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Reports, and is worn as far as anybody knows.
    Online,
    /// Reports, and said last that it is charging.
    Charging,
    /// Reports, and lies somewhere.
    NotWorn,
    /// Has reported, but not lately.
    Silent,
    /// Has never reported.
    Unknown,
}

/// How old a sign of life may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub now: UtcMillis,
    /// A device that said nothing for longer is silent.
    pub silent_after_s: u32,
}

impl Patience {
    /// Who was last seen before this is silent.
    pub fn silent_before(self) -> UtcMillis {
        self.now.saturating_add_ms(-i64::from(self.silent_after_s) * 1_000)
    }
}

impl Presence {
    pub fn of(
        last_seen: Option<UtcMillis>,
        charging: Option<bool>,
        worn: Option<bool>,
        patience: Patience,
    ) -> Self {
        match last_seen {
            None => Presence::Unknown,
            Some(last) if last < patience.silent_before() => Presence::Silent,
            Some(_) if charging == Some(true) => Presence::Charging,
            Some(_) if worn == Some(false) => Presence::NotWorn,
            Some(_) => Presence::Online,
        }
    }

    /// True if nothing but the last sign of life decides it.
    pub fn is_away(self) -> bool {
        matches!(self, Presence::Silent | Presence::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_outweighs_charging_and_charging_outweighs_wear() {
        let patience = Patience { now: UtcMillis(1_000_000), silent_after_s: 900 };
        let of = |last_seen: Option<i64>, charging, worn| {
            Presence::of(last_seen.map(UtcMillis), charging, worn, patience)
        };
        assert_eq!(of(None, Some(true), Some(true)), Presence::Unknown);
        assert_eq!(of(Some(99_999), Some(true), Some(false)), Presence::Silent);
        assert_eq!(of(Some(100_000), Some(true), Some(false)), Presence::Charging);
        assert_eq!(of(Some(100_000), Some(false), Some(false)), Presence::NotWorn);
        assert_eq!(of(Some(100_000), None, None), Presence::Online);
        assert_eq!(of(Some(100_000), None, Some(true)), Presence::Online);
    }
}
