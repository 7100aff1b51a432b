//! What a damaged file had spooled, put into a new one: row by row, as far as it can be read. Alerts are
//! decided anew from the lines of their log, on top of what the main database has; whoever is named and
//! cannot be read any more is called by the id.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::journal::{self, LARGE, Table};
use super::{guarded, rejoin, torn};
use crate::domain::alert::Cause;
use crate::domain::ids::Offset;
use crate::domain::time::UtcMillis;
use crate::storage::alert_log::{changes_after, last_offset};
use crate::storage::commit::Session;
use crate::storage::database::{Conn, Database, StorageError};
use crate::supervision::outage::OutageKind;

/// Rows that are looked up at a time.
const LOOKED_UP: usize = 100;
/// All of a line of the log but its offset.
const CHANGE: &str = "alert_id, transition, cause, at_ms, actor, note, quiet, device_sn, customer_id, severity, \
    body, outcome";
/// Who is referred to and not there: the table, its columns, and rows for those that are missing.
const NAMED: [&str; 3] = [
    "INSERT INTO main.person (person_id, customer_id, name, created_ms) \
     SELECT person_id, min(customer_id), person_id, ?1 FROM main.device_binding \
     WHERE person_id IS NOT NULL AND person_id NOT IN (SELECT person_id FROM main.person) GROUP BY person_id",
    "INSERT INTO main.org (org_id, customer_id, name, created_ms) \
     SELECT id, min(customer_id), id, ?1 FROM (SELECT org_id AS id, customer_id FROM main.device_binding \
     UNION ALL SELECT org_id, customer_id FROM main.person \
     UNION ALL SELECT parent_org_id, customer_id FROM main.org) AS named \
     WHERE id IS NOT NULL AND id NOT IN (SELECT org_id FROM main.org) GROUP BY id",
    "INSERT INTO main.customer (customer_id, name, created_ms) \
     SELECT customer_id, customer_id, ?1 FROM (SELECT customer_id FROM main.device_binding \
     UNION SELECT customer_id FROM main.person UNION SELECT customer_id FROM main.org) AS named \
     WHERE customer_id NOT IN (SELECT customer_id FROM main.customer)",
];

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = BigInt)]
    row_id: i64,
}

#[derive(QueryableByName)]
struct Gone {
    #[diesel(sql_type = Text)]
    gone: String,
}

/// Rows that were taken, and those that could not be read.
#[derive(Debug, Default)]
struct Tally {
    kept: u64,
    lost: u64,
}

impl Tally {
    fn count<T>(&mut self, taken: &QueryResult<T>) {
        match taken {
            Ok(_) => self.kept += 1,
            Err(_) => self.lost += 1,
        }
    }
}

/// Takes what there is into `file`, which has just been brought up to date from `main`; it spools
/// afterwards. Answers the epoch of the log from now on, unless nothing was spooled: offsets that were given
/// meanwhile mean nothing. May be repeated if it was interrupted.
pub fn take(
    main: &Database,
    file: &Database,
    damaged: &Path,
    now: UtcMillis,
) -> Result<Option<String>, StorageError> {
    let mut conn = file.open_writer()?;
    let base = last_offset(&mut conn)?;
    guarded::begin_journal(&mut conn, base)?;
    let mut tally = Tally::default();
    match attach(&mut conn, damaged) {
        Err(err) if err.outage() == Some(OutageKind::Damaged) => {
            tracing::error!("{}: {err}; nothing of it can be read", damaged.display());
            tally.lost += 1;
        }
        attached => attached?,
    }
    for table in journal::TABLES.iter().filter(|table| table.name != "meta") {
        match table.name {
            "alert" => {}
            "alert_change" => changes(&mut conn, base, &mut tally)?,
            "alert_shown" => shown(&mut conn, &mut tally)?,
            _ => rows(&mut conn, table, &mut tally)?,
        }
    }
    for missing in NAMED {
        diesel::sql_query(missing).bind::<BigInt, _>(now.0).execute(&mut conn)?;
    }
    drop(conn);
    if tally.kept + tally.lost == 0 {
        return Ok(None);
    }
    let conflict = match (main.open_beside()?, file.open_reader()?) {
        (Conn::Postgres(mut main), Conn::Sqlite(mut file)) => {
            rejoin::on_top(&mut main, &mut file, base, base)?
        }
        _ => return Err(StorageError::Unusable("the standby is no file".into())),
    };
    let epoch = rejoin::rebase(&mut Session::open(file)?, &conflict)?;
    tracing::error!(
        "of what was spooled {} rows are kept and {} could not be read; alerts follow offset {base}, and \
         dashboards read everything anew",
        tally.kept,
        tally.lost
    );
    Ok(Some(epoch))
}

