//! Moving the write-ahead log into the database file, beside the writer instead of inside its
//! commits, where it costs the reports of that batch tens of milliseconds. While reports keep
//! coming the log never quite ends up in the file; then the writer moves the little that is left
//! (`storage.checkpoint_pages`), after which the log starts anew.

use diesel::prelude::*;
use diesel::sql_types::Integer;

use super::database::{Conn, Database, StorageError};

/// A connection of its own. A passive checkpoint waits for nobody and holds nobody up.
pub struct Checkpointer {
    conn: Conn,
}

#[derive(QueryableByName)]
struct Result3 {
    #[diesel(sql_type = Integer)]
    log: i32,
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

impl Checkpointer {
    pub fn open(database: &Database) -> Result<Self, StorageError> {
        #[cfg(feature = "postgres")]
        let database = database.standby().map_or(database, |standby| standby.file());
        Ok(Self { conn: database.open_writer()? })
    }

    /// Moves what can be moved now. Returns pages in the log and pages moved. Blocking.
    pub fn run(&mut self) -> Result<(i32, i32), StorageError> {
        let result =
            diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result::<Result3>(&mut self.conn)?;
        Ok((result.log, result.checkpointed))
    }
}
