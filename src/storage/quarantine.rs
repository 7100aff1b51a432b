//! Table `quarantine`: copies of bodies that could not be read, each once, within bounds.

use diesel::prelude::*;
use diesel::sqlite::Sqlite;
use serde::Serialize;

use super::command::NewQuarantine;
use super::database::{Conn, StorageError};
use super::page::{Page, PageLimit};
use super::schema::{meta, quarantine};
use crate::domain::owner::Scope;
use crate::domain::time::UtcMillis;

/// Rows of `meta` that count along, so that no insert has to add up the table.
const BODIES: &str = "quarantine_bodies";
const BYTES: &str = "quarantine_bytes";
const LAST_ID: &str = "quarantine_last_id";

#[diesel::declare_sql_function]
extern "SQL" {
    fn length(body: diesel::sql_types::Binary) -> BigInt;
}

/// Keeps a copy, or counts one that is kept already. Answers its id and how often it has come.
pub(super) fn keep(conn: &mut Conn, new: &NewQuarantine, now: UtcMillis) -> Result<(i64, i64), StorageError> {
    let seen: Option<(i64, i64)> =
        diesel::update(quarantine::table.filter(quarantine::body_hash.eq(new.body_hash.as_slice())))
            .set((quarantine::seen_count.eq(quarantine::seen_count + 1), quarantine::last_seen_ms.eq(now.0)))
            .returning((quarantine::quarantine_id, quarantine::seen_count))
            .get_result(conn)
            .optional()?;
    if let Some(seen) = seen {
        return Ok(seen);
    }
    let kept = &new.body[..new.body.len().min(usize::try_from(new.bytes_max).unwrap_or(usize::MAX))];
    let bodies = counter(conn, BODIES)? + 1;
    let bytes = counter(conn, BYTES)? + kept.len() as i64;
    let (bodies, bytes) = evict(conn, new, bodies, bytes)?;
    let quarantine_id = counter(conn, LAST_ID)? + 1;
    for (key, value) in [(BODIES, bodies), (BYTES, bytes), (LAST_ID, quarantine_id)] {
        diesel::replace_into(meta::table)
            .values((meta::key.eq(key), meta::value.eq(value.to_string())))
            .execute(conn)?;
    }
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
    Ok((quarantine_id, 1))
}

/// Deletes what has not been seen for longest until the new copy, counted already, fits.
fn evict(
    conn: &mut Conn,
    new: &NewQuarantine,
    mut bodies: i64,
    mut bytes: i64,
) -> Result<(i64, i64), StorageError> {
    let bytes_max = i64::try_from(new.bytes_max).unwrap_or(i64::MAX);
    while bodies > i64::from(new.bodies_max.max(1)) || bytes > bytes_max {
        let oldest: Option<(i64, i64)> = quarantine::table
            .order((quarantine::last_seen_ms, quarantine::quarantine_id))
            .select((quarantine::quarantine_id, length(quarantine::body)))
            .first(conn)
            .optional()?;
        let Some((id, size)) = oldest else { break };
        diesel::delete(quarantine::table.find(id)).execute(conn)?;
        bodies -= 1;
        bytes -= size;
    }
    Ok((bodies, bytes))
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
    pub quarantine_id: i64,
    pub first_seen_at: UtcMillis,
    pub last_seen_at: UtcMillis,
    pub seen_count: i64,
    pub route: String,
    pub reason: String,
    pub names_emergency: bool,
    pub size_bytes: i64,
}

/// Newest first. Quarantined bytes belong to no customer, so only the administrator sees them.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    before: Option<i64>,
    limit: PageLimit,
) -> Result<Page<QuarantinedBody, i64>, StorageError> {
    if *scope != Scope::All {
        return Ok(Page::empty());
    }
    type Row = (i64, i64, i64, i64, String, String, bool, i64);
    let rows: Vec<Row> = quarantine::table
        .filter(quarantine::quarantine_id.lt(before.unwrap_or(i64::MAX)))
        .order(quarantine::quarantine_id.desc())
        .select((
            quarantine::quarantine_id,
            quarantine::first_seen_ms,
            quarantine::last_seen_ms,
            quarantine::seen_count,
            quarantine::route,
            quarantine::reason,
            quarantine::names_emergency,
            quarantine::size_bytes,
        ))
        .limit(limit.rows())
        .into_boxed::<Sqlite>()
        .load(conn)?;
    let bodies = rows
        .into_iter()
        .map(|(quarantine_id, first, last, seen_count, route, reason, names_emergency, size_bytes)| {
            QuarantinedBody {
                quarantine_id,
                first_seen_at: UtcMillis(first),
                last_seen_at: UtcMillis(last),
                seen_count,
                route,
                reason,
                names_emergency,
                size_bytes,
            }
        })
        .collect();
    Ok(Page::cut(bodies, limit, |body: &QuarantinedBody| body.quarantine_id))
}