/// Each row is a transaction: within one that writes, the first error would be that of all others. They
/// are synced with the last of them; and references are right when everything is there. What is damaged of
/// its schema (`writable_schema` lets it be) takes with it the tables of which it tells, and no others.
fn attach(conn: &mut Conn, damaged: &Path) -> Result<(), StorageError> {
    let Conn::Sqlite(conn) = conn else { return Ok(()) };
    conn.batch_execute(
        "PRAGMA foreign_keys = OFF; PRAGMA synchronous = NORMAL; PRAGMA writable_schema = ON",
    )?;
    torn::pad(damaged).map_err(|err| StorageError::Unusable(format!("{}: {err}", damaged.display())))?;
    diesel::sql_query("ATTACH DATABASE ? AS damaged")
        .bind::<Text, _>(damaged.to_string_lossy())
        .execute(conn)?;
    // Only now it is read.
    conn.batch_execute("SELECT 1 FROM damaged.sqlite_schema")?;
    Ok(())
}

/// What was written into a table, and what was taken out of a small one.
fn rows(conn: &mut Conn, table: &Table, tally: &mut Tally) -> Result<(), StorageError> {
    let Conn::Sqlite(conn) = conn else { return Ok(()) };
    let name = table.name;
    if table.code < LARGE || name == "quarantine" {
        for gone in gone(conn, table) {
            let same = |column: &&str| format!("{column} = json_extract(?1, '$.{column}')");
            let same = table.key.iter().map(same).collect::<Vec<_>>().join(" AND ");
            let taken = diesel::sql_query(format!("DELETE FROM main.{name} WHERE {same}"))
                .bind::<Text, _>(gone)
                .execute(conn);
            tally.count(&taken);
        }
    }
    // What cannot change stays as the main database has it.
    let verb = match name {
        "event" | "device_status" | "device_message" | "watch_log" => "IGNORE",
        _ => "REPLACE",
    };
    for row in logged(conn, table) {
        if name == "device_binding" {
            end_others(conn, row)?;
        }
        let taken = diesel::sql_query(format!(
            "INSERT OR {verb} INTO main.{name} SELECT * FROM damaged.{name} WHERE rowid = {row}"
        ))
        .execute(conn);
        tally.count(&taken);
    }
    Ok(())
}

/// A device has one owner: where a binding begins, the one of before ends, also if its own row cannot be read.
fn end_others(conn: &mut SqliteConnection, row: i64) -> Result<(), StorageError> {
    let ended = diesel::sql_query(format!(
        "UPDATE main.device_binding AS old SET unbound_ms = new.bound_ms, unbound_by = new.bound_by \
         FROM damaged.device_binding AS new WHERE new.rowid = {row} AND new.unbound_ms IS NULL \
         AND old.device_sn = new.device_sn AND old.unbound_ms IS NULL AND old.binding_id <> new.binding_id"
    ))
    .execute(conn);
    if let Err(err) = ended {
        tracing::debug!("the binding of row {row} cannot be read: {err}");
    }
    Ok(())
}

