//! Configuration: one struct per concern, every limit with its default and unit.
//!
//! Layers, later wins: defaults, the file (`--config`, TOML), `WATCHPOST_<SECTION>_<KEY>`, flags.
//! `watchpost config` prints the effective one. There is no global: each part of the program is
//! handed its own struct.

mod dashboard;
mod layers;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use dashboard::DashboardConfig;

/// Why there is no usable configuration. One line each that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read configuration file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {}: {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("{0}")]
    Layer(String),
    #[error("environment variable {name}: {message}; `watchpost config` lists the keys")]
    Environment { name: String, message: String },
    #[error("{key}: {message}")]
    Invalid { key: &'static str, message: String },
}

/// Effective configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: ServerConfig,
    pub watch: WatchConfig,
    pub storage: StorageConfig,
    pub admission: AdmissionConfig,
    pub device: DeviceConfig,
    pub writer: WriterConfig,
    pub session: SessionConfig,
    pub quarantine: QuarantineConfig,
    pub dashboard: DashboardConfig,
    pub telemetry: TelemetryConfig,
}

/// Doors and process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of every interface. 5001 is built into shipped watches.
    pub listen: SocketAddr,
    /// HTTP worker threads; 0 is one per core.
    pub http_workers: usize,
    /// Connections per worker; further ones wait in the kernel.
    pub connections_per_worker_max: usize,
    /// Largest body of any request, bytes.
    pub body_bytes_max: usize,
    /// Bytes of bodies being read at the same time.
    pub body_budget_bytes: usize,
    /// Part of that which only bodies of at most `body_small_bytes` may use: a few large uploads
    /// never keep an SOS out.
    pub body_reserve_bytes: usize,
    pub body_small_bytes: usize,
    /// A body that has not arrived whole within this is given up, milliseconds. Watches wait 10 s.
    pub body_timeout_ms: u64,
    /// A client that has not sent its request head within this is dropped, milliseconds.
    pub client_timeout_ms: u64,
    /// A client that takes nothing of what it was sent within this loses its connection, milliseconds
    /// (on Linux).
    pub unread_timeout_ms: u64,
    pub keep_alive_s: u64,
    /// SIGTERM to exit at the latest, seconds.
    pub shutdown_timeout_s: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5001)),
            http_workers: 0,
            connections_per_worker_max: 25_000,
            body_bytes_max: 2 * 1024 * 1024,
            body_budget_bytes: 64 * 1024 * 1024,
            body_reserve_bytes: 8 * 1024 * 1024,
            body_small_bytes: 16 * 1024,
            body_timeout_ms: 10_000,
            client_timeout_ms: 5_000,
            unread_timeout_ms: 30_000,
            keep_alive_s: 75,
            shutdown_timeout_s: 20,
        }
    }
}

