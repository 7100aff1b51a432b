//! What is PostgreSQL's own: sessions, the lease, partitions, whole batches in one statement.

pub(super) mod batch;
pub(super) mod copy;
pub(super) mod partitions;
pub(super) mod rows;

use std::sync::Arc;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer, Nullable, Text};

use super::database::{StorageError, masked_url};
use crate::config::StorageConfig;

/// First key of the advisory lock that a writer holds; the second is a hash of the schema.
const LEASE: i32 = 0x7770_7374;
/// What a URL does not say itself. A server that is cut off is noticed within 10 s.
const URL_DEFAULTS: [(&str, &str); 6] = [
    ("application_name", "watchpost"),
    ("connect_timeout", "5"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "2"),
    ("tcp_user_timeout", "10000"),
];

/// True for the schemes that PostgreSQL's library takes.
pub(super) fn is_ours(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Where the database is, and how a session behaves.
#[derive(Clone)]
pub(super) struct Server {
    url: Arc<str>,
    name: Arc<str>,
    /// Names this process among those that write here.
    holder: Arc<str>,
    statement_timeout_ms: u32,
    lock_timeout_ms: u32,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    value: bool,
}

impl Server {
    pub fn new(config: &StorageConfig) -> Self {
        let mut url = config.database_url.clone();
        for (key, value) in URL_DEFAULTS {
            if !url.contains(&format!("{key}=")) {
                let mark = if url.contains('?') { '&' } else { '?' };
                url.push_str(&format!("{mark}{key}={value}"));
            }
        }
        let random = uuid::Uuid::from_u64_pair(std::process::id().into(), random());
        let holder = random.to_string();
        Self {
            url: url.into(),
            name: masked_url(config.database_url.split('?').next().unwrap_or_default()).into(),
            holder: holder.into(),
            statement_timeout_ms: config.postgres_statement_timeout_ms,
            lock_timeout_ms: config.postgres_lock_timeout_ms,
        }
    }

    /// For logs; without the password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names this process among those that write here.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    fn away(&self, err: impl std::fmt::Display) -> StorageError {
        let message = err.to_string();
        StorageError::Away { name: self.name.to_string(), message: message.trim().replace('\n', " ") }
    }

    fn connect(&self) -> Result<PgConnection, StorageError> {
        let mut conn = PgConnection::establish(&self.url).map_err(|err| self.away(err))?;
        // libpq writes what is less than an error to this process's standard error, past the log.
        let session = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; SET TimeZone = 'UTC'; \
             SET client_min_messages = error; SET idle_in_transaction_session_timeout = 60000",
            self.statement_timeout_ms, self.lock_timeout_ms
        );
        conn.batch_execute(&session).map_err(|err| self.away(err))?;
        Ok(conn)
    }

    /// A session that only reads; each transaction of it sees one state.
    pub fn open_reader(&self) -> Result<PgConnection, StorageError> {
        let mut conn = self.connect()?;
        conn.batch_execute(
            "SET default_transaction_isolation = 'repeatable read'; SET default_transaction_read_only = on",
        )
        .map_err(|err| self.away(err))?;
        Ok(conn)
    }

    /// The session that writes. It holds the lease as long as it lives, and whoever has lost the
    /// session has lost the lease with it: what was in it does not commit.
    pub fn open_writer(&self) -> Result<PgConnection, StorageError> {
        let mut conn = self.connect()?;
        // A commit has been flushed when it returns, which is what 200 promises, whatever the
        // server's default is.
        conn.batch_execute("SET synchronous_commit = on").map_err(|err| self.away(err))?;
        self.take_lease(&mut conn)?;
        Ok(conn)
    }

    /// A session that changes tables beside a server that writes.
    pub fn open_beside(&self) -> Result<PgConnection, StorageError> {
        self.connect()
    }

    /// Waits for at most the lock timeout: the server may not have noticed yet that an earlier
    /// session of ours has ended.
    fn take_lease(&self, conn: &mut PgConnection) -> Result<(), StorageError> {
        let lock = "SELECT true AS value FROM pg_advisory_lock($1, hashtext(current_schema()))";
        match diesel::sql_query(lock).bind::<Integer, _>(LEASE).get_result::<Flag>(conn) {
            Ok(Flag { value }) if value => Ok(()),
            Ok(_) => Err(self.away("the lease was not given")),
            Err(diesel::result::Error::DatabaseError(_, info)) if info.message().contains("lock timeout") => {
                Err(StorageError::Leased { name: self.name.to_string() })
            }
            Err(err) => Err(self.away(err)),
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // Without random numbers the time has to do: what matters is that two starts differ.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => chrono::Utc::now().timestamp_micros().unsigned_abs(),
    }
}

/// The name of a table that is not ours, if there is one, and whether ours are there.
pub(super) fn tables(conn: &mut PgConnection) -> Result<(Option<String>, bool), StorageError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        foreign: Option<String>,
        #[diesel(sql_type = Bool)]
        ours: bool,
    }
    let row: Row = diesel::sql_query(
        "SELECT min(tablename::text) FILTER (WHERE tablename <> '__diesel_schema_migrations') AS foreign, \
         coalesce(bool_or(tablename = 'alert_change'), false) AS ours \
         FROM pg_catalog.pg_tables WHERE schemaname = current_schema()",
    )
    .get_result(conn)?;
    Ok((row.foreign.filter(|_| !row.ours), row.ours))
}
