//! What the command line does to a PostgreSQL database.

use diesel::prelude::*;

use super::database::{Conn, Database, StorageError};
use super::migrate;
pub use super::postgres::copy::{Counted, Progress};
use super::postgres::{copy, partitions};
use crate::domain::time::UtcMillis;

/// Copies the SQLite database `from` into the PostgreSQL database `to`, whose schema it makes. What
/// an interrupted copy has done is not done again. Refuses a target that is in use.
pub fn copy_database(
    from: &Database,
    to: &Database,
    now: UtcMillis,
    report: impl FnMut(Progress),
) -> Result<Vec<Counted>, StorageError> {
    migrate::prepare_copy(to, now)?;
    match (from.open_reader()?, to.open_writer()?) {
        (Conn::Sqlite(mut file), Conn::Postgres(mut server)) => {
            diesel::sql_query("SET statement_timeout = 0").execute(&mut server)?;
            copy::copy(&mut file, &mut server, now, report)
        }
        _ => Err(StorageError::Unusable("only sqlite:PATH can be copied, and only to postgres://".into())),
    }
}

/// Drops the months of events and vital signs that end before `before`; a server may be running.
/// Returns the tables.
pub fn drop_months(database: &Database, before: UtcMillis) -> Result<Vec<String>, StorageError> {
    match database.open_beside()? {
        Conn::Postgres(mut server) => Ok(partitions::drop_before(&mut server, partitions::month_of(before))?),
        Conn::Sqlite(_) => {
            Err(StorageError::Unusable("only a PostgreSQL database keeps months apart".into()))
        }
    }
}
