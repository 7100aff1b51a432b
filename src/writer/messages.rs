//! What the writer takes, and the facts that it tells the shards.

use std::time::Instant;

use actix::Message;
use tokio::sync::oneshot;

use crate::domain::alert::{ActError, Alert, AlertChange};
use crate::domain::identity::EventIdentity;
use crate::domain::ids::{AlertId, DeviceSn, EventId};
use crate::domain::record::Records;
use crate::storage::command::{Command, CommandError, CommandReply};
use crate::supervision::permits::Ticket;

/// Where the answer to an operator's action goes.
pub type ActReply = oneshot::Sender<Result<Alert, ActError>>;

/// The prepared answer to an action. A refusal takes the same way, behind everything that was
/// decided before: nobody is told of a state that a crash can take back.
#[derive(Debug)]
pub struct Acted {
    pub reply: ActReply,
    pub answer: Result<Alert, ActError>,
}

/// One report, decided: what to store, what changes, and whom to tell.
#[derive(Debug)]
pub struct WriteItem {
    pub device_sn: DeviceSn,
    /// Of the shard that has handed it on; its commit is reported with it.
    pub incarnation: u64,
    /// `None` for an operator's action.
    pub records: Option<Records>,
    /// In order.
    pub changes: Vec<AlertChange>,
    /// Of the report; `None` for an operator's action.
    pub event_id: Option<EventId>,
    /// The first alert that it raised or repeated.
    pub alert_id: Option<AlertId>,
    /// It was decided without a look at what is stored: unless it is new, none of it is.
    pub unasked: Option<EventIdentity>,
    pub ticket: Option<Ticket>,
    /// Of an action: whom to tell what after the commit. Dropped, it was not carried out.
    pub acted: Option<Acted>,
    pub arrived: Instant,
}

impl WriteItem {
    /// Items of one device with alert changes or a wear state never overtake each other: the last
    /// one that was decided is the one that counts.
    pub fn keeps_order(&self) -> bool {
        !self.changes.is_empty() || self.records.as_ref().is_some_and(|records| records.worn.is_some())
    }
}

/// From a shard, by way of the [inbox](super::inbox::Inbox). Urgent ones go into the next transaction.
#[derive(Debug)]
pub struct WriteBatch {
    pub shard: usize,
    pub urgent: bool,
    pub items: Vec<WriteItem>,
}

/// From a shard that has forgotten state, by way of the inbox: everything sent before has been dealt with
/// when [`ShardNotice::BarrierPassed`] comes back, and refused devices are accepted again.
#[derive(Debug, Clone)]
pub struct Barrier {
    pub shard: usize,
    /// `None` for all devices of the shard.
    pub devices: Option<Vec<DeviceSn>>,
    pub token: u64,
}

/// From the inbox: there is something in it, and nobody was looking.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub enum Wake {
    Batch,
    Barrier,
}

/// From whoever has an administrative write. The reply is dropped if the writer dies meanwhile.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Administer {
    pub command: Command,
    pub reply: oneshot::Sender<Result<CommandReply, CommandError>>,
}

impl Administer {
    /// Nobody waits for the answer.
    pub fn probe() -> Self {
        let (reply, _) = oneshot::channel();
        Self { command: Command::Probe, reply }
    }
}

/// From `app` at shutdown, after the shards have drained: answered when nothing is left.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Flush {
    pub done: oneshot::Sender<()>,
}

/// From the writer to the shard whose batch it was.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub enum ShardNotice {
    /// In the order of the batch.
    Committed {
        items: Vec<CommittedItem>,
        /// Devices whose raise met an open alert that the shard did not know: reload them.
        merged: Vec<DeviceSn>,
    },
    /// Given up, with everything queued for these devices: forget them and send a [`Barrier`].
    GivenUp {
        devices: Vec<DeviceSn>,
    },
    BarrierPassed {
        token: u64,
    },
    /// What was queued is gone: forget everything that has not committed and send a [`Barrier`].
    WriterRestarted,
}

/// One item of a committed batch.
#[derive(Debug, Clone)]
pub struct CommittedItem {
    pub device_sn: DeviceSn,
    pub incarnation: u64,
    pub event_id: Option<EventId>,
    /// As stored: the alert that the event raised or repeated.
    pub alert_id: Option<AlertId>,
}
