//! What the core of a shard wants done, and what comes back from it.

use super::messages::Ingest;
use crate::domain::event::DeviceReport;
use crate::domain::identity::EventIdentity;
use crate::domain::ids::DeviceSn;
use crate::domain::owner::Owner;
use crate::storage::device_state::LoadedDevice;
use crate::supervision::permits::Ticket;
use crate::writer::messages::WriteItem;

/// What the actor has to do for the core.
#[derive(Debug)]
pub enum Effect {
    Write {
        urgent: bool,
        items: Vec<WriteItem>,
    },
    /// Read the owners of `devices` and the states of those that are `unknown`; then call
    /// [`super::shard::Shard::loaded`] or [`super::shard::Shard::load_failed`].
    Load {
        devices: Vec<DeviceSn>,
        unknown: Vec<DeviceSn>,
        generation: u64,
    },
    /// An event older than what memory knows: ask storage, then call [`super::shard::Shard::answered`].
    Ask {
        ingest: Box<Ingest>,
        identity: EventIdentity,
        generation: u64,
    },
    Barrier {
        devices: Option<Vec<DeviceSn>>,
        token: u64,
    },
    /// Deciding about this report panicked.
    Quarantine {
        report: Box<DeviceReport>,
        ticket: Ticket,
        panic: String,
    },
}

/// What was read of one device.
#[derive(Debug)]
pub struct Loaded {
    pub device_sn: DeviceSn,
    pub owner: Option<Owner>,
    /// `None` if only the owner was asked for.
    pub device: Option<LoadedDevice>,
}

impl Loaded {
    /// Says that storage may hold more of the device than what was loaded.
    pub fn mark_incomplete(&mut self) {
        if let Some(device) = &mut self.device {
            device.state.events.mark_incomplete(true, true);
            device.state.samples.mark_incomplete();
        }
    }
}
