//! What was written while the main database was away: a log of keys, kept by triggers, so that
//! every kind of write is in it without a line of its own. Rows are read when they are handed on.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::storage::database::StorageError;

/// A table as the journal knows it. Its number is in the log of files, so it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub code: i64,
    pub name: &'static str,
    pub key: &'static [&'static str],
    /// False for one without row ids: the log then has its key.
    pub by_rowid: bool,
}

const fn table(code: i64, name: &'static str, key: &'static [&'static str]) -> Table {
    Table { code, name, key, by_rowid: true }
}

/// In an order in which references are there before what refers to them. Those below [`LARGE`] are
/// small, and handed on before everything else.
pub const TABLES: [Table; 17] = [
    table(1, "meta", &["key"]),
    table(2, "customer", &["customer_id"]),
    table(3, "org", &["org_id"]),
    table(4, "person", &["person_id"]),
    table(5, "alert_rule", &["rule_id"]),
    table(6, "api_token", &["token_id"]),
    table(7, "device_binding", &["binding_id"]),
    table(11, "device", &["device_sn"]),
    table(12, "alert", &["alert_id"]),
    table(13, "alert_change", &["change_offset"]),
    Table { code: 14, name: "alert_shown", key: &["alert_id", "viewer"], by_rowid: false },
    table(15, "device_status", &["device_sn", "reported_ms"]),
    table(16, "device_message", &["message_key"]),
    table(17, "watch_log", &["log_key"]),
    table(18, "quarantine", &["quarantine_id"]),
    table(19, "vitals", &["device_sn", "measured_ms"]),
    table(20, "event", &["event_id"]),
];
/// Codes of tables that may be large begin here.
pub const LARGE: i64 = 10;
/// Keys of `meta` that each database has for itself.
pub const OWN_META: &str = "'holder', 'running_since_ms', 'write_probe'";

/// Made with the file; its other tables are those of every database.
const MAKE: &str = "CREATE TABLE IF NOT EXISTS standby (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL); \
    CREATE TABLE IF NOT EXISTS spool_log (seq INTEGER PRIMARY KEY AUTOINCREMENT, tab INTEGER NOT NULL, \
    row INTEGER, gone TEXT);";

#[derive(QueryableByName)]
pub struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    pub value: Option<i64>,
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// A column of a table, as the file declares it.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub kind: String,
}

impl Column {
    /// The value as a member of a row's JSON. Bytes go as PostgreSQL writes them, and numbers with a
    /// fraction as text with all of their digits.
    pub fn member(&self, prefix: &str) -> String {
        let name = &self.name;
        let value = match self.kind.as_str() {
            "BLOB" => format!("'\\x' || lower(hex({prefix}{name}))"),
            "DOUBLE PRECISION" => format!("printf('%!.17g', {prefix}{name})"),
            _ => format!("{prefix}{name}"),
        };
        format!("'{name}', CASE WHEN {prefix}{name} IS NULL THEN NULL ELSE {value} END")
    }

    /// The same as [`Column::member`], but as PostgreSQL writes it, so that rows can be compared as texts.
    /// A number with a fraction may be written in other digits.
    pub fn as_main_shows_it(&self) -> String {
        let name = &self.name;
        match self.kind.as_str() {
            "BOOLEAN" => {
                format!("'{name}', CASE {name} WHEN 0 THEN json('false') WHEN 1 THEN json('true') END")
            }
            _ => self.member(""),
        }
    }

    /// The value again, from JSON as PostgreSQL writes it.
    pub fn extract(&self) -> String {
        let member = format!("json_extract(value, '$.{}')", self.name);
        match self.kind.as_str() {
            "BLOB" => format!("unhex(substr({member}, 3))"),
            _ => member,
        }
    }
}

pub fn make(conn: &mut SqliteConnection) -> QueryResult<()> {
    conn.batch_execute(MAKE)
}

/// The columns of a table, in order.
pub fn columns(conn: &mut SqliteConnection, table: &str) -> QueryResult<Vec<Column>> {
    let rows: Vec<ColumnRow> = diesel::sql_query("SELECT name, type AS kind FROM pragma_table_info(?)")
        .bind::<Text, _>(table)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| Column { name: row.name, kind: row.kind }).collect())
}

/// A number that `query` answers as `value`.
pub fn number(conn: &mut SqliteConnection, query: &str) -> QueryResult<Option<i64>> {
    Ok(diesel::sql_query(query).get_result::<Number>(conn)?.value)
}

