//! Connections: how they are opened, configured and shared.

use std::path::{Path, PathBuf};
#[cfg(feature = "postgres")]
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;

use crate::config::StorageConfig;

/// Page cache of the write connection, KiB. A larger one costs more than it saves: after a commit that
/// split a page SQLite walks all of it (16 MiB: a fourteenth of the writer's time, 64 MiB: a tenth).
pub const WRITER_CACHE_KIB: u32 = 4_096;

pub use super::conn::Conn;
pub use super::readers::{Readers, Seen};

/// Why storage did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("open database {}: {message}; choose another --data-dir or --database-url", path.display())]
    Open { path: PathBuf, message: String },
    #[error("database URL {url:?} is not supported; use {}", supported())]
    UnknownUrl { url: String },
    /// The server of the database is not to be reached; it may come back.
    #[error("connect to {name}: {message}")]
    Away { name: String, message: String },
    #[error("another watchpost writes to {name}; stop that one or choose another --database-url")]
    Leased { name: String },
    /// What this process holds in memory is not what the database says any more.
    #[error("another watchpost has written to {name} since this one lost it; start this one anew")]
    Superseded { name: String },
    #[error("{0}")]
    Unusable(String),
    #[error("query: {0}")]
    Query(#[from] diesel::result::Error),
    #[error("no read connection within the time limit")]
    Busy,
    /// What stands in for a database that is away has no room left.
    #[error("the spool is full: {used} of {max} bytes")]
    SpoolFull { used: u64, max: u64 },
    #[error("stored {what} is not readable: {message}")]
    Corrupt { what: &'static str, message: String },
    #[error("a query panicked: {0}")]
    Panicked(String),
}

impl StorageError {
    /// True if the database refuses a row for what is in it, and would do so again.
    pub fn is_content(&self) -> bool {
        use diesel::result::{DatabaseErrorKind, Error};
        match self {
            StorageError::Query(Error::SerializationError(_)) => true,
            StorageError::Query(Error::DatabaseError(kind, info)) => match kind {
                DatabaseErrorKind::NotNullViolation | DatabaseErrorKind::CheckViolation => true,
                DatabaseErrorKind::ForeignKeyViolation => true,
                _ => [
                    "invalid byte sequence",
                    "null character",
                    "unsupported Unicode escape",
                    "invalid input syntax",
                    "out of range",
                    "value too long",
                    "row is too big",
                    "index row size",
                    "no partition of relation",
                ]
                .iter()
                .any(|sign| info.message().contains(sign)),
            },
            _ => false,
        }
    }

    /// True if the same may succeed a little later, and the database is what is missing.
    pub fn is_transient(&self) -> bool {
        use diesel::result::{DatabaseErrorKind, Error};
        match self {
            StorageError::Away { .. } | StorageError::Leased { .. } | StorageError::Busy => true,
            StorageError::Query(Error::BrokenTransactionManager) => true,
            StorageError::Query(Error::DatabaseError(kind, info)) => match kind {
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::SerializationFailure => true,
                DatabaseErrorKind::ReadOnlyTransaction => true,
                // PostgreSQL's own words; its codes do not come through.
                _ => [
                    "terminating connection",
                    "server closed the connection",
                    "no connection to the server",
                    "canceling statement due to",
                    "the database system is",
                    "could not receive data from server",
                    "could not send data to server",
                    "SSL connection has been closed",
                ]
                .iter()
                .any(|sign| info.message().contains(sign)),
            },
            _ => false,
        }
    }
}

fn supported() -> &'static str {
    match cfg!(feature = "postgres") {
        true => "sqlite:PATH or postgres://USER@HOST/DATABASE",
        false => "sqlite:PATH (postgres:// needs a build with the feature `postgres`)",
    }
}

