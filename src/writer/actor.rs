//! BatchWriter: takes what has piled up while the last transaction ran, and makes it the next.
//!
//! Receives: `WriteBatch`, `Barrier` (shards), `Administer` (doors, RuleCache), `AlertShown`
//! (sessions), `Flush` (app). Sends: `ShardNotice`, `Publish`. Bound: permits for batches,
//! `commands_max` for commands. On restart: what was queued is answered 503; a transaction that is
//! still running finishes first, since the new one needs its token.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised as ActixSupervised, WrapFuture,
};
use tokio::sync::oneshot;

use super::job::{self, Announce, Done, Job, TokenSlot};
use super::lanes::{Lanes, Queued};
use super::messages::{Administer, Barrier, Flush, ShardNotice, WriteBatch};
use crate::config::WriterConfig;
use crate::domain::ids::DeviceSn;
use crate::session::messages::AlertShown;
use crate::storage::checkpoint::Checkpointer;
use crate::storage::command::Command;
use crate::storage::database::{Database, StorageError};
use crate::supervision::guard::{self, GuardedActor, Supervised, guarded, guarded_timer};
use crate::telemetry::Metrics;

/// Commands after one batch while others wait: administration never holds alerts up for long.
const COMMANDS_PER_JOB: usize = 4;
/// `shown` is written at most once in this time per session.
const SHOWN_INTERVAL: Duration = Duration::from_secs(1);

pub struct BatchWriter {
    supervised: Supervised,
    config: WriterConfig,
    database: Database,
    token: TokenSlot,
    announce: Announce,
    checkpointer: Arc<tokio::sync::Mutex<Option<Checkpointer>>>,
    checkpoint_interval: Duration,
    core: Core,
}

/// What a restart resets.
struct Core {
    lanes: Lanes,
    commands: VecDeque<Administer>,
    shown: HashMap<String, AlertShown>,
    barriers: Vec<Barrier>,
    flushes: Vec<oneshot::Sender<()>>,
    /// A job is on the blocking thread, or waits for its next try.
    busy: bool,
    /// The old writer's transaction has returned and the last offset is known.
    ready: bool,
    /// When the batch in flight failed first.
    failing_since: Option<Instant>,
}

impl Core {
    fn new(shards: usize) -> Self {
        Self {
            lanes: Lanes::after_loss(shards),
            commands: VecDeque::new(),
            shown: HashMap::new(),
            barriers: Vec::new(),
            flushes: Vec::new(),
            busy: false,
            ready: false,
            failing_since: None,
        }
    }
}

impl BatchWriter {
    pub fn new(
        supervised: Supervised,
        config: WriterConfig,
        database: Database,
        token: TokenSlot,
        announce: Announce,
    ) -> Self {
        Self {
            supervised,
            config,
            checkpoint_interval: database.checkpoint_interval(),
            database,
            token,
            core: Core::new(announce.shards.len()),
            announce,
            checkpointer: Arc::default(),
        }
    }

