//! How the SQLite that the build brings along is compiled.

use diesel::prelude::*;
use diesel::sql_types::Text;
use watchpost::config::StorageConfig;
use watchpost::storage::database::Database;
use watchpost::storage::migrate;

#[derive(QueryableByName)]
struct Compiled {
    #[diesel(sql_type = Text, column_name = compile_options)]
    option: String,
}

#[test]
fn sqlite_keeps_no_lock_and_no_count_that_all_connections_share() {
    let dir = tempfile::tempdir().expect("a directory");
    let database_url = format!("sqlite:{}", dir.path().join("w.db").display());
    let config = StorageConfig { data_dir: dir.path().into(), database_url, ..StorageConfig::default() };
    let database = Database::from_config(&config).expect("a database");
    migrate::prepare(&database, &[], watchpost::domain::time::UtcMillis(0)).expect("tables");
    let mut conn = SqliteConnection::establish(&database.path().to_string_lossy()).expect("a connection");
    let compiled: Vec<Compiled> =
        diesel::sql_query("PRAGMA compile_options").load(&mut conn).expect("options");
    let has = |name: &str| compiled.iter().any(|compiled| compiled.option == name);
    // A connection belongs to one thread at a time.
    assert!(has("THREADSAFE=2"));
    assert!(has("DEFAULT_MEMSTATUS=0"));
    assert!(!has("ENABLE_MEMORY_MANAGEMENT"));
}
