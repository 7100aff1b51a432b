//! Connections: how they are opened, configured and shared.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use tokio::sync::Semaphore;

use super::slow;
use crate::config::StorageConfig;
use crate::telemetry::Metrics;

/// Page cache of the write connection, KiB. A larger one costs more than it saves: SQLite walks its
/// table at each commit (64 MiB took a tenth of the writer's time).
const WRITER_CACHE_KIB: u32 = 16_384;

/// One connection. The only database here is SQLite.
pub type Conn = SqliteConnection;

/// Why storage did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("open database {}: {message}; choose another --data-dir or --database-url", path.display())]
    Open { path: PathBuf, message: String },
    #[error("database URL {url:?} is not supported; use sqlite:PATH")]
    UnknownUrl { url: String },
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

/// Where the database is.
#[derive(Debug, Clone)]
pub struct Database {
    path: PathBuf,
    busy_timeout_ms: u32,
    checkpoint_pages: u32,
    checkpoint_interval: Duration,
    slow_statement: Duration,
}

impl Database {
    /// From the URL, or the default file in the data directory. An unknown scheme is refused, so
    /// that a mistyped URL never makes a new, empty database.
    pub fn from_config(config: &StorageConfig) -> Result<Self, StorageError> {
        let path = match config.database_url.as_str() {
            "" => config.data_dir.join("watchpost.db"),
            url => match url.strip_prefix("sqlite:") {
                Some(path) if !path.trim_start_matches('/').is_empty() => {
                    // sqlite:///abs and sqlite:rel and sqlite:/abs
                    PathBuf::from(path.strip_prefix("//").unwrap_or(path))
                }
                _ => return Err(StorageError::UnknownUrl { url: config.database_url.clone() }),
            },
        };
        Ok(Self {
            path,
            busy_timeout_ms: config.busy_timeout_ms,
            checkpoint_pages: config.checkpoint_pages,
            checkpoint_interval: Duration::from_millis(config.checkpoint_interval_ms),
            slow_statement: Duration::from_millis(config.slow_statement_ms),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often the log is moved into the file beside the writer.
    pub fn checkpoint_interval(&self) -> Duration {
        self.checkpoint_interval
    }

    /// What takes so long is slow; zero if nobody wants to know.
    pub(super) fn slow_statement(&self) -> Duration {
        self.slow_statement
    }

    /// A connection that may write. Only migrations and the writer's token ask for one.
    pub(super) fn open_writer(&self) -> Result<Conn, StorageError> {
        let mut conn = self.establish()?;
        let checkpoint = format!("wal_autocheckpoint = {}", self.checkpoint_pages);
        let cache = format!("cache_size = -{WRITER_CACHE_KIB}");
        // FULL: a commit has been fsynced when it returns, which is what 200 promises.
        let full = ["journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"];
        self.pragmas(&mut conn, &[&full[..], &[&checkpoint, &cache]].concat())?;
        Ok(conn)
    }

    fn establish(&self) -> Result<Conn, StorageError> {
        let path = self.path.to_string_lossy();
        SqliteConnection::establish(&path)
            .map_err(|err| StorageError::Open { path: self.path.clone(), message: err.to_string() })
    }

    /// One PRAGMA a statement, and the busy timeout first: the others can meet a lock themselves.
    fn pragmas(&self, conn: &mut Conn, pragmas: &[&str]) -> Result<(), StorageError> {
        let busy = format!("busy_timeout = {}", self.busy_timeout_ms);
        for pragma in std::iter::once(busy.as_str()).chain(pragmas.iter().copied()) {
            diesel::sql_query(format!("PRAGMA {pragma}"))
                .execute(conn)
                .map_err(|err| StorageError::Open { path: self.path.clone(), message: err.to_string() })?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct ReadOnly {
    busy_timeout_ms: u32,
}

impl CustomizeConnection<Conn, diesel::r2d2::Error> for ReadOnly {
    fn on_acquire(&self, conn: &mut Conn) -> Result<(), diesel::r2d2::Error> {
        let pragmas =
            [format!("PRAGMA busy_timeout = {}", self.busy_timeout_ms), "PRAGMA query_only = ON".into()];
        for pragma in pragmas {
            diesel::sql_query(pragma).execute(conn).map_err(diesel::r2d2::Error::QueryError)?;
        }
        Ok(())
    }
}

/// The read connections. Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    pool: Pool<ConnectionManager<Conn>>,
    /// One permit per connection: requests queue here without holding a thread.
    turns: Arc<Semaphore>,
    timeout: Duration,
    slow_statement: Duration,
    /// Nobody counts without it.
    metrics: Option<Arc<Metrics>>,
}

impl Readers {
    pub fn open(database: &Database, config: &StorageConfig) -> Result<Self, StorageError> {
        let manager = ConnectionManager::<Conn>::new(database.path.to_string_lossy());
        let timeout = Duration::from_millis(config.reader_timeout_ms);
        let pool = Pool::builder()
            .max_size(config.readers)
            .connection_timeout(timeout)
            .connection_customizer(Box::new(ReadOnly { busy_timeout_ms: config.busy_timeout_ms }))
            .build(manager)
            .map_err(|err| StorageError::Open { path: database.path.clone(), message: err.to_string() })?;
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
