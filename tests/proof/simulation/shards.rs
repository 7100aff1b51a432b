//! The shards with their mailboxes and reads: what `device::actor` does round the core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use diesel::Connection;
use watchpost::device::effects::{Effect, Loaded};
use watchpost::device::judge::ShardDeps;
use watchpost::device::loading::read_devices;
use watchpost::device::messages::{Act, BindingChanged, Ingest};
use watchpost::device::shard::Shard;
use watchpost::domain::identity::EventIdentity;
use watchpost::domain::ids::{AlertId, DeviceSn, EventId};
use watchpost::ingest::router::shard_index;
use watchpost::storage::device_state;
use watchpost::writer::messages::{Barrier, ShardNotice, WriteBatch};

use super::chance::trace;
use super::world::{Queue, SHARDS, World, pop};

/// From a shard to the writer, in order.
pub enum ToWriter {
    Batch(WriteBatch),
    Barrier(Barrier),
}

/// A read for a shard: it sees the file at one instant, and its end is heard at a later one.
pub struct Load {
    devices: Vec<DeviceSn>,
    unknown: Vec<DeviceSn>,
    generation: u64,
    began: Instant,
    /// `Some` once it has read; `Some(None)` if that failed.
    pub read: Option<Option<Vec<Loaded>>>,
}

pub struct Question {
    generation: u64,
    ingest: Ingest,
    identity: EventIdentity,
    pub found: Option<Option<(EventId, Option<AlertId>)>>,
}

pub struct ShardSide {
    pub core: Shard,
    pub reports: VecDeque<Ingest>,
    pub acts: VecDeque<Act>,
    pub bindings: VecDeque<BindingChanged>,
    pub notices: Queue<ShardNotice>,
    pub loads: Vec<Load>,
    pub questions: Vec<Question>,
    /// On their way to the writer.
    pub to_writer: VecDeque<ToWriter>,
}

impl ShardSide {
    pub fn new(deps: Arc<ShardDeps>, notices: Queue<ShardNotice>) -> Self {
        Self {
            core: Shard::new(deps),
            reports: VecDeque::new(),
            acts: VecDeque::new(),
            bindings: VecDeque::new(),
            notices,
            loads: Vec::new(),
            questions: Vec::new(),
            to_writer: VecDeque::new(),
        }
    }
}

/// The shard that the router would choose.
pub fn shard_of(device: &DeviceSn) -> usize {
    shard_index(device, SHARDS)
}

impl World {
    pub fn collect_shard(&mut self, index: usize) {
        let shard = &mut self.server.shards[index];
        for effect in shard.core.take_effects() {
            match effect {
                Effect::Write { urgent, items } => {
                    let items_of: Vec<&str> = items.iter().map(|item| item.device_sn.as_str()).collect();
                    let changes: Vec<String> = items
                        .iter()
                        .flat_map(|item| &item.changes)
                        .map(|change| format!("{} {}", change.transition.name(), change.alert.alert_id))
                        .collect();
                    trace::note(format!(
                        "  shard {index} hands on {items_of:?}, urgent {urgent}: {changes:?}"
                    ));
                    let batch = WriteBatch { shard: index, urgent, items };
                    shard.to_writer.push_back(ToWriter::Batch(batch));
                }
                Effect::Barrier { devices, token } => {
                    trace::note(format!("  shard {index} wants barrier {token} of {devices:?}"));
                    let barrier = Barrier { shard: index, devices, token };
                    shard.to_writer.push_back(ToWriter::Barrier(barrier));
                }
                Effect::Load { mut devices, mut unknown, generation } => {
                    // They come out of a hash map.
                    devices.sort();
                    unknown.sort();
                    trace::note(format!("  shard {index} loads {devices:?}, unknown {unknown:?}"));
                    let load = Load { devices, unknown, generation, began: self.now, read: None };
                    shard.loads.push(load);
                }
                Effect::Ask { ingest, identity, generation } => {
                    trace::note(format!("  shard {index} asks about an old event"));
                    shard.questions.push(Question { ingest: *ingest, identity, generation, found: None });
                }
                Effect::Quarantine { panic, .. } => panic!("a report panicked: {panic}"),
            }
        }
    }

