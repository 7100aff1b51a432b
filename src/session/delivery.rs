//! What passes between the registry and a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use actix::Message;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::filter::Filter;
use super::frames::Since;
use super::messages::{Publish, VitalsUpdate};
use super::pending::{Pending, PendingActions};
use super::pulls::Pulls;
use super::ring::Frame;
use crate::domain::alert::Alert;
use crate::domain::ids::Offset;
use crate::domain::owner::Scope;
use crate::supervision::health::ActorHealth;
use crate::supervision::link::Link;

pub type SessionId = Uuid;

/// Why a socket is closed: code and text of the close frame, and the reason in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Farewell {
    pub code: u16,
    pub text: &'static str,
    pub kind: &'static str,
}

impl Farewell {
    pub const SHUTDOWN: Self = Self { code: 1001, text: "the server is stopping", kind: "shutdown" };
    pub const RESTART: Self = Self { code: 1012, text: "restarting; resume by offset", kind: "restart" };
    pub const LAGGED: Self = Self { code: 1013, text: "too far behind; resume by offset", kind: "lagged" };
    pub const STALLED: Self = Self { code: 1013, text: "writing stalled; resume by offset", kind: "stalled" };
    pub const SILENT: Self = Self { code: 1001, text: "no answer to two pings", kind: "heartbeat" };
    /// The client must sign in again before it comes back.
    pub const REVOKED: Self =
        Self { code: 4401, text: "the token was revoked, or the sign-in has ended", kind: "revoked" };
    pub const UNAVAILABLE: Self =
        Self { code: 1013, text: "the token could not be checked; come back", kind: "unavailable" };
    pub const FULL: Self = Self { code: 1013, text: "too many sessions are open; come back", kind: "full" };
    pub const UNAUTHENTICATED: Self = Self { code: 1008, text: "sign in first", kind: "unauthenticated" };
    pub const BINARY: Self = Self { code: 1003, text: "frames are JSON text", kind: "binary" };
    pub const BAD_FRAMES: Self = Self { code: 1008, text: "too many bad frames", kind: "bad_frames" };
    pub const OVERSIZE: Self = Self { code: 1009, text: "frame too large", kind: "oversize" };
    pub const PROTOCOL: Self = Self { code: 1002, text: "not a WebSocket frame", kind: "protocol" };
    pub const BY_CLIENT: Self = Self { code: 1000, text: "", kind: "client" };
    /// The connection is gone; there is nobody to send a close frame to.
    pub const GONE: Self = Self { code: 1006, text: "", kind: "gone" };
}

/// How far the registry has passed over changes that a subscription does not show. Written by the
/// registry only while nothing is handed over, so `max` with what was written is always right.
#[derive(Debug, Clone, Default)]
pub struct Passed(Arc<AtomicI64>);

impl Passed {
    pub fn get(&self) -> Offset {
        self.0.load(Ordering::Acquire)
    }

    pub fn set(&self, offset: Offset) {
        self.0.store(offset, Ordering::Release);
    }
}

/// Changes `from` to `to`, both included, that are not sent one by one; 1 to 0 if the place that was
/// asked for is not in the log and nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from: Offset,
    pub to: Offset,
}

/// Open alerts and the offset from which changes follow.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Why there is a snapshot although the client asked to resume.
    pub gap: Option<Gap>,
    /// Most severe first, then newest first.
    pub alerts: Vec<Arc<Alert>>,
    pub offset: Offset,
    pub truncated: bool,
}

/// From the registry to one session. At most one of `Snapshot` and `Due` is outstanding: the next
/// comes after a [`Pull`]. The channel's end means that the registry has restarted: the session
/// closes with 1012.
#[derive(Debug)]
pub enum ToSession {
    /// Once: the session may say hello.
    Joined {
        epoch: Arc<str>,
        offset: Offset,
    },
    Snapshot {
        subscription: u64,
        snapshot: Snapshot,
    },
    Due {
        subscription: u64,
        frames: Vec<Arc<Frame>>,
        /// Everything up to here is in `frames` or does not pass.
        cursor: Offset,
    },
    Vitals(Arc<VitalsUpdate>),
    Pending(PendingUpdate),
    Close(Farewell),
}

/// All acknowledgements that a session may see and that are not stored yet.
#[derive(Debug)]
pub struct PendingUpdate {
    pub subscription: u64,
    pub pending: Vec<Arc<Pending>>,
    /// It is a hand-over: everything up to here was sent before. `None`: it precedes the first answer.
    pub cursor: Option<Offset>,
}

/// From a session that begins. Until it enters it is only told when to close.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Join {
    pub session: SessionId,
    pub to: mpsc::UnboundedSender<ToSession>,
}

/// From a session that knows its caller. Answered `Joined` when the registry has loaded.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Enter {
    pub session: SessionId,
    pub scope: Scope,
}

/// From a session: its one subscription, in place of an earlier one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    pub session: SessionId,
    pub subscription: Subscription,
}

#[derive(Debug)]
pub struct Subscription {
    /// Grows with each subscription of a session, so that late answers are told apart.
    pub serial: u64,
    pub filter: Filter,
    pub since: Option<Since>,
    pub passed: Passed,
}

/// From a session: everything handed over has been written, send more when there is more. It is no
/// message: [`Pulls`] keeps it until the registry looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pull {
    pub session: SessionId,
    pub subscription: u64,
}

/// There are [`Pull`]s, and somebody waits for more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Pulled;

/// From a session that ends. A lost one costs an entry until the next hand-over to it fails.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    pub session: SessionId,
}

/// From `app` at shutdown: all sockets are closed with 1001, and new ones are closed at once.
/// Answered when all have been.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CloseAll {
    pub done: oneshot::Sender<()>,
}

/// All edges into the registry.
#[derive(Debug, Clone)]
pub struct RegistryLinks {
    pub publish: Link<Publish>,
    pub pending: PendingActions,
    pub join: Link<Join>,
    pub enter: Link<Enter>,
    pub subscribe: Link<Subscribe>,
    pub pulls: Pulls,
    pub leave: Link<Leave>,
    pub close_all: Link<CloseAll>,
}

impl RegistryLinks {
    /// Leading nowhere yet. `health` is the registry's.
    pub fn new(health: &Arc<ActorHealth>) -> Self {
        const REGISTRY: &str = "session-registry";
        Self {
            publish: Link::new(REGISTRY, health.clone()),
            pending: PendingActions::new(Link::new(REGISTRY, health.clone())),
            join: Link::new(REGISTRY, health.clone()),
            enter: Link::new(REGISTRY, health.clone()),
            subscribe: Link::new(REGISTRY, health.clone()),
            pulls: Pulls::new(Link::new(REGISTRY, health.clone())),
            leave: Link::new(REGISTRY, health.clone()),
            close_all: Link::new(REGISTRY, health.clone()),
        }
    }
}
