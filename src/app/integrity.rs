//! The check of the database after a server that was not stopped well: in the background, on a
//! connection and a thread of its own, a table at a time, so that nothing waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::api::state::{IntegrityReport, IntegrityState};
use crate::storage::check;
use crate::storage::database::{Database, StorageError};
use crate::telemetry::Metrics;

/// Runs it unless it was told to end. Dropping this ends it after the table that it is reading.
pub struct IntegrityCheck {
    stop: Arc<AtomicBool>,
}

impl IntegrityCheck {
    /// Begins. What it finds is in `report`, in the log and in a metric.
    pub fn begin(database: &Database, metrics: &Arc<Metrics>, report: &Arc<Mutex<IntegrityReport>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (database, metrics) = (database.clone(), metrics.clone());
        let (report, stopped) = (report.clone(), stop.clone());
        set(&report, IntegrityState::Running, Vec::new());
        tracing::warn!(
            "the last server on {} was not stopped well; the file is checked in the background",
            database.path().display()
        );
        let work = move || {
            let begun = Instant::now();
            match run(&database, &stopped) {
                Ok(None) => {}
                Ok(Some(faults)) if faults.is_empty() => {
                    tracing::info!("the database is sound; checked in {:?}", begun.elapsed());
                    set(&report, IntegrityState::Sound, faults);
                }
                Ok(Some(faults)) => {
                    metrics.integrity_faults.set(faults.len() as i64);
                    tracing::error!(
                        "the database {} has {} faults, the first: {}; stop the server, keep its files, \
                         look with `watchpost check`, restore a backup",
                        database.path().display(),
                        faults.len(),
                        faults[0]
                    );
                    set(&report, IntegrityState::Damaged, faults);
                }
                Err(err) => {
                    tracing::error!("the database could not be checked: {err}");
                    set(&report, IntegrityState::Failed, vec![err.to_string()]);
                }
            }
        };
        if let Err(err) = std::thread::Builder::new().name("integrity-check".into()).spawn(work) {
            tracing::error!("the database is not checked: {err}");
        }
        Self { stop }
    }
}

impl Drop for IntegrityCheck {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn set(report: &Mutex<IntegrityReport>, state: IntegrityState, faults: Vec<String>) {
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    (report.check, report.faults) = (state, faults);
}

/// The faults; `None` if it was told to stop before the end.
fn run(database: &Database, stop: &AtomicBool) -> Result<Option<Vec<String>>, StorageError> {
    let mut conn = check::open(database)?;
    let mut steps = check::tables(&mut conn)?;
    steps.extend(check::steps());
    let mut faults = Vec::new();
    for step in steps {
        if stop.load(Ordering::Acquire) {
            return Ok(None);
        }
        faults.extend(step.run(&mut conn)?);
    }
    Ok(Some(faults))
}
