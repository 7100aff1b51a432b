//! Everything of one history, and the server in it that can be lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use testkit::NOW;
use watchpost::config::{AdmissionConfig, DeviceConfig, WriterConfig};
use watchpost::device::bindings::Bindings;
use watchpost::device::judge::ShardDeps;
use watchpost::device::strangers::Strangers;
use watchpost::rules::evaluate;
use watchpost::rules::set::{Published, RuleSet};
use watchpost::session::messages::{Publish, VitalsInterest, Watermark};
use watchpost::storage::database::{Conn, Database};
use watchpost::storage::{devices, rules};
use watchpost::supervision::clock::Clock;
use watchpost::supervision::link::Link;
use watchpost::supervision::outage::Outage;
use watchpost::supervision::permits::PermitPool;
use watchpost::telemetry::Metrics;
use watchpost::writer::job::Announce;
use watchpost::writer::messages::ShardNotice;

use super::chance::{Chance, trace};
use super::jobs::WriterSide;
use super::operators::Operators;
use super::promises::Change;
use super::screens::Screen;
use super::sessions::RegistrySide;
use super::shards::ShardSide;
use super::template::{Template, connect, database_in, folder};
use super::watches::Watches;

pub const SHARDS: usize = 2;

/// What waits in a mailbox. Shared with the link that fills it.
pub type Queue<T> = Arc<Mutex<VecDeque<T>>>;

pub fn pop<T>(queue: &Queue<T>) -> Option<T> {
    queue.lock().expect("no panic").pop_front()
}

pub fn len<T>(queue: &Queue<T>) -> usize {
    queue.lock().expect("no panic").len()
}

/// What dies with the process.
pub struct Server {
    pub deps: Arc<ShardDeps>,
    pub pool: Arc<PermitPool>,
    pub rules: Published,
    pub shards: Vec<ShardSide>,
    pub writer: WriterSide,
    pub registry: RegistrySide,
}

pub struct World {
    pub chance: Chance,
    pub begun: Instant,
    pub now: Instant,
    pub clock: Clock,
    hand: Arc<AtomicI64>,
    /// Nothing fails any more and nothing new comes.
    pub calm: bool,
    /// Reads and faults; the server's own write connection is in the writer's token.
    pub conn: Conn,
    pub database: Database,
    pub server: Server,
    pub watches: Watches,
    pub operators: Operators,
    pub screens: Vec<Screen>,
    /// The log as it is in the file.
    pub log: Vec<Change>,
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn new(seed: u64, template: &Template) -> Self {
        let dir = folder();
        template.copy_to(dir.path());
        let database = database_in(dir.path());
        let mut conn = connect(database.path());
        let (clock, hand) = Clock::manual(NOW);
        let server = Server::start(&mut conn, &clock);
        Self {
            chance: Chance::from_seed(seed),
            begun: Instant::now(),
            now: Instant::now(),
            clock,
            hand,
            calm: false,
            conn,
            database,
            server,
            watches: Watches::default(),
            operators: Operators::default(),
            screens: Screen::all(),
            log: Vec::new(),
            dir,
        }
        .started()
    }

    fn started(mut self) -> Self {
        self.now = self.begun;
        self.after_start();
        self
    }

    /// What actors do when they begin.
    fn after_start(&mut self) {
        for shard in 0..SHARDS {
            self.server.shards[shard].core.forget_everything();
            self.collect_shard(shard);
        }
        self.writer_begins();
        self.collect_registry();
    }

    /// Kill -9: the file is all that remains.
    pub fn crash(&mut self) {
        self.server = Server::start(&mut self.conn, &self.clock);
        for screen in &mut self.screens {
            screen.disconnected();
        }
        self.after_start();
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        let elapsed = i64::try_from((self.now - self.begun).as_millis()).expect("a short history");
        self.hand.store(NOW.0 + elapsed, Ordering::Relaxed);
    }

    pub fn step(&mut self) -> bool {
        let Some(step) = self.choose() else { return false };
        trace::step();
        trace::note(format!("{step:?}"));
        // No two things happen at one instant.
        self.pass(Duration::from_micros(1));
        self.run(step);
        self.read_log();
        self.hear_answers();
        true
    }

    /// Everything is delivered, everybody is connected, and what was not answered 200 is sent again.
    pub fn calm_down(&mut self) {
        self.calm = true;
        trace::note("calm".into());
        for _ in 0..80 {
            for _ in 0..20_000 {
                if !self.step() {
                    break;
                }
            }
            if self.is_settled() {
                return;
            }
            self.pass(Duration::from_millis(260));
            for shard in 0..SHARDS {
                self.tick(shard);
            }
            self.look_at_the_watermark();
            self.screens_ping();
            self.send_what_is_unanswered();
        }
        panic!("the server does not come to rest: {}", self.unrest());
    }
}

impl Server {
    fn start(conn: &mut Conn, clock: &Clock) -> Self {
        let metrics = Arc::new(Metrics::register().0);
        let device = DeviceConfig {
            turn_reports_max: 2,
            // One at a time in each shard, but for those with open alerts.
            states_max: SHARDS,
            bindings_ttl_s: 3,
            bindings_negative_ttl_s: 1,
            emergency_load_timeout_ms: 500,
            load_retry_ms: 100,
            ..DeviceConfig::default()
        };
        let writer = WriterConfig {
            batch_rows: 3,
            retry_for_ms: 300,
            retry_pause_ms: 50,
            // Its time stands still while a job runs.
            linger_ms: 0,
            ..WriterConfig::default()
        };
        let (stored, _) = rules::load_all(conn).expect("the rules");
        let published: Published = Arc::new(ArcSwap::from_pointee(RuleSet::compile(&stored, 1)));
        let known = devices::unbound(conn, device.devices_unbound_max).expect("the devices");
        let deps = Arc::new(ShardDeps {
            bindings: Bindings::new(&device, metrics.clone()),
            strangers: Strangers::new(device.devices_unbound_max, known),
            config: device,
            shards: SHARDS,
            batch_rows: writer.batch_rows,
            rules: published.clone(),
            built_in: RuleSet::built_in(),
            tokens: AtomicU64::new(1),
            clock: clock.clone(),
            metrics: metrics.clone(),
            evaluate_event: evaluate::event,
        });
        let notices: Vec<Queue<ShardNotice>> = (0..SHARDS).map(|_| Queue::default()).collect();
        let published_changes: Queue<Publish> = Queue::default();
        let (hints, watermark) = (published_changes.clone(), Watermark::default());
        let into = |queue: &Queue<ShardNotice>| {
            let queue = queue.clone();
            Link::to_fn("shard", move |notice| queue.lock().expect("no panic").push_back(notice))
        };
        let announce = Announce {
            watermark: watermark.clone(),
            registry: Link::to_fn("registry", move |hint| hints.lock().expect("no panic").push_back(hint)),
            shards: notices.iter().map(into).collect(),
            interest: Arc::new(VitalsInterest::default()),
            hand_overs: Arc::new(AtomicI64::new(0)),
            metrics: metrics.clone(),
            clock: clock.clone(),
            outage: Outage::default(),
        };
        Self {
            pool: PermitPool::new(&AdmissionConfig::default(), metrics),
            rules: published,
            shards: notices.into_iter().map(|notices| ShardSide::new(deps.clone(), notices)).collect(),
            deps,
            writer: WriterSide::new(writer, announce),
            registry: RegistrySide::new(published_changes, watermark),
        }
    }
}
