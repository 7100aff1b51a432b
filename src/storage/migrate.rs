//! Bringing a database to this version's schema, and refusing what is not ours.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::database::{Conn, Database, StorageError};
use super::schema::meta;
use crate::domain::rule::Rule;
use crate::domain::time::UtcMillis;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// Marks the file as ours: "wpst" in SQLite's header.
const APPLICATION_ID: i64 = 0x7770_7374;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// What a start-up learns from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Made with the database; changes with a restore or a copy, never with a plain restart.
    pub epoch: String,
    pub newly_created: bool,
    /// The last server was killed, lost its power or could not write what it had: this file was open
    /// when it ended, or is a copy of one that was.
    pub stopped_uncleanly: bool,
}

/// Creates or upgrades the database. `seeds` are inserted once, when it is created.
pub fn prepare(database: &Database, seeds: &[Rule], now: UtcMillis) -> Result<Opened, StorageError> {
    let mut conn = database.open_writer()?;
    refuse_foreign(&mut conn, database)?;
    conn.run_pending_migrations(MIGRATIONS)
        .map_err(|err| StorageError::Unusable(format!("migrate {}: {err}", database.path().display())))?;
    diesel::sql_query(format!("PRAGMA application_id = {APPLICATION_ID}")).execute(&mut conn)?;
    conn.immediate_transaction(|conn| {
        let known: Option<String> = meta::table.find("epoch").select(meta::value).first(conn).optional()?;
        let stopped_uncleanly = super::running::is_set(conn)?;
        if let Some(epoch) = known {
            return Ok(Opened { epoch, newly_created: false, stopped_uncleanly });
        }
        let epoch = new_epoch()?;
        diesel::insert_into(meta::table)
            .values((meta::key.eq("epoch"), meta::value.eq(&epoch)))
            .execute(conn)?;
        for rule in seeds {
            super::rules::insert_seed(conn, rule, now)?;
        }
        Ok(Opened { epoch, newly_created: true, stopped_uncleanly })
    })
}

/// Names a database file and what becomes of it: offsets of another epoch mean nothing.
pub(super) fn new_epoch() -> Result<String, StorageError> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|err| StorageError::Unusable(format!("random numbers: {err}")))?;
    Ok(uuid::Builder::from_random_bytes(random).into_uuid().to_string())
}

/// A file of another program, or of a newer version of ours, is never touched.
pub(super) fn refuse_foreign(conn: &mut Conn, database: &Database) -> Result<(), StorageError> {
    let path = database.path().display();
    let id = diesel::sql_query("SELECT application_id AS number FROM pragma_application_id()")
        .get_result::<Number>(conn)?
        .number;
    let tables = diesel::sql_query(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    )
    .load::<Name>(conn)?;
    // Our own first start may have died between the first migration and the mark.
    let ours = id == APPLICATION_ID || tables.iter().any(|table| table.name == "alert_change");
    let empty = tables.iter().all(|table| table.name == "__diesel_schema_migrations");
    if !ours && !empty {
        return Err(StorageError::Unusable(format!(
            "{path} is a database of another program (it has a table {:?}); \
             choose another --data-dir or --database-url",
            tables[0].name
        )));
    }
    let applied = conn
        .applied_migrations()
        .map_err(|err| StorageError::Unusable(format!("read the schema version of {path}: {err}")))?;
    let known: Vec<String> =
        diesel::migration::MigrationSource::<diesel::sqlite::Sqlite>::migrations(&MIGRATIONS)
            .map_err(|err| StorageError::Unusable(err.to_string()))?
            .iter()
            .map(|migration| migration.name().version().to_string())
            .collect();
    match applied.iter().map(ToString::to_string).find(|version| !known.contains(version)) {
        Some(version) => Err(StorageError::Unusable(format!(
            "{path} was written by a newer watchpost (schema {version}); start that version, or restore a backup"
        ))),
        None => Ok(()),
    }
}
