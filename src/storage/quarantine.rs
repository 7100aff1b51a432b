//! Table `quarantine`: copies of bodies that could not be read, each once, within bounds.

use diesel::connection::DefaultLoadingMode;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde::{Serialize, Serializer};

use super::command::NewQuarantine;
use super::conn::Db;
use super::database::{Conn, StorageError};
use super::page::{Page, PageLimit, filter_only_if};
use super::schema::{meta, quarantine};
use super::statement::{Bind, Statement};
use crate::domain::owner::Scope;
use crate::domain::time::UtcMillis;

/// Rows of `meta` that count along, so that no insert has to add up the table.
const BODIES: &str = "quarantine_bodies";
const BYTES: &str = "quarantine_bytes";
const LAST_ID: &str = "quarantine_last_id";

/// Bytes of `body`: in PostgreSQL the length itself is a smaller number.
fn body_bytes() -> SqlLiteral<BigInt> {
    diesel::dsl::sql("CAST(length(body) AS BIGINT)")
}

/// Keeps a copy, or counts one that is kept already. Answers its id and how often it has come;
/// `None` if only copies that name an emergency could make room for one that names none.
pub(super) fn keep(
    conn: &mut Conn,
    new: &NewQuarantine,
    now: UtcMillis,
) -> Result<Option<(i64, i64)>, StorageError> {
    let seen: Option<(i64, i64)> =
        diesel::update(quarantine::table.filter(quarantine::body_hash.eq(new.body_hash.as_slice())))
            .set((quarantine::seen_count.eq(quarantine::seen_count + 1), quarantine::last_seen_ms.eq(now.0)))
            .returning((quarantine::quarantine_id, quarantine::seen_count))
            .get_result(conn)
            .optional()?;
    if seen.is_some() {
        return Ok(seen);
    }
    let kept = &new.body[..new.body.len().min(usize::try_from(new.bytes_max).unwrap_or(usize::MAX))];
    let mut held = held(conn)?;
    held.bodies += 1;
    held.bytes += kept.len() as i64;
    let Some(held) = make_room(conn, new, held)? else { return Ok(None) };
    let quarantine_id = counter(conn, LAST_ID)? + 1;
    count(conn, &[(BODIES, held.bodies), (BYTES, held.bytes), (LAST_ID, quarantine_id)])?;
    diesel::insert_into(quarantine::table)
        .values((
            quarantine::quarantine_id.eq(quarantine_id),
            quarantine::body_hash.eq(new.body_hash.as_slice()),
            quarantine::first_seen_ms.eq(now.0),
            quarantine::last_seen_ms.eq(now.0),
            quarantine::seen_count.eq(1),
            quarantine::route.eq(new.route),
            quarantine::reason.eq(&new.reason),
            quarantine::names_emergency.eq(new.names_emergency),
            quarantine::size_bytes.eq(i64::try_from(new.size_bytes).unwrap_or(i64::MAX)),
            quarantine::body.eq(kept),
        ))
        .execute(conn)?;
    Ok(Some((quarantine_id, 1)))
}

/// Deletes what has not been seen for longest until the new copy, counted already, fits: first
/// what names no emergency, then, for an emergency only, the rest. `None`, and nothing is deleted,
/// if that does not make room.
fn make_room(conn: &mut Conn, new: &NewQuarantine, mut held: Held) -> Result<Option<Held>, StorageError> {
    let bytes_max = i64::try_from(new.bytes_max).unwrap_or(i64::MAX);
    let over = |held: &Held| held.bodies > i64::from(new.bodies_max.max(1)) || held.bytes > bytes_max;
    let mut going = Vec::new();
    for names_emergency in [false, true] {
        if !over(&held) || (names_emergency && !new.names_emergency) {
            break;
        }
        let oldest = quarantine::table
            .filter(quarantine::names_emergency.eq(names_emergency))
            .order((quarantine::last_seen_ms, quarantine::quarantine_id))
            .select((quarantine::quarantine_id, body_bytes()));
        for row in oldest.load_iter::<(i64, i64), DefaultLoadingMode>(conn)? {
            let (id, size) = row?;
            going.push(id);
            held.bodies -= 1;
            held.bytes -= size;
            if !over(&held) {
                break;
            }
        }
    }
    if over(&held) {
        return Ok(None);
    }
    for id in going {
        diesel::delete(quarantine::table.find(id)).execute(conn)?;
    }
    Ok(Some(held))
}

/// Deletes one copy. False if it is not there.
pub(super) fn delete(conn: &mut Conn, quarantine_id: i64) -> Result<bool, StorageError> {
    let row = quarantine::table.find(quarantine_id);
    let size: Option<i64> = row.select(body_bytes()).first(conn).optional()?;
    let Some(size) = size else { return Ok(false) };
    diesel::delete(row).execute(conn)?;
    let held = held(conn)?;
    count(conn, &[(BODIES, held.bodies - 1), (BYTES, held.bytes - size)])?;
    Ok(true)
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub bodies: i64,
    pub bytes: i64,
}

