//! Copies an SQLite file into an empty PostgreSQL database: table by table, in portions, each with
//! its place in the file committed beside it, so that a copy that was interrupted goes on.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};

use super::partitions;
use crate::domain::time::UtcMillis;
use crate::storage::database::StorageError;

/// Rows of one portion.
const PORTION: i64 = 2_000;
/// The same of quarantined bodies, which are large.
const PORTION_OF_BODIES: i64 = 16;
/// Months that are made for what the file holds; older ones share a partition.
const MONTHS_MAX: u32 = 240;
/// In `meta` while a copy is not complete; a server does not start on it.
pub(in crate::storage) const UNFINISHED: &str = "copy_unfinished";
/// What `meta` keys of a copy begin with.
const PLACE: &str = "copy_place_";

/// In an order in which references are there before what refers to them.
const TABLES: [&str; 16] = [
    "meta",
    "customer",
    "org",
    "person",
    "device",
    "device_binding",
    "device_status",
    "alert_rule",
    "api_token",
    "alert",
    "alert_change",
    "alert_shown",
    "device_message",
    "watch_log",
    "quarantine",
    "vitals",
];

/// How far a copy is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub table: &'static str,
    /// Rows of this table, those of earlier runs included.
    pub copied: u64,
    pub total: u64,
}

/// A table that was copied and counted on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub table: &'static str,
    pub rows: u64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct OldestId {
    #[diesel(sql_type = Nullable<Binary>)]
    value: Option<Vec<u8>>,
}

#[derive(QueryableByName)]
struct Oldest {
    #[diesel(sql_type = Nullable<BigInt>)]
    value: Option<i64>,
}

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = BigInt)]
    in_key: i64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(sql_type = Text)]
    body: String,
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.into_iter().chain(["event"])
}

/// Copies everything from `file` into `server`, whose schema is up to date, and compares the counts
/// of all tables. `report` hears of each portion.
pub fn copy(
    file: &mut SqliteConnection,
    server: &mut PgConnection,
    now: UtcMillis,
    mut report: impl FnMut(Progress),
) -> Result<Vec<Counted>, StorageError> {
    same_schema(file, server)?;
    begin(file, server, now)?;
    // One state of the file from here on.
    file.transaction(|file| {
        for table in tables() {
            copy_table(file, server, table, &mut report)?;
        }
        let counted = tables().map(|table| count(file, server, table)).collect::<Result<Vec<_>, _>>()?;
        diesel::sql_query(format!("DELETE FROM meta WHERE key LIKE '{PLACE}%' OR key = '{UNFINISHED}'"))
            .execute(server)?;
        Ok(counted)
    })
}

