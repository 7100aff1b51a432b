//! Acknowledging while the database takes nothing: it is answered 202, the screens show who has the alert,
//! and it is stored when that is possible again.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::alerts;
use super::error::Problem;
use super::state::ApiState;
use crate::domain::alert::{Alert, OperatorAction};
use crate::domain::owner::Scope;
use crate::session::pending::{NotPending, Pending};
use crate::supervision::outage::OutageKind;

/// Between two attempts to store it, when the database takes writes.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

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
    detail: String,
}

/// Takes it in memory.
pub(super) async fn acknowledge(
    state: &web::Data<ApiState>,
    scope: Scope,
    action: OperatorAction,
    outage: OutageKind,
) -> Result<HttpResponse, Problem> {
    let stored = alerts::find(state, &scope, action.alert_id).await?;
    let (pending, is_new) =
        state.pending.take(&stored, action, scope, state.clock.now()).map_err(|refused| match refused {
            NotPending::Illegal(illegal) => Problem::illegal_transition(&illegal.present),
            NotPending::Full => Problem::unavailable(super::error::OUTAGE, format!("{outage}; {refused}")),
        })?;
    if is_new {
        actix_web::rt::spawn(store(state.clone(), pending.clone()));
    }
    let detail = format!("{outage}; it is shown on the screens, and stored when that is possible again");
    let answer =
        NotStoredYet { alert: &pending.alert, stored: false, command_id: &pending.action.command_id, detail };
    Ok(HttpResponse::Accepted().json(answer))
}

/// Until it is stored, or is of no use any more.
async fn store(state: web::Data<ApiState>, pending: Arc<Pending>) {
    let (action, alert) = (&pending.action, &pending.alert);
    loop {
        state.admission.outage.over().await;
        match alerts::perform(&state, &pending.scope, action).await {
            Ok(_) => break,
            Err(problem) if problem.is_unavailable() => tokio::time::sleep(RETRY_PAUSE).await,
            Err(problem) => {
                tracing::warn!(
                    alert = %alert.alert_id, device = %alert.device_sn, actor = %action.actor,
                    "an acknowledgement from while nothing could be stored is dropped: {problem}"
                );
                break;
            }
        }
    }
    state.pending.settle(action.alert_id);
}
