//! What a device shard takes.

use std::time::Instant;

use actix::Message;

use crate::domain::alert::{Alert, OperatorAction};
use crate::domain::event::DeviceReport;
use crate::domain::ids::DeviceSn;
use crate::domain::time::UtcMillis;
use crate::supervision::permits::Admitted;
use crate::writer::messages::ActReply;

/// Stands in quarantine for the route of a report that panicked in its shard; the copy is the
/// report itself, as [`crate::domain::kept`] writes it.
pub const QUARANTINE_ROUTE: &str = "device";

/// A report that was admitted. Bounded by its permit.
#[derive(Debug)]
pub struct Ingest {
    pub report: Admitted<DeviceReport>,
    pub received_at: UtcMillis,
    pub arrived: Instant,
}

/// From the router: what one HTTP worker admitted for this shard in one turn of its loop, in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct IngestTurn {
    pub reports: Vec<Ingest>,
}

/// From the REST API: an operator's action on an alert, decided in the device's shard like a
/// report and answered after its commit.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Act {
    pub device_sn: DeviceSn,
    pub action: OperatorAction,
    /// The alert as stored if it is resolved, which it stays for ever: no shard remembers it, and it
    /// may still be commented.
    pub resolved: Option<Box<Alert>>,
    pub reply: ActReply,
}

/// From whoever has changed who wears a device: look it up anew before the next report.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct BindingChanged {
    pub devices: Vec<DeviceSn>,
}

/// From `app` at shutdown: hand everything on, then answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Drain {
    pub done: tokio::sync::oneshot::Sender<()>,
}