/// What watches are told and how their bodies are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// IANA zone of wall clocks without one.
    pub time_zone: String,
    /// Records in one body.
    pub records_max: usize,
    /// JSON nesting.
    pub depth_max: usize,
    /// Wait for the commit before a report is answered 503, milliseconds. A watch waits 10 s.
    pub receipt_timeout_ms: u64,
    /// Answer live events of some watches 503 after they are stored, so that they keep their ring.
    pub ring_guard: bool,
    /// Seconds without a sign of life after which a watch is guarded; 0 guards every live event.
    pub ring_guard_silence_s: u32,
    /// Listen on a public address although anybody may post.
    pub allow_open_ingest: bool,
    pub customer_name: String,
    /// Seconds between uploads that `/fetch_health_data_config` asks of watches, at least 5.
    pub upload_health_interval_s: u32,
    pub upload_device_interval_s: u32,
    pub fetch_message_interval_s: u32,
    pub fetch_config_interval_s: u32,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            time_zone: "Asia/Shanghai".into(),
            records_max: 1_000,
            depth_max: 32,
            receipt_timeout_ms: 5_000,
            ring_guard: false,
            ring_guard_silence_s: 0,
            allow_open_ingest: false,
            customer_name: "Watchpost".into(),
            upload_health_interval_s: 60,
            upload_device_interval_s: 300,
            fetch_message_interval_s: 60,
            fetch_config_interval_s: 600,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    pub data_dir: PathBuf,
    /// Empty: `sqlite:<data_dir>/watchpost.db`.
    pub database_url: String,
    /// Read connections.
    pub readers: u32,
    /// Wait for a read connection, milliseconds.
    pub reader_timeout_ms: u64,
    /// Wait for a lock that another process holds, milliseconds.
    pub busy_timeout_ms: u32,
    /// Pages of 4 KiB in the write-ahead log after which the writer moves what is left of them
    /// into the database file itself.
    pub checkpoint_pages: u32,
    /// They are moved beside the writer at most this often, milliseconds.
    pub checkpoint_interval_ms: u64,
    /// PostgreSQL ends a statement that takes longer, milliseconds.
    pub postgres_statement_timeout_ms: u32,
    /// PostgreSQL lets a statement wait for a lock for so long, milliseconds.
    pub postgres_lock_timeout_ms: u32,
    /// A transaction that PostgreSQL has not committed within this goes into the spool, and what waits
    /// behind it, milliseconds.
    pub postgres_commit_limit_ms: u64,
    /// Size of the file that stands in for PostgreSQL while it is away, and its log, bytes. Beyond it
    /// reports are refused; the last eighth is for emergencies.
    pub spool_max_bytes: u64,
    /// Beside PostgreSQL, events that raised no alert, and vital signs, are mirrored for so long, hours.
    pub mirror_hours: u32,
    /// Look at the whole database, in the background, after a server that was not stopped well.
    pub check_after_unclean_stop: bool,
    /// A statement, or a transaction of the writer, that takes so long is logged and counted,
    /// milliseconds; 0 logs none.
    pub slow_statement_ms: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./watchpost-data"),
            database_url: String::new(),
            readers: 4,
            reader_timeout_ms: 2_000,
            busy_timeout_ms: 2_000,
            checkpoint_pages: 65_536,
            checkpoint_interval_ms: 500,
            postgres_statement_timeout_ms: 10_000,
            postgres_lock_timeout_ms: 2_000,
            postgres_commit_limit_ms: 100,
            spool_max_bytes: 8 * 1024 * 1024 * 1024,
            mirror_hours: 6,
            check_after_unclean_stop: true,
            slow_statement_ms: 200,
        }
    }
}

