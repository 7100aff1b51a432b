//! The actors of the pipeline, their links, and how each is built anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, AsyncContext, Supervisor};
use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::{AppError, ask};
use crate::config::Config;
use crate::device::actor::{DeviceActor, ShardSinks};
use crate::device::bindings::Bindings;
use crate::device::judge::ShardDeps;
use crate::device::messages::Drain;
use crate::device::strangers::Strangers;
use crate::ingest::admission::Admission;
use crate::ingest::router::{Router, ShardLinks};
use crate::rules::actor::RuleCache;
use crate::rules::evaluate;
use crate::rules::messages::ChangeRule;
use crate::rules::set::{Published, RuleSet};
use crate::session::delivery::{CloseAll, RegistryLinks};
use crate::session::messages::{AlertShown, Epoch, VitalsInterest, Watermark};
use crate::session::registry_actor::{RegistryDeps, SessionRegistry};
use crate::storage::command::Command;
use crate::storage::database::{Database, Readers};
use crate::storage::devices;
use crate::storage::rules;
use crate::supervision::clock::Clock;
use crate::supervision::guard::Supervised;
use crate::supervision::health::{ActorHealth, HealthBoard};
use crate::supervision::link::Link;
use crate::supervision::outage::Outage;
use crate::supervision::permits::PermitPool;
use crate::supervision::root::{ActorDied, BudgetSpent, Factory, Fatal, RootSupervisor};
use crate::telemetry::Metrics;
use crate::writer::actor::{BatchWriter, token_slot};
use crate::writer::client::WriterClient;
use crate::writer::inbox::Inbox;
use crate::writer::job::{Announce, TokenSlot};
use crate::writer::messages::{Administer, Flush, ShardNotice, Wake};

/// How often readiness is looked at while starting.
const READY_POLL: Duration = Duration::from_millis(2);

/// Everything behind the doors.
pub struct Pipeline {
    pub board: HealthBoard,
    pub readers: Readers,
    pub admission: Admission,
    pub writer: WriterClient,
    pub change_rule: Link<ChangeRule>,
    pub rules: Published,
    pub watermark: Watermark,
    pub registry: RegistryLinks,
    pub shown: Link<AlertShown>,
    pub fatal: mpsc::UnboundedReceiver<Fatal>,
    pub(super) bindings: Arc<Bindings>,
    flush: Link<Flush>,
    /// Of a database that other processes could write to: the session that holds the lease.
    lease: Option<TokenSlot>,
    arbiters: Vec<Arbiter>,
}

/// What all factories are made from.
struct Builder<'a> {
    clock: &'a Clock,
    metrics: &'a Arc<Metrics>,
    board: HealthBoard,
    died: Link<ActorDied>,
    spent: Link<BudgetSpent>,
    factories: HashMap<String, Factory>,
    arbiters: Vec<Arbiter>,
}

impl Builder<'_> {
    fn health(&self, name: &str) -> Arc<ActorHealth> {
        let health = ActorHealth::new(name);
        self.board.add(health.clone());
        health
    }

    fn supervised(&self, health: &Arc<ActorHealth>) -> Supervised {
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        Supervised::new(health.clone(), clock, metrics, self.died.clone(), self.spent.clone())
    }

    /// An arbiter of its own: a mailbox that is never empty starves everything on its thread.
    fn arbiter(&mut self) -> ArbiterHandle {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        self.arbiters.push(arbiter);
        handle
    }

    /// Builds the actor now, and again whenever its death watch reports.
    fn spawn(&mut self, health: &ActorHealth, build: impl Fn() + Send + 'static) {
        build();
        self.factories.insert(health.name.clone(), Box::new(build));
    }
}

/// Links into the writer.
struct WriterLinks {
    inbox: Inbox,
    administer: Link<Administer>,
    shown: Link<AlertShown>,
    flush: Link<Flush>,
    token: TokenSlot,
}

