//! Brings the mirror up to date from the main database, in a bounded time: what is small as a whole,
//! what grows from where the mirror is, or its newest part.

use std::sync::mpsc::sync_channel;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::journal::{self, columns, number};
use super::remote::TextRow;
use super::small;
use crate::domain::recent::SAMPLES_MAX;
use crate::domain::time::UtcMillis;
use crate::storage::conn::immediate;
use crate::storage::database::StorageError;

/// Rows that are fetched at a time.
pub const FETCH: usize = 2_000;
/// Changes of alerts, the newest, that a new mirror gets. More than dashboards may resume by.
const CHANGES_MAX: i64 = 20_000;
/// Closed alerts, the newest, that a new mirror gets.
const ALERTS_MAX: i64 = 20_000;
/// Events, the newest, that a mirror gets besides those that changed an alert.
const EVENTS_MAX: i64 = 50_000;
/// What came so long before the newest that the mirror has is looked at again.
const OVERLAP_MS: i64 = 60_000;
/// Closed alerts are known for so long.
const KEPT_MS: i64 = 31 * 24 * 3_600_000;
/// Portions that are fetched while another one is being written.
const AHEAD: usize = 2;

/// Copies what is missing, in one transaction of each. `anew`: whatever is there is not to be trusted.
/// `handed_on`: the file spools, and so much of its log has been handed on; [`StorageError::Busy`] if
/// there is more. What is copied is not logged: it would be handed on to where it comes from.
pub fn bring_up_to_date(
    main: &mut PgConnection,
    file: &mut SqliteConnection,
    now: UtcMillis,
    keep_ms: i64,
    anew: bool,
    handed_on: Option<(i64, i64)>,
) -> Result<(), StorageError> {
    diesel::connection::AnsiTransactionManager::begin_transaction_sql(
        main,
        "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    )?;
    let done = immediate(file, |file| {
        // What refers to something may come before it.
        file.batch_execute("PRAGMA defer_foreign_keys = ON")?;
        let Some((small_until, large_until)) = handed_on else {
            return copy_all(main, file, now, keep_ms, anew);
        };
        if journal::has_more(file, small_until, large_until)? {
            return Err(StorageError::Busy);
        }
        journal::pause(file)?;
        copy_all(main, file, now, keep_ms, anew)?;
        Ok(journal::begin(file)?)
    });
    use diesel::connection::TransactionManager;
    diesel::connection::AnsiTransactionManager::rollback_transaction(main)?;
    done
}

fn copy_all(
    main: &mut PgConnection,
    file: &mut SqliteConnection,
    now: UtcMillis,
    keep_ms: i64,
    anew: bool,
) -> Result<(), StorageError> {
    let ours = number(file, "SELECT max(change_offset) AS value FROM alert_change")?.unwrap_or(0);
    let anew = anew || journal::note(file, "filled")?.is_none() || !goes_on(main, ours, file)?;
    if anew {
        for table in ["event", "vitals", "alert", "alert_change", "alert_shown", "device", "device_status"] {
            file.batch_execute(&format!("DELETE FROM {table}"))?;
        }
    }
    small::bring_up_to_date(main, file, anew)?;
    quarantine(main, file)?;

    let seen = number(file, "SELECT max(last_seen_ms) AS value FROM device")?.unwrap_or(i64::MIN / 2);
    let since = seen - OVERLAP_MS;
    let devices = format!(
        "SELECT * FROM device WHERE last_seen_ms >= {since} OR device_sn IN (SELECT device_sn \
         FROM device_binding WHERE bound_ms >= {since} OR unbound_ms >= {since})"
    );
    match anew {
        true => copy(main, file, "device", &devices)?,
        false => small::difference(main, file, "device", &devices)?.put(file)?,
    }

    // The newest changes, without a gap to what is there.
    let after = match anew {
        true => pg_number(main, "SELECT max(change_offset) AS value FROM alert_change")? - CHANGES_MAX,
        false => ours,
    };
    copy(main, file, "alert_change", &format!("SELECT * FROM alert_change WHERE change_offset > {after}"))?;
    let closed = match anew {
        true => format!(
            " OR alert_id IN (SELECT alert_id FROM alert WHERE raised_ms >= {} \
             ORDER BY raised_ms DESC, alert_id DESC LIMIT {ALERTS_MAX})",
            now.0 - KEPT_MS
        ),
        false => String::new(),
    };
    let changed = format!("alert_id IN (SELECT alert_id FROM alert_change WHERE change_offset > {after})");
    // One alert of each device, rule and binding is open: those that ended go first.
    for open in ["NOT is_open", "is_open"] {
        let which = if open == "is_open" { "true".to_owned() } else { format!("({changed}{closed})") };
        copy(main, file, "alert", &format!("SELECT * FROM alert WHERE {open} AND {which}"))?;
    }
    copy(
        main,
        file,
        "alert_shown",
        "SELECT * FROM alert_shown WHERE alert_id IN (SELECT alert_id FROM alert WHERE is_open)",
    )?;

    let horizon = now.0 - keep_ms;
    let received = number(file, "SELECT max(received_ms) AS value FROM event")?.unwrap_or(0);
    let from = horizon.max(received - OVERLAP_MS).max(0);
    copy(
        main,
        file,
        "event",
        &format!(
            "SELECT * FROM event WHERE event_id >= '\\x{from:012x}00000000000000000000' \
             ORDER BY event_id DESC LIMIT {EVENTS_MAX}"
        ),
    )?;
    copy(
        main,
        file,
        "event",
        &format!(
            "SELECT e.* FROM event e JOIN (SELECT DISTINCT decode(replace(substr(cause, 7), '-', ''), 'hex') \
             AS event_id FROM alert_change WHERE change_offset > {after} AND cause LIKE 'event:%') c \
             USING (event_id)"
        ),
    )?;
    copy(
        main,
        file,
        "vitals",
        &format!(
            "SELECT v.* FROM device d CROSS JOIN LATERAL (SELECT * FROM vitals x \
             WHERE x.device_sn = d.device_sn ORDER BY x.measured_ms DESC LIMIT {SAMPLES_MAX}) v \
             WHERE d.last_seen_ms >= {}",
            horizon.max(since)
        ),
    )?;
    journal::set_note(file, "filled", "yes")?;
    Ok(())
}

/// True if the log of the main database is the one that the mirror has, or goes on from it.
fn goes_on(main: &mut PgConnection, ours: i64, file: &mut SqliteConnection) -> Result<bool, StorageError> {
    let theirs = pg_number(main, "SELECT max(change_offset) AS value FROM alert_change")?;
    if ours == 0 || theirs < ours || theirs - ours > CHANGES_MAX {
        return Ok(theirs == 0);
    }
    let cause = |table_row: &str| {
        format!(
            "SELECT alert_id || ' ' || transition || ' ' || cause AS body FROM alert_change \
             WHERE change_offset = {table_row}"
        )
    };
    let here: Option<TextRow> = diesel::sql_query(cause(&ours.to_string())).get_result(file).optional()?;
    let there: Option<TextRow> = diesel::sql_query(cause(&ours.to_string())).get_result(main).optional()?;
    Ok(here.map(|row| row.body) == there.map(|row| row.body))
}

/// Copies that are kept, unless both have the same.
fn quarantine(main: &mut PgConnection, file: &mut SqliteConnection) -> Result<(), StorageError> {
    const SAME: &str = "SELECT count(*) || ' ' || coalesce(max(quarantine_id), 0) || ' ' || \
                        coalesce(sum(seen_count), 0) AS body FROM quarantine";
    let here: TextRow = diesel::sql_query(SAME).get_result(file)?;
    let there: TextRow = diesel::sql_query(SAME).get_result(main)?;
    if here.body != there.body {
        file.batch_execute("DELETE FROM quarantine")?;
        copy(main, file, "quarantine", "SELECT * FROM quarantine")?;
    }
    Ok(())
}

/// The rows of `query` over those of the same key.
pub fn copy(
    main: &mut PgConnection,
    file: &mut SqliteConnection,
    table: &str,
    query: &str,
) -> Result<(), StorageError> {
    portions(main, query, |rows| put(file, table, rows.iter().map(|row| row.body.as_str())))
}

/// Hands over the rows of `query` as JSON, some at a time, while the next ones are fetched.
pub fn portions(
    main: &mut PgConnection,
    query: &str,
    mut take: impl FnMut(Vec<TextRow>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    main.batch_execute(&format!(
        "DECLARE mirrored NO SCROLL CURSOR FOR SELECT row_to_json(r)::text AS body FROM ({query}) r"
    ))?;
    let source = &mut *main;
    std::thread::scope(|scope| {
        let (ready, incoming) = sync_channel(AHEAD);
        let fetching = scope.spawn(move || -> Result<(), StorageError> {
            loop {
                let rows: Vec<TextRow> =
                    diesel::sql_query(format!("FETCH {FETCH} FROM mirrored")).load(source)?;
                let last = rows.len() < FETCH;
                if ready.send(rows).is_err() || last {
                    return Ok(());
                }
            }
        });
        // What fails here ends the other one too.
        let taken = incoming.into_iter().try_for_each(&mut take);
        let panicked = |_| Err(StorageError::Panicked("fetching rows for the mirror".into()));
        taken.and(fetching.join().unwrap_or_else(panicked))
    })?;
    main.batch_execute("CLOSE mirrored")?;
    Ok(())
}

/// Writes rows, as the main database shows them in JSON, over those of the same key.
pub fn put<'a>(
    file: &mut SqliteConnection,
    table: &str,
    rows: impl Iterator<Item = &'a str>,
) -> Result<(), StorageError> {
    let rows: Vec<&str> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let columns = columns(file, table)?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let values: Vec<String> = columns.iter().map(|column| column.extract()).collect();
    diesel::sql_query(format!(
        "INSERT OR REPLACE INTO {table} ({}) SELECT {} FROM json_each(?)",
        names.join(", "),
        values.join(", ")
    ))
    .bind::<Text, _>(format!("[{}]", rows.join(",")))
    .execute(file)?;
    Ok(())
}

fn pg_number(main: &mut PgConnection, query: &str) -> QueryResult<i64> {
    Ok(diesel::sql_query(query).get_result::<journal::Number>(main)?.value.unwrap_or(0))
}