fn same_schema(file: &mut SqliteConnection, server: &mut PgConnection) -> Result<(), StorageError> {
    const NEWEST: &str = "SELECT max(version) AS version FROM __diesel_schema_migrations";
    #[derive(QueryableByName)]
    struct Table {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let all: Vec<Table> = diesel::sql_query(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
         AND name <> '__diesel_schema_migrations'",
    )
    .load(file)?;
    if let Some(unknown) = all.iter().find(|table| !tables().any(|known| known == table.name)) {
        return Err(StorageError::Unusable(format!("table {} would not be copied", unknown.name)));
    }
    let ours: Version = diesel::sql_query(NEWEST).get_result(file)?;
    let theirs: Version = diesel::sql_query(NEWEST).get_result(server)?;
    match ours.version == theirs.version {
        true => Ok(()),
        false => Err(StorageError::Unusable(format!(
            "the file has schema {} and the other database {}; start this version on the file once",
            ours.version, theirs.version
        ))),
    }
}

/// Marks the target, unless it is marked; refuses one that holds something of its own.
fn begin(file: &mut SqliteConnection, server: &mut PgConnection, now: UtcMillis) -> Result<(), StorageError> {
    let marked = format!("SELECT count(*) AS value FROM meta WHERE key = '{UNFINISHED}'");
    if diesel::sql_query(marked).get_result::<Number>(server)?.value > 0 {
        return Ok(());
    }
    for table in ["event", "vitals", "alert_change", "device", "api_token"] {
        let one = format!("SELECT count(*) AS value FROM (SELECT 1 FROM {table} LIMIT 1) AS one");
        if diesel::sql_query(one).get_result::<Number>(server)?.value > 0 {
            return Err(StorageError::Unusable(format!(
                "the database to copy to is in use already: table {table} is not empty"
            )));
        }
    }
    let id: OldestId = diesel::sql_query("SELECT min(event_id) AS value FROM event").get_result(file)?;
    let id_ms = id
        .value
        .filter(|id| id.len() == 16)
        .map(|id| id[..6].iter().fold(0i64, |ms, byte| (ms << 8) | i64::from(*byte)));
    let sample: Oldest =
        diesel::sql_query("SELECT min(measured_ms) AS value FROM vitals").get_result(file)?;
    if let Some(oldest) = id_ms.into_iter().chain(sample.value).min() {
        let this = partitions::month_of(now);
        let earliest = this.checked_sub_months(chrono::Months::new(MONTHS_MAX)).unwrap_or(this);
        partitions::make(server, partitions::month_of(UtcMillis(oldest)).max(earliest), this)?;
    }
    server.transaction(|server| {
        // What a new database begins with; the file has its own.
        server.batch_execute("DELETE FROM customer; DELETE FROM alert_rule")?;
        diesel::sql_query("INSERT INTO meta (key, value) VALUES ($1, 'yes')")
            .bind::<Text, _>(UNFINISHED)
            .execute(server)?;
        Ok(())
    })
}

fn copy_table(
    file: &mut SqliteConnection,
    server: &mut PgConnection,
    table: &'static str,
    report: &mut impl FnMut(Progress),
) -> Result<(), StorageError> {
    let columns: Vec<ColumnRow> =
        diesel::sql_query("SELECT name, type AS kind, pk AS in_key FROM pragma_table_info(?)")
            .bind::<Text, _>(table)
            .load(file)?;
    let total = number(file, &format!("SELECT count(*) AS value FROM {table}{}", own(table)))?;
    let key = format!("{PLACE}{table}");
    let done: Oldest = diesel::sql_query("SELECT max(value::bigint) AS value FROM meta WHERE key = $1")
        .bind::<Text, _>(&key)
        .get_result(server)?;
    // Where there are no row ids, the place is how many rows have been copied.
    let by_rowid = diesel::sql_query(format!("SELECT rowid FROM {table} LIMIT 0")).execute(file).is_ok();
    let mut place = done.value.unwrap_or(if by_rowid { i64::MIN } else { 0 });
    let before = format!("SELECT count(*) AS value FROM {table}{}", and(own(table), "rowid <= ?"));
    let mut copied = match by_rowid {
        true => diesel::sql_query(before).bind::<BigInt, _>(place).get_result::<Number>(file)?.value as u64,
        false => place.unsigned_abs(),
    };
    let members: Vec<String> = columns.iter().map(member).collect();
    let portion = if table == "quarantine" { PORTION_OF_BODIES } else { PORTION };
    let key_columns: Vec<&str> =
        columns.iter().filter(|column| column.in_key > 0).map(|column| column.name.as_str()).collect();
    let members = members.join(", ");
    let read = match by_rowid {
        true => format!(
            "SELECT rowid AS place, json_object({members}) AS body FROM {table}{} \
             ORDER BY rowid LIMIT {portion}",
            and(own(table), "rowid > ?")
        ),
        false => format!(
            "SELECT 0 AS place, json_object({members}) AS body FROM {table} ORDER BY {} \
             LIMIT {portion} OFFSET ?",
            key_columns.join(", ")
        ),
    };
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let names = names.join(", ");
    let write = format!(
        "INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{table}, $1::json) \
         ON CONFLICT DO NOTHING"
    );
    report(Progress { table, copied, total });
    loop {
        let rows: Vec<Row> = diesel::sql_query(&read).bind::<BigInt, _>(place).load(file)?;
        let Some(last) = rows.last() else { return Ok(()) };
        place = if by_rowid { last.place } else { place + rows.len() as i64 };
        let bodies: Vec<&str> = rows.iter().map(|row| row.body.as_str()).collect();
        let portion = format!("[{}]", bodies.join(","));
        server.transaction(|server| {
            diesel::sql_query(&write).bind::<Text, _>(&portion).execute(server)?;
            diesel::sql_query(
                "INSERT INTO meta (key, value) VALUES ($1, $2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind::<Text, _>(&key)
            .bind::<Text, _>(place.to_string())
            .execute(server)
        })?;
        copied += rows.len() as u64;
        report(Progress { table, copied, total });
    }
}

/// What is copied of a table: of `meta` all but what each database has for itself. A copy has an
/// epoch of its own.
fn own(table: &str) -> &'static str {
    match table {
        "meta" => {
            " WHERE key NOT IN ('epoch', 'holder', 'running_since_ms', 'write_probe') AND key NOT LIKE 'copy_%'"
        }
        _ => "",
    }
}

fn and(own: &str, condition: &str) -> String {
    match own.is_empty() {
        true => format!(" WHERE {condition}"),
        false => format!("{own} AND {condition}"),
    }
}

/// A member of a row's JSON. Numbers with a fraction go as text with all of their digits.
fn member(column: &ColumnRow) -> String {
    let name = &column.name;
    let value = match column.kind.as_str() {
        "BLOB" => format!("'\\x' || lower(hex({name}))"),
        "DOUBLE PRECISION" => format!("printf('%!.17g', {name})"),
        _ => name.clone(),
    };
    format!("'{name}', CASE WHEN {name} IS NULL THEN NULL ELSE {value} END")
}

fn number(file: &mut SqliteConnection, query: &str) -> Result<u64, StorageError> {
    Ok(diesel::sql_query(query).get_result::<Number>(file)?.value as u64)
}

fn count(
    file: &mut SqliteConnection,
    server: &mut PgConnection,
    table: &'static str,
) -> Result<Counted, StorageError> {
    let query = format!("SELECT count(*) AS value FROM {table}{}", own(table));
    let theirs = diesel::sql_query(&query).get_result::<Number>(server)?.value as u64;
    let rows = number(file, &query)?;
    match rows == theirs {
        true => Ok(Counted { table, rows }),
        false => Err(StorageError::Unusable(format!(
            "table {table} has {rows} rows in the file and {theirs} in the copy; empty the copy and begin again"
        ))),
    }
}
