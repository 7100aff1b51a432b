//! Acknowledging while the database takes nothing: it is answered 202, the screens show who has the alert,
//! and it is stored when that is possible again.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::alerts;
use super::error::{OUTAGE, Problem};
use super::state::ApiState;
use crate::domain::alert::{ActionKind, Alert, OperatorAction};
use crate::domain::owner::Scope;
use crate::session::pending::{NotPending, Pending, PendingActions};

/// Between two attempts to store it, when the database takes writes.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Five minutes at least, outages apart. After that the alert waits for somebody again.
const ATTEMPTS_MAX: u32 = 600;

/// The answer, with status 202.
#[derive(Serialize)]
struct NotStoredYet<'a> {
    /// As it will be.
    #[serde(flatten)]
    alert: &'a Alert,
    /// False.
    stored: bool,
    command_id: &'a str,
    /// Why it is not stored.
    detail: &'static str,
}

/// The answer if somebody has the alert in hand already and that is not stored.
pub(super) fn of(
    state: &ApiState,
    scope: &Scope,
    action: &OperatorAction,
) -> Option<Result<HttpResponse, Problem>> {
    let list = state.pending.list();
    let known = list.get(&action.alert_id).filter(|known| scope.allows(&known.alert.customer_id))?;
    Some(match known.action.command_id == action.command_id {
        true => Ok(accepted(known)),
        false => Err(too_late(&known.alert)),
    })
}

/// Takes it in memory.
pub(super) async fn acknowledge(
    state: &web::Data<ApiState>,
    scope: Scope,
    action: OperatorAction,
) -> Result<HttpResponse, Problem> {
    let stored = alerts::find(state, &scope, action.alert_id).await?;
    let taken = state.pending.take(&stored, action, scope, state.clock.now());
    let (pending, is_new) = taken.map_err(|refused| match refused {
        NotPending::Illegal(illegal) => Problem::illegal_transition(&illegal.present),
        NotPending::Pending(first) => too_late(&first.alert),
        NotPending::Full => Problem::unavailable(OUTAGE, refused.to_string()),
    })?;
    if is_new {
        let entry = Entry { pending: pending.clone(), list: state.pending.clone() };
        actix_web::rt::spawn(store(state.clone(), entry));
    }
    Ok(accepted(&pending))
}

fn accepted(pending: &Pending) -> HttpResponse {
    HttpResponse::Accepted().json(NotStoredYet {
        alert: &pending.alert,
        stored: false,
        command_id: &pending.action.command_id,
        detail: "the database takes no writes; the screens show it, and it is stored when that is possible again",
    })
}

/// Nobody may take the alert that comes with it for what is stored.
fn too_late(present: &Alert) -> Problem {
    Problem::illegal_transition(present).with("stored", false.into())
}

/// Its place in the list, however what holds it ends.
struct Entry {
    pending: Arc<Pending>,
    list: PendingActions,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.list.settle(self.pending.alert.alert_id);
    }
}

/// Until it is stored, or is of no use any more.
async fn store(state: web::Data<ApiState>, entry: Entry) {
    let Pending { alert, action, scope } = &*entry.pending;
    for attempt in 1.. {
        state.admission.outage.over().await;
        let refused = match perform(&state, scope, action).await {
            Ok(()) => return,
            Err(problem) if problem.is_servers() && attempt < ATTEMPTS_MAX => {
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            Err(problem) => problem,
        };
        tracing::warn!(
            alert = %alert.alert_id, device = %alert.device_sn, actor = %action.actor,
            "an acknowledgement from while nothing could be stored is not stored as such: {refused}"
        );
        // Whoever reads the timeline shall see that somebody was there.
        let said = alert.acknowledged_at.map(|at| at.to_string()).unwrap_or_default();
        let note =
            format!("Acknowledged at {said}, while nothing could be stored. Not stored as such: {refused}");
        let comment = OperatorAction {
            kind: ActionKind::Comment,
            note: Some(note.into()),
            said_at: None,
            ..action.clone()
        };
        if let Err(problem) = perform(&state, scope, &comment).await {
            tracing::warn!(alert = %alert.alert_id, "nor could that be noted: {problem}");
        }
        return;
    }
}

/// Unless an earlier attempt has done it whose answer was lost.
async fn perform(state: &ApiState, scope: &Scope, action: &OperatorAction) -> Result<(), Problem> {
    match alerts::is_done(state, action).await? {
        true => Ok(()),
        false => alerts::perform(state, scope, action).await.map(drop),
    }
}
