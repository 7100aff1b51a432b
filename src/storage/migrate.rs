//! Bringing a database to this version's schema, and refusing what is not ours.

use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::conn::write_transaction;
use super::database::{Conn, Database, StorageError};
use super::schema::meta;
use super::statement::{Bind, Statement};
use crate::config::StorageConfig;
use crate::domain::rule::Rule;
use crate::domain::time::UtcMillis;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// In `meta` of a database that several processes could write to: the one that does.
pub(super) const HOLDER: &str = "holder";
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
    /// Which process wrote here before this one, where several could.
    pub holder_before: Option<String>,
}

/// What a server begins with: its database, which stands on its own or has something that stands in for it
/// while it is away.
pub fn prepare_server(
    config: &StorageConfig,
    seeds: &[Rule],
    now: UtcMillis,
) -> Result<(Database, Opened), StorageError> {
    let database = Database::from_config(config)?;
    #[cfg(feature = "postgres")]
    if database.is_shared() {
        return super::standby::start::prepare(database, config, seeds, now);
    }
    let opened = prepare(&database, seeds, now)?;
    Ok((database, opened))
}

/// Creates or upgrades the database. `seeds` are inserted once, when it is created.
pub fn prepare(database: &Database, seeds: &[Rule], now: UtcMillis) -> Result<Opened, StorageError> {
    let opened = prepare_any(database, seeds, now)?;
    #[cfg(feature = "postgres")]
    refuse_half_a_copy(database)?;
    Ok(opened)
}

/// The same for the target of a copy, which may be half of one already.
#[cfg(feature = "postgres")]
pub(super) fn prepare_copy(database: &Database, now: UtcMillis) -> Result<Opened, StorageError> {
    prepare_any(database, &[], now)
}

#[cfg(feature = "postgres")]
fn refuse_half_a_copy(database: &Database) -> Result<(), StorageError> {
    let mut conn = database.open_reader()?;
    let mark: Option<String> = meta::table
        .find(super::postgres::copy::UNFINISHED)
        .select(meta::value)
        .first(&mut conn)
        .optional()?;
    match mark {
        None => Ok(()),
        Some(_) => Err(StorageError::Unusable(format!(
            "the copy into {} has not ended; run `watchpost copy` again",
            database.name()
        ))),
    }
}

