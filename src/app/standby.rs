//! What stands in for a database that may go away, as the server shows it.

use std::sync::Arc;

use crate::session::messages::Epoch;
use crate::storage::database::Database;
use crate::telemetry::Metrics;

/// The epoch of the log, which changes where a database turns out to have another one.
pub fn epoch(database: &Database, opened: &str, metrics: &Arc<Metrics>) -> Epoch {
    #[cfg(feature = "postgres")]
    if let Some(standby) = database.standby() {
        standby.count_in(metrics.clone());
        return standby.epoch().into();
    }
    let _ = (database, metrics);
    opened.into()
}
