//! What the sessions' registry takes, and the facts that sessions tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use actix::Message;
use tokio::sync::watch;

use crate::domain::alert::LoggedChange;
use crate::domain::ids::{AlertId, CustomerId, DeviceSn, Offset};
use crate::domain::time::UtcMillis;
use crate::domain::vitals::Metrics;

/// The last offset that has committed. The writer stores it after each commit; everybody may
/// compare with it.
#[derive(Debug, Clone, Default)]
pub struct Watermark(Arc<AtomicI64>);

impl Watermark {
    pub fn get(&self) -> Offset {
        self.0.load(Ordering::Acquire)
    }

    /// Never goes back: a writer that was made anew reads the same log.
    pub fn advance(&self, offset: Offset) {
        self.0.fetch_max(offset, Ordering::AcqRel);
    }

    /// Offsets were given anew, under another [`Epoch`].
    pub fn restart(&self, offset: Offset) {
        self.0.store(offset, Ordering::Release);
    }
}

/// Names the log that offsets belong to: those of another epoch mean nothing. It changes while a
/// server runs only where the main database turns out to have a log of its own.
#[derive(Debug, Clone)]
pub struct Epoch(watch::Receiver<String>);

impl Epoch {
    pub fn get(&self) -> Arc<str> {
        Arc::from(self.0.borrow().as_str())
    }

    /// True if it is this one.
    pub fn is(&self, epoch: &str) -> bool {
        *self.0.borrow() == epoch
    }
}

impl From<watch::Receiver<String>> for Epoch {
    fn from(epoch: watch::Receiver<String>) -> Self {
        Self(epoch)
    }
}

impl From<&str> for Epoch {
    fn from(epoch: &str) -> Self {
        Self(watch::channel(epoch.to_owned()).1)
    }
}

/// From the writer, after a commit: a hint. The registry reads what it misses from storage, so a
/// lost one costs a little time and nothing else. Changes are in order and without a gap; if
/// `changes` is empty only the watermark has moved.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Publish {
    pub changes: Vec<LoggedChange>,
    /// Newest vitals of the batch, only of devices that [`VitalsInterest`] names.
    pub vitals: Vec<VitalsUpdate>,
    /// Counts the hand-overs under way; dropped when the registry has taken this one.
    pub in_flight: Option<HandOver>,
}

/// One hand-over under way. At most so many are; beyond that only the watermark is sent.
#[derive(Debug)]
pub struct HandOver(Arc<AtomicI64>);

/// Hand-overs of changes that may be outstanding.
pub const HAND_OVERS_MAX: i64 = 64;

impl HandOver {
    /// `None` if too many are outstanding.
    pub fn begin(counter: &Arc<AtomicI64>) -> Option<Self> {
        if counter.fetch_add(1, Ordering::AcqRel) >= HAND_OVERS_MAX {
            counter.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self(counter.clone()))
    }
}

impl Clone for HandOver {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::AcqRel);
        Self(self.0.clone())
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Newest measured values of one device.
#[derive(Debug, Clone)]
pub struct VitalsUpdate {
    pub device_sn: DeviceSn,
    pub customer_id: CustomerId,
    pub measured_at: UtcMillis,
    pub metrics: Metrics,
    pub worn: bool,
}

/// Devices whose vitals some session wants. The registry publishes it; the writer looks before
/// it copies vitals that nobody would see.
pub type VitalsInterest = arc_swap::ArcSwap<std::collections::HashSet<DeviceSn>>;

/// From a session, when alerts have been on a viewer's screen. The writer records the first time of
/// each, at most once a second per viewer.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct AlertShown {
    pub viewer: String,
    pub alerts: Vec<(AlertId, UtcMillis)>,
}
