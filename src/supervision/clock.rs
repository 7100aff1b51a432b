//! Wall clock as a value, so that tests can turn it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::time::UtcMillis;

/// Where "now" comes from. Cheap to clone; all clones tell the same time.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    #[default]
    System,
    /// Milliseconds since 1970, turned by a test.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn manual(start: UtcMillis) -> (Self, Arc<AtomicI64>) {
        let hand = Arc::new(AtomicI64::new(start.0));
        (Clock::Manual(hand.clone()), hand)
    }

    pub fn now(&self) -> UtcMillis {
        match self {
            Clock::System => UtcMillis(chrono::Utc::now().timestamp_millis()),
            Clock::Manual(hand) => UtcMillis(hand.load(Ordering::Relaxed)),
        }
    }
}
