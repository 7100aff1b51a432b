//! Logs, and every metric with its unit and meaning in one list.

use std::io::IsTerminal;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    pub route: &'static str,
    pub code: u16,
}

/// One label: the kind of thing that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    pub kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActorLabels {
    pub actor: String,
}

/// Seconds, from 100 µs to 10 s.
const LATENCY_BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const ROW_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

macro_rules! metrics {
    ($( $(#[doc = $doc:literal])+ $field:ident: $kind:ty = $make:expr, $name:literal, $unit:expr; )+) => {
        /// Every metric of the process. One value per server, handed to each part: tests that run
        /// several servers in one process do not mix them up.
        #[derive(Debug)]
        pub struct Metrics {
            $( $(#[doc = $doc])+ pub $field: $kind, )+
        }

        impl Metrics {
            /// All metrics at zero, and the registry that writes them out.
            pub fn register() -> (Self, Registry) {
                let mut registry = Registry::with_prefix("watchpost");
                let metrics = Self { $( $field: $make, )+ };
                $(
                    let help = concat!($($doc),+).trim().trim_end_matches('.');
                    let unit: Option<Unit> = $unit;
                    match unit {
                        Some(unit) => registry.register_with_unit($name, help, unit, metrics.$field.clone()),
                        None => registry.register($name, help, metrics.$field.clone()),
                    }
                )+
                (metrics, registry)
            }
        }
    };
}

metrics! {
    /// Time from the request's last byte to its answer, by route and status code.
    request_seconds: Family<RouteLabels, Histogram> = Family::new_with_constructor(latency),
        "request_duration", Some(Unit::Seconds);
    /// Records taken in, by kind (event, vitals, status).
    records: Family<KindLabels, Counter> = Family::default(), "records", None;
    /// Events that were already known and were answered again.
    duplicates: Counter = Counter::default(), "duplicates", None;
    /// Receipts, by outcome (stored, not_promised, timed_out).
    receipts: Family<KindLabels, Counter> = Family::default(), "receipts", None;
    /// Live events that were stored and answered 503 so that their watch keeps its ring.
    ring_guarded: Counter = Counter::default(), "ring_guarded", None;
    /// Requests refused at a limit, by what ran out.
    refused: Family<KindLabels, Counter> = Family::default(), "refused", None;
    /// Memory of admitted reports that have not committed.
    permits_used_kib: Gauge = Gauge::default(), "admission_used_kib", None;
    /// Bodies put into quarantine, by route.
    quarantined: Family<KindLabels, Counter> = Family::default(), "quarantined", None;
    /// Copies in quarantine, as of the last look at the metrics.
    quarantine_bodies: Gauge = Gauge::default(), "quarantine_bodies", None;
    /// Size of the copies in quarantine, as of the last look at the metrics.
    quarantine_bytes: Gauge = Gauge::default(), "quarantine", Some(Unit::Bytes);
    /// Panics caught, by where.
    panics: Family<KindLabels, Counter> = Family::default(), "panics", None;
    /// Restarts of an actor.
    restarts: Family<ActorLabels, Counter> = Family::default(), "actor_restarts", None;
    /// Messages that wait for an actor.
    queue_length: Family<ActorLabels, Gauge> = Family::default(), "actor_queue_length", None;
    /// Messages that found no actor to take them, by edge.
    undelivered: Family<KindLabels, Counter> = Family::default(), "undelivered", None;
    /// Device states in memory.
    device_states: Gauge = Gauge::default(), "device_states", None;
    /// Loads of device states, by outcome (loaded, failed, skipped).
    state_loads: Family<KindLabels, Counter> = Family::default(), "device_state_loads", None;
    /// Look-ups of bindings, by outcome (hit, miss, stale).
    binding_lookups: Family<KindLabels, Counter> = Family::default(), "binding_lookups", None;
    /// Alert transitions, by transition.
    alert_changes: Family<KindLabels, Counter> = Family::default(), "alert_changes", None;
    /// Rows of a transaction.
    batch_rows: Histogram = Histogram::new(ROW_BUCKETS), "batch_rows", None;
    /// Time of a transaction, fsync included.
    commit_seconds: Histogram = latency(), "commit_duration", Some(Unit::Seconds);
    /// Transactions that failed, by outcome (retried, given_up).
    failed_batches: Family<KindLabels, Counter> = Family::default(), "failed_batches", None;
    /// Reports that were admitted and given up; their watches were told 503.
    given_up_reports: Counter = Counter::default(), "given_up_reports", None;
    /// 1 while the database takes no writes (disk full, disk errors), else 0.
    storage_outage: Gauge = Gauge::default(), "storage_outage", None;
    /// 1 if the server before this one was not stopped well, else 0.
    unclean_start: Gauge = Gauge::default(), "unclean_start", None;
    /// Faults that the check after an unclean stop has found in the database.
    integrity_faults: Gauge = Gauge::default(), "integrity_faults", None;
    /// Time from arrival of a report to its commit.
    stored_seconds: Histogram = latency(), "event_to_stored", Some(Unit::Seconds);
    /// Time from arrival of a report to its first write to a socket.
    socket_seconds: Histogram = latency(), "event_to_socket", Some(Unit::Seconds);
    /// Last offset that has committed.
    watermark: Gauge = Gauge::default(), "offset_committed", None;
    /// Last offset that the sessions' registry holds.
    registry_offset: Gauge = Gauge::default(), "offset_published", None;
    /// Open sockets.
    sessions: Gauge = Gauge::default(), "sessions", None;
    /// Sessions closed, by reason.
    sessions_closed: Family<KindLabels, Counter> = Family::default(), "sessions_closed", None;
    /// Alerts that are open.
    open_alerts: Gauge = Gauge::default(), "open_alerts", None;
    /// Time since the process started.
    uptime_seconds: Gauge<f64, AtomicU64> = Gauge::default(), "uptime", Some(Unit::Seconds);
}

impl Metrics {
    /// Counts one of `kind` in a family.
    pub fn count(family: &Family<KindLabels, Counter>, kind: &'static str) {
        family.get_or_create(&KindLabels { kind }).inc();
    }
}

/// Starts logging to stderr. A second call in one process (tests) does nothing.
pub fn init_logging(filter: &str, json: bool) -> Result<(), String> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(filter).map_err(|err| format!("telemetry.log: {err}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error here only says that a subscriber is already installed.
    let _ = if json { builder.json().try_init() } else { builder.compact().try_init() };
    Ok(())
}
