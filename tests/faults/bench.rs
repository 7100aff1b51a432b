//! A shard without an actor: the test plays storage and writer, and turns the clock.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::oneshot;
use watchpost::config::{AdmissionConfig, DeviceConfig};
use watchpost::device::bindings::Bindings;
use watchpost::device::decide::EvaluateEvent;
use watchpost::device::effects::{Effect, Loaded};
use watchpost::device::judge::ShardDeps;
use watchpost::device::messages::Ingest;
use watchpost::device::shard::Shard;
use watchpost::device::strangers::Strangers;
use watchpost::domain::device::DeviceState;
use watchpost::domain::ids::DeviceSn;
use watchpost::domain::owner::Owner;
use watchpost::domain::rule_seeds;
use watchpost::rules::evaluate;
use watchpost::rules::set::RuleSet;
use watchpost::storage::device_state::LoadedDevice;
use watchpost::supervision::clock::Clock;
use watchpost::supervision::permits::{Admitted, Outcome, PermitPool, Priority, Receipt, Ticket};
use watchpost::telemetry::Metrics;
use watchpost::wire::{self, DecodeOptions};
use watchpost::writer::messages::{CommittedItem, WriteItem};

use crate::support::NOW;

pub struct Bench {
    pub shard: Shard,
    pub deps: Arc<ShardDeps>,
    pub pool: Arc<PermitPool>,
    pub now: Instant,
    /// Barriers asked for and not answered.
    pub barriers: Vec<(Option<Vec<DeviceSn>>, u64)>,
    /// Loads asked for and not answered.
    pub loads: Vec<Vec<DeviceSn>>,
    /// Of the loads, in the same order.
    generations: Vec<u64>,
    /// Handed on and not committed, in order.
    pub written: Vec<WriteItem>,
}

pub type Answer = oneshot::Receiver<Vec<Outcome>>;

pub fn sn(text: &str) -> DeviceSn {
    DeviceSn::parse(text).expect("a serial")
}

impl Bench {
    pub fn new() -> Self {
        Self::with(DeviceConfig::default(), evaluate::event)
    }

    pub fn with(config: DeviceConfig, evaluate_event: EvaluateEvent) -> Self {
        let metrics = Arc::new(Metrics::register().0);
        let strangers = Strangers::new(config.devices_unbound_max, []);
        let deps = Arc::new(ShardDeps {
            bindings: Bindings::new(&config, metrics.clone()),
            config,
            shards: 1,
            batch_rows: 1_000,
            rules: Arc::new(ArcSwap::from_pointee(RuleSet::compile(&rule_seeds::seeds(), 1))),
            built_in: RuleSet::built_in(),
            strangers,
            tokens: AtomicU64::new(1),
            clock: Clock::manual(NOW).0,
            metrics: metrics.clone(),
            evaluate_event,
        });
        Self {
            shard: Shard::new(deps.clone()),
            deps,
            pool: PermitPool::new(&AdmissionConfig::default(), metrics),
            now: Instant::now(),
            barriers: Vec::new(),
            loads: Vec::new(),
            generations: Vec::new(),
            written: Vec::new(),
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.shard.step(self.now);
        self.collect();
    }

    /// Sends the one report of a body; its receipt.
    pub fn send(&mut self, body: &Value) -> Answer {
        let decoded = wire::decode(body.to_string().as_bytes(), &DecodeOptions::default()).expect("a body");
        let report = decoded.reports.into_iter().next().expect("a report");
        let (mut receipts, answer) = Receipt::for_request(1);
        let priority = Priority::Event;
        let permit = self.pool.acquire(priority, 1).expect("room");
        let ticket = Ticket { permit, receipt: receipts.remove(0), priority };
        let report = Admitted { value: report, ticket };
        self.shard.enqueue(Ingest { report, received_at: NOW, arrived: self.now });
        self.shard.turn(self.now);
        self.collect();
        answer
    }

    /// Sorts what the shard wants done.
    pub fn collect(&mut self) {
        for effect in self.shard.take_effects() {
            match effect {
                Effect::Write { items, .. } => self.written.extend(items),
                Effect::Load { devices, generation, .. } => {
                    self.loads.push(devices);
                    self.generations.push(generation);
                }
                Effect::Barrier { devices, token } => self.barriers.push((devices, token)),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Answers the loads: nobody has seen these devices, and nobody wears them.
    pub fn load(&mut self) {
        let generations = std::mem::take(&mut self.generations);
        for (devices, generation) in std::mem::take(&mut self.loads).into_iter().zip(generations) {
            let fresh = |device_sn: DeviceSn| Loaded {
                owner: None,
                device: Some(LoadedDevice {
                    device_sn: device_sn.clone(),
                    known: false,
                    state: DeviceState::default(),
                }),
                device_sn,
            };
            let loaded = devices.into_iter().map(fresh).collect();
            self.shard.loaded(loaded, generation, self.now, self.now);
        }
        self.collect();
    }

    pub fn load_as(&mut self, owner: &Owner) {
        let (devices, generation) = (self.loads.remove(0), self.generations.remove(0));
        let state = |device_sn: &DeviceSn| LoadedDevice {
            device_sn: device_sn.clone(),
            known: true,
            state: DeviceState::default(),
        };
        let loaded = devices
            .into_iter()
            .map(|device_sn| Loaded {
                owner: Some(owner.clone()),
                device: Some(state(&device_sn)),
                device_sn,
            })
            .collect();
        self.shard.loaded(loaded, generation, self.now, self.now);
        self.collect();
    }

    pub fn fail_loads(&mut self) {
        self.generations.clear();
        for devices in std::mem::take(&mut self.loads) {
            self.shard.load_failed(&devices, self.now);
        }
        self.collect();
    }

    /// Commits all that was handed on, as the writer does.
    pub fn commit(&mut self) {
        let mut items = Vec::new();
        for item in std::mem::take(&mut self.written) {
            let (event_id, alert_id) = (item.event_id, item.alert_id);
            if let Some(ticket) = item.ticket {
                ticket.receipt.answer(Outcome::Stored { event_id, alert_id, duplicate: false });
            }
            let (device_sn, incarnation) = (item.device_sn, item.incarnation);
            items.push(CommittedItem { device_sn, incarnation, event_id, alert_id });
        }
        self.shard.committed(items, Vec::new(), self.now);
        self.collect();
    }

    /// Gives up all that was handed on, as the writer does.
    pub fn give_up(&mut self) {
        let mut devices: Vec<DeviceSn> = self.written.drain(..).map(|item| item.device_sn).collect();
        devices.dedup();
        self.shard.given_up(devices, self.now);
        self.collect();
    }

    pub fn answer_barriers(&mut self) {
        for (_, token) in std::mem::take(&mut self.barriers) {
            self.shard.barrier_passed(token, self.now);
        }
        self.collect();
    }

    pub fn strangers(&self) -> usize {
        self.deps.strangers.count()
    }
}

/// The outcome, if it is known.
pub fn outcome(answer: &mut Answer) -> Option<Outcome> {
    answer.try_recv().ok().map(|outcomes| outcomes[0])
}
