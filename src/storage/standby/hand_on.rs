//! A portion of the journal, written into PostgreSQL in one transaction. Everything in it may be
//! written twice: what is there stays, and what is newer there is not made older.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::journal::{Portion, Rows};
use crate::storage::database::StorageError;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct ColumnName {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Why a portion was not written.
#[derive(Debug)]
pub enum NotWritten {
    /// PostgreSQL has changes of alerts that were not known here.
    Conflict(String),
    Failed(StorageError),
}

impl From<diesel::result::Error> for NotWritten {
    fn from(err: diesel::result::Error) -> Self {
        NotWritten::Failed(err.into())
    }
}

/// Writes all of it, or nothing.
pub fn portion(conn: &mut PgConnection, portion: &Portion) -> Result<(), NotWritten> {
    conn.transaction(|conn| {
        for rows in &portion.tables {
            table(conn, rows)?;
        }
        Ok(())
    })
}

/// The rows of one table.
pub fn table(conn: &mut PgConnection, rows: &Rows) -> Result<(), NotWritten> {
    let name = rows.table.name;
    if !rows.gone.is_empty() && rows.table.by_rowid {
        let keys = rows.table.key.join(", ");
        let gone = format!(
            "DELETE FROM {name} WHERE ({keys}) IN \
             (SELECT {keys} FROM json_populate_recordset(NULL::{name}, $1::json))"
        );
        diesel::sql_query(gone).bind::<Text, _>(array(&rows.gone)).execute(conn)?;
    }
    if rows.present.is_empty() {
        return Ok(());
    }
    let present = array(&rows.present);
    if name == "quarantine" {
        // The same body may have come to PostgreSQL under another id.
        diesel::sql_query(
            "DELETE FROM quarantine q USING json_populate_recordset(NULL::quarantine, $1::json) p \
             WHERE q.body_hash = p.body_hash AND q.quarantine_id <> p.quarantine_id",
        )
        .bind::<Text, _>(&present)
        .execute(conn)?;
    }
    if name == "device_binding" {
        make_way(conn, &present)?;
    }
    let columns: Vec<ColumnName> = diesel::sql_query(
        "SELECT attname::text AS name FROM pg_attribute \
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    .bind::<Text, _>(name)
    .load(conn)?;
    let columns: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    let names = columns.join(", ");
    let conflict = on_conflict(rows, &columns);
    // What ends something goes before what begins it anew: one of each may be open.
    let turns: &[&str] = match name {
        "alert" => &[" WHERE NOT is_open", " WHERE is_open"],
        "device_binding" => &[" WHERE unbound_ms IS NOT NULL", " WHERE unbound_ms IS NULL"],
        _ => &[""],
    };
    for turn in turns {
        let write = format!(
            "INSERT INTO {name} ({names}) SELECT {names} \
             FROM json_populate_recordset(NULL::{name}, $1::json){turn} {conflict}"
        );
        diesel::sql_query(write).bind::<Text, _>(&present).execute(conn)?;
    }
    if name == "alert_change" {
        same_changes(conn, &present, rows.present.len())?;
    }
    Ok(())
}

/// Another server may have bound watches under ids that were given here too: its bindings get other ids. And
/// of a watch that both have bound the binding that is handed on is the later one.
fn make_way(conn: &mut PgConnection, present: &str) -> QueryResult<()> {
    const ELSEWHERE: &str = "WITH p AS (SELECT * FROM json_populate_recordset(NULL::device_binding, $1::json)), \
        taken AS (SELECT b.binding_id, row_number() OVER (ORDER BY b.binding_id) AS number \
        FROM device_binding b JOIN p USING (binding_id) WHERE b.device_sn <> p.device_sn), \
        top AS (SELECT greatest((SELECT max(binding_id) FROM device_binding), \
        (SELECT max(binding_id) FROM p)) AS binding_id) \
        UPDATE device_binding b SET binding_id = top.binding_id + taken.number FROM taken, top \
        WHERE b.binding_id = taken.binding_id";
    const ENDED: &str = "UPDATE device_binding b SET unbound_ms = greatest(b.bound_ms, p.bound_ms), \
        unbound_by = p.bound_by FROM json_populate_recordset(NULL::device_binding, $1::json) p \
        WHERE p.unbound_ms IS NULL AND b.unbound_ms IS NULL AND b.device_sn = p.device_sn \
        AND b.binding_id <> p.binding_id";
    for statement in [ELSEWHERE, ENDED] {
        diesel::sql_query(statement).bind::<Text, _>(present).execute(conn)?;
    }
    Ok(())
}

fn array(rows: &[String]) -> String {
    format!("[{}]", rows.join(","))
}

/// No two changes ever have one offset.
fn same_changes(conn: &mut PgConnection, present: &str, count: usize) -> Result<(), NotWritten> {
    let same: Count = diesel::sql_query(
        "SELECT count(*) AS value FROM json_populate_recordset(NULL::alert_change, $1::json) p \
         JOIN alert_change c USING (change_offset) \
         WHERE c.alert_id = p.alert_id AND c.cause = p.cause AND c.transition = p.transition",
    )
    .bind::<Text, _>(present)
    .get_result(conn)?;
    match usize::try_from(same.value) == Ok(count) {
        true => Ok(()),
        false => Err(NotWritten::Conflict(format!(
            "of {count} offsets {} belong to other changes",
            count as i64 - same.value
        ))),
    }
}

/// What becomes of a row that is there.
fn on_conflict(rows: &Rows, columns: &[String]) -> String {
    let table = rows.table.name;
    let key = rows.table.key.join(", ");
    let others = || columns.iter().filter(|column| !rows.table.key.contains(&column.as_str()));
    let set = |value: &dyn Fn(&str) -> String| {
        let set: Vec<String> = others().map(|column| format!("{column} = {}", value(column))).collect();
        format!("ON CONFLICT ({key}) DO UPDATE SET {}", set.join(", "))
    };
    let theirs = |column: &str| format!("excluded.{column}");
    match table {
        "event" | "device_status" | "device_message" | "watch_log" | "alert_shown" => {
            "ON CONFLICT DO NOTHING".into()
        }
        "alert_change" => "ON CONFLICT (change_offset) DO NOTHING".into(),
        // What was measured stays.
        "vitals" => set(&|column| match column {
            "received_ms" | "customer_id" | "person_id" | "upload_method" | "worn" | "identity_hash" => {
                format!("vitals.{column}")
            }
            _ => format!("coalesce(vitals.{column}, excluded.{column})"),
        }),
        "device" => set(&|column| match column {
            "first_seen_ms" => "least(device.first_seen_ms, excluded.first_seen_ms)".into(),
            "last_seen_ms" => "greatest(device.last_seen_ms, excluded.last_seen_ms)".into(),
            "worn" | "worn_ms" => format!(
                "CASE WHEN excluded.worn IS NULL OR (device.worn IS NOT NULL \
                 AND excluded.worn_ms < device.worn_ms) THEN device.{column} ELSE excluded.{column} END"
            ),
            _ => theirs(column),
        }),
        "alert" => format!("{} WHERE alert.last_offset < excluded.last_offset", set(&theirs)),
        "alert_rule" => format!("{} WHERE alert_rule.version <= excluded.version", set(&theirs)),
        // Revoked is revoked.
        "api_token" => set(&|column| match column {
            "revoked_ms" => "coalesce(api_token.revoked_ms, excluded.revoked_ms)".into(),
            _ => theirs(column),
        }),
        _ => set(&theirs),
    }
}