pub fn held(conn: &mut Conn) -> Result<Held, StorageError> {
    Ok(Held { bodies: counter(conn, BODIES)?, bytes: counter(conn, BYTES)? })
}

fn count(conn: &mut Conn, counters: &[(&str, i64)]) -> Result<(), StorageError> {
    for (key, value) in counters {
        struct PutMeta;
        const SQL: &str = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let value = value.to_string();
        Statement::<PutMeta>::new(SQL, &[Bind::Text(key), Bind::Text(&value)]).execute(conn)?;
    }
    Ok(())
}

fn counter(conn: &mut Conn, key: &str) -> Result<i64, StorageError> {
    let value: Option<String> = meta::table.find(key).select(meta::value).first(conn).optional()?;
    value.map_or(Ok(0), |value| {
        value
            .parse()
            .map_err(|_| StorageError::Corrupt { what: "meta", message: format!("{key} is {value:?}") })
    })
}

/// A kept copy as lists show it, without the bytes.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantinedBody {
    #[serde(serialize_with = "as_text")]
    pub quarantine_id: i64,
    pub first_seen_at: UtcMillis,
    pub last_seen_at: UtcMillis,
    /// Times that the database was told of; repeats that memory knows are not counted.
    pub seen_count: i64,
    /// Where it came in; `device` for a report that panicked in its shard.
    pub route: String,
    pub reason: String,
    pub names_emergency: bool,
    /// As it came.
    pub size_bytes: i64,
    /// Of the copy; less than `size_bytes` if only its beginning is kept.
    pub kept_bytes: i64,
    /// Of the body as it came, in hexadecimal.
    pub sha256: String,
}

impl QuarantinedBody {
    pub fn is_whole(&self) -> bool {
        self.kept_bytes == self.size_bytes
    }
}

fn as_text<S: Serializer>(id: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// Which copies a list shows.
#[derive(Debug, Clone, Default)]
pub struct QuarantineFilter {
    pub route: Option<String>,
    pub names_emergency: Option<bool>,
}

type Row = (i64, i64, i64, i64, String, String, bool, i64, Vec<u8>);
const COLUMNS: (
    quarantine::quarantine_id,
    quarantine::first_seen_ms,
    quarantine::last_seen_ms,
    quarantine::seen_count,
    quarantine::route,
    quarantine::reason,
    quarantine::names_emergency,
    quarantine::size_bytes,
    quarantine::body_hash,
) = (
    quarantine::quarantine_id,
    quarantine::first_seen_ms,
    quarantine::last_seen_ms,
    quarantine::seen_count,
    quarantine::route,
    quarantine::reason,
    quarantine::names_emergency,
    quarantine::size_bytes,
    quarantine::body_hash,
);

fn item((row, kept_bytes): (Row, i64)) -> QuarantinedBody {
    let (quarantine_id, first, last, seen_count, route, reason, names_emergency, size_bytes, hash) = row;
    QuarantinedBody {
        quarantine_id,
        first_seen_at: UtcMillis(first),
        last_seen_at: UtcMillis(last),
        seen_count,
        route,
        reason,
        names_emergency,
        size_bytes,
        kept_bytes,
        sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Newest first. Quarantined bytes belong to no customer, so only the administrator sees them.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &QuarantineFilter,
    before: Option<i64>,
    limit: PageLimit,
) -> Result<Page<QuarantinedBody, i64>, StorageError> {
    if *scope != Scope::All {
        return Ok(Page::empty());
    }
    let mut query = quarantine::table
        .filter(quarantine::quarantine_id.lt(before.unwrap_or(i64::MAX)))
        .order(quarantine::quarantine_id.desc())
        .select((COLUMNS, body_bytes()))
        .limit(limit.rows())
        .into_boxed::<Db>();
    if let Some(route) = &filter.route {
        query = query.filter(quarantine::route.eq(route));
    }
    match filter.names_emergency {
        Some(true) => query = query.filter(filter_only_if("+names_emergency")),
        Some(false) => query = query.filter(filter_only_if("NOT +names_emergency")),
        None => {}
    }
    let rows: Vec<(Row, i64)> = query.load(conn)?;
    let bodies = rows.into_iter().map(item).collect();
    Ok(Page::cut(bodies, limit, |body: &QuarantinedBody| body.quarantine_id))
}

/// One copy with its bytes; for the administrator only.
pub fn get(
    conn: &mut Conn,
    scope: &Scope,
    quarantine_id: i64,
) -> Result<Option<(QuarantinedBody, Vec<u8>)>, StorageError> {
    if *scope != Scope::All {
        return Ok(None);
    }
    let found: Option<(Row, Vec<u8>)> =
        quarantine::table.find(quarantine_id).select((COLUMNS, quarantine::body)).first(conn).optional()?;
    Ok(found.map(|(row, body)| (item((row, body.len() as i64)), body)))
}