/// What the standby has noted about itself.
pub fn note(conn: &mut SqliteConnection, key: &str) -> QueryResult<Option<String>> {
    let found: Option<Value> = diesel::sql_query("SELECT value FROM standby WHERE key = ?")
        .bind::<Text, _>(key)
        .get_result(conn)
        .optional()?;
    Ok(found.map(|found| found.value))
}

pub fn set_note(conn: &mut SqliteConnection, key: &str, value: &str) -> QueryResult<()> {
    diesel::sql_query("INSERT OR REPLACE INTO standby (key, value) VALUES (?, ?)")
        .bind::<Text, _>(key)
        .bind::<Text, _>(value)
        .execute(conn)
        .map(|_| ())
}

pub fn forget_note(conn: &mut SqliteConnection, key: &str) -> QueryResult<()> {
    let forget = diesel::sql_query("DELETE FROM standby WHERE key = ?").bind::<Text, _>(key);
    forget.execute(conn).map(|_| ())
}

/// From now on everything that is written is logged.
pub fn begin(conn: &mut SqliteConnection) -> QueryResult<()> {
    for table in &TABLES {
        let Table { code, name, .. } = table;
        let key = |row: &str| {
            let members = table.key.iter().map(|column| {
                let value = format!("{row}.{column}");
                // Keys are text and numbers, and bytes whose type says so.
                format!(
                    "'{column}', CASE typeof({value}) WHEN 'blob' THEN '\\x' || lower(hex({value})) ELSE {value} END"
                )
            });
            format!("json_object({})", members.collect::<Vec<_>>().join(", "))
        };
        let put = match table.by_rowid {
            true => format!("INSERT INTO spool_log (tab, row) VALUES ({code}, NEW.rowid)"),
            false => format!("INSERT INTO spool_log (tab, gone) VALUES ({code}, {})", key("NEW")),
        };
        let gone = format!("INSERT INTO spool_log (tab, gone) VALUES ({code}, {})", key("OLD"));
        for (event, row, statement) in
            [("INSERT", "NEW", &put), ("UPDATE", "NEW", &put), ("DELETE", "OLD", &gone)]
        {
            let when = match *name {
                "meta" => format!(" WHEN {row}.key NOT IN ({OWN_META})"),
                _ => String::new(),
            };
            conn.batch_execute(&format!(
                "CREATE TRIGGER IF NOT EXISTS spool_{name}_{event} AFTER {event} ON {name}{when} \
                 BEGIN {statement}; END"
            ))?;
        }
    }
    Ok(())
}

/// Nothing is logged any more. The log is empty.
pub fn end(conn: &mut SqliteConnection) -> QueryResult<()> {
    pause(conn)?;
    conn.batch_execute("DELETE FROM spool_log")
}

/// Alerts and their log have been written anew: all of them behind `offset` are to be handed on, and
/// none of before.
pub fn log_alerts_after(conn: &mut SqliteConnection, offset: i64) -> QueryResult<()> {
    conn.batch_execute(&format!(
        "DELETE FROM spool_log WHERE tab IN (12, 13); \
         INSERT INTO spool_log (tab, row) SELECT 12, rowid FROM alert WHERE last_offset > {offset}; \
         INSERT INTO spool_log (tab, row) SELECT 13, rowid FROM alert_change WHERE change_offset > {offset}"
    ))
}

/// Nothing is logged until it begins again.
pub fn pause(conn: &mut SqliteConnection) -> QueryResult<()> {
    for Table { name, .. } in &TABLES {
        for event in ["INSERT", "UPDATE", "DELETE"] {
            conn.batch_execute(&format!("DROP TRIGGER IF EXISTS spool_{name}_{event}"))?;
        }
    }
    Ok(())
}

/// The last number of the log, also of a line that has been taken away.
pub fn last_seq(conn: &mut SqliteConnection) -> QueryResult<i64> {
    let last = number(conn, "SELECT max(seq) AS value FROM sqlite_sequence WHERE name = 'spool_log'")?;
    Ok(last.unwrap_or(0))
}

/// True if there are lines that have not been handed on.
pub fn has_more(conn: &mut SqliteConnection, small_until: i64, large_until: i64) -> QueryResult<bool> {
    let more = number(
        conn,
        &format!(
            "SELECT count(*) AS value FROM (SELECT 1 FROM spool_log \
             WHERE seq > CASE WHEN tab < {LARGE} THEN {small_until} ELSE {large_until} END LIMIT 1)"
        ),
    )?;
    Ok(more.unwrap_or(0) > 0)
}

/// Lines of the log.
pub fn length(conn: &mut SqliteConnection) -> QueryResult<i64> {
    Ok(number(conn, "SELECT count(*) AS value FROM spool_log")?.unwrap_or(0))
}

