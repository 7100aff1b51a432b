//! Takes away what the mirror holds and nobody needs: bit by bit, between two batches.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::journal;
use crate::domain::time::UtcMillis;
use crate::storage::conn::write_transaction;
use crate::storage::database::{Conn, StorageError};

/// Rows of one table that one step looks at.
const STEP: i64 = 1_000;
/// Between two steps when there was nothing to do.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two walks over what was kept.
const AGAIN: Duration = Duration::from_secs(3_600);
/// What raised an alert, and closed alerts with their log, are known for so long: reports may be
/// that late.
const KEPT_MS: i64 = 31 * 24 * 3_600_000;
/// Changes that stay however old they are: dashboards resume from them.
const CHANGES_KEPT: i64 = 50_000;
/// Tables that only grow. Their rows come in the order in which they were received.
const GROWING: [&str; 5] = ["event", "vitals", "device_status", "watch_log", "device_message"];

/// How far it has come in each table.
#[derive(Debug, Default)]
pub struct Pruning {
    after: [i64; GROWING.len()],
    due: Option<Instant>,
    again: Option<Instant>,
}

#[derive(QueryableByName)]
struct Seen {
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = BigInt)]
    until: i64,
    #[diesel(sql_type = BigInt)]
    old: i64,
}

impl Pruning {
    /// Takes away some of what is older than `keep_ms`. Only while nothing is spooled: the journal
    /// reads rows again.
    pub fn step(&mut self, conn: &mut Conn, now: UtcMillis, keep_ms: i64) -> Result<(), StorageError> {
        let Conn::Sqlite(_) = conn else { return Ok(()) };
        if self.due.is_some_and(|due| due > Instant::now()) {
            return Ok(());
        }
        if *self.again.get_or_insert_with(|| Instant::now() + AGAIN) <= Instant::now() {
            // What raised an alert and was passed over may have become old too.
            *self = Self::default();
        }
        let mut after = self.after;
        let more = write_transaction(conn, |conn| {
            let Conn::Sqlite(conn) = conn else { return Ok(false) };
            let mut more = false;
            for (table, after) in GROWING.iter().zip(&mut after) {
                more |= rows(conn, table, after, now.0, keep_ms)?;
            }
            if !more {
                alerts(conn, now.0 - KEPT_MS)?;
            }
            Ok::<_, StorageError>(more)
        })?;
        self.after = after;
        self.due = (!more).then(|| Instant::now() + PAUSE);
        Ok(())
    }
}

/// True if there may be more to take away.
fn rows(
    conn: &mut SqliteConnection,
    table: &str,
    after: &mut i64,
    now: i64,
    keep_ms: i64,
) -> QueryResult<bool> {
    let horizon = now - keep_ms;
    let seen: Seen = diesel::sql_query(format!(
        "SELECT count(*) AS rows, coalesce(max(id), {after}) AS until, \
         coalesce(sum(received_ms < {horizon}), 0) AS old \
         FROM (SELECT rowid AS id, received_ms FROM {table} WHERE rowid > {after} ORDER BY rowid LIMIT {STEP})"
    ))
    .get_result(conn)?;
    if seen.old == 0 {
        return Ok(false);
    }
    let limit = match table {
        "event" => format!("CASE WHEN alert_id IS NULL THEN {horizon} ELSE {} END", now - KEPT_MS),
        _ => horizon.to_string(),
    };
    diesel::sql_query(format!(
        "DELETE FROM {table} WHERE rowid > {after} AND rowid <= {} AND received_ms < {limit}",
        seen.until
    ))
    .execute(conn)?;
    if seen.old < seen.rows {
        // The young ones are looked at again when they are old.
        return Ok(false);
    }
    *after = seen.until;
    Ok(seen.rows >= STEP)
}

/// Closed alerts, and their lines of the log but for the newest of all.
fn alerts(conn: &mut SqliteConnection, old: i64) -> QueryResult<()> {
    let last = journal::number(conn, "SELECT max(change_offset) AS value FROM alert_change")?.unwrap_or(0);
    diesel::sql_query(format!(
        "DELETE FROM alert_change WHERE change_offset IN (SELECT change_offset FROM alert_change \
         WHERE change_offset < {} AND at_ms < {old} AND alert_id NOT IN \
         (SELECT alert_id FROM alert WHERE is_open) ORDER BY change_offset LIMIT {STEP})",
        last - CHANGES_KEPT
    ))
    .execute(conn)?;
    diesel::sql_query(format!(
        "DELETE FROM alert WHERE alert_id IN (SELECT alert_id FROM alert WHERE raised_ms < {old} \
         AND NOT is_open AND NOT EXISTS (SELECT 1 FROM alert_change c WHERE c.alert_id = alert.alert_id) \
         ORDER BY raised_ms LIMIT {STEP})"
    ))
    .execute(conn)
    .map(|_| ())
}