    /// Starts the next job if none is running and there is something to do.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        if self.core.busy || !self.core.ready {
            return;
        }
        crate::fail_point!("writer::proceed");
        self.pass_barriers();
        let batch = self.core.lanes.take(self.config.batch_rows, self.config.batch_bytes);
        let wanted = if batch.is_empty() { self.core.commands.len() } else { COMMANDS_PER_JOB };
        let commands: Vec<Administer> =
            self.core.commands.drain(..wanted.min(self.core.commands.len())).collect();
        if batch.is_empty() && commands.is_empty() {
            for done in self.core.flushes.drain(..) {
                let _ = done.send(());
            }
            return;
        }
        self.run(Job { batch, commands }, ctx);
    }

    fn run(&mut self, job: Job, ctx: &mut Context<Self>) {
        self.core.busy = true;
        let (token, database, announce) = (self.token.clone(), self.database.clone(), self.announce.clone());
        let work = async move {
            let slot = token.lock_owned().await;
            tokio::task::spawn_blocking(move || job::run(slot, &database, job, &announce)).await
        };
        ctx.spawn(work.into_actor(self).map(|result, actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("writer::finished");
                match result {
                    Ok(done) => actor.finished(done, ctx),
                    Err(err) => actor.job_panicked(&err, ctx),
                }
            });
        }));
    }

    /// The receipts of its batch were dropped. It may have committed all the same, so a new token
    /// has to say how far the log goes; or not, and then what is queued was built on nothing.
    fn job_panicked(&mut self, err: &tokio::task::JoinError, ctx: &mut Context<Self>) {
        tracing::error!("the writer's blocking call panicked: {err}");
        self.core.lanes = Lanes::after_loss(self.announce.shards.len());
        self.core.failing_since = None;
        self.core.busy = false;
        self.core.ready = false;
        self.restart_shards();
        self.take_over(ctx);
    }

    fn finished(&mut self, done: Done, ctx: &mut Context<Self>) {
        match done.failed {
            Some((batch, err)) if !batch.is_empty() => self.failed(batch, err, ctx),
            _ => {
                self.core.failing_since = None;
                self.core.busy = false;
                self.proceed(ctx);
            }
        }
    }

    /// Again at the head for a while, then given up.
    fn failed(&mut self, batch: Vec<Queued>, err: StorageError, ctx: &mut Context<Self>) {
        let since = *self.core.failing_since.get_or_insert_with(Instant::now);
        self.supervised.health.record_error(self.supervised.clock.now(), err.to_string());
        if since.elapsed() < Duration::from_millis(self.config.retry_for_ms) {
            Metrics::count(&self.announce.metrics.failed_batches, "retried");
            tracing::warn!(rows = batch.len(), "a transaction failed and is tried again: {err}");
            let pause = Duration::from_millis(self.config.retry_pause_ms);
            // `busy` stays set: nothing overtakes the batch.
            let retry = tokio::time::sleep(pause).into_actor(self).map(move |(), actor, ctx| {
                guarded_timer(actor, ctx, |actor, ctx| actor.run(Job { batch, commands: vec![] }, ctx));
            });
            ctx.spawn(retry);
            return;
        }
        self.give_up(batch, &err);
        self.core.failing_since = None;
        self.core.busy = false;
        // A commit that was reported as failed may show when the log can be read again.
        self.take_over(ctx);
        self.proceed(ctx);
    }

    /// With the batch goes everything queued for its devices: what follows was decided on a state
    /// that never became true. Dropping it answers the receipts 503.
    fn give_up(&mut self, batch: Vec<Queued>, err: &StorageError) {
        let devices: HashMap<DeviceSn, usize> =
            batch.iter().map(|queued| (queued.item.device_sn.clone(), queued.shard)).collect();
        let mut by_shard: HashMap<usize, Vec<DeviceSn>> = HashMap::new();
        let dependants = self.core.lanes.give_up(&devices);
        for queued in batch.iter().chain(&dependants) {
            let devices = by_shard.entry(queued.shard).or_default();
            if !devices.contains(&queued.item.device_sn) {
                devices.push(queued.item.device_sn.clone());
            }
        }
        let reports = batch.iter().chain(&dependants).filter(|queued| queued.item.ticket.is_some()).count();
        Metrics::count(&self.announce.metrics.failed_batches, "given_up");
        self.announce.metrics.given_up_reports.inc_by(reports as u64);
        tracing::error!(
            reports,
            "a transaction was given up; its watches were told 503 and keep their reports: {err}"
        );
        for (shard, devices) in by_shard {
            // A shard that is down sends a barrier when it is back.
            let _ = self.announce.shards[shard].send(ShardNotice::GivenUp { devices });
        }
    }

    /// Answers the barriers of shards that have nothing queued. Nothing is in flight here.
    fn pass_barriers(&mut self) {
        let lanes = &mut self.core.lanes;
        let (passed, waiting): (Vec<Barrier>, Vec<Barrier>) =
            std::mem::take(&mut self.core.barriers).into_iter().partition(|barrier| match &barrier.devices {
                Some(_) => true,
                None => !lanes.holds_of_shard(barrier.shard),
            });
        self.core.barriers = waiting;
        for barrier in passed {
            let _ =
                self.announce.shards[barrier.shard].send(ShardNotice::BarrierPassed { token: barrier.token });
        }
    }

    fn restart_shards(&self) {
        for shard in &self.announce.shards {
            let _ = shard.send(ShardNotice::WriterRestarted);
        }
    }

    /// Waits for a transaction that an earlier writer may still be running, and opens the token if
    /// there is none, until that succeeds: everybody learns how far the log goes.
    fn take_over(&mut self, ctx: &mut Context<Self>) {
        let (token, database, announce) = (self.token.clone(), self.database.clone(), self.announce.clone());
        let work = async move {
            let slot = token.lock_owned().await;
            let work = move || job::run(slot, &database, Job::default(), &announce);
            tokio::task::spawn_blocking(work).await
        };
        ctx.spawn(work.into_actor(self).map(|result, actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("writer::taken_over");
                let failure = match result {
                    Ok(Done { failed }) => failed.map(|(_, err)| err.to_string()),
                    Err(err) => Some(err.to_string()),
                };
                if let Some(err) = failure {
                    tracing::warn!("the write connection could not be opened and is tried again: {err}");
                    ctx.run_later(Duration::from_millis(actor.config.retry_pause_ms), |actor, ctx| {
                        guarded_timer(actor, ctx, Self::take_over);
                    });
                }
                actor.core.ready = true;
                actor.proceed(ctx);
            });
        }));
    }

    /// Beside the writer, at most one at a time. Its failure is not ours: the writer's own
    /// connection checkpoints when the log has grown too long.
    fn checkpoint(&mut self, _: &mut Context<Self>) {
        crate::fail_point!("writer::checkpoint");
        let Ok(mut slot) = self.checkpointer.clone().try_lock_owned() else { return };
        let database = self.database.clone();
        tokio::task::spawn_blocking(move || {
            crate::fail_point!("writer::checkpointing");
            let done = match slot.as_mut() {
                Some(checkpointer) => checkpointer.run().map(|_| ()),
                None => Checkpointer::open(&database).map(|opened| *slot = Some(opened)),
            };
            if let Err(err) = done {
                tracing::warn!("the write-ahead log could not be checkpointed: {err}");
                *slot = None;
            }
        });
    }

    fn record_shown(&mut self, ctx: &mut Context<Self>) {
        crate::fail_point!("writer::record_shown");
        for (_, shown) in self.core.shown.drain() {
            let AlertShown { session_id, viewer, from, to } = shown;
            let (reply, _) = oneshot::channel();
            let command = Command::RecordShown { session_id, viewer, from, to };
            self.core.commands.push_back(Administer { command, reply });
        }
        self.proceed(ctx);
    }
}

