//! Reports and actions that wait for the state of their device, in order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::messages::{Act, Ingest};
use crate::domain::ids::DeviceSn;

#[derive(Debug)]
pub enum Waiter {
    Report { ingest: Box<Ingest>, emergency: bool },
    Act(Act),
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    loading: bool,
}

/// Bounded by the permits of what waits.
#[derive(Debug, Default)]
pub struct Waiting {
    queues: HashMap<DeviceSn, Queue>,
    emergencies: usize,
    /// Devices whose writes were given up, by the barrier that they wait for.
    barred: HashMap<DeviceSn, u64>,
    /// Everything is barred until this barrier has passed.
    all_barred: Option<u64>,
}

impl Waiting {
    pub fn is_waiting(&self, device: &DeviceSn) -> bool {
        self.queues.contains_key(device)
    }

    pub fn push(&mut self, device: DeviceSn, waiter: Waiter) {
        self.emergencies += usize::from(is_emergency(&waiter));
        self.queues.entry(device).or_default().waiters.push_back(waiter);
    }

    pub fn bar(&mut self, devices: impl IntoIterator<Item = DeviceSn>, token: u64) {
        for device in devices {
            self.barred.insert(device, token);
        }
    }

    pub fn bar_all(&mut self, token: u64) {
        self.barred.clear();
        self.all_barred = Some(token);
    }

    pub fn barrier_passed(&mut self, token: u64) {
        if self.all_barred == Some(token) {
            self.all_barred = None;
        }
        self.barred.retain(|_, waits_for| *waits_for != token);
    }

    pub fn is_barred(&self, device: &DeviceSn) -> bool {
        self.all_barred.is_some() || self.barred.contains_key(device)
    }

    /// Devices to load now, at most `max`, but none that `not_yet` names; they count as being loaded
    /// from here on.
    pub fn start_loading(&mut self, max: usize, not_yet: impl Fn(&DeviceSn) -> bool) -> Vec<DeviceSn> {
        if self.all_barred.is_some() {
            return Vec::new();
        }
        let barred: HashSet<&DeviceSn> = self.barred.keys().collect();
        let wanted: Vec<DeviceSn> = self
            .queues
            .iter()
            .filter(|(device, queue)| !queue.loading && !barred.contains(device) && !not_yet(device))
            .map(|(device, _)| device.clone())
            .take(max)
            .collect();
        for device in &wanted {
            if let Some(queue) = self.queues.get_mut(device) {
                queue.loading = true;
            }
        }
        wanted
    }

    /// The load of these devices failed: they may be tried again.
    pub fn loading_failed(&mut self, devices: &[DeviceSn]) {
        for device in devices {
            if let Some(queue) = self.queues.get_mut(device) {
                queue.loading = false;
            }
        }
    }

    /// All that waits for a device, in order.
    pub fn take(&mut self, device: &DeviceSn) -> VecDeque<Waiter> {
        let waiters = self.queues.remove(device).map(|queue| queue.waiters).unwrap_or_default();
        self.emergencies -= waiters.iter().filter(|waiter| is_emergency(waiter)).count();
        waiters
    }

    /// Emergencies that have waited for longer than `limit`, the longest first. What else waits for
    /// their devices goes on waiting.
    pub fn overdue_emergencies(&mut self, now: Instant, limit: Duration) -> Vec<Ingest> {
        if self.emergencies == 0 {
            return Vec::new();
        }
        let mut overdue = Vec::new();
        for queue in self.queues.values_mut() {
            let late = |waiter: &Waiter| match waiter {
                Waiter::Report { ingest, emergency: true } => now.duration_since(ingest.arrived) >= limit,
                _ => false,
            };
            if !queue.waiters.iter().any(late) {
                continue;
            }
            for waiter in std::mem::take(&mut queue.waiters) {
                match waiter {
                    Waiter::Report { ingest, emergency: true }
                        if now.duration_since(ingest.arrived) >= limit =>
                    {
                        overdue.push(*ingest);
                    }
                    other => queue.waiters.push_back(other),
                }
            }
        }
        overdue.sort_by_key(|ingest| ingest.arrived);
        self.emergencies -= overdue.len();
        // A queue under load stays, so that its load is not started twice.
        self.queues.retain(|_, queue| queue.loading || !queue.waiters.is_empty());
        overdue
    }

    pub fn is_empty(&self) -> bool {
        self.queues.values().all(|queue| queue.waiters.is_empty())
    }
}

fn is_emergency(waiter: &Waiter) -> bool {
    matches!(waiter, Waiter::Report { emergency: true, .. })
}
