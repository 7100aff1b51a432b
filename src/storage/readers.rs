//! The read connections: a small pool, and beside a database that may go away another one to the file
//! that stands in for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::Connection;
use diesel::r2d2::{ManageConnection, Pool, R2D2Connection};
use tokio::sync::Semaphore;

use super::database::{Conn, Database, StorageError};
use super::slow;
#[cfg(feature = "postgres")]
use super::standby::Standby;
use crate::config::StorageConfig;
use crate::telemetry::Metrics;

/// How a database that may go away does, for whoever asks about the server.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SpoolReport {
    pub mode: Mode,
    /// Seconds since batches go into the spool.
    pub for_s: Option<u64>,
    /// Lines of its log that have not been handed on.
    pub rows: u64,
    /// Size of the file, mirror and spool.
    pub bytes: u64,
    /// True if the mirror lacks something: nothing could be spooled.
    pub stale: bool,
    /// Why the main database could not be written.
    pub error: Option<String>,
}

/// What a read could see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Everything that is stored.
    All,
    /// What the file beside the database has of it.
    Mirrored,
}

/// Where batches go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Into the main database, and then into its mirror.
    Mirroring,
    /// Into the mirror alone.
    Spooling,
}

/// A database that may go away, or a connection to it, is waited for so long by what cannot wait: less
/// than an emergency waits for its owner. Whoever has a turn has a connection, unless it has to be made.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

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
    main: Lane,
    #[cfg(feature = "postgres")]
    standby: Option<(Arc<Standby>, Lane)>,
}

/// Connections to one database.
#[derive(Clone)]
struct Lane {
    /// Of a database that may go away.
    away: Option<Arc<str>>,
    pool: Pool<ReadOnly>,
    /// One permit per connection: requests queue here without holding a thread.
    turns: Arc<Semaphore>,
    timeout: Duration,
    /// No connection could be made, and the pool is still trying to.
    unreachable: Arc<AtomicBool>,
    slow_statement: Duration,
    /// Nobody counts without it.
    metrics: Option<Arc<Metrics>>,
}

impl Readers {
    pub fn open(database: &Database, config: &StorageConfig) -> Result<Self, StorageError> {
        #[cfg(feature = "postgres")]
        if let Some(standby) = database.standby() {
            // Not to have all of them is no reason not to start.
            let main = Lane::open(database, config, Some(standby.is_spooling()))?;
            let file = Lane::open(standby.file(), config, None)?;
            return Ok(Self { main, standby: Some((standby.clone(), file)) });
        }
        Ok(Self {
            main: Lane::open(database, config, None)?,
            #[cfg(feature = "postgres")]
            standby: None,
        })
    }

    /// The same, counted there.
    pub fn counted_in(mut self, metrics: Arc<Metrics>) -> Self {
        #[cfg(feature = "postgres")]
        if let Some((_, file)) = &mut self.standby {
            file.metrics = Some(metrics.clone());
        }
        self.main.metrics = Some(metrics);
        self
    }

