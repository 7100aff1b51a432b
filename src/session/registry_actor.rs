//! SessionRegistry: the actor round [`Registry`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Supervisor, WrapFuture};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use super::audience::ReplayRead;
use super::delivery::{
    CloseAll, Enter, Farewell, Join, Leave, Pull, Pulled, RegistryLinks, SessionId, Subscribe, ToSession,
};
use super::live_log::{LogRead, ReadFailure};
use super::messages::{Epoch, Publish, VitalsInterest, Watermark};
use super::pending::{PendingActions, PendingChanged};
use super::pulls::Pulls;
use super::registry::{Effect, Limits, Registry};
use crate::config::SessionConfig;
use crate::domain::ids::Offset;
use crate::storage::alert_log;
use crate::storage::database::{Conn, Readers, StorageError};
use crate::supervision::guard::{GuardedActor, Supervised, every, guarded, guarded_timer, started, stopped};
use crate::telemetry::{KindLabels, Metrics};

/// What the registry works with. Cheap to clone: RootSupervisor builds it anew from the same.
#[derive(Clone)]
pub struct RegistryDeps {
    pub config: SessionConfig,
    pub epoch: Epoch,
    pub readers: Readers,
    pub watermark: Watermark,
    pub interest: Arc<VitalsInterest>,
    pub metrics: Arc<Metrics>,
    pub supervised: Supervised,
}

/// Owns open alerts, recent changes and subscriptions.
///
/// Receives: `Publish` (writer), `PendingChanged` (doors), `Join`, `Enter`, `Subscribe`, `Pulled`, `Leave`
/// (sessions), `CloseAll` (app). Before each it looks for [`Pulls`].
/// Sends: `ToSession`, at most one hand-over outstanding per session. Bound: the ring, the number
/// of sessions, and the writer's limit on hand-overs. On restart: reads everything anew; all
/// sessions see the end of their channel, close with 1012, and their clients resume by offset.
pub struct SessionRegistry {
    core: Registry,
    sessions: HashMap<SessionId, mpsc::UnboundedSender<ToSession>>,
    pending: PendingActions,
    pulls: Pulls,
    /// Shutting down: nobody is let in.
    closing: bool,
    /// Of the log that the core has read.
    epoch: Arc<str>,
    /// By state and severity, as the core counts them.
    open_alerts: Vec<Gauge>,
    deps: RegistryDeps,
}

impl SessionRegistry {
    pub fn new(deps: RegistryDeps, pending: PendingActions, pulls: Pulls) -> Self {
        let open_alerts = deps.metrics.open_alert_gauges();
        // There from the start: the first of a kind may come after hours.
        for kind in ["load", "catch_up", "refill", "replay"] {
            drop(deps.metrics.registry_reads.get_or_create(&KindLabels { kind }));
        }
        let epoch = deps.epoch.get();
        let (core, sessions) = (Self::fresh(&deps), HashMap::new());
        pulls.awake();
        Self { core, epoch, sessions, pending, pulls, closing: false, open_alerts, deps }
    }

    /// Starts it on `arbiter` under a supervisor and points the links at it: the factory.
    pub fn start(deps: RegistryDeps, links: &RegistryLinks, arbiter: &ArbiterHandle) {
        let (pending, pulls) = (links.pending.clone(), links.pulls.clone());
        let addr = Supervisor::start_in_arbiter(arbiter, move |_| SessionRegistry::new(deps, pending, pulls));
        links.publish.point_to(&addr);
        links.pending.changed().point_to(&addr);
        links.join.point_to(&addr);
        links.enter.point_to(&addr);
        links.subscribe.point_to(&addr);
        links.pulls.wake().point_to(&addr);
        links.leave.point_to(&addr);
        links.close_all.point_to(&addr);
    }

    fn fresh(deps: &RegistryDeps) -> Registry {
        Registry::new(Limits::from(&deps.config), deps.epoch.get())
    }