impl Pipeline {
    /// Starts every actor, from the end of the pipeline backwards. The root is last: until then a
    /// death would find nobody, and start-up fails by its timeout.
    pub fn start(
        config: &Config,
        clock: &Clock,
        metrics: &Arc<Metrics>,
        database: Database,
        epoch: &Epoch,
    ) -> Result<Self, AppError> {
        let readers = Readers::open(&database, &config.storage)?.counted_in(metrics.clone());
        let root_health = ActorHealth::new("root-supervisor");
        let mut builder = Builder {
            clock,
            metrics,
            board: HealthBoard::default(),
            died: Link::new("root-supervisor", root_health.clone()),
            spent: Link::new("root-supervisor", root_health.clone()),
            factories: HashMap::new(),
            arbiters: Vec::new(),
        };
        builder.board.add(root_health.clone());
        let (watermark, interest) = (Watermark::default(), Arc::new(VitalsInterest::default()));

        let registry = start_registry(&mut builder, config, &readers, &watermark, &interest, epoch);
        let shard_count = match config.device.shards {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            shards => shards,
        };
        let shard_healths: Vec<Arc<ActorHealth>> =
            (0..shard_count).map(|index| builder.health(&format!("device-shard-{index}"))).collect();
        let notices: Vec<Link<ShardNotice>> =
            shard_healths.iter().map(|health| Link::new("device-shard", health.clone())).collect();
        let outage = Outage::default();
        let announce = Announce {
            watermark: watermark.clone(),
            registry: registry.publish.clone(),
            shards: notices.clone(),
            interest,
            hand_overs: Arc::new(AtomicI64::new(0)),
            metrics: metrics.clone(),
            clock: clock.clone(),
            outage: outage.clone(),
        };
        let links = start_writer(&mut builder, config, &database, &announce);
        let writer =
            WriterClient::new(links.administer.clone(), config.writer.commands_max).heeding(outage.clone());
        let (change_rule, published) = start_rules(&mut builder, config, &readers, &writer)?;

        let bindings = Bindings::new(&config.device, metrics.clone());
        let strangers_max = config.device.devices_unbound_max;
        let known_strangers = move |conn: &mut _| devices::unbound(conn, strangers_max);
        let deps = Arc::new(ShardDeps {
            config: config.device.clone(),
            shards: shard_count,
            batch_rows: config.writer.batch_rows,
            rules: published.clone(),
            built_in: RuleSet::built_in(),
            bindings: bindings.clone(),
            strangers: Strangers::new(strangers_max, readers.read_blocking(known_strangers)?),
            tokens: AtomicU64::new(1),
            clock: clock.clone(),
            metrics: metrics.clone(),
            evaluate_event: evaluate::event,
        });
        let sinks = ShardSinks {
            readers: readers.clone(),
            writer: links.inbox.clone(),
            administer: writer.clone(),
            quarantine_bounds: (config.quarantine.bodies_max, config.quarantine.bytes_max),
        };
        let shards = shard_healths
            .iter()
            .zip(notices)
            .enumerate()
            .map(|(index, (health, notice))| start_shard(&mut builder, index, health, notice, &deps, &sinks))
            .collect();
        let look_up = bindings.clone();
        let admission = Admission {
            pool: PermitPool::new(&config.admission, metrics.clone()),
            rules: published.clone(),
            router: Arc::new(Router::new(shards, metrics.clone())),
            bound: Arc::new(move |device| look_up.bound_customer(device)),
            clock: clock.clone(),
            metrics: metrics.clone(),
            receipt_timeout: Duration::from_millis(config.watch.receipt_timeout_ms),
            outage,
        };

        let (fatal_sender, fatal) = mpsc::unbounded_channel();
        let Builder { board, died, spent, factories, arbiters, .. } = builder;
        let root = RootSupervisor::new(factories, board.clone(), root_health, fatal_sender).start();
        died.point_to(&root);
        spent.point_to(&root);
        Ok(Self {
            board,
            readers,
            admission,
            writer,
            change_rule,
            rules: published,
            watermark,
            registry,
            shown: links.shown,
            fatal,
            bindings,
            flush: links.flush,
            lease: database.is_shared().then_some(links.token),
            arbiters,
        })
    }

    /// Resolves when every actor runs.
    pub fn running(&self) -> impl Future<Output = ()> + use<> {
        let board = self.board.clone();
        async move {
            while !board.all_running() {
                tokio::time::sleep(READY_POLL).await;
            }
        }
    }

    /// Closes every socket with 1001 and lets no more in.
    pub async fn close_sessions(&self) {
        ask(&self.registry.close_all, |done| CloseAll { done }).await;
    }

    /// Leaves a mark in the database that [`Pipeline::drain`] takes away.
    /// Ends never if the writer does not: to be awaited beside `fatal`.
    pub fn mark_running(&self) -> impl Future<Output = ()> + use<> {
        let writer = self.writer.clone();
        async move {
            if let Err(err) = writer.execute(Command::MarkRunning).await {
                tracing::warn!("if this server is killed, the next start will not notice: {err}");
            }
        }
    }

    /// Hands on what the shards hold, then writes what the writer holds.
    pub async fn drain(&self) {
        for shard in self.admission.router.shards() {
            ask(&shard.drain, |done| Drain { done }).await;
        }
        ask(&self.flush, |done| Flush { done }).await;
        // Where that cannot be written, the next start looks at what there is.
        if let Err(err) = self.writer.execute(Command::MarkStopped).await {
            tracing::warn!("the next start will check the database: {err}");
        }
        if let Some(token) = &self.lease {
            // Whoever takes over need not wait for the end of this process.
            *token.lock().await = None;
        }
    }

