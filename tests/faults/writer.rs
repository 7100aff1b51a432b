//! BatchWriter with a real database; its neighbours are recorders.

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use actix::{Addr, Supervisor};
use tokio::sync::oneshot;
use watchpost::config::{StorageConfig, WriterConfig};
use watchpost::domain::ids::DeviceSn;
use watchpost::domain::rule_seeds;
use watchpost::session::messages::{VitalsInterest, Watermark};
use watchpost::storage::database::Database;
use watchpost::storage::migrate;
use watchpost::supervision::clock::Clock;
use watchpost::supervision::guard::Supervised;
use watchpost::supervision::health::ActorHealth;
use watchpost::supervision::link::Link;
use watchpost::supervision::outage::Outage;
use watchpost::supervision::permits::Outcome;
use watchpost::telemetry::Metrics;
use watchpost::writer::actor::{BatchWriter, token_slot};
use watchpost::writer::inbox::Inbox;
use watchpost::writer::job::{Announce, TokenSlot};
use watchpost::writer::messages::{Barrier, Flush, ShardNotice, Wake, WriteBatch, WriteItem};

use super::bench::{Answer, Bench, sn};
use super::tools::{WriteLock, event};
use crate::support::truth::File;
use crate::support::{DEADLINE, NOW, eventually};

pub struct Scene {
    dir: tempfile::TempDir,
    pub database: Database,
    token: TokenSlot,
    wake: Link<Wake>,
    pub inbox: Inbox,
    pub announce: Announce,
    pub notices: Arc<Mutex<Vec<ShardNotice>>>,
    /// Offsets in the order in which they were handed over.
    published: Arc<Mutex<Vec<i64>>>,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config =
            StorageConfig { data_dir: dir.path().into(), busy_timeout_ms: 10, ..StorageConfig::default() };
        let database = Database::from_config(&config).expect("a path");
        migrate::prepare(&database, &rule_seeds::seeds(), NOW).expect("a schema");
        let (notices, published) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (noticed, taken) = (notices.clone(), published.clone());
        let announce = Announce {
            watermark: Watermark::default(),
            registry: Link::to_fn("registry", move |publish: watchpost::session::messages::Publish| {
                let offsets = publish.changes.iter().map(|change| change.offset);
                taken.lock().expect("no panic").extend(offsets);
            }),
            shards: vec![Link::to_fn("shard", move |notice| noticed.lock().expect("no panic").push(notice))],
            interest: Arc::new(VitalsInterest::default()),
            hand_overs: Arc::new(AtomicI64::new(0)),
            metrics: Arc::new(Metrics::register().0),
            clock: Clock::manual(NOW).0,
            outage: Outage::default(),
        };
        let wake = Link::new("batch-writer", ActorHealth::new("batch-writer"));
        let inbox = Inbox::new(wake.clone());
        Self { dir, database, token: token_slot(), wake, inbox, announce, notices, published }
    }

    fn writer_that(&self, retries_for_ms: u64) -> BatchWriter {
        let (clock, metrics) = (self.announce.clock.clone(), self.announce.metrics.clone());
        let supervised = Supervised::detached("batch-writer", clock, metrics);
        let config =
            WriterConfig { retry_pause_ms: 5, retry_for_ms: retries_for_ms, ..WriterConfig::default() };
        let (token, announce) = (self.token.clone(), self.announce.clone());
        BatchWriter::new(supervised, config, self.database.clone(), token, announce, self.inbox.clone())
    }

    pub fn start(&self) -> Addr<BatchWriter> {
        self.start_that(20_000)
    }

    /// One that gives up after so long.
    pub fn start_that(&self, retries_for_ms: u64) -> Addr<BatchWriter> {
        let writer = self.writer_that(retries_for_ms);
        let writer = Supervisor::start(|_| writer);
        self.wake.point_to(&writer);
        // A shard hands nothing on before its barrier; what comes earlier is refused.
        self.inbox.barrier(Barrier { shard: 0, devices: None, token: 0 });
        writer
    }

    /// Waits until a transaction has failed and is tried again.
    pub async fn until_retried(&self) {
        let retried = || self.announce.metrics.failed_batches.get_or_create(&KIND).get() > 0;
        eventually("a first failure", || async { retried().then_some(()) }).await;
    }

    fn merged(&self) -> Vec<DeviceSn> {
        let notices = self.notices.lock().expect("no panic");
        let of = |notice: &ShardNotice| match notice {
            ShardNotice::Committed { merged, .. } => merged.clone(),
            _ => vec![],
        };
        notices.iter().flat_map(of).collect()
    }

    pub fn file(&self) -> File {
        File::of(self.dir.path())
    }
}

/// What a shard that knows nothing of them decides about these SOS of one device.
pub fn decided(device: &str, seconds: &[u32]) -> (Vec<WriteItem>, Vec<Answer>) {
    let mut bench = Bench::new();
    let answers = seconds.iter().map(|second| bench.send(&event(device, "SOS_EVENT", *second))).collect();
    bench.load();
    (std::mem::take(&mut bench.written), answers)
}

