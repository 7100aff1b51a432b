//! A row that the main database refuses for what is in it: found by halves, put into quarantine with
//! the error, and what came with it is stored.

use diesel::PgConnection;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::hand_on::{self, NotWritten};
use super::journal::{Portion, Rows};
use crate::config::QuarantineConfig;
use crate::domain::record::Records;
use crate::storage::command::NewQuarantine;
use crate::storage::commit::{Committed, Entry, Session, Stored};
use crate::storage::database::StorageError;
use crate::storage::rows::{EventTexts, event_binds, vitals_binds};
use crate::storage::statement::Bind;

/// Where a quarantined copy says that it comes from.
const ROUTE: &str = "storage";

/// In the order of their binds.
const EVENT: [&str; 25] = [
    "event_id",
    "device_sn",
    "customer_id",
    "org_id",
    "person_id",
    "binding_id",
    "event_type",
    "type_key",
    "value",
    "occurred_ms",
    "time_source",
    "received_ms",
    "client_event_id",
    "level",
    "description",
    "latitude",
    "longitude",
    "altitude",
    "vitals_ms",
    "claims",
    "extra",
    "warnings",
    "identity_hash",
    "alert_id",
    "evaluated",
];
const VITALS: [&str; 26] = [
    "heart_rate",
    "blood_oxygen",
    "body_temperature",
    "blood_pressure_systolic",
    "blood_pressure_diastolic",
    "stress",
    "step",
    "distance",
    "calorie",
    "latitude",
    "longitude",
    "altitude",
    "sleep",
    "exercise_daily",
    "exercise_week",
    "scientific_sleep",
    "workout",
    "extra",
    "device_sn",
    "measured_ms",
    "received_ms",
    "customer_id",
    "person_id",
    "upload_method",
    "worn",
    "identity_hash",
];

/// Stores a batch; entries that the database refuses for what is in them are added to `refused`, and
/// count as stored.
pub fn commit(
    session: &mut Session,
    entries: &[Entry<'_>],
    refused: &mut Vec<NewQuarantine>,
) -> Result<Committed, StorageError> {
    let err = match session.commit(entries) {
        Err(err) if err.is_content() => err,
        done => return done,
    };
    let [entry] = entries else {
        let (first, second) = entries.split_at(entries.len() / 2);
        let mut done = commit(session, first, refused)?;
        let rest = commit(session, second, refused)?;
        done.changes.extend(rest.changes);
        done.stored.extend(rest.stored);
        done.merged.extend(rest.merged);
        return Ok(done);
    };
    // Whatever is wrong with the report, its alert shall be seen.
    let changes = Entry { records: None, unasked: None, ..*entry };
    let mut done = match session.commit(&[changes]) {
        Err(err) if err.is_content() => Committed::default(),
        done => done?,
    };
    let row = entry.records.map_or(Value::Null, records_json);
    let decided = entry.records.and_then(|records| records.event.as_ref()?.alert_id);
    refused.push(quarantined(&row, &err, !entry.changes.is_empty()));
    done.stored = vec![Stored::New { alert_id: decided }];
    Ok(done)
}

/// Writes a portion row by row where need be.
pub fn portion(
    conn: &mut PgConnection,
    portion: &Portion,
    refused: &mut Vec<NewQuarantine>,
) -> Result<(), NotWritten> {
    portion.tables.iter().try_for_each(|rows| table(conn, rows, refused))
}

fn table(conn: &mut PgConnection, rows: &Rows, refused: &mut Vec<NewQuarantine>) -> Result<(), NotWritten> {
    let whole = Portion { tables: vec![rows.clone()], ..Portion::default() };
    let err = match hand_on::portion(conn, &whole) {
        Err(NotWritten::Failed(err)) if err.is_content() => err,
        done => return done,
    };
    if let ([], [row]) = (&rows.gone[..], &rows.present[..]) {
        let row = json!({ rows.table.name: serde_json::from_str::<Value>(row).unwrap_or_default() });
        refused.push(quarantined(&row, &err, rows.table.name == "alert"));
        return Ok(());
    }
    if !rows.gone.is_empty() {
        let gone = Rows { present: Vec::new(), ..rows.clone() };
        if rows.present.is_empty() {
            return Err(NotWritten::Failed(err));
        }
        table(conn, &gone, refused)?;
        return table(conn, &Rows { gone: Vec::new(), ..rows.clone() }, refused);
    }
    let (first, second) = rows.present.split_at(rows.present.len() / 2);
    for half in [first, second] {
        table(conn, &Rows { table: rows.table, gone: Vec::new(), present: half.to_vec() }, refused)?;
    }
    Ok(())
}

fn quarantined(row: &Value, err: &StorageError, names_emergency: bool) -> NewQuarantine {
    let body = row.to_string().into_bytes();
    tracing::error!("the database refuses a row for what is in it, and it is put into quarantine: {err}");
    let bounds = QuarantineConfig::default();
    NewQuarantine {
        body_hash: Sha256::digest(&body).into(),
        size_bytes: body.len() as u64,
        body,
        route: ROUTE,
        reason: format!("the database refuses it: {err}"),
        names_emergency,
        bodies_max: bounds.bodies_max,
        bytes_max: bounds.bytes_max,
    }
}

/// The rows of a report.
fn records_json(records: &Records) -> Value {
    let mut rows = Map::new();
    if let Some(event) = &records.event {
        let texts = EventTexts::of(event);
        rows.insert("event".into(), object(&EVENT, &event_binds(event, &texts, event.alert_id)));
    }
    let vitals: Vec<Value> =
        records.vitals.iter().map(|sample| object(&VITALS, &vitals_binds(sample))).collect();
    if !vitals.is_empty() {
        rows.insert("vitals".into(), vitals.into());
    }
    if let Some(status) = &records.status {
        rows.insert("device_status".into(), format!("{status:?}").into());
    }
    Value::Object(rows)
}

fn object(names: &[&str], binds: &[Bind<'_>]) -> Value {
    let value = |bind: &Bind<'_>| match bind {
        Bind::Text(text) => json!(text),
        Bind::OptionalText(text) => json!(text),
        Bind::Bytes(bytes) => json!(hex(bytes)),
        Bind::OptionalBytes(bytes) => json!(bytes.map(hex)),
        Bind::BigInt(number) => json!(number),
        Bind::OptionalBigInt(number) => json!(number),
        Bind::Integer(number) => json!(number),
        Bind::OptionalInteger(number) => json!(number),
        Bind::Bool(flag) => json!(flag),
        Bind::OptionalBool(flag) => json!(flag),
        Bind::OptionalDouble(number) => json!(number),
    };
    names
        .iter()
        .zip(binds)
        .map(|(name, bind)| ((*name).to_owned(), value(bind)))
        .collect::<Map<_, _>>()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
