//! The connection that every query here takes, and the few things in which databases differ.
//!
//! Without the feature `postgres` it is diesel's SQLite connection itself. With it, it is one of
//! two: each query is written once, and its text is built in the words of whichever database it
//! goes to. What diesel cannot build for both (ON CONFLICT) is a [`super::statement::Statement`].

#[cfg(not(feature = "postgres"))]
mod kind {
    /// One connection.
    pub type Conn = diesel::SqliteConnection;
    /// What queries are built for.
    pub type Db = diesel::sqlite::Sqlite;
}

#[cfg(feature = "postgres")]
mod kind {
    use diesel::prelude::*;

    /// One connection, to either database.
    #[derive(diesel::MultiConnection)]
    pub enum Conn {
        Sqlite(SqliteConnection),
        Postgres(PgConnection),
    }

    /// What queries are built for.
    pub type Db = MultiBackend;
}

pub use kind::{Conn, Db};

/// True if the database is PostgreSQL.
pub(super) fn is_postgres(conn: &Conn) -> bool {
    #[cfg(feature = "postgres")]
    return matches!(conn, Conn::Postgres(_));
    #[cfg(not(feature = "postgres"))]
    {
        let _ = conn;
        false
    }
}

/// The same on a file alone.
#[cfg(feature = "postgres")]
pub(super) fn immediate<T, E: From<diesel::result::Error>>(
    conn: &mut diesel::SqliteConnection,
    work: impl FnOnce(&mut diesel::SqliteConnection) -> Result<T, E>,
) -> Result<T, E> {
    conn.immediate_transaction(work)
}

/// Runs `work` in a transaction that holds the right to write from its beginning: a transaction of
/// SQLite that reads first fails at its first write if somebody has committed meanwhile.
pub(super) fn write_transaction<T, E: From<diesel::result::Error>>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> Result<T, E>,
) -> Result<T, E> {
    #[cfg(not(feature = "postgres"))]
    return diesel::SqliteConnection::immediate_transaction(conn, work);
    #[cfg(feature = "postgres")]
    {
        use diesel::connection::{AnsiTransactionManager, Connection, TransactionManager};
        type Manager = <Conn as Connection>::TransactionManager;
        match conn {
            Conn::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?,
            Conn::Postgres(conn) => AnsiTransactionManager::begin_transaction(conn)?,
        }
        match work(conn) {
            Ok(value) => {
                Manager::commit_transaction(conn)?;
                Ok(value)
            }
            Err(err) => match Manager::rollback_transaction(conn) {
                // The connection is gone: what went wrong first says more.
                Ok(()) | Err(diesel::result::Error::BrokenTransactionManager) => Err(err),
                Err(rollback) => {
                    tracing::debug!("after an error the transaction could not be rolled back: {rollback}");
                    Err(err)
                }
            },
        }
    }
}