/// Lines of the log of alerts, with offsets behind the last that the main database has. Of an open alert
/// whose lines cannot be read its own row makes one.
fn changes(conn: &mut Conn, base: Offset, tally: &mut Tally) -> Result<(), StorageError> {
    let table = |name: &str| journal::TABLES.iter().find(|table| table.name == name);
    let (Some(change), Some(alert)) = (table("alert_change"), table("alert")) else { return Ok(()) };
    let next = "(SELECT coalesce(max(change_offset), 0) + 1 FROM main.alert_change)";
    let of_log = |row| {
        format!(
            "INSERT OR IGNORE INTO main.alert_change (change_offset, {CHANGE}) \
             SELECT {next}, {CHANGE} FROM damaged.alert_change WHERE rowid = {row}"
        )
    };
    let of_alert = |row| {
        format!(
            "INSERT OR IGNORE INTO main.alert_change (change_offset, {CHANGE}) SELECT {next}, alert_id, 'raised', \
             coalesce('event:' || json_extract(body, '$.event_id'), 'action:salvaged'), raised_ms, NULL, NULL, 0, device_sn, customer_id, severity, body, NULL \
             FROM damaged.alert WHERE rowid = {row} AND is_open AND alert_id NOT IN \
             (SELECT alert_id FROM main.alert_change UNION ALL SELECT alert_id FROM main.alert)"
        )
    };
    let found = match conn {
        Conn::Sqlite(conn) => [logged(conn, change), logged(conn, alert)],
        Conn::Postgres(_) => return Ok(()),
    };
    let statements = found[0].iter().map(of_log).chain(found[1].iter().map(of_alert));
    for statement in statements {
        let before = last_offset(conn)?.max(base);
        let mut taken = diesel::sql_query(statement).execute(conn);
        // What cannot be decided anew is none.
        let line = changes_after(conn, before, Offset::MAX, 1);
        if !line.is_ok_and(|lines| lines.iter().all(|line| Cause::from_key(&line.cause).is_some())) {
            diesel::sql_query(format!("DELETE FROM main.alert_change WHERE change_offset > {before}"))
                .execute(conn)?;
            taken = Err(diesel::result::Error::NotFound);
        }
        tally.count(&taken);
    }
    Ok(())
}

/// Who had which alert on the screen.
fn shown(conn: &mut Conn, tally: &mut Tally) -> Result<(), StorageError> {
    let Conn::Sqlite(conn) = conn else { return Ok(()) };
    let Some(table) = journal::TABLES.iter().find(|table| table.name == "alert_shown") else { return Ok(()) };
    for key in gone(conn, table) {
        let taken = diesel::sql_query(
            "INSERT OR IGNORE INTO main.alert_shown SELECT * FROM damaged.alert_shown \
             WHERE alert_id = json_extract(?1, '$.alert_id') AND viewer = json_extract(?1, '$.viewer')",
        )
        .bind::<Text, _>(key)
        .execute(conn);
        tally.count(&taken);
    }
    Ok(())
}

/// Keys of a table that the log names.
fn gone(conn: &mut SqliteConnection, table: &Table) -> Vec<String> {
    let found: QueryResult<Vec<Gone>> = diesel::sql_query(format!(
        "SELECT gone FROM damaged.spool_log WHERE tab = {} AND json_valid(gone) ORDER BY seq",
        table.code
    ))
    .load(conn);
    found.unwrap_or_default().into_iter().map(|line| line.gone).collect()
}

/// Rows of a table that the log names; where that cannot be read, all that can be read.
fn logged(conn: &mut SqliteConnection, table: &Table) -> Vec<i64> {
    let of_log = format!(
        "SELECT seq AS at, row AS row_id FROM damaged.spool_log WHERE tab = {} AND row IS NOT NULL",
        table.code
    );
    let (mut found, whole) = from_both_ends(conn, &of_log, "seq");
    if !whole {
        let all = format!("SELECT rowid AS at, rowid AS row_id FROM damaged.{} WHERE true", table.name);
        found.extend(from_both_ends(conn, &all, "rowid").0);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// As far as it can be read, and whether that was everything.
fn from_both_ends(conn: &mut SqliteConnection, query: &str, order: &str) -> (Vec<i64>, bool) {
    let mut found = Vec::new();
    for (direction, compare, mut from) in [("ASC", ">", i64::MIN), ("DESC", "<", i64::MAX)] {
        loop {
            let part: QueryResult<Vec<Line>> = diesel::sql_query(format!(
                "{query} AND {order} {compare} {from} ORDER BY {order} {direction} LIMIT {LOOKED_UP}"
            ))
            .load(conn);
            let Ok(part) = part else { break };
            let Some(last) = part.last() else { return (found, true) };
            // A walk through what is damaged may go round in circles.
            if (direction == "ASC") != (last.at > from) {
                break;
            }
            from = last.at;
            found.extend(part.iter().map(|line| line.row_id));
        }
    }
    (found, false)
}