    /// Runs `query` on a blocking thread with a read connection, in one read transaction: all its
    /// statements see the same state. A panic in it is an error here. If the database goes away
    /// meanwhile, or takes no connection, it may run once more, on what stands in for it.
    pub async fn read<T, F>(&self, query: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Fn(&mut Conn) -> Result<T, StorageError> + Send + Sync + 'static,
    {
        self.read_from(query, false).await.map(|(found, _)| found)
    }

    /// The same for what cannot wait: if the database does not answer soon, from what stands in for it.
    /// Tells whether everything that is stored could be seen.
    pub async fn read_soon<T, F>(&self, query: F) -> Result<(T, Seen), StorageError>
    where
        T: Send + 'static,
        F: Fn(&mut Conn) -> Result<T, StorageError> + Send + Sync + 'static,
    {
        self.read_from(query, true).await
    }

    async fn read_from<T, F>(&self, query: F, urgent: bool) -> Result<(T, Seen), StorageError>
    where
        T: Send + 'static,
        F: Fn(&mut Conn) -> Result<T, StorageError> + Send + Sync + 'static,
    {
        let query = Arc::new(query);
        #[cfg(feature = "postgres")]
        if let Some((standby, file)) = &self.standby {
            let mirrored = |found: T| (found, Seen::Mirrored);
            if standby.is_spooling() {
                return file.read(query).await.map(mirrored);
            }
            let mut reading = std::pin::pin!(self.main.read(query.clone()));
            let mut late = std::pin::pin!(tokio::time::sleep(ANSWER_WITHIN));
            let mut is_late = false;
            let done = loop {
                tokio::select! {
                    biased;
                    result = &mut reading => break Some(result),
                    () = standby.spooling() => break None,
                    () = &mut late, if !is_late => {
                        // While nobody writes nobody else would find out.
                        standby.doubt();
                        if urgent {
                            break None;
                        }
                        is_late = true;
                    }
                }
            };
            match done {
                // All connections are waiting for it.
                Some(Err(StorageError::Busy)) if urgent => {}
                Some(Err(err)) if err.is_transient() && !matches!(err, StorageError::Busy) => {
                    standby.suspect()
                }
                Some(done) => return done.map(|found| (found, Seen::All)),
                None => {}
            }
            let standby = standby.clone();
            let whole = move |conn: &mut Conn| query(conn);
            let applied = tokio::task::spawn_blocking(move || standby.wait_mirrored());
            // Not to have waited is to read a little less.
            let _ = applied.await;
            return file.read(Arc::new(whole)).await.map(mirrored);
        }
        // Nothing stands in for it.
        let _ = urgent;
        self.main.read(query).await.map(|found| (found, Seen::All))
    }

    /// The same on the calling thread, for start-up and tests.
    pub fn read_blocking<T>(
        &self,
        query: impl FnOnce(&mut Conn) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let lane = self.lane();
        let wanted = Instant::now();
        let mut pooled = lane.connection()?;
        lane.run(&mut pooled, wanted, query)
    }

    /// Where reads go now.
    fn lane(&self) -> &Lane {
        #[cfg(feature = "postgres")]
        if let Some((standby, file)) = &self.standby
            && standby.is_spooling()
        {
            return file;
        }
        &self.main
    }

    /// True if not everything that is stored can be read now: the database is away.
    pub fn is_incomplete(&self) -> bool {
        #[cfg(feature = "postgres")]
        return self
            .standby
            .as_ref()
            .is_some_and(|(standby, _)| standby.is_incomplete() || self.main.is_unreachable());
        #[cfg(not(feature = "postgres"))]
        false
    }

    /// What stands in for a database that may go away; `None` without it.
    pub fn spool(&self) -> Option<SpoolReport> {
        #[cfg(feature = "postgres")]
        return self.standby.as_ref().map(|(standby, _)| standby.report());
        #[cfg(not(feature = "postgres"))]
        None
    }

    /// Grows when what is stored has changed behind everybody's back, and has to be read anew.
    pub fn generation(&self) -> u64 {
        #[cfg(feature = "postgres")]
        return self.standby.as_ref().map_or(0, |(standby, _)| standby.generation());
        #[cfg(not(feature = "postgres"))]
        0
    }

    /// True while the database makes no connection.
    pub fn are_unreachable(&self) -> bool {
        self.main.is_unreachable()
    }

    /// Connections in use, open, and at most.
    pub fn usage(&self) -> (u32, u32, u32) {
        let pool = &self.lane().pool;
        let state = pool.state();
        (state.connections - state.idle_connections, state.connections, pool.max_size())
    }
}

impl Lane {
    /// `absent` of a database that something stands in for: its connections are waited for by whoever
    /// needs one, and if it is away nothing asks for them before.
    fn open(database: &Database, config: &StorageConfig, absent: Option<bool>) -> Result<Self, StorageError> {
        let timeout = Duration::from_millis(config.reader_timeout_ms);
        let builder = Pool::builder().max_size(config.readers).connection_timeout(timeout);
        let manager = ReadOnly(database.clone());
        // r2d2 waits for half of this between two attempts.
        let soon = timeout.min(2 * ANSWER_WITHIN);
        let pool = match absent {
            Some(true) => builder.connection_timeout(soon).min_idle(Some(0)).build_unchecked(manager),
            Some(false) => builder.connection_timeout(soon).build_unchecked(manager),
            None => builder
                .build(manager)
                .map_err(|err| StorageError::Away { name: database.name(), message: err.to_string() })?,
        };
        let turns = Arc::new(Semaphore::new(config.readers as usize));
        let slow_statement = database.slow_statement();
        let away = database.is_shared().then(|| database.name().into());
        let unreachable = Arc::default();
        Ok(Self { away, pool, turns, timeout, unreachable, slow_statement, metrics: None })
    }

    async fn read<T, F>(&self, query: Arc<F>) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Fn(&mut Conn) -> Result<T, StorageError> + Send + Sync + 'static,
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
            let mut pooled = this.connection()?;
            let result = this.run(&mut pooled, wanted, |conn| query(conn));
            drop((pooled, turn));
            result
        });
        task.await.unwrap_or_else(|err| Err(StorageError::Panicked(err.to_string())))
    }

    /// There is one for each turn, unless the database makes none. Once it has made none nobody waits
    /// until the pool, which goes on trying, has one.
    fn connection(&self) -> Result<diesel::r2d2::PooledConnection<ReadOnly>, StorageError> {
        let Some(name) = &self.away else { return self.pool.get().map_err(|_| StorageError::Busy) };
        let away = |message: String| StorageError::Away { name: name.to_string(), message };
        if self.is_unreachable() {
            return Err(away("it takes no connection".into()));
        }
        let made = self.pool.get_timeout(self.timeout.min(ANSWER_WITHIN));
        let before = self.unreachable.swap(made.is_err(), Ordering::AcqRel);
        match &made {
            Err(err) if !before => {
                tracing::warn!("{name} takes no read connection: {err}; until it does reads are incomplete");
            }
            Ok(_) if before => tracing::info!("{name} takes read connections again"),
            _ => {}
        }
        made.map_err(|err| away(err.to_string()))
    }

    fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Acquire) && self.pool.state().idle_connections == 0
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
}
