//! BatchWriter: takes what has piled up while the last transaction ran, and makes it the next.
//!
//! Receives: `Wake` (the inbox, for the shards), `Administer` (doors, RuleCache), `AlertShown`
//! (sessions), `Flush` (app). Sends: `ShardNotice`, `Publish`. Bound: permits for batches,
//! `commands_max` for commands. On restart: what was queued is answered 503; a transaction that is
//! still running finishes first, since the new one needs its token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised as ActixSupervised, WrapFuture,
};

use super::checkpoints::Checkpoints;
use super::core::{Core, Effect};
use super::inbox::Inbox;
use super::job::{self, Announce, Done, Job, TokenSlot};
use super::messages::{Administer, Flush, Wake};
use crate::config::WriterConfig;
use crate::session::messages::AlertShown;
use crate::storage::checkpoint::Checkpointer;
use crate::storage::database::Database;
use crate::supervision::guard::{self, GuardedActor, Supervised, guarded, guarded_timer};

/// `shown` is written at most once in this time per session.
const SHOWN_INTERVAL: Duration = Duration::from_secs(1);
/// While nothing can be written it is tried this often.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

pub struct BatchWriter {
    supervised: Supervised,
    config: WriterConfig,
    database: Database,
    token: TokenSlot,
    announce: Announce,
    inbox: Inbox,
    checkpointer: Arc<tokio::sync::Mutex<Option<Checkpointer>>>,
    /// `None` where the database does that itself.
    checkpoints: Option<Checkpoints>,
    /// What a restart resets.
    core: Core,
}

impl BatchWriter {
    pub fn new(
        supervised: Supervised,
        config: WriterConfig,
        database: Database,
        token: TokenSlot,
        announce: Announce,
        inbox: Inbox,
    ) -> Self {
        Self {
            core: Core::new(config.clone(), announce.shards.len(), announce.metrics.clone(), inbox.clone()),
            supervised,
            config,
            checkpoints: database
                .checkpoint_interval()
                .map(|interval| Checkpoints::new(interval, Instant::now())),
            database,
            token,
            announce,
            inbox,
            checkpointer: Arc::default(),
        }
    }

    fn fresh(&self) -> Core {
        let (config, metrics) = (self.config.clone(), self.announce.metrics.clone());
        Core::new(config, self.announce.shards.len(), metrics, self.inbox.clone())
    }

    /// A step of the core, and then what it wants done.
    fn step(&mut self, ctx: &mut Context<Self>, step: impl FnOnce(&mut Core)) {
        step(&mut self.core);
        self.supervised.health.holds((self.core.waiting(), 0));
        for effect in self.core.take_effects() {
            match effect {
                Effect::Run { job, pause } if pause.is_zero() => self.run(job, ctx),
                Effect::Run { job, pause } => {
                    let retry = tokio::time::sleep(pause).into_actor(self).map(move |(), actor, ctx| {
                        guarded_timer(actor, ctx, |actor, ctx| actor.run(job, ctx));
                    });
                    ctx.spawn(retry);
                }
                Effect::TakeOver => self.take_over(ctx),
                Effect::Notify { shard, notice } => {
                    // A shard that is down sends a barrier when it is back.
                    let _ = self.announce.shards[shard].send(notice);
                }
            }
        }
    }

