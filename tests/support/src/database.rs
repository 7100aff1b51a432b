//! Which database the tests use: an SQLite file, or, with `WATCHPOST_TESTS_DATABASE` set to the URL
//! of a PostgreSQL server, a database of its own there for each data directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use watchpost::config::StorageConfig;
use watchpost::storage::database::{Conn, Database};
use watchpost::storage::migrate;

use crate::{DEADLINE, NOW};

const VARIABLE: &str = "WATCHPOST_TESTS_DATABASE";
const TEMPLATE: &str = "watchpost_template";

/// The server to use instead of files, `postgres://USER@HOST:PORT`.
pub fn server() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|url| !url.is_empty())
}

fn note(dir: &Path) -> PathBuf {
    dir.join("database.url")
}

/// What `storage.database_url` is for a server with this data directory: empty for SQLite. Makes
/// the database when it is asked for the first time.
pub fn url(data_dir: &Path) -> String {
    let Some(server) = server() else { return String::new() };
    if let Some(known) = known_url(data_dir) {
        return known;
    }
    let name = format!(
        "watchpost_{}",
        uuid::Uuid::from_u64_pair(rand(data_dir), std::process::id().into()).simple()
    );
    let mut conn = Conn::establish(&format!("{server}/postgres")).expect("the server of the tests");
    make_template(&server, &mut conn);
    let copy = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    diesel::sql_query(copy).execute(&mut conn).expect("a database");
    let url = format!("{server}/{name}");
    note_url(data_dir, &url);
    url
}

/// Once per server: an empty database with the schema, of which each test gets a copy.
fn make_template(server: &str, conn: &mut Conn) {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    diesel::sql_query("SELECT 1 FROM pg_advisory_lock(1)").execute(conn).expect("the turn to look");
    let known = format!("SELECT count(*) AS count FROM pg_database WHERE datname = '{TEMPLATE}'");
    if diesel::sql_query(known).get_result::<Count>(conn).expect("a number").count == 0 {
        diesel::sql_query("CREATE DATABASE watchpost_unready").execute(conn).expect("a database");
        let url = format!("{server}/watchpost_unready");
        let storage = StorageConfig { database_url: url.clone(), ..StorageConfig::default() };
        let database = Database::from_config(&storage).expect("a URL");
        migrate::prepare(&database, &[], NOW).expect("a schema");
        let mut made = Conn::establish(&url).expect("the database");
        diesel::sql_query("DELETE FROM meta").execute(&mut made).expect("a new database");
        add_functions(&mut made);
        drop(made);
        let rename = format!("ALTER DATABASE watchpost_unready RENAME TO {TEMPLATE}");
        eventually_renamed(conn, &rename);
    }
    diesel::sql_query("SELECT 1 FROM pg_advisory_unlock(1) AS done")
        .execute(conn)
        .expect("the next one's turn");
}

/// The server may not have noticed yet that its users have gone.
fn eventually_renamed(conn: &mut Conn, rename: &str) {
    let begun = Instant::now();
    while let Err(err) = diesel::sql_query(rename).execute(conn) {
        assert!(begun.elapsed() < DEADLINE, "{rename}: {err}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What SQLite has and the tests' own queries use.
fn add_functions(conn: &mut Conn) {
    diesel::sql_query(
        "CREATE OR REPLACE FUNCTION hex(bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE \
         AS $$ SELECT upper(encode(bytes, 'hex')) $$",
    )
    .execute(conn)
    .expect("a function");
}

/// The column `value` of `query` as SQLite writes it out.
pub fn texts_query(query: &str, postgres: bool) -> String {
    if !postgres {
        return format!("SELECT CAST(value AS TEXT) AS value FROM ({query}) AS found");
    }
    format!(
        "SELECT CASE pg_typeof(value)::text WHEN 'boolean' THEN CASE value::text WHEN 'true' THEN '1' \
         WHEN 'false' THEN '0' END WHEN 'double precision' THEN CASE WHEN value::text ~ '[.e]' \
         THEN value::text ELSE value::text || '.0' END ELSE value::text END AS value FROM ({query}) AS found"
    )
}

/// Of the name of a temporary directory, which is of nobody else.
fn rand(data_dir: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    data_dir.hash(&mut hasher);
    hasher.finish()
}

/// True if this data directory's database is in PostgreSQL.
pub fn is_postgres(data_dir: &Path) -> bool {
    known_url(data_dir).is_some()
}

/// Says that the database of this data directory is at `url`.
pub fn note_url(data_dir: &Path, url: &str) {
    add_functions(&mut Conn::establish(url).expect("the database"));
    std::fs::create_dir_all(data_dir).expect("a directory");
    std::fs::write(note(data_dir), url).expect("a note of the URL");
}

fn known_url(data_dir: &Path) -> Option<String> {
    std::fs::read_to_string(note(data_dir)).ok()
}

/// Drops the database of a data directory, if it has one.
pub fn forget(data_dir: &Path) {
    if let (Some(url), Some(server)) = (known_url(data_dir), server())
        && let Ok(mut conn) = Conn::establish(&format!("{server}/postgres"))
        && let Some((_, name)) = url.rsplit_once('/')
    {
        let _ = diesel::sql_query(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).execute(&mut conn);
        let _ = std::fs::remove_file(note(data_dir));
    }
}

/// A connection of the test's own to the database of a data directory.
pub fn connect_in(data_dir: &Path) -> Conn {
    match known_url(data_dir) {
        Some(url) => Conn::establish(&url).expect("the database"),
        None => connect_file(&data_dir.join("watchpost.db")),
    }
}

/// A connection of the test's own to the database that a server with this configuration uses.
pub fn connect(storage: &StorageConfig) -> Conn {
    match storage.database_url.starts_with("postgres") {
        true => Conn::establish(&storage.database_url).expect("the database"),
        false => connect_file(&storage.data_dir.join("watchpost.db")),
    }
}

/// A transaction that writes from its beginning, as the server's do: in SQLite one that reads first
/// may find at its first write that somebody else was there.
pub fn write<T, E: From<diesel::result::Error>>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> Result<T, E>,
) -> Result<T, E> {
    conn.transaction(|conn| {
        diesel::sql_query("UPDATE meta SET value = value WHERE key = 'epoch'").execute(conn)?;
        work(conn)
    })
}

pub fn connect_file(path: &Path) -> Conn {
    let mut conn = Conn::establish(&path.to_string_lossy()).expect("the file");
    for pragma in ["busy_timeout = 5000", "foreign_keys = ON"] {
        diesel::sql_query(format!("PRAGMA {pragma}")).execute(&mut conn).expect("a pragma");
    }
    conn
}
