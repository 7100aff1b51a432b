//! How much the file and its write-ahead log may take together.

use diesel::prelude::*;

use super::guarded::Guarded;
use super::journal::number;
use crate::storage::database::{Conn, StorageError};

/// A part of the spool that is kept free for emergencies: one in so many.
const RESERVE: u64 = 8;
/// A part of it is the log's: one in so many.
const LOG: u64 = 16;
/// Of a large spool the log needs no more, bytes.
const LOG_MAX: u64 = 64 * 1024 * 1024;

impl Guarded {
    /// Before a transaction: the file and its log may be larger by what it writes, and by no more. The last
    /// part is for batches with emergencies.
    pub(super) fn refuse_at_the_bound(&mut self, urgent: bool) -> Result<(), StorageError> {
        let max = self.standby.limits.bytes_max;
        let share = (max / LOG).min(LOG_MAX);
        let Conn::Sqlite(conn) = &mut self.local.conn else { return Ok(()) };
        if self.standby.log_bytes() >= share {
            empty_log(conn)?;
        }
        let (log, page) = (self.standby.log_bytes(), bytes_of(conn, "page_size")?);
        let (pages, free) = (bytes_of(conn, "page_count")?, bytes_of(conn, "freelist_count")?);
        // Free pages are used before the file grows; so it never takes the log's share. A log that somebody
        // still reads cannot be emptied, and may take what the whole file leaves.
        let used = match log < share {
            true => (pages - free) * page + share,
            false => pages * page + log,
        };
        let bound = if urgent { max } else { max - max / RESERVE };
        match used < bound {
            true => Ok(()),
            false => Err(StorageError::SpoolFull { used, max }),
        }
    }
}

fn bytes_of(conn: &mut SqliteConnection, pragma: &str) -> QueryResult<u64> {
    let found = number(conn, &format!("SELECT {pragma} AS value FROM pragma_{pragma}"))?;
    Ok(found.unwrap_or(0).unsigned_abs())
}

/// Moves the log into the file, unless somebody else is at it: nobody is waited for.
fn empty_log(conn: &mut SqliteConnection) -> QueryResult<()> {
    let patience = number(conn, "SELECT timeout AS value FROM pragma_busy_timeout")?.unwrap_or(0);
    diesel::sql_query("PRAGMA busy_timeout = 0").execute(conn)?;
    let emptied = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").execute(conn);
    diesel::sql_query(format!("PRAGMA busy_timeout = {patience}")).execute(conn)?;
    match emptied {
        Err(err) if !err.to_string().contains("locked") => Err(err),
        _ => Ok(()),
    }
}
