//! DeviceActor: a shard on an arbiter of its own.
//!
//! Receives: `IngestTurn` (router), `Act` (REST), `BindingChanged`, `ShardNotice` (writer), `Drain`
//! (app). Sends: `WriteBatch`, `Barrier` (the writer's inbox). Bound: admission permits. On restart: barrier first, then
//! states are loaded as needed; receipts of what had not been handed on say 503.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised as ActixSupervised, WrapFuture,
};
use tokio::sync::oneshot;

use super::decide;
use super::effects::Effect;
use super::judge::ShardDeps;
use super::loading::read_devices;
use super::messages::{Act, BindingChanged, Drain, Ingest, IngestTurn, QUARANTINE_ROUTE};
use super::shard::Shard;
use crate::domain::event::DeviceReport;
use crate::domain::identity;
use crate::domain::ids::DeviceSn;
use crate::domain::kept;
use crate::storage::command::{Command, NewQuarantine};
use crate::storage::database::{Readers, Seen};
use crate::storage::device_state;
use crate::supervision::guard::{self, GuardedActor, Supervised, guarded, guarded_timer};
use crate::supervision::permits::{Outcome, Ticket};
use crate::telemetry::Metrics;
use crate::writer::client::WriterClient;
use crate::writer::inbox::Inbox;
use crate::writer::messages::{Barrier, ShardNotice, WriteBatch};

/// Deadlines are looked at this often when no message comes.
const TICK: Duration = Duration::from_millis(50);

pub struct DeviceActor {
    index: usize,
    supervised: Supervised,
    deps: Arc<ShardDeps>,
    shard: Shard,
    readers: Readers,
    writer: Inbox,
    administer: WriterClient,
    /// Copies and bytes that quarantine keeps.
    quarantine_bounds: (u32, u64),
    turn_sent: bool,
    drains: Vec<oneshot::Sender<()>>,
}

/// Where a shard's work goes.
#[derive(Clone)]
pub struct ShardSinks {
    pub readers: Readers,
    pub writer: Inbox,
    pub administer: WriterClient,
    pub quarantine_bounds: (u32, u64),
}

/// To itself: handle some of the inbox. The mailbox is polled until it is empty, so work comes in
/// portions.
#[derive(Message)]
#[rtype(result = "()")]
struct Turn;

impl DeviceActor {
    pub fn new(index: usize, supervised: Supervised, deps: Arc<ShardDeps>, sinks: ShardSinks) -> Self {
        let shard = Shard::new(deps.clone());
        let ShardSinks { readers, writer, administer, quarantine_bounds } = sinks;
        Self {
            index,
            supervised,
            deps,
            shard,
            readers,
            writer,
            administer,
            quarantine_bounds,
            turn_sent: false,
            drains: Vec::new(),
        }
    }

    fn perform(&mut self, ctx: &mut Context<Self>) {
        crate::fail_point!("shard::effects");
        for effect in self.shard.take_effects() {
            match effect {
                // What a new writer finds is refused, and it says that it has restarted.
                Effect::Write { urgent, items } => {
                    self.writer.batch(WriteBatch { shard: self.index, urgent, items });
                }
                Effect::Barrier { devices, token } => {
                    self.writer.barrier(Barrier { shard: self.index, devices, token });
                }
                Effect::Load { devices, unknown, generation } => {
                    self.load(devices, unknown, generation, ctx);
                }
                Effect::Ask { ingest, identity, generation } => self.ask(*ingest, identity, generation, ctx),
                Effect::Quarantine { report, ticket, panic } => self.quarantine(&report, ticket, panic),
            }
        }
        self.supervised.health.holds(self.shard.load());
        if self.shard.has_turn() && !self.turn_sent {
            self.turn_sent = true;
            ctx.address().do_send(Turn);
        }
        if self.shard.is_drained() {
            for done in self.drains.drain(..) {
                let _ = done.send(());
            }
        }
    }

