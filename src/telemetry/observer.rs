//! Puts the figures of the moment together: once a second it looks at the system and takes note of
//! the counters, and whoever asks gets the last seconds from that.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::histogram::{Histogram, Snapshot};
use super::labels::KindLabels;
use super::metrics::Metrics;
use super::pipeline::{ActorFigures, DatabaseFigures, Doors, Pipeline, Process, Sessions, WINDOW_S, Writer};
use super::process::ProcessReading;

const WINDOW: Duration = Duration::from_secs(WINDOW_S);
/// HTTP status codes are below.
const CODES: usize = 600;

type Source<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Figures that other parts have at hand. None of them may block.
pub struct Sources {
    pub shards: Source<Vec<ActorFigures>>,
    pub writer: Source<ActorFigures>,
    /// The sessions' registry.
    pub registry: Source<ActorFigures>,
    /// KiB in use, and at most.
    pub permits: Source<(u64, u64)>,
    /// Age of the oldest report that waits for its commit.
    pub commit_lag: Source<Duration>,
    /// Last offset that has committed.
    pub committed: Source<i64>,
    /// Read connections in use, open, and at most.
    pub readers: Source<(u32, u32, u32)>,
    /// The database makes no read connection.
    pub readers_unreachable: Source<bool>,
    /// Entries in memory, by cache.
    pub caches: Source<Vec<(&'static str, usize)>>,
    pub database: PathBuf,
    pub data_dir: PathBuf,
}

/// The counters at one moment.
struct Sample {
    at: Instant,
    requests: Snapshot,
    codes: BTreeMap<u16, u64>,
    commits: Snapshot,
    rows: Snapshot,
    to_socket: Snapshot,
    cpu: Option<Duration>,
}

/// One per server. [`Observer::tick`] wants to be called once a second.
pub struct Observer {
    metrics: Arc<Metrics>,
    sources: Sources,
    started: Instant,
    /// All requests, whatever their route.
    requests: Histogram,
    codes: Box<[AtomicU64]>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// Oldest first; the first is at most a little older than the window.
    samples: VecDeque<Sample>,
    process: ProcessReading,
}

impl Observer {
    /// Takes a first look at the system: blocking.
    pub fn new(metrics: Arc<Metrics>, sources: Sources, started: Instant) -> Self {
        let observer = Self {
            metrics,
            sources,
            started,
            requests: Histogram::of_seconds(),
            codes: (0..CODES).map(|_| AtomicU64::new(0)).collect(),
            seen: Mutex::new(Seen { samples: VecDeque::new(), process: ProcessReading::default() }),
        };
        observer.tick(Instant::now());
        observer
    }

