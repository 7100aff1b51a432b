//! Every metric with its unit and meaning in one list.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::events::EventCounts;
use super::histogram::Histogram;
use super::labels::{ActorLabels, ChangeLabels, KindLabels, OpenLabels, RouteLabels};
use super::reading::{Reading, Total};
use crate::domain::alert::AlertState;
use crate::domain::rule::Severity;

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

            /// Name as it is written out, and meaning, of every metric: also of those that are not
            /// written out because nothing has been counted yet.
            pub fn described() -> Vec<(String, &'static str)> {
                fn full<M: TypedMetric>(name: &str, unit: Option<Unit>) -> String {
                    let unit = unit.map_or(String::new(), |unit| format!("_{}", unit.as_str()));
                    let total = if matches!(M::TYPE, MetricType::Counter) { "_total" } else { "" };
                    format!("watchpost_{name}{unit}{total}")
                }
                vec![$( (full::<$kind>($name, $unit), concat!($($doc),+).trim()), )+]
            }
        }
    };
}

metrics! {
    /// Time from the request's last byte to its answer, by route and status code.
    request_seconds: Family<RouteLabels, Histogram> = Family::new_with_constructor(Histogram::of_seconds),
        "request_duration", Some(Unit::Seconds);
    /// Requests between their head and their answer.
    in_flight: Gauge = Gauge::default(), "requests_in_flight", None;
    /// Open connections, idle ones and sockets of screens included.
    connections: Gauge = Gauge::default(), "connections", None;
    /// Payload received: bodies of watches and of the REST API, and frames of screens.
    received_bytes: Counter = Counter::default(), "received", Some(Unit::Bytes);
    /// Payload sent: bodies of answers, and frames to screens.
    sent_bytes: Counter = Counter::default(), "sent", Some(Unit::Bytes);
    /// Records taken in, by kind (event, vitals, status).
    records: Family<KindLabels, Counter> = Family::default(), "records", None;
    /// Events, by type (known ones, else other) and outcome.
    events: EventCounts = EventCounts::default(), "events", None;
    /// Events that were already known and were answered again.
    duplicates: Counter = Counter::default(), "duplicates", None;
    /// Receipts, by outcome (stored, not_promised, timed_out).
    receipts: Family<KindLabels, Counter> = Family::default(), "receipts", None;
    /// Live events that were stored and answered 503 so that their watch keeps its ring.
    ring_guarded: Counter = Counter::default(), "ring_guarded", None;
    /// Requests refused at a limit, by what ran out.
    refused: Family<KindLabels, Counter> = Family::default(), "refused", None;
    /// Memory of admitted reports that have not committed, in KiB.
    permits_used_kib: Gauge = Gauge::default(), "admission_used_kib", None;
    /// The bound of that memory, in KiB.
    permits_max_kib: Gauge = Gauge::default(), "admission_max_kib", None;
    /// Age of the oldest report that waits for its commit.
    commit_lag: Gauge<f64, AtomicU64> = Gauge::default(), "commit_lag", Some(Unit::Seconds);
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
    /// Messages and reports that wait for an actor.
    queue_length: Family<ActorLabels, Gauge> = Family::default(), "actor_queue_length", None;
    /// Messages that found no actor to take them, by edge.
    undelivered: Family<KindLabels, Counter> = Family::default(), "undelivered", None;
    /// Device states in memory.
    device_states: Gauge = Gauge::default(), "device_states", None;
    /// Reports whose device was in memory with its state.
    state_hits: Counter = Counter::default(), "device_state_hits", None;
    /// Reports whose device had to be loaded first.
    state_misses: Counter = Counter::default(), "device_state_misses", None;
    /// Loads of device states, by outcome (loaded, failed, skipped).
    state_loads: Family<KindLabels, Counter> = Family::default(), "device_state_loads", None;
    /// Look-ups of bindings, by outcome (hit, miss, stale).
    binding_lookups: Family<KindLabels, Counter> = Family::default(), "binding_lookups", None;
    /// Reads of the sessions' registry, by what for (load, catch_up, refill, replay).
    registry_reads: Family<KindLabels, Counter> = Family::default(), "registry_reads", None;
    /// Alert transitions, by transition and severity.
    alert_changes: Family<ChangeLabels, Counter> = Family::default(), "alert_changes", None;
    /// Rows of a transaction.
    batch_rows: Histogram = Histogram::of_rows(), "batch_rows", None;
    /// Size of the reports of a transaction.
    batch_bytes: Histogram = Histogram::of_bytes(), "batch", Some(Unit::Bytes);
    /// Time of a transaction, fsync included.
    commit_seconds: Histogram = Histogram::of_seconds(), "commit_duration", Some(Unit::Seconds);
    /// Transactions that failed, by outcome (retried, given_up).
    failed_batches: Family<KindLabels, Counter> = Family::default(), "failed_batches", None;
    /// Reports that were admitted and given up; their watches were told 503.
    given_up_reports: Counter = Counter::default(), "given_up_reports", None;
    /// 1 while the database takes no writes (disk full, disk errors), else 0.
    storage_outage: Gauge = Gauge::default(), "storage_outage", None;
    /// Acknowledgements that wait for the database to take writes again.
    pending_acknowledgements: Gauge = Gauge::default(), "pending_acknowledgements", None;
    /// 1 while batches go into the spool because PostgreSQL is away or slow, else 0.
    spooling: Gauge = Gauge::default(), "spooling", None;
    /// Lines of the spool that PostgreSQL does not have yet.
    spool_rows: Gauge = Gauge::default(), "spool_rows", None;
    /// Size of the file that stands in for PostgreSQL: mirror and spool.
    spool_bytes: Gauge = Gauge::default(), "spool", Some(Unit::Bytes);
    /// Lines of the spool that were handed on to PostgreSQL.
    spool_handed_on: Counter = Counter::default(), "spool_handed_on", None;
    /// Time to apply a batch to the mirror, after it was announced.
    mirror_seconds: Histogram = Histogram::of_seconds(), "mirror_duration", Some(Unit::Seconds);
    /// 1 if the mirror lacks something, so that nothing could be spooled, else 0.
    mirror_stale: Gauge = Gauge::default(), "mirror_stale", None;
    /// 1 if the server before this one was not stopped well, else 0.
    unclean_start: Gauge = Gauge::default(), "unclean_start", None;
    /// Faults that the check after an unclean stop has found in the database.
    integrity_faults: Gauge = Gauge::default(), "integrity_faults", None;
    /// Time from arrival of a report to its commit.
    stored_seconds: Histogram = Histogram::of_seconds(), "event_to_stored", Some(Unit::Seconds);
    /// Time from arrival of a report to its first write to a socket.
    socket_seconds: Histogram = Histogram::of_seconds(), "event_to_socket", Some(Unit::Seconds);
    /// Time of a checkpoint beside the writer.
    checkpoint_seconds: Histogram = Histogram::of_seconds(), "checkpoint_duration", Some(Unit::Seconds);
    /// Time of the last checkpoint beside the writer.
    checkpoint_last: Reading = Reading::default(), "checkpoint_last_duration", Some(Unit::Seconds);
    /// Last offset that has committed.
    watermark: Gauge = Gauge::default(), "offset_committed", None;
    /// Last offset that the sessions' registry holds.
    registry_offset: Gauge = Gauge::default(), "offset_published", None;
    /// Open sockets.
    sessions: Gauge = Gauge::default(), "sessions", None;
    /// Those of them that have not signed in yet.
    sessions_anonymous: Gauge = Gauge::default(), "sessions_anonymous", None;
    /// Sockets that found no place, by the places they were for (signed_in, anonymous).
    sessions_refused: Family<KindLabels, Counter> = Family::default(), "sessions_refused", None;
    /// Changes that the slowest session has not been given yet.
    slowest_behind: Gauge = Gauge::default(), "slowest_session_behind", None;
    /// Sessions closed, by reason.
    sessions_closed: Family<KindLabels, Counter> = Family::default(), "sessions_closed", None;
    /// Alerts that are open, by state (raised, acknowledged) and severity.
    open_alerts: Family<OpenLabels, Gauge> = Family::default(), "open_alerts", None;
    /// Read connections in use.
    readers_used: Gauge = Gauge::default(), "database_readers_used", None;
    /// Read connections that are open.
    readers_open: Gauge = Gauge::default(), "database_readers_open", None;
    /// Read connections at most.
    readers_max: Gauge = Gauge::default(), "database_readers_max", None;
    /// 1 while PostgreSQL makes no read connection, so that reads come from its mirror, else 0.
    readers_unreachable: Gauge = Gauge::default(), "database_readers_unreachable", None;
    /// Time of a read transaction.
    read_seconds: Histogram = Histogram::of_seconds(), "database_read_duration", Some(Unit::Seconds);
    /// Wait for a read connection.
    read_wait_seconds: Histogram = Histogram::of_seconds(), "database_read_wait", Some(Unit::Seconds);
    /// Statements beyond the limit of slow ones, by where (read, command), and transactions.
    slow_statements: Family<KindLabels, Counter> = Family::default(), "slow_statements", None;
    /// Entries in memory, by cache (owners, unbound, rules).
    cache_entries: Family<KindLabels, Gauge> = Family::default(), "cache_entries", None;
    /// Size of the database file.
    database_bytes: Reading = Reading::default(), "database", Some(Unit::Bytes);
    /// Size of the write-ahead log.
    wal_bytes: Reading = Reading::default(), "database_wal", Some(Unit::Bytes);
    /// Room on the disk of the data directory.
    disk_free_bytes: Reading = Reading::default(), "disk_free", Some(Unit::Bytes);
    /// Resident memory of the process.
    resident_bytes: Reading = Reading::default(), "process_resident_memory", Some(Unit::Bytes);
    /// CPU time of the process, user and system.
    cpu_seconds: Total = Total::default(), "process_cpu", Some(Unit::Seconds);
    /// Bytes that the process had read from disks.
    disk_read_bytes: Total = Total::default(), "process_disk_read", Some(Unit::Bytes);
    /// Bytes that the process had written to disks.
    disk_written_bytes: Total = Total::default(), "process_disk_written", Some(Unit::Bytes);
    /// Time since the process started.
    uptime_seconds: Gauge<f64, AtomicU64> = Gauge::default(), "uptime", Some(Unit::Seconds);
}

