//! How many sockets may be open.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::Metrics;

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct SessionSlots {
    free: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// One open socket, as long as it lives.
pub struct SessionSlot {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl SessionSlots {
    pub fn new(sessions_max: usize, metrics: Arc<Metrics>) -> Self {
        Self { free: Arc::new(Semaphore::new(sessions_max)), metrics }
    }

    /// `None` at the limit.
    pub fn take(&self) -> Option<SessionSlot> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        self.metrics.sessions.inc();
        Some(SessionSlot { _permit: permit, metrics: self.metrics.clone() })
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.metrics.sessions.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let metrics = Arc::new(Metrics::register().0);
        let slots = SessionSlots::new(1, metrics.clone());
        let slot = slots.take();
        assert!(slot.is_some() && slots.take().is_none());
        assert_eq!(metrics.sessions.get(), 1);
        drop(slot);
        assert!(slots.take().is_some());
        assert_eq!(metrics.sessions.get(), 0);
    }
}
