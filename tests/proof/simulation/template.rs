//! The database that every history begins with: migrated once, then copied. It has triggers that make a
//! transaction fail inside or at its COMMIT when a history wants that.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use testkit::NOW;
use watchpost::config::StorageConfig;
use watchpost::domain::rule_seeds;
use watchpost::storage::database::{Conn, Database};
use watchpost::storage::migrate;

/// What the next transaction shall meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error in the middle of it.
    Inside = 1,
    /// COMMIT itself is refused: a deferred constraint is broken.
    AtCommit = 2,
}

pub struct Template {
    dir: tempfile::TempDir,
}

/// In memory where there is such a folder: thousands of histories sync their commits.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a directory")
}

pub fn database_in(data_dir: &Path) -> Database {
    let config = StorageConfig { data_dir: data_dir.into(), busy_timeout_ms: 10, ..StorageConfig::default() };
    Database::from_config(&config).expect("a path")
}

impl Template {
    pub fn new() -> Self {
        let dir = folder();
        migrate::prepare(&database_in(dir.path()), &rule_seeds::seeds(), NOW).expect("a schema");
        let template = Self { dir };
        let mut conn = connect(&template.path());
        let mut script = "CREATE TABLE fault (kind INTEGER PRIMARY KEY);\
             CREATE TABLE orphan (parent INTEGER REFERENCES fault (kind) DEFERRABLE INITIALLY DEFERRED);"
            .to_string();
        for table in ["event", "vitals", "alert_change", "device_status"] {
            script += &format!(
                "CREATE TRIGGER inside_{table} BEFORE INSERT ON {table} \
                 WHEN EXISTS (SELECT 1 FROM fault WHERE kind = 1) \
                 BEGIN SELECT RAISE(ABORT, 'simulated'); END;\
                 CREATE TRIGGER at_commit_{table} AFTER INSERT ON {table} \
                 WHEN EXISTS (SELECT 1 FROM fault WHERE kind = 2) BEGIN INSERT INTO orphan VALUES (99); END;"
            );
        }
        // Everything into the one file that is copied.
        script += "PRAGMA journal_mode = DELETE;";
        conn.batch_execute(&script).expect("the triggers");
        template
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("watchpost.db")
    }

    pub fn copy_to(&self, dir: &Path) {
        std::fs::copy(self.path(), dir.join("watchpost.db")).expect("a copy");
    }
}

pub fn connect(path: &Path) -> Conn {
    let mut conn = Conn::establish(&path.to_string_lossy()).expect("the file");
    conn.batch_execute("PRAGMA busy_timeout = 5000").expect("a pragma");
    conn
}

/// Arms a fault, or with `None` takes it away.
pub fn arm(conn: &mut Conn, fault: Option<Fault>) {
    let statement = match fault {
        Some(fault) => format!("INSERT INTO fault VALUES ({})", fault as u8),
        None => "DELETE FROM fault".to_string(),
    };
    conn.batch_execute(&statement).expect("the table of faults");
}