/// Where the database is.
#[derive(Debug, Clone)]
pub struct Database {
    place: Place,
    busy_timeout_ms: u32,
    checkpoint_pages: u32,
    checkpoint_interval: Duration,
    slow_statement: Duration,
    /// What stands in for it while it is away.
    #[cfg(feature = "postgres")]
    standby: Option<Arc<super::standby::Standby>>,
}

#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    #[cfg(feature = "postgres")]
    Server(super::postgres::Server),
}

impl Database {
    /// From the URL, or the default file in the data directory. An unknown scheme is refused, so
    /// that a mistyped URL never makes a new, empty database.
    pub fn from_config(config: &StorageConfig) -> Result<Self, StorageError> {
        let place = match config.database_url.as_str() {
            "" => Place::File(config.data_dir.join("watchpost.db")),
            #[cfg(feature = "postgres")]
            url if super::postgres::is_ours(url) => Place::Server(super::postgres::Server::new(config)),
            url => match url.strip_prefix("sqlite:") {
                Some(path) if !path.trim_start_matches('/').is_empty() => {
                    // sqlite:///abs and sqlite:rel and sqlite:/abs
                    Place::File(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
                }
                _ => return Err(StorageError::UnknownUrl { url: masked_url(&config.database_url) }),
            },
        };
        Ok(Self {
            place,
            busy_timeout_ms: config.busy_timeout_ms,
            checkpoint_pages: config.checkpoint_pages,
            checkpoint_interval: Duration::from_millis(config.checkpoint_interval_ms),
            slow_statement: Duration::from_millis(config.slow_statement_ms),
            #[cfg(feature = "postgres")]
            standby: None,
        })
    }

    /// The same with something that stands in for it while it is away.
    #[cfg(feature = "postgres")]
    pub(super) fn beside(self, standby: Arc<super::standby::Standby>) -> Self {
        Self { standby: Some(standby), ..self }
    }

    /// What stands in for it while it is away.
    #[cfg(feature = "postgres")]
    pub fn standby(&self) -> Option<&Arc<super::standby::Standby>> {
        self.standby.as_ref()
    }

    /// A file wherever it is, with the usual settings.
    pub fn at(path: PathBuf) -> Self {
        let config = StorageConfig::default();
        Self {
            place: Place::File(path),
            busy_timeout_ms: config.busy_timeout_ms,
            checkpoint_pages: config.checkpoint_pages,
            checkpoint_interval: Duration::from_millis(config.checkpoint_interval_ms),
            slow_statement: Duration::from_millis(config.slow_statement_ms),
            #[cfg(feature = "postgres")]
            standby: None,
        }
    }

    /// The file of an SQLite database; empty for PostgreSQL.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::File(path) => path,
            #[cfg(feature = "postgres")]
            Place::Server(_) => Path::new(""),
        }
    }

    /// What it is called in logs and errors; never with a password.
    pub fn name(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            #[cfg(feature = "postgres")]
            Place::Server(server) => server.name().to_owned(),
        }
    }

    /// What takes so long is slow; zero if nobody wants to know.
    pub(super) fn slow_statement(&self) -> Duration {
        self.slow_statement
    }

    /// Which process this is among those that write to the same database; `None` where there can be
    /// only one.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.place {
            Place::File(_) => None,
            #[cfg(feature = "postgres")]
            Place::Server(server) => Some(server.holder()),
        }
    }

    /// True if the writer has something to do there although nobody has written: then it shall probe.
    pub fn wants_turn(&self) -> bool {
        #[cfg(feature = "postgres")]
        return self.standby.as_ref().is_some_and(|standby| standby.wants_turn());
        #[cfg(not(feature = "postgres"))]
        false
    }

    /// True if other processes could write to it: then the session that writes holds a lease.
    pub fn is_shared(&self) -> bool {
        self.holder().is_some()
    }

    /// How often the log is moved into the file beside the writer; `None` where the database does
    /// that itself.
    pub fn checkpoint_interval(&self) -> Option<Duration> {
        match &self.place {
            Place::File(_) => Some(self.checkpoint_interval),
            // The file beside it is checkpointed at leisure.
            #[cfg(feature = "postgres")]
            Place::Server(_) => self.standby.as_ref().map(|_| Duration::from_secs(1)),
        }
    }

    /// A connection that may write. Only migrations and the writer's token ask for one. Where other
    /// processes could write too it holds the lease: there is one such connection at a time.
    pub(super) fn open_writer(&self) -> Result<Conn, StorageError> {
        #[cfg(feature = "postgres")]
        if let Place::Server(server) = &self.place {
            return server.open_writer().map(Conn::Postgres);
        }
        let mut conn = self.establish()?;
        let checkpoint = format!("wal_autocheckpoint = {}", self.checkpoint_pages);
        let cache = format!("cache_size = -{WRITER_CACHE_KIB}");
        // FULL: a commit has been fsynced when it returns, which is what 200 promises.
        let full = ["journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"];
        self.pragmas(&mut conn, &[&full[..], &[&checkpoint, &cache]].concat())?;
        Ok(conn)
    }

    /// A connection to a file that must be there: for checks and copies.
    pub(super) fn open_existing(&self) -> Result<Conn, StorageError> {
        if let Err(err) = std::fs::metadata(self.path()) {
            return Err(StorageError::Open { path: self.path().into(), message: err.to_string() });
        }
        let mut conn = self.establish()?;
        self.pragmas(&mut conn, &[])?;
        Ok(conn)
    }

    /// A connection that changes tables beside a server: without the lease.
    #[cfg(feature = "postgres")]
    pub(super) fn open_beside(&self) -> Result<Conn, StorageError> {
        match &self.place {
            Place::Server(server) => server.open_beside().map(Conn::Postgres),
            Place::File(_) => self.open_writer(),
        }
    }

    /// A connection that only reads, each transaction of it one state of the database.
    pub(super) fn open_reader(&self) -> Result<Conn, StorageError> {
        #[cfg(feature = "postgres")]
        if let Place::Server(server) = &self.place {
            return server.open_reader().map(Conn::Postgres);
        }
        let mut conn = self.establish()?;
        self.pragmas(&mut conn, &["query_only = ON"])?;
        Ok(conn)
    }

    fn establish(&self) -> Result<Conn, StorageError> {
        super::wal_vfs::install();
        let path = self.path().to_path_buf();
        let conn = diesel::SqliteConnection::establish(&path.to_string_lossy());
        let conn = conn.map_err(|err| StorageError::Open { path, message: err.to_string() })?;
        #[cfg(feature = "postgres")]
        let conn = Conn::Sqlite(conn);
        Ok(conn)
    }

    /// One PRAGMA a statement, and the busy timeout first: the others can meet a lock themselves.
    fn pragmas(&self, conn: &mut Conn, pragmas: &[&str]) -> Result<(), StorageError> {
        let busy = format!("busy_timeout = {}", self.busy_timeout_ms);
        for pragma in std::iter::once(busy.as_str()).chain(pragmas.iter().copied()) {
            diesel::sql_query(format!("PRAGMA {pragma}"))
                .execute(conn)
                .map_err(|err| StorageError::Open { path: self.path().into(), message: err.to_string() })?;
        }
        Ok(())
    }
}

/// A URL without its password.
pub(super) fn masked_url(url: &str) -> String {
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((credentials, host)))) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}")
        }
        _ => url.to_owned(),
    }
}

/// Bytes that the database takes, where there is no file of which one could ask.
pub fn size_bytes(conn: &mut Conn) -> Result<Option<i64>, StorageError> {
    if !super::conn::is_postgres(conn) {
        return Ok(None);
    }
    let size = diesel::dsl::sql::<diesel::sql_types::BigInt>("pg_database_size(current_database())");
    Ok(Some(diesel::select(size).get_result(conn)?))
}