    pub fn deliver_report(&mut self, index: usize) {
        let shard = &mut self.server.shards[index];
        if let Some(ingest) = shard.reports.pop_front() {
            shard.core.enqueue(ingest);
        }
    }

    pub fn turn(&mut self, index: usize) {
        self.server.shards[index].core.turn(self.now);
        self.collect_shard(index);
    }

    pub fn tick(&mut self, index: usize) {
        self.server.shards[index].core.step(self.now);
        self.collect_shard(index);
    }

    pub fn deliver_act(&mut self, index: usize) {
        let shard = &mut self.server.shards[index];
        if let Some(act) = shard.acts.pop_front() {
            shard.core.act(act, self.now);
        }
        self.collect_shard(index);
    }

    pub fn deliver_binding(&mut self, index: usize) {
        if let Some(changed) = self.server.shards[index].bindings.pop_front() {
            for device in &changed.devices {
                self.server.deps.bindings.invalidate(device, self.now);
            }
        }
    }

    pub fn deliver_notice(&mut self, index: usize) {
        let now = self.now;
        let shard = &mut self.server.shards[index];
        let Some(notice) = pop(&shard.notices) else { return };
        match notice {
            ShardNotice::Committed { items, merged } => {
                trace::note(format!("  shard {index} hears of {} committed", items.len()));
                shard.core.committed(items, merged, now);
            }
            ShardNotice::GivenUp { mut devices } => {
                devices.sort();
                trace::note(format!("  shard {index} hears that {devices:?} were given up"));
                shard.core.given_up(devices, now);
            }
            ShardNotice::BarrierPassed { token } => {
                trace::note(format!("  shard {index} hears that barrier {token} has passed"));
                shard.core.barrier_passed(token, now);
            }
            ShardNotice::WriterRestarted => {
                trace::note(format!("  shard {index} hears that the writer has restarted"));
                shard.core.forget_everything();
                shard.core.step(now);
            }
        }
        self.collect_shard(index);
    }

    /// Reads the file as it is now.
    pub fn load_reads(&mut self, index: usize, load: usize, fails: bool) {
        let load = &mut self.server.shards[index].loads[load];
        let (devices, unknown) = (load.devices.clone(), load.unknown.clone());
        let mut read = || self.conn.transaction(|conn| read_devices(conn, &devices, &unknown));
        load.read = Some(if fails { None } else { Some(read().expect("a readable file")) });
    }

    pub fn load_arrives(&mut self, index: usize, load: usize) {
        let now = self.now;
        let shard = &mut self.server.shards[index];
        let Load { devices, generation, began, read, .. } = shard.loads.remove(load);
        match read.flatten() {
            Some(loaded) => shard.core.loaded(loaded, generation, began, now),
            None => shard.core.load_failed(&devices, now),
        }
        self.collect_shard(index);
    }

    pub fn question_reads(&mut self, index: usize, question: usize) {
        let question = &mut self.server.shards[index].questions[question];
        let (report, received_at) = (&question.ingest.report.value, question.ingest.received_at);
        let found =
            device_state::find_event(&mut self.conn, &report.device_sn, &question.identity, received_at);
        question.found = Some(found.expect("a readable file"));
    }

    pub fn question_answered(&mut self, index: usize, question: usize) {
        let now = self.now;
        let shard = &mut self.server.shards[index];
        let Question { ingest, found, generation, .. } = shard.questions.remove(question);
        shard.core.answered(ingest, found.flatten(), generation, now);
        self.collect_shard(index);
    }

    /// A panic in a handler loses the message that it was handling; the guard keeps the mailbox.
    /// Without the guard that goes too.
    pub fn shard_dies(&mut self, index: usize, guarded: bool) {
        let handled = self.chance.below(4);
        let deps = self.server.deps.clone();
        let shard = &mut self.server.shards[index];
        let notices = shard.notices.clone();
        if guarded {
            match handled {
                0 => drop(shard.reports.pop_front()),
                1 => drop(shard.acts.pop_front()),
                2 => drop(pop(&notices)),
                _ => {}
            }
        } else {
            shard.reports.clear();
            shard.acts.clear();
            shard.bindings.clear();
            notices.lock().expect("no panic").clear();
        }
        shard.core = Shard::new(deps);
        shard.loads.clear();
        shard.questions.clear();
        shard.core.forget_everything();
        self.collect_shard(index);
    }
}