    /// Ends the actors' threads.
    pub fn stop(&self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

fn start_registry(
    builder: &mut Builder<'_>,
    config: &Config,
    readers: &Readers,
    watermark: &Watermark,
    interest: &Arc<VitalsInterest>,
    epoch: &Epoch,
) -> RegistryLinks {
    let health = builder.health("session-registry");
    let links = RegistryLinks::new(&health);
    let deps = RegistryDeps {
        config: config.session.clone(),
        epoch: epoch.clone(),
        readers: readers.clone(),
        watermark: watermark.clone(),
        interest: interest.clone(),
        metrics: builder.metrics.clone(),
        supervised: builder.supervised(&health),
    };
    let (arbiter, to) = (builder.arbiter(), links.clone());
    builder.spawn(&health, move || SessionRegistry::start(deps.clone(), &to, &arbiter));
    links
}

fn start_writer(
    builder: &mut Builder<'_>,
    config: &Config,
    database: &Database,
    announce: &Announce,
) -> WriterLinks {
    const NAME: &str = "batch-writer";
    let health = builder.health(NAME);
    let wake: Link<Wake> = Link::new(NAME, health.clone());
    let administer: Link<Administer> = Link::new(NAME, health.clone());
    let shown: Link<AlertShown> = Link::new(NAME, health.clone());
    let flush: Link<Flush> = Link::new(NAME, health.clone());
    let to = (wake.clone(), administer.clone(), shown.clone(), flush.clone());
    let inbox = Inbox::new(wake);
    let point = move |addr: &Addr<BatchWriter>| {
        to.0.point_to(addr);
        to.1.point_to(addr);
        to.2.point_to(addr);
        to.3.point_to(addr);
    };
    let (supervised, arbiter, token) = (builder.supervised(&health), builder.arbiter(), token_slot());
    let (config, database, announce) = (config.writer.clone(), database.clone(), announce.clone());
    let from = inbox.clone();
    let shared_token = token.clone();
    builder.spawn(&health, move || {
        let (supervised, config, database) = (supervised.clone(), config.clone(), database.clone());
        let (token, announce, inbox, point_first) =
            (token.clone(), announce.clone(), from.clone(), point.clone());
        let addr = Supervisor::start_in_arbiter(&arbiter, move |ctx| {
            // Before `started()`: shards answer its first word, and their barriers must arrive.
            point_first(&ctx.address());
            BatchWriter::new(supervised, config, database, token, announce, inbox)
        });
        point(&addr);
    });
    WriterLinks { inbox, administer, shown, flush, token: shared_token }
}

/// The rules are loaded before anything is let in; RuleCache keeps them up to date.
fn start_rules(
    builder: &mut Builder<'_>,
    config: &Config,
    readers: &Readers,
    writer: &WriterClient,
) -> Result<(Link<ChangeRule>, Published), AppError> {
    let (loaded, _) = readers.read_blocking(rules::load_all)?;
    let published: Published = Arc::new(ArcSwap::from_pointee(RuleSet::compile(&loaded, 1)));
    let health = builder.health("rule-cache");
    let link = Link::new("rule-cache", health.clone());
    let (supervised, arbiter, to) = (builder.supervised(&health), builder.arbiter(), link.clone());
    let (readers, writer, publish) = (readers.clone(), writer.clone(), published.clone());
    let changes_max = config.writer.commands_max;
    builder.spawn(&health, move || {
        let (supervised, readers) = (supervised.clone(), readers.clone());
        let (writer, publish) = (writer.clone(), publish.clone());
        let addr = Supervisor::start_in_arbiter(&arbiter, move |_| {
            RuleCache::new(supervised, readers, writer, publish, changes_max)
        });
        to.point_to(&addr);
    });
    Ok((link, published))
}

fn start_shard(
    builder: &mut Builder<'_>,
    index: usize,
    health: &Arc<ActorHealth>,
    notice: Link<ShardNotice>,
    deps: &Arc<ShardDeps>,
    sinks: &ShardSinks,
) -> ShardLinks {
    const EDGE: &str = "device-shard";
    let links = ShardLinks {
        ingest: Link::new(EDGE, health.clone()),
        act: Link::new(EDGE, health.clone()),
        binding_changed: Link::new(EDGE, health.clone()),
        drain: Link::new(EDGE, health.clone()),
    };
    let (supervised, arbiter, to) = (builder.supervised(health), builder.arbiter(), links.clone());
    let (deps, sinks) = (deps.clone(), sinks.clone());
    builder.spawn(health, move || {
        let (supervised, deps, sinks) = (supervised.clone(), deps.clone(), sinks.clone());
        let notice = notice.clone();
        let addr = Supervisor::start_in_arbiter(&arbiter, move |ctx| {
            // Before `started()`: the answer to its first barrier would find nobody, and without
            // that answer the shard waits for ever.
            notice.point_to(&ctx.address());
            DeviceActor::new(index, supervised, deps, sinks)
        });
        to.ingest.point_to(&addr);
        to.act.point_to(&addr);
        to.binding_changed.point_to(&addr);
        to.drain.point_to(&addr);
    });
    links
}
