//! What is stored: reports after the device shard has decided about them.

use std::sync::Arc;

use serde::Serialize;

use super::event::{Claims, EventReport, Location};
use super::ids::{AlertId, CustomerId, DeviceSn, EventId};
use super::owner::Owner;
use super::status::DeviceStatus;
use super::time::UtcMillis;
use super::vitals::{HistoryBlocks, Metrics};

/// Where the time of a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// The device's own clock.
    Device,
    /// The device said none, or one that cannot be believed: the time of arrival.
    Arrival,
}

impl TimeSource {
    pub fn name(self) -> &'static str {
        match self {
            TimeSource::Device => "device",
            TimeSource::Arrival => "arrival",
        }
    }
}

/// One row of `event`. The health records of the report are rows of their own.
#[derive(Debug, Clone)]
pub struct EventRecord {
    pub event_id: EventId,
    pub device_sn: DeviceSn,
    pub owner: Arc<Owner>,
    /// With `vitals` emptied.
    pub event: EventReport,
    pub claims: Claims,
    pub extra: Option<Box<str>>,
    /// The warnings as a JSON array, `None` if there are none.
    pub warnings: Option<Box<str>>,
    pub occurred_at: UtcMillis,
    pub time_source: TimeSource,
    pub received_at: UtcMillis,
    /// Only for events whose bytes are their identity.
    pub identity_hash: Option<[u8; 32]>,
    /// The first alert that it raised or repeated; what a retry is told again.
    pub alert_id: Option<AlertId>,
    /// Key of the health record that came with it.
    pub vitals_at: Option<UtcMillis>,
    /// False if evaluation panicked and only the built-in rules were applied.
    pub evaluated: bool,
}

/// One row of `vitals`, merged with what is stored under the same (device, time): a metric that
/// was measured stays.
#[derive(Debug, Clone)]
pub struct VitalsRecord {
    pub device_sn: DeviceSn,
    pub owner: Arc<Owner>,
    pub measured_at: UtcMillis,
    pub received_at: UtcMillis,
    pub metrics: Metrics,
    pub location: Option<Location>,
    pub upload_method: Option<Box<str>>,
    pub history: HistoryBlocks,
    pub extra: Option<Box<str>>,
    /// False if the watch was off the wrist: it then repeats old values.
    pub worn: bool,
    /// Only for records without a time: finds a replay within 300 s.
    pub identity_hash: Option<[u8; 32]>,
}

/// One row of `device_status`.
#[derive(Debug, Clone)]
pub struct StatusRecord {
    pub device_sn: DeviceSn,
    pub reported_at: UtcMillis,
    pub received_at: UtcMillis,
    pub status: DeviceStatus,
    pub extra: Option<Box<str>>,
}

/// What one report becomes in storage.
#[derive(Debug, Clone)]
pub struct Records {
    pub device_sn: DeviceSn,
    /// Of the device's owner.
    pub customer_id: CustomerId,
    pub received_at: UtcMillis,
    /// Whether the device's row is written: not each time, and never for a stranger beyond the limit.
    pub touch_device: bool,
    /// The device's wear state by device time, if this report changed it.
    pub worn: Option<(bool, UtcMillis)>,
    pub event: Option<EventRecord>,
    pub vitals: Vec<VitalsRecord>,
    pub status: Option<StatusRecord>,
}