/// Rows of one table that go to the main database together.
#[derive(Debug, Clone)]
pub struct Rows {
    pub table: Table,
    /// JSON objects with the key of each row that is gone.
    pub gone: Vec<String>,
    /// JSON objects, as the rows are now.
    pub present: Vec<String>,
}

/// A part of the log and the rows that it names, as they are now.
#[derive(Debug, Clone, Default)]
pub struct Portion {
    /// In the order in which they are to be written.
    pub tables: Vec<Rows>,
    /// Lines of the log in it.
    pub lines: u64,
    /// All lines of small tables up to this are in it.
    pub small_until: i64,
    /// All lines of large tables up to this are in it.
    pub large_until: i64,
}

#[derive(QueryableByName)]
struct Body {
    #[diesel(sql_type = Text)]
    body: String,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = BigInt)]
    tab: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    row_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    gone: Option<String>,
}

/// The next portion after what has been handed on: all of the small tables, and up to `lines` lines of
/// the others. Of one state of the file.
pub fn next(
    conn: &mut SqliteConnection,
    small_after: i64,
    large_after: i64,
    lines: i64,
) -> Result<Portion, StorageError> {
    conn.transaction(|conn| {
        let until = number(conn, "SELECT max(seq) AS value FROM spool_log")?.unwrap_or(0);
        let large_last = number(
            conn,
            &format!(
                "SELECT max(seq) AS value FROM (SELECT seq FROM spool_log WHERE seq > {large_after} \
                 AND tab >= {LARGE} ORDER BY seq LIMIT {lines})"
            ),
        )?;
        // Without a line of a large table, all up to here have been handed on.
        let large_until = large_last.unwrap_or(until.max(large_after));
        let small_until = until.max(small_after);
        let found: Vec<Line> = diesel::sql_query(format!(
            "SELECT tab, row AS row_id, gone FROM spool_log WHERE seq > {small_after} AND tab < {LARGE} \
             UNION ALL SELECT tab, row AS row_id, gone FROM spool_log \
             WHERE seq > {large_after} AND seq <= {large_until} AND tab >= {LARGE}"
        ))
        .load(conn)?;
        let count = found.len() as u64;
        let tables = TABLES.iter().map(|table| rows(conn, table, &found));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        let tables = tables.into_iter().filter(|rows| !rows.gone.is_empty() || !rows.present.is_empty());
        Ok(Portion { tables: tables.collect(), lines: count, small_until, large_until })
    })
}

/// The rows of one table that the lines name.
fn rows(conn: &mut SqliteConnection, table: &Table, lines: &[Line]) -> Result<Rows, StorageError> {
    let mine = || lines.iter().filter(|line| line.tab == table.code);
    let mut gone: Vec<String> = mine().filter_map(|line| line.gone.clone()).collect();
    gone.sort_unstable();
    gone.dedup();
    let mut ids: Vec<i64> = mine().filter_map(|line| line.row_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let keys = match table.by_rowid {
        true => serde_json::to_string(&ids).unwrap_or_default(),
        false => format!("[{}]", gone.join(",")),
    };
    if keys == "[]" {
        return Ok(Rows { table: *table, gone, present: Vec::new() });
    }
    let members: Vec<String> = columns(conn, table.name)?.iter().map(|column| column.member("t.")).collect();
    let join = match table.by_rowid {
        true => "t.rowid = j.value".to_owned(),
        false => {
            let equal = |column: &&str| format!("t.{column} = json_extract(j.value, '$.{column}')");
            table.key.iter().map(equal).collect::<Vec<_>>().join(" AND ")
        }
    };
    let query = format!(
        "SELECT json_object({}) AS body FROM json_each(?) j CROSS JOIN {} t ON {join}",
        members.join(", "),
        table.name
    );
    let present: Vec<Body> = diesel::sql_query(query).bind::<Text, _>(keys).load(conn)?;
    Ok(Rows { table: *table, gone, present: present.into_iter().map(|row| row.body).collect() })
}

/// Takes away lines that have been handed on, at most `lines` of them. True if there may be more.
pub fn forget(
    conn: &mut SqliteConnection,
    small_until: i64,
    large_until: i64,
    lines: i64,
) -> QueryResult<bool> {
    let done = diesel::sql_query(format!(
        "DELETE FROM spool_log WHERE seq IN (SELECT seq FROM spool_log WHERE seq <= {} \
         AND (CASE WHEN tab < {LARGE} THEN seq <= {small_until} ELSE seq <= {large_until} END) \
         ORDER BY seq LIMIT {lines})",
        small_until.max(large_until)
    ))
    .execute(conn)?;
    Ok(done as i64 >= lines)
}