    fn load(
        &mut self,
        devices: Vec<DeviceSn>,
        unknown: Vec<DeviceSn>,
        generation: u64,
        ctx: &mut Context<Self>,
    ) {
        let (readers, wanted, began) = (self.readers.clone(), devices.clone(), Instant::now());
        let read = async move {
            let loaded = readers.read_soon(move |conn| read_devices(conn, &wanted, &unknown)).await;
            loaded.map(|(mut loaded, seen)| {
                // What stands in for a database that is away does not have everything: older events
                // are asked for one by one.
                if seen == Seen::Mirrored {
                    loaded.iter_mut().for_each(super::effects::Loaded::mark_incomplete);
                }
                loaded
            })
        };
        ctx.spawn(read.into_actor(self).map(move |result, actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("shard::loaded");
                let now = Instant::now();
                match result {
                    Ok(loaded) => {
                        Metrics::count(&actor.deps.metrics.state_loads, "loaded");
                        actor.shard.loaded(loaded, generation, began, now);
                    }
                    Err(err) => {
                        Metrics::count(&actor.deps.metrics.state_loads, "failed");
                        tracing::warn!(devices = devices.len(), "device states could not be loaded: {err}");
                        actor.shard.load_failed(&devices, now);
                    }
                }
                actor.perform(ctx);
            });
        }));
    }

    fn ask(
        &mut self,
        ingest: Ingest,
        identity: identity::EventIdentity,
        generation: u64,
        ctx: &mut Context<Self>,
    ) {
        let readers = self.readers.clone();
        let (device, received_at) = (ingest.report.value.device_sn.clone(), ingest.received_at);
        let read = async move {
            let query = move |conn: &mut _| {
                crate::fail_point!("shard::ask", |_| Err(crate::storage::database::StorageError::Busy));
                device_state::find_event(conn, &device, &identity, received_at)
            };
            (ingest, readers.read(query).await)
        };
        ctx.spawn(read.into_actor(self).map(move |(ingest, found), actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("shard::answered");
                // If it cannot be asked, the insert finds out: a known id or cause changes nothing.
                let found = found.unwrap_or_else(|err| {
                    tracing::warn!("an old event could not be looked up: {err}");
                    None
                });
                actor.shard.answered(ingest, found, generation, Instant::now());
                actor.perform(ctx);
            });
        }));
    }

    /// The report is kept for people to look at, and its watch need not send it again.
    fn quarantine(&self, report: &DeviceReport, ticket: Ticket, panic: String) {
        tracing::error!(device = %report.device_sn, "a report panicked and goes to quarantine: {panic}");
        Metrics::count(&self.deps.metrics.panics, "report");
        let Ok(body) = kept::to_bytes(report) else { return };
        let (bodies_max, bytes_max) = self.quarantine_bounds;
        let command = Command::Quarantine(NewQuarantine {
            body_hash: identity::sha256(&body),
            size_bytes: body.len() as u64,
            body,
            route: QUARANTINE_ROUTE,
            reason: format!("panic: {panic}"),
            names_emergency: decide::is_emergency(report, &self.deps.built_in),
            bodies_max,
            bytes_max,
        });
        let administer = self.administer.clone();
        actix::spawn(async move {
            match administer.execute(command).await {
                Ok(_) => ticket.receipt.answer(Outcome::Quarantined),
                Err(err) => tracing::error!("a report could not be quarantined: {err}"),
            }
        });
    }
}

impl GuardedActor for DeviceActor {
    fn supervised(&self) -> &Supervised {
        &self.supervised
    }
}

impl Actor for DeviceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        guard::started(self, ctx);
        self.shard.forget_everything();
        self.turn_sent = false;
        guard::every(ctx, TICK, |actor, ctx| {
            crate::fail_point!("shard::timer");
            actor.shard.step(Instant::now());
            actor.perform(ctx);
        });
        // When the back-off of a restart is over: if this panics each time, that must count.
        ctx.run_later(Duration::ZERO, |actor, ctx| guarded_timer(actor, ctx, Self::perform));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        guard::stopped(self);
    }
}

impl ActixSupervised for DeviceActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.shard = Shard::new(self.deps.clone());
    }
}

impl Handler<IngestTurn> for DeviceActor {
    type Result = ();

    fn handle(&mut self, turn: IngestTurn, ctx: &mut Self::Context) {
        crate::fail_point!("shard::ingest_unguarded");
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("shard::ingest");
            for ingest in turn.reports {
                actor.shard.enqueue(ingest);
            }
            if !actor.turn_sent {
                actor.turn_sent = true;
                ctx.address().do_send(Turn);
            }
        });
    }
}

impl Handler<Turn> for DeviceActor {
    type Result = ();

    fn handle(&mut self, _: Turn, ctx: &mut Self::Context) {
        guarded_timer(self, ctx, |actor, ctx| {
            crate::fail_point!("shard::turn");
            actor.turn_sent = false;
            actor.shard.turn(Instant::now());
            actor.perform(ctx);
        });
    }
}

impl Handler<Act> for DeviceActor {
    type Result = ();

    fn handle(&mut self, act: Act, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("shard::act");
            actor.shard.act(act, Instant::now());
            actor.perform(ctx);
        });
    }
}

impl Handler<BindingChanged> for DeviceActor {
    type Result = ();

    fn handle(&mut self, changed: BindingChanged, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, _| {
            for device in &changed.devices {
                actor.deps.bindings.invalidate(device, Instant::now());
                actor.deps.strangers.forget(device);
            }
        });
    }
}

impl Handler<ShardNotice> for DeviceActor {
    type Result = ();

    fn handle(&mut self, notice: ShardNotice, ctx: &mut Self::Context) {
        crate::fail_point!("shard::notice_unguarded");
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("shard::notice");
            let now = Instant::now();
            match notice {
                ShardNotice::Committed { items, merged } => actor.shard.committed(items, merged, now),
                ShardNotice::GivenUp { devices } => actor.shard.given_up(devices, now),
                ShardNotice::BarrierPassed { token } => actor.shard.barrier_passed(token, now),
                ShardNotice::WriterRestarted => {
                    actor.shard.forget_everything();
                    actor.shard.step(now);
                }
            }
            actor.perform(ctx);
        });
    }
}

impl Handler<Drain> for DeviceActor {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Self::Context) {
        guarded(self, ctx, |actor, ctx| {
            actor.drains.push(drain.done);
            actor.shard.step(Instant::now());
            actor.perform(ctx);
        });
    }
}
