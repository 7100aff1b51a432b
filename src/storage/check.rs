//! Whether a database is what it should be: SQLite's own checks, and what must hold of alerts and
//! their log at every instant. Reads only, beside a server that writes.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::database::{Conn, Database, StorageError};
use super::schema::meta;
use crate::domain::ids::Offset;

/// Faults that one question lists at most.
const FAULTS_MAX: usize = 100;

/// What must hold, and a query for what breaks it.
const INVARIANTS: [(&str, &str); 8] = [
    (
        "the log of alerts has a gap",
        "SELECT count(*) || ' changes from offset ' || min(change_offset) || ' to ' || max(change_offset) \
         AS value FROM alert_change HAVING count(*) > 0 AND count(*) != max(change_offset) - min(change_offset) + 1",
    ),
    (
        "two alerts are open for one device, rule and binding",
        "SELECT device_sn || ' ' || rule_id AS value FROM alert WHERE is_open \
         GROUP BY device_sn, rule_id, binding_id HAVING count(*) > 1",
    ),
    (
        "an alert is marked open and is not, or the other way round",
        "SELECT alert_id || ' ' || state AS value FROM alert WHERE is_open != (state != 'resolved')",
    ),
    (
        "an alert is not what its last change says",
        "SELECT alert_id AS value FROM alert a WHERE last_offset IS NOT \
         (SELECT max(change_offset) FROM alert_change c WHERE c.alert_id = a.alert_id) \
         OR body IS NOT (SELECT body FROM alert_change c WHERE c.change_offset = a.last_offset)",
    ),
    (
        "an alert does not count what has happened",
        "SELECT alert_id AS value FROM alert a WHERE count != (SELECT count(*) FROM alert_change c \
         WHERE c.alert_id = a.alert_id AND transition IN ('raised', 'repeated'))",
    ),
    (
        "a change belongs to no alert",
        "SELECT 'offset ' || change_offset AS value FROM alert_change \
         WHERE alert_id NOT IN (SELECT alert_id FROM alert)",
    ),
    (
        "a cause has changed an alert twice",
        "SELECT alert_id || ' ' || cause AS value FROM alert_change \
         GROUP BY alert_id, cause, transition HAVING count(*) > 1",
    ),
    (
        "a row names one that is not there",
        "SELECT \"table\" || ' row ' || coalesce(rowid, '?') || ' names a ' || parent AS value \
         FROM pragma_foreign_key_check",
    ),
];

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// Tables whose rows are only ever added, with their number of rows.
pub type Counts = Vec<(&'static str, i64)>;

/// In the order in which a check shows them.
const COUNTED: [&str; 6] = ["event", "vitals", "alert", "alert_change", "device", "device_binding"];

/// What a whole check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Empty if all is well.
    pub faults: Vec<String>,
    pub counts: Counts,
    pub open_alerts: i64,
    pub last_offset: Offset,
    pub epoch: String,
}

/// Everything, on a connection of its own. Blocking; reads the whole file.
pub fn whole(database: &Database) -> Result<Findings, StorageError> {
    let mut conn = database.open_existing()?;
    // One state for all questions, whatever a server writes meanwhile.
    conn.transaction(|conn| {
        let found = lines(conn, &integrity("pragma_integrity_check"))?;
        let mut faults: Vec<String> = found.iter().map(|fault| one_line(fault)).collect();
        // In a file that is damaged the questions below may fail or mislead.
        if faults.is_empty() {
            for step in steps().into_iter().filter(|step| matches!(step, Step::Invariant(..))) {
                faults.extend(step.run(conn)?);
            }
        }
        Ok(Findings {
            faults,
            counts: counts(conn)?,
            open_alerts: number(conn, "SELECT count(*) AS value FROM alert WHERE is_open")?,
            last_offset: super::alert_log::last_offset(conn)?,
            epoch: meta::table.find("epoch").select(meta::value).first(conn)?,
        })
    })
}

/// A connection for the parts.
pub fn open(database: &Database) -> Result<Conn, StorageError> {
    database.open_existing()
}

/// Rows of what is only ever added to.
pub fn counts(conn: &mut Conn) -> Result<Counts, StorageError> {
    let count =
        |name: &'static str| Ok((name, number(conn, &format!("SELECT count(*) AS value FROM {name}"))?));
    COUNTED.into_iter().map(count).collect()
}

/// A part of a check that reads for a limited time: while a read lasts the log cannot begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The pages of one table and its indexes.
    Table(String),
    Invariant(&'static str, &'static str),
}

/// All parts but the tables, which [`tables`] names.
pub fn steps() -> Vec<Step> {
    INVARIANTS.into_iter().map(|(what, query)| Step::Invariant(what, query)).collect()
}

/// A part for each table.
pub fn tables(conn: &mut Conn) -> Result<Vec<Step>, StorageError> {
    let names = lines(conn, "SELECT name AS value FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    Ok(names.into_iter().map(Step::Table).collect())
}

impl Step {
    /// The faults that it finds.
    pub fn run(&self, conn: &mut Conn) -> Result<Vec<String>, StorageError> {
        match self {
            Step::Table(name) => {
                let quoted = name.replace('\'', "''");
                let found = lines(conn, &integrity(&format!("pragma_integrity_check('{quoted}')")))?;
                Ok(found.iter().map(|fault| format!("table {name}: {}", one_line(fault))).collect())
            }
            Step::Invariant(what, query) => {
                let found = lines(conn, &format!("{query} LIMIT {FAULTS_MAX}"))?;
                Ok(found.into_iter().map(|which| format!("{what}: {which}")).collect())
            }
        }
    }
}

/// SQLite writes a heading and then a line for each fault.
fn one_line(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("***"));
    lines.collect::<Vec<_>>().join("; ")
}

fn integrity(source: &str) -> String {
    format!("SELECT integrity_check AS value FROM {source} WHERE integrity_check != 'ok'")
}

fn lines(conn: &mut Conn, query: &str) -> Result<Vec<String>, StorageError> {
    let query = format!("SELECT CAST(value AS TEXT) AS value FROM ({query})");
    let found: Vec<Line> = diesel::sql_query(query).load(conn)?;
    Ok(found.into_iter().map(|line| line.value).collect())
}

fn number(conn: &mut Conn, query: &str) -> Result<i64, StorageError> {
    Ok(diesel::sql_query(query).get_result::<Number>(conn)?.value)
}