impl GuardedActor for BatchWriter {
    fn supervised(&self) -> &Supervised {
        &self.supervised
    }
}

impl Actor for BatchWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        guard::started(self, ctx);
        self.restart_shards();
        self.take_over(ctx);
        guard::every(ctx, SHOWN_INTERVAL, Self::record_shown);
        guard::every(ctx, self.checkpoint_interval, Self::checkpoint);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        guard::stopped(self);
    }
}

impl ActixSupervised for BatchWriter {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.core = Core::new(self.announce.shards.len());
    }
}

impl Handler<WriteBatch> for BatchWriter {
    type Result = ();

    fn handle(&mut self, batch: WriteBatch, ctx: &mut Self::Context) {
        crate::fail_point!("writer::write_unguarded");
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("writer::write");
            // Refused ones are dropped, which answers their receipts.
            drop(actor.core.lanes.push(batch));
            actor.proceed(ctx);
        });
    }
}

impl Handler<Barrier> for BatchWriter {
    type Result = ();

    fn handle(&mut self, barrier: Barrier, ctx: &mut Self::Context) {
        crate::fail_point!("writer::barrier_unguarded");
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("writer::barrier");
            // All that was sent before it has come before it. Only the answer has to wait.
            actor.core.lanes.accept(barrier.shard, barrier.devices.as_deref());
            actor.core.barriers.push(barrier);
            actor.proceed(ctx);
        });
    }
}

impl Handler<Administer> for BatchWriter {
    type Result = ();

    fn handle(&mut self, command: Administer, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("writer::administer");
            actor.core.commands.push_back(command);
            actor.proceed(ctx);
        });
    }
}

impl Handler<AlertShown> for BatchWriter {
    type Result = ();

    fn handle(&mut self, shown: AlertShown, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, _| {
            crate::fail_point!("writer::shown");
            let full = actor.core.shown.len() >= actor.config.commands_max;
            match actor.core.shown.get_mut(&shown.session_id) {
                Some(known) => {
                    known.from = known.from.min(shown.from);
                    known.to = known.to.max(shown.to);
                }
                None if !full => {
                    actor.core.shown.insert(shown.session_id.clone(), shown);
                }
                None => Metrics::count(&actor.announce.metrics.refused, "shown"),
            }
        });
    }
}

impl Handler<Flush> for BatchWriter {
    type Result = ();

    fn handle(&mut self, flush: Flush, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            actor.core.flushes.push(flush.done);
            actor.record_shown(ctx);
        });
    }
}

/// A slot for the token of a new server.
pub fn token_slot() -> TokenSlot {
    Arc::new(tokio::sync::Mutex::new(None))
}
