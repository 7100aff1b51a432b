//! Connections: how they are opened, configured and shared.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, Pool, R2D2Connection};
use tokio::sync::Semaphore;

use super::slow;
use crate::config::StorageConfig;
use crate::telemetry::Metrics;

/// Page cache of the write connection, KiB. A larger one costs more than it saves: after a commit that
/// split a page SQLite walks all of it (16 MiB: a fourteenth of the writer's time, 64 MiB: a tenth).
pub const WRITER_CACHE_KIB: u32 = 4_096;

pub use super::conn::Conn;

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
    #[error("stored {what} is not readable: {message}")]
    Corrupt { what: &'static str, message: String },
    #[error("a query panicked: {0}")]
    Panicked(String),
}

impl StorageError {
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
        })
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

    /// True if other processes could write to it: then the session that writes holds a lease.
    pub fn is_shared(&self) -> bool {
        self.holder().is_some()
    }

    /// How often the log is moved into the file beside the writer; `None` where the database does
    /// that itself.
    pub fn checkpoint_interval(&self) -> Option<Duration> {
        match &self.place {
            Place::File(_) => Some(self.checkpoint_interval),
            #[cfg(feature = "postgres")]
            Place::Server(_) => None,
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

/// Makes the connections of the pool.
#[derive(Debug)]
struct ReadOnly(Database);

impl ManageConnection for ReadOnly {
    type Connection = Conn;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Conn, Self::Error> {
        let bad = |err: StorageError| diesel::ConnectionError::BadConnection(err.to_string());
        self.0.open_reader().map_err(|err| diesel::r2d2::Error::ConnectionError(bad(err)))
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Self::Error> {
        conn.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        std::thread::panicking() || conn.is_broken()
    }
}

/// The read connections. Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    pool: Pool<ReadOnly>,
    /// One permit per connection: requests queue here without holding a thread.
    turns: Arc<Semaphore>,
    timeout: Duration,
    slow_statement: Duration,
    /// Nobody counts without it.
    metrics: Option<Arc<Metrics>>,
}

impl Readers {
    pub fn open(database: &Database, config: &StorageConfig) -> Result<Self, StorageError> {
        let timeout = Duration::from_millis(config.reader_timeout_ms);
        let pool = Pool::builder()
            .max_size(config.readers)
            .connection_timeout(timeout)
            .build(ReadOnly(database.clone()))
            .map_err(|err| StorageError::Away { name: database.name(), message: err.to_string() })?;
        let turns = Arc::new(Semaphore::new(config.readers as usize));
        Ok(Self { pool, turns, timeout, slow_statement: database.slow_statement, metrics: None })
    }

    /// The same, counted there.
    pub fn counted_in(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Runs `query` on a blocking thread with a read connection, in one read transaction: all its
    /// statements see the same state. A panic in it is an error here.
    pub async fn read<T, F>(&self, query: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StorageError> + Send + 'static,
    {
        let wanted = Instant::now();
        let turn = tokio::time::timeout(self.timeout, self.turns.clone().acquire_owned());
        let turn = match turn.await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => return Err(StorageError::Busy),
        };
        let this = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            // Taken in here: r2d2 blocks while it waits.
            let mut pooled = this.pool.get().map_err(|_| StorageError::Busy)?;
            let result = this.run(&mut pooled, wanted, query);
            drop((pooled, turn));
            result
        });
        task.await.unwrap_or_else(|err| Err(StorageError::Panicked(err.to_string())))
    }

    /// The same on the calling thread, for start-up and tests.
    pub fn read_blocking<T>(
        &self,
        query: impl FnOnce(&mut Conn) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let wanted = Instant::now();
        let mut pooled = self.pool.get().map_err(|_| StorageError::Busy)?;
        self.run(&mut pooled, wanted, query)
    }

    fn run<T>(
        &self,
        conn: &mut Conn,
        wanted: Instant,
        query: impl FnOnce(&mut Conn) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let begun = Instant::now();
        let (result, slow) = slow::watched(conn, self.slow_statement, |conn| conn.transaction(query));
        if let Some(metrics) = &self.metrics {
            metrics.read_wait_seconds.observe(begun.duration_since(wanted).as_secs_f64());
            metrics.read_seconds.observe(begun.elapsed().as_secs_f64());
            metrics.slow("read", slow);
        }
        result
    }

    /// Connections in use, open, and at most.
    pub fn usage(&self) -> (u32, u32, u32) {
        let state = self.pool.state();
        (state.connections - state.idle_connections, state.connections, self.pool.max_size())
    }
}