    /// Counts an answer.
    pub fn answered(&self, code: u16, took: Duration) {
        self.requests.observe(took.as_secs_f64());
        if let Some(counter) = self.codes.get(usize::from(code)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks at the system and takes note of the counters. Blocking: it reads a few small files.
    pub fn tick(&self, now: Instant) {
        let process = ProcessReading::take(&self.sources.database, &self.sources.data_dir);
        self.show(&process);
        let sample = self.sample(now, process.cpu);
        let mut seen = self.seen();
        seen.process = process;
        seen.samples.push_back(sample);
        // The second may go as the first only while it still covers the window.
        while seen.samples.get(1).is_some_and(|second| now.duration_since(second.at) >= WINDOW) {
            seen.samples.pop_front();
        }
    }

    /// Brings the gauges up to date that nobody keeps so: before metrics are written out.
    pub fn refresh(&self) {
        let (metrics, sources) = (&self.metrics, &self.sources);
        metrics.permits_used_kib.set((sources.permits)().0 as i64);
        metrics.commit_lag.set((sources.commit_lag)().as_secs_f64());
        metrics.watermark.set((sources.committed)());
        let (used, open, max) = (sources.readers)();
        metrics.readers_used.set(used.into());
        metrics.readers_open.set(open.into());
        metrics.readers_max.set(max.into());
        metrics.readers_unreachable.set((sources.readers_unreachable)().into());
        for (kind, entries) in (sources.caches)() {
            metrics.cache_entries.get_or_create(&KindLabels { kind }).set(entries as i64);
        }
        metrics.uptime_seconds.set(self.started.elapsed().as_secs_f64());
    }

    /// The figures of the last [`WINDOW_S`] seconds. Does not block, and costs some microseconds.
    pub fn pipeline(&self) -> Pipeline {
        let now = self.sample(Instant::now(), None);
        let seen = self.seen();
        let first = seen.samples.front().unwrap_or(&now);
        let last = seen.samples.back().unwrap_or(&now);
        let elapsed_s = now.at.duration_since(first.at).as_secs_f64().max(0.001);
        let ms = |span: &Snapshot, quantile| span.quantile(quantile).map(|seconds| rounded(seconds * 1e3));
        let requests = now.requests.since(&first.requests);
        let commits = now.commits.since(&first.commits);
        let rows = now.rows.since(&first.rows);
        let to_socket = now.to_socket.since(&first.to_socket);
        let by_code = now.codes.iter().filter_map(|(code, count)| {
            let new = count - first.codes.get(code).copied().unwrap_or(0);
            (new > 0).then_some((*code, new))
        });
        let (permits_used_kib, permits_max_kib) = (self.sources.permits)();
        let (readers_used, _, readers_max) = (self.sources.readers)();
        let (writer, registry) = ((self.sources.writer)(), (self.sources.registry)());
        let process = &seen.process;
        Pipeline {
            window_s: WINDOW_S,
            doors: Doors {
                requests_per_s: rounded(requests.count() as f64 / elapsed_s),
                in_flight: self.metrics.in_flight.get(),
                by_code: by_code.collect(),
                p50_ms: ms(&requests, 0.5),
                p95_ms: ms(&requests, 0.95),
                p99_ms: ms(&requests, 0.99),
                permits_used_kib,
                permits_max_kib,
            },
            shards: (self.sources.shards)().into_iter().map(Into::into).collect(),
            writer: Writer {
                state: writer.state,
                queue: writer.queue,
                restarts: writer.restarts,
                rows_per_s: rounded(rows.sum / elapsed_s),
                batches_per_s: rounded(rows.count() as f64 / elapsed_s),
                rows_per_batch: (rows.count() > 0).then(|| rounded(rows.sum / rows.count() as f64)),
                commit_p50_ms: ms(&commits, 0.5),
                commit_p99_ms: ms(&commits, 0.99),
                commit_lag_ms: (self.sources.commit_lag)().as_millis() as u64,
            },
            database: DatabaseFigures {
                size_bytes: process.database_bytes,
                wal_bytes: process.wal_bytes,
                disk_free_bytes: process.disk_free_bytes,
                checkpoint_last_ms: self.metrics.checkpoint_last.get().map(|seconds| rounded(seconds * 1e3)),
                readers_used,
                readers_max,
            },
            sessions: Sessions {
                open: self.metrics.sessions.get(),
                state: registry.state,
                restarts: registry.restarts,
                offset_committed: (self.sources.committed)(),
                offset_published: self.metrics.registry_offset.get(),
                slowest_behind: self.metrics.slowest_behind.get(),
                to_socket_p50_ms: ms(&to_socket, 0.5),
                to_socket_p99_ms: ms(&to_socket, 0.99),
            },
            process: Process {
                rss_bytes: process.resident_bytes,
                cpu_percent: cpu_percent(first, last),
                uptime_s: self.started.elapsed().as_secs(),
            },
        }
    }

    fn sample(&self, at: Instant, cpu: Option<Duration>) -> Sample {
        let codes = self.codes.iter().zip(0u16..).map(|(count, code)| (code, count.load(Ordering::Relaxed)));
        Sample {
            at,
            requests: self.requests.snapshot(),
            codes: codes.filter(|(_, count)| *count > 0).collect(),
            commits: self.metrics.commit_seconds.snapshot(),
            rows: self.metrics.batch_rows.snapshot(),
            to_socket: self.metrics.socket_seconds.snapshot(),
            cpu,
        }
    }

    fn show(&self, process: &ProcessReading) {
        let bytes = |value: Option<u64>| value.map(|bytes| bytes as f64);
        let metrics = &self.metrics;
        metrics.database_bytes.set(bytes(process.database_bytes));
        metrics.wal_bytes.set(bytes(process.wal_bytes));
        metrics.disk_free_bytes.set(bytes(process.disk_free_bytes));
        metrics.resident_bytes.set(bytes(process.resident_bytes));
        metrics.disk_read_bytes.set(bytes(process.disk_read_bytes));
        metrics.disk_written_bytes.set(bytes(process.disk_written_bytes));
        metrics.cpu_seconds.set(process.cpu.map(|cpu| cpu.as_secs_f64()));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Assignments only: what a panic left is as good as the last look.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cpu_percent(first: &Sample, last: &Sample) -> Option<f64> {
    let elapsed = last.at.duration_since(first.at);
    if elapsed.is_zero() {
        return None;
    }
    let used = last.cpu?.saturating_sub(first.cpu?);
    Some(rounded(100.0 * used.as_secs_f64() / elapsed.as_secs_f64()))
}

/// To three digits behind the point.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer(metrics: &Arc<Metrics>) -> Observer {
        let sources = Sources {
            shards: Box::new(|| vec![ActorFigures::absent("device-shard-0")]),
            writer: Box::new(|| ActorFigures::absent("batch-writer")),
            registry: Box::new(|| ActorFigures::absent("session-registry")),
            permits: Box::new(|| (3, 10)),
            commit_lag: Box::new(|| Duration::from_millis(1_500)),
            committed: Box::new(|| 77),
            readers: Box::new(|| (1, 2, 4)),
            readers_unreachable: Box::new(|| false),
            caches: Box::new(|| vec![("rules", 12)]),
            database: "no-such.db".into(),
            data_dir: ".".into(),
        };
        Observer::new(metrics.clone(), sources, Instant::now())
    }

    #[test]
    fn only_the_last_seconds_count() {
        let metrics = Arc::new(Metrics::register().0);
        let observer = observer(&metrics);
        let began = Instant::now();
        observer.answered(200, Duration::from_millis(400));
        observer.answered(503, Duration::from_millis(400));
        for second in 1..=3 {
            observer.tick(began + Duration::from_secs(second));
        }
        let doors = observer.pipeline().doors;
        assert_eq!(doors.by_code, BTreeMap::from([(200, 1), (503, 1)]));
        let p50 = doors.p50_ms.expect("two were measured");
        assert!((400.0..=413.0).contains(&p50), "{p50}");

        for second in 4..=14 {
            observer.tick(began + Duration::from_secs(second));
        }
        observer.answered(200, Duration::from_millis(2));
        let doors = observer.pipeline().doors;
        assert_eq!(doors.by_code, BTreeMap::from([(200, 1)]));
        let p99 = doors.p99_ms.expect("one was measured");
        assert!((2.0..=2.1).contains(&p99), "{p99}");
        assert!(observer.seen().samples.len() <= WINDOW_S as usize + 2);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let metrics = Arc::new(Metrics::register().0);
        let shown = serde_json::to_value(observer(&metrics).pipeline()).expect("JSON");
        for (part, key) in [
            ("doors", "p50_ms"),
            ("writer", "commit_p99_ms"),
            ("writer", "rows_per_batch"),
            ("sessions", "to_socket_p50_ms"),
            ("database", "size_bytes"),
            ("database", "checkpoint_last_ms"),
        ] {
            assert!(shown[part].as_object().expect("a part").contains_key(key), "{part}.{key}");
            assert!(shown[part][key].is_null(), "{part}.{key} is {}", shown[part][key]);
        }
        assert_eq!(shown["writer"]["commit_lag_ms"], 1_500);
        assert_eq!(shown["database"]["readers_max"], 4);
    }

    #[test]
    fn gauges_follow_their_sources() {
        let metrics = Arc::new(Metrics::register().0);
        observer(&metrics).refresh();
        assert_eq!(metrics.permits_used_kib.get(), 3);
        assert_eq!((metrics.readers_open.get(), metrics.watermark.get()), (2, 77));
        assert_eq!(metrics.cache_entries.get_or_create(&KindLabels { kind: "rules" }).get(), 12);
        assert_eq!(metrics.commit_lag.get(), 1.5);
    }
}
