//! Partitions of `event` and `vitals`: one a month, made ahead of time, dropped when they are too
//! old. What belongs to no month that has been made is in `event_other` and `vitals_other`.

use chrono::{Datelike, Months, NaiveDate};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::domain::time::UtcMillis;

/// Months that are there ahead of the present one.
const AHEAD: u32 = 3;
/// Months before the present one that a new database has: reports may be 31 days late.
const BEHIND: u32 = 2;

/// A month that is there, as `2026-11`.
#[derive(QueryableByName)]
struct Partition {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The first day of the month of `at`.
pub fn month_of(at: UtcMillis) -> NaiveDate {
    let date = chrono::DateTime::from_timestamp_millis(at.0).unwrap_or_default().date_naive();
    date.with_day(1).unwrap_or(date)
}

fn start_ms(month: NaiveDate) -> i64 {
    month.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis().max(0)
}

/// Makes the months round `now` that are missing. Returns until when (exclusive) there are months.
pub fn make_ahead(conn: &mut PgConnection, now: UtcMillis) -> QueryResult<UtcMillis> {
    let month = month_of(now);
    // No id has an earlier time than 1970.
    let from = month.checked_sub_months(Months::new(BEHIND)).unwrap_or(month).max(NaiveDate::default());
    let until = month.checked_add_months(Months::new(AHEAD + 1)).unwrap_or(month);
    make(conn, from, until)?;
    Ok(UtcMillis(start_ms(until)))
}

/// Makes the months from `from` until `until` (exclusive) that are missing.
pub fn make(conn: &mut PgConnection, from: NaiveDate, until: NaiveDate) -> QueryResult<()> {
    let mut month = from;
    while month < until {
        let Some(next) = month.checked_add_months(Months::new(1)) else { break };
        let (start, end) = (start_ms(month), start_ms(next));
        // The id of an event begins with 48 bits of milliseconds.
        let id = |ms: i64| format!("'\\x{ms:012x}00000000000000000000'");
        let suffix = month.format("%Y_%m");
        conn.batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS event_{suffix} PARTITION OF event FOR VALUES FROM ({}) TO ({}); \
             CREATE TABLE IF NOT EXISTS vitals_{suffix} PARTITION OF vitals FOR VALUES FROM ({start}) TO ({end})",
            id(start),
            id(end)
        ))?;
        month = next;
    }
    Ok(())
}

/// Drops the months that end at or before the first day of `month`, and deletes what is older from the tables for
/// the rest. Returns the names of the tables that were dropped.
pub fn drop_before(conn: &mut PgConnection, month: NaiveDate) -> QueryResult<Vec<String>> {
    conn.transaction(|conn| {
        let names: Vec<Partition> = diesel::sql_query(
            "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent IN ('event'::regclass, 'vitals'::regclass) ORDER BY 1",
        )
        .load(conn)?;
        let mut dropped = Vec::new();
        for Partition { name } in names {
            let old = name.split_once('_').is_some_and(|(_, suffix)| {
                NaiveDate::parse_from_str(&format!("{suffix}_01"), "%Y_%m_%d")
                    .is_ok_and(|start| start < month)
            });
            if old {
                conn.batch_execute(&format!("DROP TABLE {name}"))?;
                dropped.push(name);
            }
        }
        let start = start_ms(month);
        conn.batch_execute(&format!(
            "DELETE FROM event_other WHERE event_id < '\\x{start:012x}00000000000000000000'; \
             DELETE FROM vitals_other WHERE measured_ms < {start}"
        ))?;
        Ok(dropped)
    })
}