/// Memory of reports between admission and commit, in KiB. Each reserve is kept free for what is
/// more important than the class that it is named after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    pub capacity_kib: u32,
    /// Kept free from vitals and device information.
    pub reserve_above_vitals_kib: u32,
    /// Kept free from ordinary events too.
    pub reserve_above_events_kib: u32,
    /// Kept free from critical events of unbound devices too.
    pub reserve_above_unbound_kib: u32,
    /// While a report that was admitted has waited longer for its commit, no more vitals, device
    /// information and ordinary events are taken, milliseconds.
    pub wait_max_ms: u64,
    /// `Retry-After` of a 503, seconds.
    pub retry_after_s: u32,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            capacity_kib: 64 * 1024,
            reserve_above_vitals_kib: 16 * 1024,
            reserve_above_events_kib: 8 * 1024,
            reserve_above_unbound_kib: 4 * 1024,
            wait_max_ms: 4_000,
            retry_after_s: 2,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// Shards, each on its own thread; 0 is one per core.
    pub shards: usize,
    /// Reports handled before other work of the thread gets its turn.
    pub turn_reports_max: usize,
    /// Device states in memory over all shards; those with open alerts stay beyond it.
    pub states_max: usize,
    /// Devices without a binding that get a state of their own.
    pub devices_unbound_max: usize,
    /// Owners in memory; as many as states, or each report beyond them costs a read.
    pub bindings_cached_max: usize,
    pub bindings_ttl_s: u64,
    /// How long "nobody" is believed. A binding made here counts at once all the same; this is for
    /// changes made behind the server's back.
    pub bindings_negative_ttl_s: u64,
    /// An emergency does not wait longer for its device's state, milliseconds.
    pub emergency_load_timeout_ms: u64,
    /// Further attempts at loading wait this long, milliseconds.
    pub load_retry_ms: u64,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            shards: 0,
            turn_reports_max: 256,
            states_max: 100_000,
            devices_unbound_max: 10_000,
            bindings_cached_max: 100_000,
            bindings_ttl_s: 300,
            bindings_negative_ttl_s: 60,
            emergency_load_timeout_ms: 500,
            load_retry_ms: 200,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriterConfig {
    /// Reports in one transaction.
    pub batch_rows: usize,
    /// Bytes in one transaction, by admission weight.
    pub batch_bytes: usize,
    /// A failed transaction is tried again for this long, milliseconds.
    pub retry_for_ms: u64,
    /// Pause between attempts, milliseconds.
    pub retry_pause_ms: u64,
    /// The thread that writes waits for more for this long before it is given back, milliseconds: until
    /// then a report has one thread to wake up instead of three.
    pub linger_ms: u64,
    /// Administrative commands waiting, per kind.
    pub commands_max: usize,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            batch_rows: 1_000,
            batch_bytes: 8 * 1024 * 1024,
            retry_for_ms: 5_000,
            retry_pause_ms: 100,
            linger_ms: 20,
            commands_max: 256,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// Open sockets of clients that have signed in.
    pub sessions_max: usize,
    /// Open sockets that have not signed in yet, beside them.
    pub anonymous_max: usize,
    /// Changes kept in memory for live delivery and resume.
    pub ring_changes: usize,
    /// Open alerts in a snapshot; beyond it the least severe are left out and it says so.
    pub snapshot_alerts_max: usize,
    /// A write that makes no progress for this long closes the socket with 1013, milliseconds.
    pub write_stall_ms: u64,
    /// Server ping; two without an answer close the socket, milliseconds.
    pub heartbeat_ms: u64,
    /// The `auth` frame must come within this, milliseconds.
    pub auth_timeout_ms: u64,
    /// Changes older than the ring that a resume may read from storage.
    pub resume_changes_max: usize,
    /// The registry compares itself with the writer this often, milliseconds.
    pub reconcile_ms: u64,
    /// Frame from a client, bytes.
    pub client_frame_bytes_max: usize,
    /// Devices whose vitals one session may ask for.
    pub vitals_devices_max: usize,
    /// The sign-in of a browser ends after this, hours.
    pub sign_in_hours: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            sessions_max: 5_000,
            anonymous_max: 500,
            ring_changes: 5_000,
            snapshot_alerts_max: 10_000,
            write_stall_ms: 10_000,
            heartbeat_ms: 15_000,
            auth_timeout_ms: 10_000,
            resume_changes_max: 5_000,
            reconcile_ms: 250,
            client_frame_bytes_max: 64 * 1024,
            vitals_devices_max: 1_000,
            sign_in_hours: 12,
        }
    }
}

/// Bodies that no watch can have meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineConfig {
    /// Bodies being quarantined at the same time; beyond it they are refused without a copy.
    pub permits: usize,
    /// Kept copies; those that name no emergency go first, then the oldest.
    pub bodies_max: u32,
    /// Bytes of kept copies; those that name no emergency go first, then the oldest.
    pub bytes_max: u64,
    /// Hashes in memory by which a repeated bad body is known at once.
    pub known_hashes_max: usize,
}

impl Default for QuarantineConfig {
    fn default() -> Self {
        Self { permits: 64, bodies_max: 10_000, bytes_max: 64 * 1024 * 1024, known_hashes_max: 20_000 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// `tracing` filter, for example `info` or `watchpost=debug`. Below INFO logs may show what
    /// watches sent.
    pub log: String,
    pub log_format: LogFormat,
    /// `http://HOST:PORT` of an OpenTelemetry collector that gets the spans of each report; empty
    /// exports nothing. Needs a build with the feature `otlp`.
    pub otlp_endpoint: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".into(), log_format: LogFormat::Text, otlp_endpoint: String::new() }
    }
}

/// Prefix of the environment layer.
pub const ENV_PREFIX: &str = "WATCHPOST_";

/// In the data directory: the token of the administrator, made at the first start.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
