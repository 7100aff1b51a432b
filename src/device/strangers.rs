//! Which devices nobody has registered, up to a limit.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::ids::DeviceSn;
use crate::domain::owner::Owner;

/// Devices without a binding that have a state of their own, over all shards. A set, so that what
/// is seen twice counts once; and whoever is forgotten wrongly is counted again when it is seen.
#[derive(Debug)]
pub struct Strangers {
    serials: Mutex<HashSet<DeviceSn>>,
    max: usize,
}

impl Strangers {
    /// `known` are those of earlier runs; at most `max` of them count.
    pub fn new(max: usize, known: impl IntoIterator<Item = DeviceSn>) -> Arc<Self> {
        Arc::new(Self { serials: Mutex::new(known.into_iter().take(max).collect()), max })
    }

    /// Counts a device once if nobody wears it, and not at all if somebody does. False if there is
    /// no place for it.
    pub fn admit(&self, device: &DeviceSn, owner: &Owner) -> bool {
        let mut serials = self.serials();
        if owner.is_bound() {
            serials.remove(device);
            return true;
        }
        if serials.contains(device) {
            return true;
        }
        let place = serials.len() < self.max;
        if place {
            serials.insert(device.clone());
        }
        place
    }

    /// Somebody wears it now, or it was not stored after all.
    pub fn forget(&self, device: &DeviceSn) {
        self.serials().remove(device);
    }

    pub fn count(&self) -> usize {
        self.serials().len()
    }

    fn serials(&self) -> MutexGuard<'_, HashSet<DeviceSn>> {
        // A panic in here leaves at worst one device too many or too few.
        self.serials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
