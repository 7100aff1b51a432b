//! Acknowledgements that cannot be stored yet: while the database takes nothing, people still have to know
//! who has an alert in hand. In memory only; a crash takes them back, and the alert waits for somebody again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Message;
use serde::Serialize;

use crate::domain::alert::{Alert, IllegalTransition, OperatorAction};
use crate::domain::ids::AlertId;
use crate::domain::owner::Scope;
use crate::domain::time::UtcMillis;
use crate::supervision::link::Link;

/// Alerts that may be acknowledged and not stored at a time: each session is told all of them with each.
pub const PENDING_MAX: usize = 250;

/// One of them.
#[derive(Debug, Clone)]
pub struct Pending {
    /// As it will be.
    pub alert: Alert,
    /// Says when it was said.
    pub action: OperatorAction,
    /// Of whoever said it.
    pub scope: Scope,
}

/// What the stream says of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingFrame<'a> {
    pub alert_id: AlertId,
    /// How often it had happened by then.
    pub count: u32,
    pub acknowledged_by: Option<&'a str>,
    pub acknowledged_at: Option<UtcMillis>,
}

impl<'a> From<&'a Pending> for PendingFrame<'a> {
    fn from(pending: &'a Pending) -> Self {
        Self {
            alert_id: pending.alert.alert_id,
            count: pending.alert.count,
            acknowledged_by: pending.alert.acknowledged_by.as_deref(),
            acknowledged_at: pending.alert.acknowledged_at,
        }
    }
}

/// Why an acknowledgement was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotPending {
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// Somebody else was first, and that is not stored either.
    #[error("somebody else has acknowledged it")]
    Pending(Arc<Pending>),
    #[error("{PENDING_MAX} acknowledgements wait already to be stored")]
    Full,
}

/// To the registry: the list has changed, screens shall see it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct PendingChanged;

/// By alert. What is handed out is never changed.
pub type PendingList = Arc<BTreeMap<AlertId, Arc<Pending>>>;

/// Shared by the doors, which add and take away, and the registry, which shows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PendingActions {
    list: Arc<Mutex<PendingList>>,
    changed: Link<PendingChanged>,
}

impl PendingActions {
    /// `changed` leads to the registry.
    pub fn new(changed: Link<PendingChanged>) -> Self {
        Self { list: Arc::default(), changed }
    }

    pub(super) fn changed(&self) -> &Link<PendingChanged> {
        &self.changed
    }

    fn locked(&self) -> MutexGuard<'_, PendingList> {
        // Nothing in here can panic half way.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn list(&self) -> PendingList {
        self.locked().clone()
    }

    /// Takes an acknowledgement of `stored`, said `at`. `Ok` with false: the same command, once more. Of
    /// several people the first one wins.
    pub fn take(
        &self,
        stored: &Alert,
        action: OperatorAction,
        scope: Scope,
        at: UtcMillis,
    ) -> Result<(Arc<Pending>, bool), NotPending> {
        let mut list = self.locked();
        if let Some(known) = list.get(&action.alert_id) {
            return match known.action.command_id == action.command_id {
                true => Ok((known.clone(), false)),
                false => Err(NotPending::Pending(known.clone())),
            };
        }
        if list.len() >= PENDING_MAX {
            return Err(NotPending::Full);
        }
        let mut alert = stored.clone();
        alert.act(&action, at)?;
        let action = OperatorAction { said_at: Some(at), ..action };
        let pending = Arc::new(Pending { alert, action, scope });
        Arc::make_mut(&mut list).insert(pending.alert.alert_id, pending.clone());
        self.tell(list);
        Ok((pending, true))
    }

    /// It is stored, or will never be.
    pub fn settle(&self, alert_id: AlertId) {
        let mut list = self.locked();
        Arc::make_mut(&mut list).remove(&alert_id);
        self.tell(list);
    }

    fn tell(&self, list: MutexGuard<'_, PendingList>) {
        drop(list);
        // A registry that is just restarting looks by itself.
        let _ = self.changed.send(PendingChanged);
    }
}