impl Metrics {
    /// Takes note of a checkpoint.
    pub fn checkpointed(&self, took: Duration) {
        self.checkpoint_seconds.observe(took.as_secs_f64());
        self.checkpoint_last.set(Some(took.as_secs_f64()));
    }

    /// Counts a report that found its device's state in memory, or not.
    pub fn state_looked_up(&self, found: bool) {
        if found {
            self.state_hits.inc()
        } else {
            self.state_misses.inc()
        };
    }

    /// A gauge for each state of an alert that is not resolved, and each severity in it.
    pub fn open_alert_gauges(&self) -> Vec<Gauge> {
        let states = [AlertState::Raised, AlertState::Acknowledged];
        let labels = states.into_iter().flat_map(|state| {
            Severity::ALL.map(|severity| OpenLabels { state: state.name(), severity: severity.name() })
        });
        labels.map(|labels| self.open_alerts.get_or_create_owned(&labels)).collect()
    }

    /// Counts a change of an alert.
    pub fn alert_changed(&self, transition: &'static str, severity: &'static str) {
        self.alert_changes.get_or_create(&ChangeLabels { kind: transition, severity }).inc();
    }

    /// Counts slow statements of `kind`.
    pub fn slow(&self, kind: &'static str, count: u64) {
        if count > 0 {
            self.slow_statements.get_or_create(&KindLabels { kind }).inc_by(count);
        }
    }

    /// Counts one of `kind` in a family.
    pub fn count(family: &Family<KindLabels, Counter>, kind: &'static str) {
        family.get_or_create(&KindLabels { kind }).inc();
    }
}
