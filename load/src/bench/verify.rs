//! 200 means stored: what was answered 200 is compared with the server's own counters and, after
//! it has stopped, with the rows in its database file.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::{Value, json};

use crate::body::Kind;
use crate::connection;
use crate::stats::Answers;

/// Of the server's `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    receipts_stored: u64,
    duplicates: u64,
}

impl Counters {
    pub async fn read(server: SocketAddr) -> anyhow::Result<Self> {
        let mut connection = connection::Connection::open(server).await.context("connect for /metrics")?;
        let answer = connection.get("/metrics").await.context("read /metrics")?;
        ensure!(answer.status == 200, "/metrics answered {}", answer.status);
        let text = std::str::from_utf8(answer.body)?;
        Ok(Self {
            receipts_stored: counter(text, r#"watchpost_receipts_total{kind="stored"}"#),
            duplicates: counter(text, "watchpost_duplicates_total"),
        })
    }
}

/// 0 for a counter of a kind that has not been counted yet: then it is not there.
fn counter(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or_default()
}

/// In the database file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    events: u64,
    vitals: u64,
    device_status: u64,
}

impl Rows {
    /// Of a server that has stopped.
    pub fn count(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("watchpost.db");
        // SQLite would make a new file.
        ensure!(path.exists(), "there is no {}", path.display());
        let mut conn = SqliteConnection::establish(&path.to_string_lossy())?;
        let mut rows = |table: &str| count_rows(&mut conn, table).with_context(|| format!("count {table}"));
        Ok(Self { events: rows("event")?, vitals: rows("vitals")?, device_status: rows("device_status")? })
    }
}

fn count_rows(conn: &mut SqliteConnection, table: &str) -> anyhow::Result<u64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let row: Row = diesel::sql_query(format!("SELECT COUNT(*) AS rows FROM {table}")).get_result(conn)?;
    Ok(u64::try_from(row.rows)?)
}

/// What was compared: a name, what was answered 200, and what the server holds.
fn comparisons(answers: &Answers, counters: &Counters, rows: &Rows) -> [(&'static str, u64, u64); 4] {
    let stored = |kinds: &[Kind]| answers.stored(kinds);
    [
        ("receipts", stored(&Kind::ALL), counters.receipts_stored),
        ("events", stored(&[Kind::Event, Kind::Sos]), rows.events),
        // Every event brings a health record.
        ("vitals", stored(&[Kind::Event, Kind::Sos, Kind::Vitals]), rows.vitals),
        ("device_status", stored(&[Kind::Device]), rows.device_status),
    ]
}

/// An error unless all that was answered 200 is there, once. What was answered otherwise, or not
/// at all, may be stored or not.
pub fn verdict(answers: &Answers, counters: &Counters, rows: &Rows) -> anyhow::Result<()> {
    ensure!(counters.duplicates == 0, "{} uploads were taken for duplicates", counters.duplicates);
    for (name, answered, held) in comparisons(answers, counters, rows) {
        let possible = answered..=answered + answers.failed();
        ensure!(possible.contains(&held), "{name}: {answered} answered 200, {held} stored");
    }
    Ok(())
}

pub fn to_json(answers: &Answers, counters: &Counters, rows: &Rows, verdict: &anyhow::Result<()>) -> Value {
    let compared = comparisons(answers, counters, rows)
        .into_iter()
        .map(|(name, answered, held)| (name.to_owned(), json!({ "answered_200": answered, "stored": held })));
    json!({
        "ok": verdict.is_ok(),
        "duplicates": counters.duplicates,
        "not_answered_200": answers.failed(),
        "compared": Value::Object(compared.collect()),
    })
}

/// A line for each kind of row, from what [`to_json`] made.
pub fn compared_lines(verified: &Value) -> String {
    let compared = verified["compared"].as_object().into_iter().flatten();
    let line = |(name, rows): (&String, &Value)| {
        format!("{name:<16} {} answered 200, {} stored\n", rows["answered_200"], rows["stored"])
    };
    compared.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Failure;

    fn answers(events: u64, vitals: u64) -> Answers {
        let mut answers = Answers::default();
        (0..events).for_each(|_| answers.success(Kind::Sos, 1));
        (0..vitals).for_each(|_| answers.success(Kind::Vitals, 1));
        answers
    }

    #[test]
    fn every_200_must_be_there_once() {
        let counters = Counters { receipts_stored: 5, duplicates: 0 };
        let rows = Rows { events: 2, vitals: 5, device_status: 0 };
        assert!(verdict(&answers(2, 3), &counters, &rows).is_ok());
        let lost = Rows { vitals: 4, ..rows.clone() };
        assert!(verdict(&answers(2, 3), &counters, &lost).is_err());
        let twice = Rows { events: 3, ..rows.clone() };
        assert!(verdict(&answers(2, 3), &counters, &twice).is_err());
        let duplicate = Counters { duplicates: 1, ..counters };
        assert!(verdict(&answers(2, 3), &duplicate, &rows).is_err());
    }

    #[test]
    fn what_was_not_promised_may_be_there_or_not() {
        let mut answers = answers(2, 3);
        answers.failure(Failure::Status(503));
        for stored in [5, 6] {
            let counters = Counters { receipts_stored: stored, duplicates: 0 };
            let rows = Rows { events: 2, vitals: stored, device_status: 0 };
            assert!(verdict(&answers, &counters, &rows).is_ok());
        }
    }

    #[test]
    fn counters_are_found_by_name_and_label() {
        let text = "# TYPE watchpost_receipts counter\nwatchpost_receipts_total{kind=\"timed_out\"} 2\n\
                    watchpost_receipts_total{kind=\"stored\"} 17\nwatchpost_duplicates_total 3\n# EOF\n";
        assert_eq!(counter(text, r#"watchpost_receipts_total{kind="stored"}"#), 17);
        assert_eq!(counter(text, "watchpost_duplicates_total"), 3);
        assert_eq!(counter(text, "watchpost_duplicates"), 0);
    }
}
