//! Whether the database takes writes. The writer notes it, the doors ask: while it takes none, what
//! comes in is refused at once instead of waiting for a transaction that cannot commit.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;

use crate::domain::time::UtcMillis;

/// While it lasts the log says so again after this.
const REMINDER: Duration = Duration::from_secs(60);

/// Why nothing can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum OutageKind {
    #[error("the disk of the database is full")]
    DiskFull = 1,
    /// A write or an fsync failed: what the system still holds of it is not to be trusted.
    #[error("the disk of the database reports errors")]
    DiskError = 2,
    #[error("the database cannot be opened for writing")]
    NotWritable = 3,
    #[error("the database file is damaged")]
    Damaged = 4,
    /// The main database is away, and what stands in for it has reached its bound.
    #[error("the database is away and the spool is full")]
    SpoolFull = 5,
}

/// An outage as `/api/v1/system` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct OutageReport {
    pub kind: OutageKind,
    /// What the database said.
    pub error: String,
    pub since: UtcMillis,
}

#[derive(Debug)]
struct Current {
    report: OutageReport,
    begun: Instant,
    reported: Instant,
}

/// Shared by the writer (notes) and the doors (ask). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outage(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0, or the kind: asked for every report.
    kind: AtomicU8,
    current: Mutex<Option<Current>>,
    ended: Notify,
}

impl Outage {
    pub fn current(&self) -> Option<OutageKind> {
        match self.0.kind.load(Ordering::Acquire) {
            1 => Some(OutageKind::DiskFull),
            2 => Some(OutageKind::DiskError),
            3 => Some(OutageKind::NotWritable),
            4 => Some(OutageKind::Damaged),
            5 => Some(OutageKind::SpoolFull),
            _ => None,
        }
    }

    pub fn report(&self) -> Option<OutageReport> {
        let current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|current| current.report.clone())
    }

    /// It cannot be written, seen at `now`. True if somebody should be told: it is new, of another
    /// kind, or it is a minute since the last time.
    pub fn begin(&self, kind: OutageKind, error: String, at: UtcMillis, now: Instant) -> bool {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.kind.store(kind as u8, Ordering::Release);
        match current.as_mut() {
            Some(known) if known.report.kind == kind => {
                known.report.error = error;
                let due = now.saturating_duration_since(known.reported) >= REMINDER;
                if due {
                    known.reported = now;
                }
                due
            }
            known => {
                let (since, begun) = known.map_or((at, now), |known| (known.report.since, known.begun));
                let report = OutageReport { kind, error, since };
                *current = Some(Current { report, begun, reported: now });
                true
            }
        }
    }

    /// It was written. How long it could not be, if it could not.
    pub fn end(&self, now: Instant) -> Option<Duration> {
        self.current()?;
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.kind.store(0, Ordering::Release);
        self.0.ended.notify_waiters();
        current.take().map(|current| now.saturating_duration_since(current.begun))
    }

    /// Resolves when the database takes writes.
    pub async fn over(&self) {
        loop {
            // Before the look: an end in between is not missed.
            let ended = self.0.ended.notified();
            if self.current().is_none() {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_reported_when_it_begins_when_it_changes_and_once_a_minute() {
        let (outage, now) = (Outage::default(), Instant::now());
        let begin = |kind, after: u64| {
            outage.begin(kind, "text".into(), UtcMillis(7), now + Duration::from_secs(after))
        };
        assert_eq!((outage.current(), outage.end(now)), (None, None));
        assert!(begin(OutageKind::DiskFull, 0));
        assert!(!begin(OutageKind::DiskFull, 59));
        assert!(begin(OutageKind::DiskFull, 60));
        assert!(!begin(OutageKind::DiskFull, 61));
        assert!(begin(OutageKind::DiskError, 62));
        assert_eq!(outage.current(), Some(OutageKind::DiskError));
        assert_eq!(outage.report().map(|report| report.since), Some(UtcMillis(7)));
        assert_eq!(outage.end(now + Duration::from_secs(90)), Some(Duration::from_secs(90)));
        assert!(outage.current().is_none() && outage.report().is_none());
    }
}
