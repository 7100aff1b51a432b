//! Device to shard. The only place that knows that shards live in this process.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use thread_local::ThreadLocal;

use crate::device::messages::{Act, BindingChanged, Drain, Ingest, IngestTurn};
use crate::domain::ids::DeviceSn;
use crate::supervision::link::Link;
use crate::telemetry::{KindLabels, Metrics};

/// Links of one shard.
#[derive(Debug, Clone)]
pub struct ShardLinks {
    pub ingest: Link<IngestTurn>,
    pub act: Link<Act>,
    pub binding_changed: Link<BindingChanged>,
    pub drain: Link<Drain>,
}

/// Reports of one turn, by shard.
type Turn = RefCell<Vec<Vec<Ingest>>>;

/// Nothing stays behind a turn, even one that panics: what did would keep the thread from handing on
/// ever again. Its receipts are answered.
struct Rest<'a>(&'a Turn);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let left: Vec<Ingest> = self.0.borrow_mut().iter_mut().flat_map(|shard| shard.drain(..)).collect();
        drop(left);
    }
}

/// Sends each message to the shard of its device.
///
/// Reports that a thread admits in one turn of its loop travel together: to wake a shard up for each
/// costs more than to decide about it. Emergencies leave at once, and take along what waits.
#[derive(Debug)]
pub struct Router {
    shards: Vec<ShardLinks>,
    turns: ThreadLocal<Turn>,
    metrics: Arc<Metrics>,
}

impl Router {
    /// `shards` must not be empty.
    pub fn new(shards: Vec<ShardLinks>, metrics: Arc<Metrics>) -> Self {
        assert!(!shards.is_empty(), "a server has at least one shard");
        Self { shards, turns: ThreadLocal::new(), metrics }
    }

    pub fn shards(&self) -> &[ShardLinks] {
        &self.shards
    }

    fn shard_of(&self, device: &DeviceSn) -> &ShardLinks {
        &self.shards[shard_index(device, self.shards.len())]
    }

    /// Hands a report to its shard, at the end of the thread's turn at the latest. If the shard is
    /// just restarting the report is dropped, which answers its receipt. Runs on an actix thread.
    pub fn ingest(self: &Arc<Self>, message: Ingest) {
        let urgent = message.report.ticket.priority.is_critical();
        let shard = shard_index(&message.report.value.device_sn, self.shards.len());
        let turn = self.turn();
        let first = {
            let mut turn = turn.borrow_mut();
            let first = turn.iter().all(Vec::is_empty);
            turn[shard].push(message);
            first
        };
        if urgent {
            self.hand_on(shard, turn);
        } else if first {
            let router = self.clone();
            // Behind all that is ready now.
            actix::spawn(async move {
                let turn = router.turn();
                let _rest = Rest(turn);
                (0..router.shards.len()).for_each(|shard| router.hand_on(shard, turn));
            });
        }
    }

    fn turn(&self) -> &Turn {
        self.turns.get_or(|| RefCell::new(self.shards.iter().map(|_| Vec::new()).collect()))
    }

    fn hand_on(&self, shard: usize, turn: &Turn) {
        let reports = std::mem::take(&mut turn.borrow_mut()[shard]);
        if reports.is_empty() {
            return;
        }
        let count = reports.len() as u64;
        let undelivered = |edge| {
            self.metrics.undelivered.get_or_create(&KindLabels { kind: edge }).inc_by(count);
        };
        crate::fail_point!("router::ingest", |_| undelivered("device-shard"));
        if let Err(lost) = self.shards[shard].ingest.send(IngestTurn { reports }) {
            undelivered(lost.edge);
        }
    }

    /// Likewise for an operator's action.
    pub fn act(&self, message: Act) -> Result<(), &'static str> {
        crate::fail_point!("router::act", |_| Err("device-shard"));
        self.shard_of(&message.device_sn).act.send(message).map_err(|lost| lost.edge)
    }

    /// Tells the shards concerned. One that is just restarting has forgotten the binding anyway.
    pub fn binding_changed(&self, devices: &[DeviceSn]) {
        let mut by_shard: Vec<Vec<DeviceSn>> = vec![Vec::new(); self.shards.len()];
        for device in devices {
            by_shard[shard_index(device, self.shards.len())].push(device.clone());
        }
        for (shard, devices) in self.shards.iter().zip(by_shard) {
            if !devices.is_empty() {
                let _ = shard.binding_changed.send(BindingChanged { devices });
            }
        }
    }
}

/// Stable within a process: all that matters, since state is loaded where it is needed.
pub fn shard_index(device: &DeviceSn, shards: usize) -> usize {
    let mut hasher = std::hash::DefaultHasher::new();
    device.as_str().hash(&mut hasher);
    (hasher.finish() % shards as u64) as usize
}