    /// Reads everything anew. Dropping the channels closes the sockets with 1012.
    fn begin_anew(&mut self) {
        self.sessions.clear();
        self.pulls.awake();
        self.epoch = self.deps.epoch.get();
        self.core = Self::fresh(&self.deps);
        self.deps.interest.store(Arc::default());
    }

    /// A step of the core, and then what it wants done.
    fn step(&mut self, ctx: &mut Context<Self>, step: impl FnOnce(&mut Registry, Offset, Instant)) {
        if !self.deps.epoch.is(&self.epoch) {
            tracing::warn!("offsets were given anew; screens connect and read anew");
            self.begin_anew();
        }
        self.pull();
        let (committed, now) = (self.deps.watermark.get(), Instant::now());
        step(&mut self.core, committed, now);
        self.core.observe(committed, now);
        // The list first: what has left it has committed by then.
        let pending = self.pending.list();
        self.deps.metrics.pending_acknowledgements.set(pending.len() as i64);
        self.core.pending(pending, self.deps.watermark.get());
        self.carry_out(ctx);
        if self.core.wants_pulls() {
            self.pulls.want();
        }
        if let Some(devices) = self.core.interest().take_changed() {
            self.deps.interest.store(Arc::new(devices));
        }
        self.deps.metrics.registry_offset.set(self.core.last());
        for (gauge, count) in self.open_alerts.iter().zip(self.core.open_counts().as_flattened()) {
            gauge.set(*count as i64);
        }
    }

    fn pull(&mut self) {
        for Pull { session, subscription } in self.pulls.take() {
            crate::fail_point!("registry::pull");
            self.core.pull(session, subscription);
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        for effect in self.core.take_effects() {
            match effect {
                Effect::Tell(session, message) => self.tell(session, message),
                Effect::ReadLog(read) => self.read_log(ctx, read),
                Effect::ReadReplay(read) => self.read_replay(ctx, read),
            }
        }
    }

    fn tell(&mut self, session: SessionId, message: ToSession) {
        let last = matches!(message, ToSession::Close(_));
        let taken = self.sessions.get(&session).is_some_and(|to| to.send(message).is_ok());
        if !taken || last {
            self.sessions.remove(&session);
            self.core.leave(session);
        }
    }

    fn read_log(&self, ctx: &mut Context<Self>, read: LogRead) {
        let what_for = match read {
            LogRead::Load { .. } => "load",
            LogRead::CatchUp { .. } => "catch_up",
            LogRead::Refill { .. } => "refill",
        };
        Metrics::count(&self.deps.metrics.registry_reads, what_for);
        match read {
            LogRead::Load { limit } | LogRead::Refill { limit } => self.read(
                ctx,
                move |conn| alert_log::snapshot(conn, limit),
                move |core, result| core.open_read(read, result),
            ),
            LogRead::CatchUp { after, until, limit } => self.read(
                ctx,
                move |conn| alert_log::changes_after(conn, after, until, limit),
                |core, result| core.caught_up(result),
            ),
        }
    }

    fn read_replay(&self, ctx: &mut Context<Self>, read: ReplayRead) {
        let ReplayRead { after, until, limit, .. } = read;
        Metrics::count(&self.deps.metrics.registry_reads, "replay");
        self.read(
            ctx,
            move |conn| alert_log::changes_after(conn, after, until, limit),
            move |core, result| core.replayed(read, result),
        );
    }

    /// Reads on a blocking thread, and reports the end to the core. A restart cancels it together
    /// with the core that asked for it.
    fn read<T: Send + 'static>(
        &self,
        ctx: &mut Context<Self>,
        query: impl Fn(&mut Conn) -> Result<T, StorageError> + Send + Sync + 'static,
        report: impl FnOnce(&mut Registry, Result<T, ReadFailure>) + 'static,
    ) {
        let readers = self.deps.readers.clone();
        let query = move |conn: &mut Conn| {
            crate::fail_point!("registry::load", |_| Err(StorageError::Busy));
            query(conn)
        };
        let reading = async move { readers.read(query).await }.into_actor(self);
        ctx.spawn(reading.map(move |result, actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("registry::loaded");
                let result = result.map_err(|err| actor.read_failed(&err));
                actor.step(ctx, |core, _, _| report(core, result));
            });
        }));
    }

    fn read_failed(&self, err: &StorageError) -> ReadFailure {
        self.deps.supervised.health.record_error(self.deps.supervised.clock.now(), err.to_string());
        match err {
            StorageError::Corrupt { .. } => {
                tracing::error!(
                    "a change of an alert cannot be read; sessions start from what is open: {err}"
                );
                ReadFailure::Unreadable
            }
            _ => {
                tracing::warn!("failed to read alert changes, trying again: {err}");
                ReadFailure::Unavailable
            }
        }
    }
}