    fn run(&mut self, job: Job, ctx: &mut Context<Self>) {
        let (token, database, announce) = (self.token.clone(), self.database.clone(), self.announce.clone());
        let work = async move {
            let slot = token.lock_owned().await;
            tokio::task::spawn_blocking(move || job::run(slot, &database, job, &announce)).await
        };
        ctx.spawn(work.into_actor(self).map(|result, actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("writer::finished");
                match result {
                    Ok(done) => {
                        if let Some((batch, err)) = &done.failed
                            && !batch.is_empty()
                        {
                            let now = actor.supervised.clock.now();
                            actor.supervised.health.record_error(now, err.to_string());
                        }
                        if let Some((_, err)) = &done.failed {
                            actor.announce.write_failed(err, &actor.database);
                        }
                        actor.step(ctx, |core| core.finished(done, Instant::now()));
                    }
                    Err(err) => {
                        tracing::error!("the writer's blocking call panicked: {err}");
                        actor.step(ctx, Core::panicked);
                    }
                }
            });
        }));
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
                    Ok(Done { failed, .. }) => failed.map(|(_, err)| err.to_string()),
                    Err(err) => Some(err.to_string()),
                };
                if let Some(err) = failure {
                    tracing::warn!("the write connection could not be opened and is tried again: {err}");
                    ctx.run_later(Duration::from_millis(actor.config.retry_pause_ms), |actor, ctx| {
                        guarded_timer(actor, ctx, Self::take_over);
                    });
                }
                actor.step(ctx, Core::taken_over);
            });
        }));
    }

    /// Beside the writer, at most one at a time. Its failure is not ours: the writer's own
    /// connection checkpoints when the log has grown too long.
    fn checkpoint(&mut self, _: &mut Context<Self>) {
        crate::fail_point!("writer::checkpoint");
        let taken = self.core.taken();
        if !self.checkpoints.as_mut().is_some_and(|due| due.is_due(taken, Instant::now())) {
            return;
        }
        let Ok(mut slot) = self.checkpointer.clone().try_lock_owned() else { return };
        let (database, metrics) = (self.database.clone(), self.announce.metrics.clone());
        tokio::task::spawn_blocking(move || {
            crate::fail_point!("writer::checkpointing");
            let begun = Instant::now();
            let done = match slot.as_mut() {
                Some(checkpointer) => checkpointer.run().map(|_| metrics.checkpointed(begun.elapsed())),
                None => Checkpointer::open(&database).map(|opened| *slot = Some(opened)),
            };
            if let Err(err) = done {
                tracing::warn!("the write-ahead log could not be checkpointed: {err}");
                *slot = None;
            }
        });
    }

    /// Finds out whether the disk takes writes again: while the doors are closed nothing else comes.
    fn probe(&mut self, ctx: &mut Context<Self>) {
        let wanted = self.announce.outage.current().is_some() || self.database.wants_turn();
        if wanted && self.core.is_idle() {
            self.step(ctx, |core| core.command(Administer::probe()));
        }
    }

    fn record_shown(&mut self, ctx: &mut Context<Self>) {
        crate::fail_point!("writer::record_shown");
        if self.announce.outage.current().is_some() {
            // Kept, and merged with what comes.
            return;
        }
        self.step(ctx, Core::record_shown);
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
        self.step(ctx, Core::restart_shards);
        self.take_over(ctx);
        guard::every(ctx, SHOWN_INTERVAL, Self::record_shown);
        if let Some(checkpoints) = &self.checkpoints {
            guard::every(ctx, checkpoints.tick(), Self::checkpoint);
        }
        guard::every(ctx, PROBE_INTERVAL, Self::probe);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        guard::stopped(self);
    }
}

impl ActixSupervised for BatchWriter {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.core = self.fresh();
    }
}

impl Handler<Wake> for BatchWriter {
    type Result = ();

    fn handle(&mut self, wake: Wake, ctx: &mut Self::Context) {
        match wake {
            Wake::Batch => {
                crate::fail_point!("writer::write_unguarded");
            }
            Wake::Barrier => {
                crate::fail_point!("writer::barrier_unguarded");
            }
        }
        guarded(self, ctx, |actor, ctx| {
            match wake {
                Wake::Batch => {
                    crate::fail_point!("writer::write");
                }
                Wake::Barrier => {
                    crate::fail_point!("writer::barrier");
                }
            }
            actor.step(ctx, Core::incoming);
        });
    }
}

impl Handler<Administer> for BatchWriter {
    type Result = ();

    fn handle(&mut self, command: Administer, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("writer::administer");
            actor.step(ctx, |core| core.command(command));
        });
    }
}

impl Handler<AlertShown> for BatchWriter {
    type Result = ();

    fn handle(&mut self, shown: AlertShown, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("writer::shown");
            actor.step(ctx, |core| core.shown(shown));
        });
    }
}

impl Handler<Flush> for BatchWriter {
    type Result = ();

    fn handle(&mut self, flush: Flush, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| actor.step(ctx, |core| core.flush(flush.done)));
    }
}

/// A slot for the token of a new server.
pub fn token_slot() -> TokenSlot {
    Arc::new(tokio::sync::Mutex::new(None))
}
