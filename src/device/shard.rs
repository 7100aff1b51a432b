//! The core of a shard: states, what waits for them, and what is on its way to the writer.
//!
//! No actor, no I/O: every method leaves what is to be done in [`Shard::take_effects`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::bindings::Known;
use super::decide;
use super::duplicates::{self, Duplicates};
use super::effects::{Effect, Loaded};
use super::judge::{Certainty, Decided, NotDecided, ShardDeps};
use super::messages::{Act, Ingest};
use super::outbox::Outbox;
use super::states::States;
use super::waiting::{Waiter, Waiting};
use crate::domain::alert::ActError;
use crate::domain::device::DeviceState;
use crate::domain::ids::{AlertId, DeviceSn, EventId};
use crate::domain::owner::Owner;
use crate::storage::device_state::LOAD_DEVICES_MAX;
use crate::telemetry::Metrics;
use crate::writer::messages::{Acted, CommittedItem, WriteItem};

/// Loads under way at a time; what becomes unknown meanwhile is in the next.
const LOADS_MAX: usize = 2;

pub struct Shard {
    deps: Arc<ShardDeps>,
    inbox: VecDeque<Ingest>,
    states: States,
    waiting: Waiting,
    duplicates: Duplicates,
    outbox: Outbox,
    loads: usize,
    retry_loads_at: Option<Instant>,
    /// Grows whenever something is forgotten: what an older load has read may not be the whole
    /// truth, since what was on its way then may have committed since.
    generation: u64,
    effects: Vec<Effect>,
}

impl Shard {
    pub fn new(deps: Arc<ShardDeps>) -> Self {
        Self {
            states: States::new(deps.config.states_max / deps.shards, deps.metrics.clone()),
            deps,
            inbox: VecDeque::new(),
            waiting: Waiting::default(),
            duplicates: Duplicates::default(),
            outbox: Outbox::default(),
            loads: 0,
            retry_loads_at: None,
            generation: 0,
            effects: Vec::new(),
        }
    }

    /// Begins (again): nothing is loaded before everything that was sent so far, by whichever
    /// incarnation, has been dealt with.
    pub fn forget_everything(&mut self) {
        self.states.clear();
        self.duplicates.clear();
        let token = self.new_barrier();
        self.outbox.begin(token);
        self.waiting.bar_all(token);
        self.effects.push(Effect::Barrier { devices: None, token });
    }

    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Only enqueues; [`Shard::turn`] does the work.
    pub fn enqueue(&mut self, ingest: Ingest) {
        self.inbox.push_back(ingest);
    }

