//! How many sockets may be open: those of whom the server knows, and apart from them those that have
//! not signed in yet. So nobody without a token can take the place of an operator.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::SessionConfig;
use crate::telemetry::{KindLabels, Metrics};

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct SessionSlots {
    signed_in: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// All places of that kind are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `session.sessions_max`
    SignedIn,
    /// `session.anonymous_max`
    Anonymous,
}

/// One open socket, as long as it lives.
pub struct SessionSlot {
    place: Mutex<Place>,
    slots: SessionSlots,
}

/// Free again when it is dropped.
enum Place {
    SignedIn { _permit: OwnedSemaphorePermit },
    Anonymous { _permit: OwnedSemaphorePermit, _counted: Counted },
}

/// One socket in the gauge of those that have not signed in.
struct Counted(Arc<Metrics>);

impl SessionSlots {
    pub fn new(config: &SessionConfig, metrics: Arc<Metrics>) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { signed_in: places(config.sessions_max), anonymous: places(config.anonymous_max), metrics }
    }

    /// For a client whose token has been checked.
    pub fn take(&self) -> Result<Arc<SessionSlot>, Full> {
        self.signed_in().map(|place| self.slot(place))
    }

    /// For a client that has to sign in yet: [`SessionSlot::sign_in`].
    pub fn take_anonymous(&self) -> Result<Arc<SessionSlot>, Full> {
        let permit = self.permit(&self.anonymous, Full::Anonymous)?;
        Ok(self.slot(Place::Anonymous { _permit: permit, _counted: Counted::new(&self.metrics) }))
    }

    fn slot(&self, place: Place) -> Arc<SessionSlot> {
        self.metrics.sessions.inc();
        Arc::new(SessionSlot { place: Mutex::new(place), slots: self.clone() })
    }

    fn signed_in(&self) -> Result<Place, Full> {
        Ok(Place::SignedIn { _permit: self.permit(&self.signed_in, Full::SignedIn)? })
    }

    fn permit(&self, places: &Arc<Semaphore>, full: Full) -> Result<OwnedSemaphorePermit, Full> {
        places.clone().try_acquire_owned().map_err(|_| {
            self.metrics.sessions_refused.get_or_create(&KindLabels { kind: full.kind() }).inc();
            full
        })
    }
}

impl SessionSlot {
    /// Moves to the places of those who have signed in. An error leaves it where it is.
    pub fn sign_in(&self) -> Result<(), Full> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*place, Place::Anonymous { .. }) {
            *place = self.slots.signed_in()?;
        }
        Ok(())
    }
}

impl Full {
    /// As the metrics name it.
    fn kind(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::Anonymous => "anonymous",
        }
    }
}

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.sessions_anonymous.inc();
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions_anonymous.dec();
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.slots.metrics.sessions.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(sessions_max: usize, anonymous_max: usize) -> (SessionSlots, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::register().0);
        let config = SessionConfig { sessions_max, anonymous_max, ..SessionConfig::default() };
        (SessionSlots::new(&config, metrics.clone()), metrics)
    }

    fn open(metrics: &Metrics) -> (i64, i64) {
        (metrics.sessions.get(), metrics.sessions_anonymous.get())
    }

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let (slots, metrics) = slots(1, 1);
        let slot = slots.take();
        assert!(slot.is_ok());
        assert_eq!(slots.take().err(), Some(Full::SignedIn));
        assert_eq!(open(&metrics), (1, 0));
        drop(slot);
        assert!(slots.take().is_ok());
        assert_eq!(open(&metrics), (0, 0));
    }

    #[test]
    fn who_has_not_signed_in_takes_nobodys_place_and_frees_the_own_by_signing_in() {
        let (slots, metrics) = slots(2, 1);
        let first = slots.take_anonymous().ok().unwrap();
        assert_eq!(slots.take_anonymous().err(), Some(Full::Anonymous));
        assert_eq!(open(&metrics), (1, 1));
        assert_eq!(first.sign_in(), Ok(()));
        assert_eq!(first.sign_in(), Ok(()), "it has its place");
        assert_eq!(open(&metrics), (1, 0));

        let second = slots.take_anonymous().ok().unwrap();
        let _third = slots.take().ok().unwrap();
        assert_eq!(second.sign_in(), Err(Full::SignedIn));
        drop(first);
        assert_eq!(second.sign_in(), Ok(()));
        assert_eq!(open(&metrics), (2, 0));
        let refused = |kind| metrics.sessions_refused.get_or_create(&KindLabels { kind }).get();
        assert_eq!((refused("anonymous"), refused("signed_in")), (1, 1));
    }
}
