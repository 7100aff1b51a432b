//! Device to shard. The only place that knows that shards live in this process.

use std::hash::{Hash, Hasher};

use crate::device::messages::{Act, BindingChanged, Drain, Ingest};
use crate::domain::ids::DeviceSn;
use crate::supervision::link::Link;

/// Links of one shard.
#[derive(Debug, Clone)]
pub struct ShardLinks {
    pub ingest: Link<Ingest>,
    pub act: Link<Act>,
    pub binding_changed: Link<BindingChanged>,
    pub drain: Link<Drain>,
}

/// Sends each message to the shard of its device.
#[derive(Debug, Clone)]
pub struct Router {
    shards: Vec<ShardLinks>,
}

impl Router {
    /// `shards` must not be empty.
    pub fn new(shards: Vec<ShardLinks>) -> Self {
        assert!(!shards.is_empty(), "a server has at least one shard");
        Self { shards }
    }

    pub fn shards(&self) -> &[ShardLinks] {
        &self.shards
    }

    fn shard_of(&self, device: &DeviceSn) -> &ShardLinks {
        &self.shards[shard_index(device, self.shards.len())]
    }

    /// Hands a report to its shard. If that is just restarting the report is dropped, which answers
    /// its receipt, and the name of the edge comes back.
    pub fn ingest(&self, message: Ingest) -> Result<(), &'static str> {
        crate::fail_point!("router::ingest", |_| Err("device-shard"));
        self.shard_of(&message.report.value.device_sn).ingest.send(message).map_err(|lost| lost.edge)
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
