//! The tables of the mirror that are small and the same as those of the main database: who is who, rules,
//! tokens. What is the same already is not written again.

use std::collections::HashSet;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::fill::{FETCH, copy, portions, put};
use super::journal::{OWN_META, TABLES, columns};
use super::remote::TextRow;
use crate::storage::database::StorageError;

/// In an order in which references are there before what refers to them.
const WHOLE: [&str; 7] = ["meta", "customer", "org", "person", "alert_rule", "api_token", "device_binding"];
/// Rows that are taken away one by one: for each that is referred to SQLite looks through all that may.
const SINGLY_MAX: usize = 100;

/// What has to be done about one table.
pub struct Difference {
    table: &'static str,
    /// JSON of rows that only the file has.
    gone: Vec<String>,
    /// JSON of rows that only the main database has.
    new: Vec<String>,
}

/// Makes them equal, inside the caller's transactions, in which references of the file are checked
/// at the end. `anew`: without a look at what the file has.
pub fn bring_up_to_date(
    main: &mut PgConnection,
    file: &mut SqliteConnection,
    anew: bool,
) -> Result<(), StorageError> {
    if anew {
        return replace(file, |file, table| copy(main, file, table, &all(table)));
    }
    let mut differences = Vec::with_capacity(WHOLE.len());
    for table in WHOLE {
        differences.push(difference(main, file, table, &all(table))?);
    }
    if differences.iter().map(|found| found.gone.len()).sum::<usize>() > SINGLY_MAX {
        drop(differences);
        return replace(file, |file, table| copy(main, file, table, &all(table)));
    }
    for found in differences.iter().rev() {
        take_away(file, found)?;
    }
    differences.iter().try_for_each(|found| found.put(file))
}

impl Difference {
    /// Writes what is new over rows of the same key.
    pub fn put(&self, file: &mut SqliteConnection) -> Result<(), StorageError> {
        let mut portions = self.new.chunks(FETCH);
        portions.try_for_each(|rows| put(file, self.table, rows.iter().map(String::as_str)))
    }
}

/// Compares the rows of `query`, which both understand, as texts: one that is the same and is written
/// otherwise is taken for another one.
pub fn difference(
    main: &mut PgConnection,
    file: &mut SqliteConnection,
    table: &'static str,
    query: &str,
) -> Result<Difference, StorageError> {
    let members: Vec<String> = columns(file, table)?.iter().map(|column| column.as_main_shows_it()).collect();
    let ours = format!("SELECT json_object({}) AS body FROM ({query})", members.join(", "));
    let present: Vec<TextRow> = diesel::sql_query(ours).load(file)?;
    let mut present: HashSet<String> = present.into_iter().map(|row| row.body).collect();
    let mut new = Vec::new();
    portions(main, query, |rows| {
        new.extend(rows.into_iter().map(|row| row.body).filter(|body| !present.remove(body)));
        Ok(())
    })?;
    Ok(Difference { table, gone: present.into_iter().collect(), new })
}

fn take_away(file: &mut SqliteConnection, found: &Difference) -> Result<(), StorageError> {
    let known = TABLES.iter().find(|table| table.name == found.table);
    let Some(key) = known.and_then(|table| table.key.first()).filter(|_| !found.gone.is_empty()) else {
        return Ok(());
    };
    diesel::sql_query(format!(
        "DELETE FROM {} WHERE {key} IN (SELECT json_extract(value, '$.{key}') FROM json_each(?))",
        found.table
    ))
    .bind::<Text, _>(format!("[{}]", found.gone.join(",")))
    .execute(file)?;
    Ok(())
}

/// The rows of all of them anew, which `fill` writes into one after the other.
fn replace(
    file: &mut SqliteConnection,
    mut fill: impl FnMut(&mut SqliteConnection, &str) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    // What refers to others goes first: for each row that is referred to SQLite looks through all that may.
    for table in WHOLE.into_iter().rev() {
        file.batch_execute(&format!("DELETE FROM {table}{}", but_own(table)))?;
    }
    WHOLE.into_iter().try_for_each(|table| fill(file, table))
}

fn all(table: &str) -> String {
    format!("SELECT * FROM {table}{}", but_own(table))
}

/// A condition for the rows that are not of each database itself.
fn but_own(table: &str) -> String {
    match table {
        "meta" => format!(" WHERE key NOT IN ({OWN_META})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::journal::number;
    use super::*;
    use crate::domain::time::UtcMillis;
    use crate::storage::conn::immediate;
    use crate::storage::database::{Conn, Database};
    use crate::storage::migrate;

    const WATCHES: usize = 4_000;
    /// Pages of the cache: fewer than any of the large tables here has.
    const CACHE: u32 = 20;

    /// What this thread has read from files, bytes.
    fn bytes_read() -> u64 {
        let io = std::fs::read_to_string("/proc/thread-self/io").expect("a kernel that counts");
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Rows as the main database shows them: a person for each watch, and an organisation for ten.
    fn rows(table: &str) -> Vec<String> {
        let org = |at: usize| format!("org-{:05}", at / 10);
        let row = |at: usize| match table {
            "customer" if at == 0 => Some(json!({"customer_id": "c", "name": "C", "created_ms": 1})),
            "org" if at.is_multiple_of(10) => {
                Some(json!({"org_id": org(at), "customer_id": "c", "name": "O", "created_ms": 1}))
            }
            "person" => Some(json!({"person_id": format!("person-{at:05}"), "customer_id": "c",
                "org_id": org(at), "name": "P", "created_ms": 1})),
            "device_binding" => Some(json!({"binding_id": at + 1, "device_sn": format!("watch-{at:05}"),
                "customer_id": "c", "org_id": org(at), "person_id": format!("person-{at:05}"),
                "bound_ms": 1, "bound_by": "ann"})),
            _ => None,
        };
        (0..WATCHES).filter_map(row).map(|row| row.to_string()).collect()
    }

    fn fill(file: &mut SqliteConnection, table: &str) -> Result<(), StorageError> {
        rows(table).chunks(FETCH).try_for_each(|rows| put(file, table, rows.iter().map(String::as_str)))
    }

    fn anew(file: &mut SqliteConnection) {
        let done = immediate(file, |file| {
            file.batch_execute("PRAGMA defer_foreign_keys = ON")?;
            replace(file, fill)
        });
        done.expect("the small tables anew");
    }

    /// A look through all bindings for each person would read some thousand times as much as there is.
    #[test]
    fn owners_are_replaced_without_looking_through_all_of_them_for_each() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = Database::at(dir.path().join("standby.db"));
        migrate::prepare(&database, &[], UtcMillis(1)).expect("a schema");
        let Ok(Conn::Sqlite(mut file)) = database.open_writer() else { panic!("a file") };
        anew(&mut file);
        file.batch_execute(&format!("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA cache_size = {CACHE}"))
            .expect("a small cache");
        let size = std::fs::metadata(database.path()).expect("a file").len();
        let before = bytes_read();
        anew(&mut file);
        let read = bytes_read() - before;
        let count = "SELECT count(*) AS value FROM device_binding JOIN person USING (person_id)";
        assert_eq!(number(&mut file, count).expect("a number"), Some(WATCHES as i64));
        assert!(read > size, "the cache is too small to hold it");
        assert!(read <= 60 * size, "{read} bytes were read of a file of {size}");
    }
}