impl GuardedActor for SessionRegistry {
    fn supervised(&self) -> &Supervised {
        &self.deps.supervised
    }
}

impl Actor for SessionRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        started(self, ctx);
        // The core wants to read at once; after a restart this runs when the back-off is over.
        ctx.run_later(Duration::ZERO, |actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| actor.step(ctx, |_, _, _| ()));
        });
        every(ctx, Duration::from_millis(self.deps.config.reconcile_ms), |actor: &mut Self, ctx| {
            crate::fail_point!("registry::timer");
            actor.step(ctx, |core, committed, _| core.reconcile(committed));
            actor.deps.metrics.slowest_behind.set(actor.core.slowest_behind());
        });
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        stopped(self);
    }
}

impl actix::Supervised for SessionRegistry {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.begin_anew();
    }
}

impl Handler<Publish> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, Publish { changes, vitals, in_flight }: Publish, ctx: &mut Self::Context) {
        drop(in_flight);
        crate::fail_point!("registry::publish_unguarded");
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("registry::publish");
            actor.step(ctx, |core, committed, now| {
                // Without vitals either, it only says that the watermark has moved.
                if !changes.is_empty() || vitals.is_empty() {
                    core.publish(changes, committed, now);
                }
                vitals.into_iter().for_each(|update| core.vitals(update));
            });
        });
    }
}

impl Handler<PendingChanged> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, _: PendingChanged, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| actor.step(ctx, |_, _, _| ()));
    }
}

impl Handler<Join> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, Join { session, to }: Join, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, _| {
            crate::fail_point!("registry::join");
            if actor.closing {
                // If the session has gone meanwhile, all the better.
                let _ = to.send(ToSession::Close(Farewell::SHUTDOWN));
            } else {
                actor.sessions.insert(session, to);
            }
        });
    }
}

impl Handler<Enter> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, Enter { session, scope }: Enter, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("registry::enter");
            // Of one that joined before a restart, the channel has ended and it is closing.
            if actor.sessions.contains_key(&session) {
                actor.step(ctx, |core, _, _| core.enter(session, scope));
            }
        });
    }
}

impl Handler<Subscribe> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, Subscribe { session, subscription }: Subscribe, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("registry::subscribe");
            actor.step(ctx, |core, _, _| core.subscribe(session, subscription));
        });
    }
}

impl Handler<Pulled> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, _: Pulled, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            actor.pulls.awake();
            actor.step(ctx, |_, _, _| ());
        });
    }
}

impl Handler<Leave> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, Leave { session }: Leave, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("registry::leave");
            actor.sessions.remove(&session);
            actor.step(ctx, |core, _, _| core.leave(session));
        });
    }
}

impl Handler<CloseAll> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, CloseAll { done }: CloseAll, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            actor.closing = true;
            let open: Vec<_> = actor.sessions.drain().collect();
            for (session, to) in &open {
                let _ = to.send(ToSession::Close(Farewell::SHUTDOWN));
                actor.core.leave(*session);
            }
            actor.step(ctx, |_, _, _| ());
            // A session drops its end when its socket has been closed; a stalled one is given up
            // after its own time limit.
            let all_closed = async move {
                for (_, to) in open {
                    to.closed().await;
                }
                // `app` may have stopped waiting.
                let _ = done.send(());
            };
            ctx.spawn(all_closed.into_actor(actor));
        });
    }
}
