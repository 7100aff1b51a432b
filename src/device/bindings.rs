//! Who wears what, as far as memory knows: the only copy of bindings outside the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cached::{Cached, LruCache};

use crate::config::DeviceConfig;
use crate::domain::ids::{CustomerId, DeviceSn};
use crate::domain::owner::Owner;
use crate::telemetry::Metrics;

/// What is known of a device's owner.
#[derive(Debug, Clone)]
pub enum Known {
    Fresh(Arc<Owner>),
    /// Too old to rely on while storage can be asked; good enough while it cannot.
    Stale(Arc<Owner>),
    Unknown,
}

/// Two caches: whoever makes up serials pushes out strangers, never a watch that somebody wears.
#[derive(Debug)]
struct Entries {
    bound: LruCache<DeviceSn, Entry>,
    unbound: LruCache<DeviceSn, Entry>,
}

impl Entries {
    fn get_mut(&mut self, device: &DeviceSn) -> Option<&mut Entry> {
        match self.bound.cache_get(device).is_some() {
            true => self.bound.cache_get_mut(device),
            false => self.unbound.cache_get_mut(device),
        }
    }

    fn set(&mut self, device: &DeviceSn, entry: Entry) {
        let (into, from) = match entry.owner.is_bound() {
            true => (&mut self.bound, &mut self.unbound),
            false => (&mut self.unbound, &mut self.bound),
        };
        let _ = from.cache_remove(device);
        into.cache_set(device.clone(), entry);
    }
}

#[derive(Debug)]
struct Entry {
    owner: Arc<Owner>,
    at: Instant,
    /// When somebody changed the binding; what was read before does not count.
    invalidated: Option<Instant>,
}

/// Shared by the shards and the admission gate. Bounded; the least recently used goes first.
#[derive(Debug)]
pub struct Bindings {
    entries: Mutex<Entries>,
    unbound: Arc<Owner>,
    ttl: Duration,
    negative_ttl: Duration,
    metrics: Arc<Metrics>,
}

impl Bindings {
    pub fn new(config: &DeviceConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::new(Entries {
                bound: LruCache::new(config.bindings_cached_max),
                unbound: LruCache::new(config.bindings_cached_max),
            }),
            unbound: Arc::new(Owner::unbound()),
            ttl: Duration::from_secs(config.bindings_ttl_s),
            negative_ttl: Duration::from_secs(config.bindings_negative_ttl_s),
            metrics,
        })
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic in here leaves at worst an entry that is looked up again.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries in memory: owners, and devices that nobody wears.
    pub fn entries_held(&self) -> (usize, usize) {
        let entries = self.entries();
        (entries.bound.cache_size(), entries.unbound.cache_size())
    }

    /// The owner as of `now`.
    pub fn owner(&self, device: &DeviceSn, now: Instant) -> Known {
        let mut entries = self.entries();
        let known = match entries.get_mut(device) {
            None => Known::Unknown,
            Some(entry) => {
                let ttl = if entry.owner.is_bound() { self.ttl } else { self.negative_ttl };
                match entry.invalidated.is_some() || now.duration_since(entry.at) >= ttl {
                    true => Known::Stale(entry.owner.clone()),
                    false => Known::Fresh(entry.owner.clone()),
                }
            }
        };
        let outcome = match &known {
            Known::Fresh(_) => "hit",
            Known::Stale(_) => "stale",
            Known::Unknown => "miss",
        };
        Metrics::count(&self.metrics.binding_lookups, outcome);
        known
    }

    /// Takes what a read that began at `began` has found; `None` is "nobody". Answers `None` if the
    /// binding was changed since: it must be read again.
    pub fn learn(&self, device: &DeviceSn, owner: Option<Owner>, began: Instant) -> Option<Arc<Owner>> {
        let owner = owner.map_or_else(|| self.unbound.clone(), Arc::new);
        let mut entries = self.entries();
        let invalidated =
            entries.get_mut(device).and_then(|known| known.invalidated).filter(|changed| *changed >= began);
        entries.set(device, Entry { owner: owner.clone(), at: began, invalidated });
        invalidated.is_none().then_some(owner)
    }

    /// The binding was changed here: the next report waits for a fresh look.
    pub fn invalidate(&self, device: &DeviceSn, now: Instant) {
        let mut entries = self.entries();
        match entries.get_mut(device) {
            Some(entry) => entry.invalidated = Some(now),
            // A read may be under way that began before the change.
            None => {
                let entry = Entry { owner: self.unbound.clone(), at: now, invalidated: Some(now) };
                entries.set(device, entry);
            }
        }
    }

    /// The customer of a bound device, from memory only and however old: what the admission gate
    /// asks.
    pub fn bound_customer(&self, device: &DeviceSn) -> Option<CustomerId> {
        let mut entries = self.entries();
        let entry = entries.get_mut(device)?;
        entry.owner.is_bound().then(|| entry.owner.customer_id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_never_push_out_a_watch_that_somebody_wears() {
        let config = DeviceConfig { bindings_cached_max: 2, ..DeviceConfig::default() };
        let bindings = Bindings::new(&config, Arc::new(Metrics::register().0));
        let (now, worn) = (Instant::now(), DeviceSn::parse("worn").expect("a serial"));
        let owner = Owner { binding_id: crate::domain::ids::BindingId(1), ..Owner::unbound() };
        bindings.learn(&worn, Some(owner), now);
        for n in 0..10 {
            bindings.learn(&DeviceSn::parse(&format!("s{n}")).expect("a serial"), None, now);
        }
        assert!(bindings.bound_customer(&worn).is_some());
        // Taken off its owner, it is a stranger like the others.
        bindings.learn(&worn, None, now);
        assert!(bindings.bound_customer(&worn).is_none());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_relied_on() {
        let bindings = Bindings::new(&DeviceConfig::default(), Arc::new(Metrics::register().0));
        let device = DeviceSn::parse("w1").expect("a serial");
        let began = Instant::now();
        bindings.invalidate(&device, began + Duration::from_millis(1));
        assert!(bindings.learn(&device, None, began).is_none());
        let again = began + Duration::from_millis(2);
        assert!(matches!(bindings.owner(&device, again), Known::Stale(_)));
        assert!(bindings.learn(&device, None, again).is_some());
        assert!(matches!(bindings.owner(&device, again), Known::Fresh(_)));
    }
}
