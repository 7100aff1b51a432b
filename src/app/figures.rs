//! Where the figures of the server come from, and the beat at which they are taken.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::actors::Pipeline;
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::telemetry::observer::{Observer, Sources};
use crate::telemetry::pipeline::ActorFigures;

/// How often counters are noted and the system is looked at.
const BEAT: Duration = Duration::from_secs(1);

/// What puts the figures of all parts together. Blocking: takes a first look at the system.
pub fn observer(
    pipeline: &Pipeline,
    metrics: Arc<Metrics>,
    config: &Config,
    database: &Path,
    started: Instant,
) -> Arc<Observer> {
    let one = |name: &'static str| {
        let board = pipeline.board.clone();
        move || board.figures(name).pop().unwrap_or_else(|| ActorFigures::absent(name))
    };
    let (board, readers, lane) = (pipeline.board.clone(), pipeline.readers.clone(), pipeline.readers.clone());
    let (permits, waiting) = (pipeline.admission.pool.clone(), pipeline.admission.pool.clone());
    let (bindings, rules) = (pipeline.bindings.clone(), pipeline.rules.clone());
    let watermark = pipeline.watermark.clone();
    let sources = Sources {
        shards: Box::new(move || board.figures("device-shard")),
        writer: Box::new(one("batch-writer")),
        registry: Box::new(one("session-registry")),
        permits: Box::new(move || (permits.used_kib(), permits.capacity_kib())),
        commit_lag: Box::new(move || waiting.oldest(Instant::now())),
        committed: Box::new(move || watermark.get()),
        readers: Box::new(move || readers.usage()),
        readers_unreachable: Box::new(move || lane.are_unreachable()),
        caches: Box::new(move || {
            let (owners, unbound) = bindings.entries_held();
            vec![("owners", owners), ("unbound", unbound), ("rules", rules.load().count())]
        }),
        database: database.to_path_buf(),
        data_dir: config.storage.data_dir.clone(),
    };
    Arc::new(Observer::new(metrics, sources, started))
}

/// Ticks for as long as it is polled. Not on the caller's thread: a disk may take its time.
pub async fn beat(observer: Arc<Observer>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once, and the observer has just been made.
    beat.tick().await;
    loop {
        beat.tick().await;
        let observer = observer.clone();
        if let Err(err) = tokio::task::spawn_blocking(move || observer.tick(Instant::now())).await {
            tracing::error!("the figures of the process could not be taken: {err}");
        }
    }
}