    pub fn has_turn(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Reports that wait for their turn, and states in memory.
    pub fn load(&self) -> (usize, usize) {
        (self.inbox.len(), self.states.count())
    }

    /// Nothing is queued, waiting or on its way.
    pub fn is_drained(&self) -> bool {
        self.inbox.is_empty() && self.waiting.is_empty() && self.outbox.is_empty()
    }

    /// What is in memory of a device.
    pub fn state(&self, device: &DeviceSn) -> Option<&DeviceState> {
        self.states.get(device)
    }

    /// Handles a bounded number of reports, then hands on what was decided.
    pub fn turn(&mut self, now: Instant) {
        for _ in 0..self.deps.config.turn_reports_max {
            let Some(ingest) = self.inbox.pop_front() else { break };
            self.take(ingest, now);
        }
        self.step(now);
    }

    /// What every handler ends with.
    pub fn step(&mut self, now: Instant) {
        let limit = Duration::from_millis(self.deps.config.emergency_load_timeout_ms);
        for ingest in self.waiting.overdue_emergencies(now, limit) {
            self.decide_without_state(ingest, now);
        }
        let handed_on = self.outbox.hand_on(self.deps.batch_rows);
        self.effects.extend(handed_on);
        if self.retry_loads_at.is_none_or(|at| now >= at) {
            self.retry_loads_at = None;
            self.start_loads();
        }
    }

    fn start_loads(&mut self) {
        while self.loads < LOADS_MAX {
            // What is on its way and in no state here must be in storage before that is read.
            let (states, outbox) = (&self.states, &self.outbox);
            let not_yet = |device: &DeviceSn| !states.contains(device) && outbox.holds(device);
            let devices = self.waiting.start_loading(LOAD_DEVICES_MAX, not_yet);
            if devices.is_empty() {
                break;
            }
            self.loads += 1;
            let unknown = devices.iter().filter(|device| !self.states.contains(device)).cloned().collect();
            self.effects.push(Effect::Load { devices, unknown, generation: self.generation });
        }
    }

    fn take(&mut self, ingest: Ingest, now: Instant) {
        let device = &ingest.report.value.device_sn;
        let ready = self.is_ready(device);
        self.deps.metrics.state_looked_up(ready);
        if ready && let Known::Fresh(owner) = self.deps.bindings.owner(device, now) {
            return self.decide(ingest, &owner, Certainty::AsRemembered);
        }
        self.wait(ingest);
    }

    fn is_ready(&self, device: &DeviceSn) -> bool {
        self.states.contains(device) && !self.waiting.is_waiting(device)
    }

    fn wait(&mut self, ingest: Ingest) {
        let emergency = decide::is_emergency(&ingest.report.value, &self.deps.built_in);
        self.waiting.push(
            ingest.report.value.device_sn.clone(),
            Waiter::Report { ingest: Box::new(ingest), emergency },
        );
    }

    /// An operator's action takes the same way as a report.
    pub fn act(&mut self, act: Act, now: Instant) {
        if self.is_ready(&act.device_sn) {
            self.decide_act(act);
        } else {
            self.waiting.push(act.device_sn.clone(), Waiter::Act(act));
        }
        self.step(now);
    }

    /// States and owners have been read, by a read of `generation` that began at `began`.
    pub fn loaded(&mut self, devices: Vec<Loaded>, generation: u64, began: Instant, now: Instant) {
        self.loads = self.loads.saturating_sub(1);
        for Loaded { device_sn, owner, device } in devices {
            let owner = self.deps.bindings.learn(&device_sn, owner, began);
            let outdated = generation != self.generation || self.waiting.is_barred(&device_sn);
            // Among what waits may be a report from after a change of the binding.
            let Some(owner) = owner.filter(|_| !outdated) else {
                self.waiting.loading_failed(&[device_sn]);
                continue;
            };
            let admitted = self.deps.strangers.admit(&device_sn, &owner);
            if let Some(loaded) = device {
                if !admitted && !loaded.known {
                    self.decide_unregistered(&device_sn, &owner);
                    continue;
                }
                self.states.insert(device_sn.clone(), loaded.state);
            }
            self.decide_waiting(&device_sn, &owner);
        }
        self.states.evict();
        self.step(now);
    }

    /// A load failed; its devices are tried again a little later. Where only the owner was wanted
    /// the one that is known still serves.
    pub fn load_failed(&mut self, devices: &[DeviceSn], now: Instant) {
        self.loads = self.loads.saturating_sub(1);
        self.waiting.loading_failed(devices);
        for device in
            devices.iter().filter(|device| !self.waiting.is_barred(device)).cloned().collect::<Vec<_>>()
        {
            if let (true, Known::Stale(owner) | Known::Fresh(owner)) =
                (self.states.contains(&device), self.deps.bindings.owner(&device, now))
            {
                self.decide_waiting(&device, &owner);
            }
        }
        self.retry_loads_at = Some(now + Duration::from_millis(self.deps.config.load_retry_ms));
        self.step(now);
    }

    /// Storage has been asked about an old event, by a question of `generation`.
    pub fn answered(
        &mut self,
        ingest: Ingest,
        found: Option<(EventId, Option<AlertId>)>,
        generation: u64,
        now: Instant,
    ) {
        match found {
            // What was on its way then, and is forgotten since, may have been this very event.
            None if generation != self.generation => self.take(ingest, now),
            Some((event_id, alert_id)) => {
                let ticket = ingest.report.ticket;
                self.settle(NotDecided::Stored { ticket, event_id, alert_id });
            }
            None => {
                let device = &ingest.report.value.device_sn;
                match self.deps.bindings.owner(device, now) {
                    Known::Fresh(owner) | Known::Stale(owner) if self.is_ready(device) => {
                        self.decide(ingest, &owner, Certainty::SurelyNew);
                    }
                    _ => self.wait(ingest),
                }
            }
        }
        self.step(now);
    }

    pub fn committed(&mut self, items: Vec<CommittedItem>, merged: Vec<DeviceSn>, now: Instant) {
        for CommittedItem { device_sn, incarnation, event_id, alert_id } in items {
            if !self.outbox.committed(&device_sn, incarnation) {
                continue;
            }
            self.states.item_committed(&device_sn, event_id, alert_id);
            if let Some(event_id) = event_id {
                self.duplicates.committed(&device_sn, event_id, alert_id);
            }
        }
        for device in merged {
            self.states.mark_outdated(&device);
        }
        self.step(now);
    }

    /// What was sent for these devices is lost: their states were built on it.
    pub fn given_up(&mut self, devices: Vec<DeviceSn>, now: Instant) {
        for device in &devices {
            self.outbox.given_up(device);
            self.states.remove(device);
            self.duplicates.drop_device(device);
            self.deps.strangers.forget(device);
        }
        let token = self.new_barrier();
        self.waiting.bar(devices.iter().cloned(), token);
        self.effects.push(Effect::Barrier { devices: Some(devices), token });
        self.step(now);
    }

    pub fn barrier_passed(&mut self, token: u64, now: Instant) {
        self.waiting.barrier_passed(token);
        self.step(now);
    }

    fn new_barrier(&mut self) -> u64 {
        self.generation += 1;
        self.deps.tokens.fetch_add(1, Ordering::Relaxed)
    }

    fn decide_waiting(&mut self, device: &DeviceSn, owner: &Arc<Owner>) {
        for waiter in self.waiting.take(device) {
            match waiter {
                Waiter::Report { ingest, .. } => self.decide(*ingest, owner, Certainty::AsRemembered),
                Waiter::Act(act) => self.decide_act(act),
            }
        }
    }

    fn decide_act(&mut self, act: Act) {
        let Some(state) = self.states.get_mut(&act.device_sn) else {
            return self.waiting.push(act.device_sn.clone(), Waiter::Act(act));
        };
        let mut resolved = act.resolved;
        let alert = state.open_alert_by_id_mut(act.action.alert_id);
        let (changes, answer) = match alert.or(resolved.as_deref_mut()) {
            None => (vec![], Err(ActError::NotOpen)),
            Some(alert) => match alert.carry_out(&act.action, self.deps.clock.now()) {
                Ok(change) => (vec![change.clone()], Ok(change.alert)),
                Err(illegal) => (vec![], Err(illegal.into())),
            },
        };
        state.forget_closed();
        let item = WriteItem {
            device_sn: act.device_sn,
            records: None,
            changes,
            event_id: None,
            alert_id: None,
            incarnation: 0,
            unasked: None,
            ticket: None,
            acted: Some(Acted { reply: act.reply, answer }),
            arrived: Instant::now(),
        };
        self.push(Decided { item, urgent: true });
    }

    fn decide(&mut self, ingest: Ingest, owner: &Arc<Owner>, certainty: Certainty) {
        let _span = tracing::debug_span!(parent: ingest.report.ticket.receipt.span(), "decide").entered();
        let Some(state) = self.states.get_mut(&ingest.report.value.device_sn) else {
            // A panic over an earlier report has just forgotten it.
            return self.wait(ingest);
        };
        match self.deps.judge(state, ingest, owner, certainty) {
            Ok(decided) => self.push(decided),
            Err(other) => self.settle(*other),
        }
    }

    /// An emergency that could not wait. If its alert is open in storage, it becomes a repeat of it.
    fn decide_without_state(&mut self, ingest: Ingest, now: Instant) {
        let owner = match self.deps.bindings.owner(&ingest.report.value.device_sn, now) {
            Known::Fresh(owner) | Known::Stale(owner) => owner,
            Known::Unknown => Arc::new(Owner::unbound()),
        };
        // Where only the owner is not sure, what is raised must not be missing in the state.
        let judged = match self.states.get_mut(&ingest.report.value.device_sn) {
            Some(state) => self.deps.judge(state, ingest, &owner, Certainty::Unasked),
            None => {
                Metrics::count(&self.deps.metrics.state_loads, "skipped");
                // A load that is under way does not know of it.
                self.generation += 1;
                // A flood of strangers makes loads slow: the limit on strangers holds here too.
                match self.deps.strangers.admit(&ingest.report.value.device_sn, &owner) {
                    true => self.deps.judge(&mut DeviceState::default(), ingest, &owner, Certainty::Unasked),
                    false => self.deps.judge_unregistered(ingest, &owner),
                }
            }
        };
        match judged {
            Ok(decided) => self.push(decided),
            Err(other) => self.settle(*other),
        }
    }

    fn decide_unregistered(&mut self, device: &DeviceSn, owner: &Arc<Owner>) {
        for waiter in self.waiting.take(device) {
            match waiter {
                Waiter::Report { ingest, .. } => match self.deps.judge_unregistered(*ingest, owner) {
                    Ok(decided) => self.push(decided),
                    Err(other) => self.settle(*other),
                },
                // Whoever asked may have gone.
                Waiter::Act(act) => drop(act.reply.send(Err(ActError::NotOpen))),
            }
        }
    }

    fn settle(&mut self, other: NotDecided) {
        match other {
            NotDecided::Stored { ticket, event_id, alert_id } => {
                self.deps.metrics.duplicates.inc();
                duplicates::answer(ticket, event_id, alert_id);
            }
            NotDecided::Uncommitted { device, ticket, event_id } => {
                self.deps.metrics.duplicates.inc();
                self.duplicates.push(device, event_id, ticket);
            }
            NotDecided::Ask { ingest, identity } => {
                self.effects.push(Effect::Ask { ingest, identity, generation: self.generation });
            }
            NotDecided::Panicked { report, ticket, panic } => {
                // What is on its way of this device commits; only the memory of it goes.
                self.states.remove(&report.device_sn);
                self.effects.push(Effect::Quarantine { report, ticket, panic });
            }
        }
    }

    fn push(&mut self, decided: Decided) {
        self.states.item_decided(&decided.item.device_sn);
        self.outbox.push(decided);
    }
}