pub fn write(scene: &Scene, items: Vec<WriteItem>) {
    scene.inbox.batch(WriteBatch { shard: 0, urgent: false, items });
}

pub async fn flush(writer: &Addr<BatchWriter>) {
    let (done, finished) = oneshot::channel();
    writer.do_send(Flush { done });
    tokio::time::timeout(DEADLINE, finished).await.expect("in time").expect("it was flushed");
}

pub async fn alert_of(answer: Answer) -> Option<i64> {
    match answer.await.expect("an answer")[0] {
        Outcome::Stored { alert_id, .. } => alert_id.map(|id| id.0),
        other => panic!("not stored: {other:?}"),
    }
}

#[actix_web::test]
async fn a_raise_that_meets_an_open_alert_becomes_its_repeat_and_the_shard_is_told() {
    let scene = Scene::new();
    let writer = scene.start();
    let (items, mut first) = decided("A", &[1]);
    write(&scene, items);
    let first = alert_of(first.remove(0)).await.expect("an alert");
    // A shard that could not load the state raises once more.
    let (items, mut second) = decided("A", &[2]);
    assert_ne!(items[0].alert_id.expect("an alert").0, first);
    write(&scene, items);
    assert_eq!(alert_of(second.remove(0)).await, Some(first), "the sender is told of the open one");
    flush(&writer).await;
    assert_eq!(scene.merged(), [sn("A")]);
    assert_eq!(*scene.published.lock().expect("no panic"), [1, 2]);
    let mut file = scene.file();
    assert_eq!(file.texts("SELECT alert_id || ' ' || count AS value FROM alert"), [format!("{first} 2")]);
    let transitions = file.texts("SELECT transition AS value FROM alert_change ORDER BY change_offset");
    assert_eq!(transitions, ["raised", "repeated"]);
    assert_eq!(file.texts("SELECT alert_id AS value FROM event"), [first.to_string(), first.to_string()]);
    file.assert_consistent();
}

#[actix_web::test]
async fn a_batch_that_had_committed_after_all_changes_nothing_the_second_time() {
    let scene = Scene::new();
    let _writer = scene.start();
    let dump = |scene: &Scene| {
        let mut file = scene.file();
        file.assert_consistent();
        let mut rows = file.texts("SELECT alert_id || ' ' || last_offset || body AS value FROM alert");
        rows.extend(file.texts("SELECT change_offset || cause || body AS value FROM alert_change"));
        rows.extend(file.texts("SELECT hex(event_id) || alert_id AS value FROM event"));
        rows
    };
    // Raise and repeats of A; B's raise meets an open alert.
    let batch = || {
        let (mut items, mut answers) = decided("A", &[1, 2, 3]);
        for (more, told) in [decided("B", &[1]), decided("B", &[2])] {
            items.extend(more);
            answers.extend(told);
        }
        (items, answers)
    };
    let mut told: Vec<Vec<Option<i64>>> = Vec::new();
    let mut dumps = Vec::new();
    for _ in 0..2 {
        let (items, answers) = batch();
        write(&scene, items);
        let mut alerts = Vec::new();
        for answer in answers {
            alerts.push(alert_of(answer).await);
        }
        told.push(alerts);
        dumps.push(dump(&scene));
    }
    assert_eq!(dumps[0].len(), 2 + 5 + 5);
    assert_eq!(dumps[0], dumps[1]);
    assert_eq!(told[0], told[1], "the senders are told the same");
    assert_eq!(*scene.published.lock().expect("no panic"), [1, 2, 3, 4, 5], "nothing is pushed twice");
    assert_eq!(scene.announce.watermark.get(), 5);
}

#[actix_web::test]
async fn a_writer_that_is_built_anew_while_one_is_busy_goes_on_without_a_gap() {
    let scene = Scene::new();
    let (items, mut lost) = decided("A", &[1]);
    let lock = WriteLock::take(scene.database.path());
    // Two incarnations share the token: the second has to wait for the transaction of the first.
    let _old = scene.start();
    write(&scene, items);
    scene.until_retried().await;
    let new = scene.start();
    let (items, mut second) = decided("B", &[1]);
    write(&scene, items);
    lock.release();
    assert!(alert_of(lost.remove(0)).await.is_some());
    assert!(alert_of(second.remove(0)).await.is_some());
    flush(&new).await;
    let restarts = |notice: &&ShardNotice| matches!(notice, ShardNotice::WriterRestarted);
    assert_eq!(scene.notices.lock().expect("no panic").iter().filter(restarts).count(), 2);
    assert_eq!(scene.announce.watermark.get(), 2);
    let mut file = scene.file();
    assert_eq!(file.texts("SELECT count(*) AS value FROM alert"), ["2"]);
    file.assert_consistent();
}

const KIND: watchpost::telemetry::KindLabels = watchpost::telemetry::KindLabels { kind: "retried" };
