//! Guarded handlers: a panic stops the actor under its `Supervisor`, which keeps the mailbox,
//! instead of killing both.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, ContextFutureSpawner, WrapFuture};

use super::clock::Clock;
use super::health::{ActorHealth, ActorState};
use super::link::Link;
use super::restarts::{RestartBudget, Verdict};
use super::root::{ActorDied, BudgetSpent};
use crate::telemetry::{ActorLabels, KindLabels, Metrics};

/// What a supervised actor needs in order to be restarted properly. Shared by its incarnations.
#[derive(Clone)]
pub struct Supervised {
    pub health: Arc<ActorHealth>,
    pub clock: Clock,
    metrics: Arc<Metrics>,
    budget: Arc<Mutex<RestartBudget>>,
    died: Link<ActorDied>,
    spent: Link<BudgetSpent>,
}

impl Supervised {
    pub fn new(
        health: Arc<ActorHealth>,
        clock: Clock,
        metrics: Arc<Metrics>,
        died: Link<ActorDied>,
        spent: Link<BudgetSpent>,
    ) -> Self {
        Self { health, clock, metrics, budget: Arc::default(), died, spent }
    }

    /// For actors in tests that run without a root.
    pub fn detached(name: &str, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let nobody = ActorHealth::new("root");
        let health = ActorHealth::new(name);
        let (died, spent) = (Link::new("root", nobody.clone()), Link::new("root", nobody));
        Self::new(health, clock, metrics, died, spent)
    }

    fn panicked(&self, panic: &(dyn Any + Send)) {
        let text = panic_text(panic);
        tracing::error!(actor = %self.health.name, "actor panicked and restarts: {text}");
        self.health.record_error(self.clock.now(), format!("panic: {text}"));
        self.metrics.panics.get_or_create(&KindLabels { kind: "actor" }).inc();
    }

    /// Notes a restart and says how long to wait, `None` if there shall be no further one.
    fn restart(&self) -> Option<Duration> {
        self.health.restarted();
        self.metrics.restarts.get_or_create(&ActorLabels { actor: self.health.name.clone() }).inc();
        let verdict = self.budget.lock().unwrap_or_else(PoisonError::into_inner).restart(Instant::now());
        match verdict {
            Verdict::RestartAfter(wait) => Some(wait),
            Verdict::BudgetSpent => {
                self.health.set_state(ActorState::Failed);
                // Without a root nobody is left to end the process, and nobody to tell.
                let _ = self.spent.send(BudgetSpent { actor: self.health.name.clone() });
                None
            }
        }
    }
}

/// An actor whose handlers run through [`guarded`].
pub trait GuardedActor: Actor<Context = Context<Self>> {
    fn supervised(&self) -> &Supervised;
}

/// Runs the body of a message handler. A panic in it is recorded and stops the actor; its
/// `Supervisor` starts it again with the mailbox kept and the core reset in `restarting()`.
pub fn guarded<A: GuardedActor>(
    actor: &mut A,
    ctx: &mut Context<A>,
    body: impl FnOnce(&mut A, &mut Context<A>),
) {
    actor.supervised().health.dequeued();
    guarded_timer(actor, ctx, body);
}

/// The same for a timer or the end of a future, which were not in the mailbox.
pub fn guarded_timer<A: GuardedActor>(
    actor: &mut A,
    ctx: &mut Context<A>,
    body: impl FnOnce(&mut A, &mut Context<A>),
) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(actor, ctx))) {
        actor.supervised().panicked(&*panic);
        actor.supervised().health.set_state(ActorState::Restarting);
        ctx.stop();
    }
}

/// Call first in `started()`. On a restart it holds mailbox and timers back for the back-off.
pub fn started<A: GuardedActor>(actor: &A, ctx: &mut Context<A>) {
    let supervised = actor.supervised().clone();
    if supervised.health.state() == ActorState::Starting {
        supervised.health.set_state(ActorState::Running);
        return;
    }
    match supervised.restart() {
        Some(Duration::ZERO) => supervised.health.set_state(ActorState::Running),
        Some(wait) => {
            let health = supervised.health;
            async move {
                actix::clock::sleep(wait).await;
                health.set_state(ActorState::Running);
            }
            .into_actor(actor)
            .wait(ctx);
        }
        // Waits for the process to end: a failed actor handles nothing more.
        None => std::future::pending::<()>().into_actor(actor).wait(ctx),
    }
}

/// Call in `stopped()`: the death watch. A panic that no guard caught is unwinding through the
/// actor now, and takes mailbox and `Supervisor` with it, so the root builds a new actor. Nothing
/// here may panic: that would abort the process.
pub fn stopped<A: GuardedActor>(actor: &A) {
    if std::thread::panicking() {
        let supervised = actor.supervised();
        supervised.health.set_state(ActorState::Restarting);
        supervised.health.mailbox_lost();
        let _ = supervised.died.send(ActorDied { actor: supervised.health.name.clone() });
    }
}

/// Schedules `body` every `interval`, guarded. Only from `started()`: timers end with a restart.
pub fn every<A: GuardedActor>(
    ctx: &mut Context<A>,
    interval: Duration,
    body: impl FnMut(&mut A, &mut Context<A>) + 'static,
) {
    let mut body = body;
    ctx.run_interval(interval, move |actor, ctx| guarded_timer(actor, ctx, &mut body));
}

/// The text of a panic, if it has one.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a text".into())
}