fn prepare_any(database: &Database, seeds: &[Rule], now: UtcMillis) -> Result<Opened, StorageError> {
    let mut conn = database.open_writer()?;
    let name = database.name();
    #[cfg(feature = "postgres")]
    match &mut conn {
        Conn::Sqlite(conn) => upgrade_file(conn, &name)?,
        Conn::Postgres(conn) => upgrade_server(conn, &name, now)?,
    }
    #[cfg(not(feature = "postgres"))]
    upgrade_file(&mut conn, &name)?;
    write_transaction(&mut conn, |conn| {
        let mut holder_before = None;
        if let Some(holder) = database.holder() {
            holder_before = meta::table.find(HOLDER).select(meta::value).first(conn).optional()?;
            take_over(conn, holder)?;
        }
        let known: Option<String> = meta::table.find("epoch").select(meta::value).first(conn).optional()?;
        let stopped_uncleanly = super::running::is_set(conn)?;
        if let Some(epoch) = known {
            return Ok(Opened { epoch, newly_created: false, stopped_uncleanly, holder_before });
        }
        let epoch = new_epoch()?;
        diesel::insert_into(meta::table)
            .values((meta::key.eq("epoch"), meta::value.eq(&epoch)))
            .execute(conn)?;
        for rule in seeds {
            super::rules::insert_seed(conn, rule, now)?;
        }
        Ok(Opened { epoch, newly_created: true, stopped_uncleanly, holder_before })
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
    let name = database.name();
    #[cfg(feature = "postgres")]
    let Conn::Sqlite(conn) = conn else {
        return Err(StorageError::Unusable(format!("{name} is no SQLite file")));
    };
    refuse_foreign_file(conn, &name)?;
    refuse_newer(conn, MIGRATIONS, &name)
}

/// Whoever wrote here before has to start anew: what it holds in memory is not what is stored.
fn take_over(conn: &mut Conn, holder: &str) -> QueryResult<usize> {
    struct PutHolder;
    const SQL: &str =
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    Statement::<PutHolder>::new(SQL, &[Bind::Text(HOLDER), Bind::Text(holder)]).execute(conn)
}

/// Refuses to write if another process has become the writer since this one was prepared.
pub(super) fn refuse_superseded(conn: &mut Conn, database: &Database) -> Result<(), StorageError> {
    let Some(holder) = database.holder() else { return Ok(()) };
    let present: Option<String> = meta::table.find(HOLDER).select(meta::value).first(conn).optional()?;
    match present.as_deref() == Some(holder) {
        true => Ok(()),
        false => Err(StorageError::Superseded { name: database.name() }),
    }
}

fn upgrade_file(conn: &mut SqliteConnection, name: &str) -> Result<(), StorageError> {
    refuse_foreign_file(conn, name)?;
    refuse_newer(conn, MIGRATIONS, name)?;
    run_pending(conn, MIGRATIONS, name)?;
    diesel::sql_query(format!("PRAGMA application_id = {APPLICATION_ID}")).execute(conn)?;
    Ok(())
}

/// A schema of another program, or of a newer version of ours, is never touched.
#[cfg(feature = "postgres")]
fn upgrade_server(conn: &mut PgConnection, name: &str, now: UtcMillis) -> Result<(), StorageError> {
    use diesel::connection::SimpleConnection;
    if let (Some(table), false) = super::postgres::tables(conn)? {
        return Err(foreign(name, &table));
    }
    refuse_newer(conn, POSTGRES_MIGRATIONS, name)?;
    // A migration takes as long as it takes.
    let timeout: String =
        diesel::select(diesel::dsl::sql::<Text>("current_setting('statement_timeout')")).get_result(conn)?;
    conn.batch_execute("SET statement_timeout = 0")?;
    run_pending(conn, POSTGRES_MIGRATIONS, name)?;
    super::postgres::partitions::make_ahead(conn, now)?;
    conn.batch_execute(&format!("SET statement_timeout = '{timeout}'"))?;
    Ok(())
}

fn run_pending<C, B>(conn: &mut C, migrations: EmbeddedMigrations, name: &str) -> Result<(), StorageError>
where
    B: diesel::backend::Backend,
    C: MigrationHarness<B>,
    EmbeddedMigrations: MigrationSource<B>,
{
    conn.run_pending_migrations(migrations)
        .map_err(|err| StorageError::Unusable(format!("migrate {name}: {err}")))?;
    Ok(())
}

fn foreign(name: &str, table: &str) -> StorageError {
    StorageError::Unusable(format!(
        "{name} is a database of another program (it has a table {table:?}); \
         choose another --data-dir or --database-url"
    ))
}

/// A file of another program is never touched.
fn refuse_foreign_file(conn: &mut SqliteConnection, name: &str) -> Result<(), StorageError> {
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
    match ours || empty {
        true => Ok(()),
        false => Err(foreign(name, &tables[0].name)),
    }
}

/// Nor is one of a newer version of ours.
fn refuse_newer<C, B>(conn: &mut C, migrations: EmbeddedMigrations, name: &str) -> Result<(), StorageError>
where
    B: diesel::backend::Backend,
    C: MigrationHarness<B>,
    EmbeddedMigrations: MigrationSource<B>,
{
    let applied = conn
        .applied_migrations()
        .map_err(|err| StorageError::Unusable(format!("read the schema version of {name}: {err}")))?;
    let known: Vec<String> = MigrationSource::<B>::migrations(&migrations)
        .map_err(|err| StorageError::Unusable(err.to_string()))?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    match applied.iter().map(ToString::to_string).find(|version| !known.contains(version)) {
        Some(version) => Err(StorageError::Unusable(format!(
            "{name} was written by a newer watchpost (schema {version}); start that version, or restore a backup"
        ))),
        None => Ok(()),
    }
}
