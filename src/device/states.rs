//! The states that a shard holds: bounded, with what is on its way to the writer.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::device::DeviceState;
use crate::domain::ids::{AlertId, DeviceSn, EventId};
use crate::telemetry::Metrics;

struct Entry {
    state: DeviceState,
    /// Items decided and not committed.
    pending: usize,
    /// To be forgotten as soon as nothing is pending: storage knows better.
    outdated: bool,
    last_used: u64,
}

/// Counted in the gauge of all shards.
pub struct States {
    entries: HashMap<DeviceSn, Entry>,
    uses: u64,
    max: usize,
    metrics: Arc<Metrics>,
}

impl States {
    /// `max` states, apart from those with open alerts.
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        Self { entries: HashMap::new(), uses: 0, max: max.max(1), metrics }
    }

    pub fn count(&self) -> usize {
        self.entries.len()
    }

    pub fn contains(&self, device: &DeviceSn) -> bool {
        self.entries.contains_key(device)
    }

    /// The state, without using it.
    pub fn get(&self, device: &DeviceSn) -> Option<&DeviceState> {
        self.entries.get(device).map(|entry| &entry.state)
    }

    /// The state, as used now.
    pub fn get_mut(&mut self, device: &DeviceSn) -> Option<&mut DeviceState> {
        self.uses += 1;
        let entry = self.entries.get_mut(device)?;
        entry.last_used = self.uses;
        Some(&mut entry.state)
    }

    /// Takes what was read, unless a state is here already: that is newer.
    pub fn insert(&mut self, device: DeviceSn, state: DeviceState) {
        let uses = self.uses;
        self.entries.entry(device).or_insert_with(|| {
            self.metrics.device_states.inc();
            Entry { state, pending: 0, outdated: false, last_used: uses }
        });
    }

    pub fn remove(&mut self, device: &DeviceSn) {
        if self.entries.remove(device).is_some() {
            self.metrics.device_states.dec();
        }
    }

    pub fn clear(&mut self) {
        self.metrics.device_states.dec_by(self.entries.len() as i64);
        self.entries.clear();
    }

    pub fn item_decided(&mut self, device: &DeviceSn) {
        if let Some(entry) = self.entries.get_mut(device) {
            entry.pending += 1;
        }
    }

    pub fn item_committed(&mut self, device: &DeviceSn, event: Option<EventId>, alert_id: Option<AlertId>) {
        let Some(entry) = self.entries.get_mut(device) else { return };
        entry.pending = entry.pending.saturating_sub(1);
        if let Some(event_id) = event {
            entry.state.events.committed(event_id, alert_id);
        }
        if entry.outdated && entry.pending == 0 {
            self.remove(device);
        }
    }

    /// Storage merged an alert that this state thinks of as its own.
    pub fn mark_outdated(&mut self, device: &DeviceSn) {
        if let Some(entry) = self.entries.get_mut(device) {
            entry.outdated = true;
            if entry.pending == 0 {
                self.remove(device);
            }
        }
    }

    /// Drops the least recently used states beyond the limit, never one with an open alert or
    /// with something on its way. A tenth more than needed, so that it is not done each time.
    pub fn evict(&mut self) {
        if self.entries.len() <= self.max {
            return;
        }
        let mut candidates: Vec<(u64, DeviceSn)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.pending == 0 && entry.state.open_alerts.is_empty())
            .map(|(device, entry)| (entry.last_used, device.clone()))
            .collect();
        let surplus = (self.entries.len() - self.max + self.max / 10).min(candidates.len());
        if surplus == 0 {
            return;
        }
        candidates.select_nth_unstable(surplus - 1);
        for (_, device) in candidates.into_iter().take(surplus) {
            self.remove(&device);
        }
    }
}

impl Drop for States {
    fn drop(&mut self) {
        self.clear();
    }
}
