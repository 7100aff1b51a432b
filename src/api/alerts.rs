//! Alerts: lists, one with its changes, and what operators do about them.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::auth::Authenticated;
use super::credentials::random_hex;
use super::error::{OUTAGE, Problem};
use super::state::ApiState;
use super::{body, paging, pending};
use crate::device::messages::Act;
use crate::domain::alert::{ActError, ActionKind, Alert, AlertState, Cause, OperatorAction, Outcome};
use crate::domain::ids::{AlertId, CustomerId, DeviceSn, RuleId};
use crate::domain::owner::{Caller, Scope};
use crate::domain::rule::Severity;
use crate::domain::time::UtcMillis;
use crate::storage::alerts::{self, AlertFilter, AlertKey, ChangeSummary, Viewed};

const NOTE_CHARS_MAX: usize = 2_000;
const COMMAND_ID_CHARS_MAX: usize = 128;
const WHAT: &str = "the alert";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    state: Option<AlertState>,
    open: Option<bool>,
    /// Names separated by commas.
    severity: Option<String>,
    device_sn: Option<DeviceSn>,
    rule_id: Option<RuleId>,
    customer_id: Option<CustomerId>,
    from: Option<UtcMillis>,
    to: Option<UtcMillis>,
    limit: Option<u16>,
    cursor: Option<String>,
}

pub async fn list(
    state: web::Data<ApiState>,
    caller: Authenticated,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.0.scope;
    let query = query.into_inner();
    let limit = paging::limit(query.limit)?;
    let after = paging::cursor(query.cursor.as_deref(), read_key)?;
    let filter = AlertFilter {
        state: query.state,
        open: query.open,
        severities: query.severity.as_deref().map_or(Ok(Vec::new()), read_severities)?,
        device_sn: query.device_sn,
        rule_id: query.rule_id,
        customer_id: query.customer_id,
        from: query.from,
        to: query.to,
    };
    let page = state.readers.read(move |conn| alerts::list(conn, &scope, &filter, after, limit)).await?;
    Ok(paging::answer(&state, &page, |key| format!("{}.{}", key.raised.0, key.alert_id)))
}

/// The text of a cursor: milliseconds since 1970, a dot, the id.
pub fn read_key(text: &str) -> Option<AlertKey> {
    let (raised, alert_id) = text.split_once('.')?;
    Some(AlertKey { raised: UtcMillis(raised.parse().ok()?), alert_id: alert_id.parse().ok()? })
}

pub(super) fn read_severities(text: &str) -> Result<Vec<Severity>, Problem> {
    let read = |name: &str| {
        Severity::from_name(name.trim()).ok_or_else(|| {
            let known: Vec<&str> = Severity::ALL.into_iter().map(Severity::name).collect();
            Problem::invalid(format!("severity {name:?} is not one of {}", known.join(", ")))
        })
    };
    text.split(',').map(read).collect()
}

#[derive(Serialize)]
struct AlertWithChanges {
    #[serde(flatten)]
    alert: Alert,
    /// The timeline, oldest first.
    changes: Vec<ChangeSummary>,
    /// True if only the newest changes are shown.
    changes_truncated: bool,
    /// Who has had it on the screen, and when first.
    shown: Vec<Viewed>,
}

pub async fn get(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.0.scope;
    let id: AlertId = id.parse().map_err(|_| Problem::not_found(WHAT))?;
    let found = state.readers.read(move |conn| {
        let Some(alert) = alerts::get(conn, &scope, id)? else { return Ok(None) };
        let (changes, changes_truncated) = alerts::changes(conn, &scope, id)?;
        let shown = alerts::viewed(conn, id)?;
        Ok(Some(AlertWithChanges { alert, changes, changes_truncated, shown }))
    });
    match found.await? {
        Some(alert) => Ok(HttpResponse::Ok().json(alert)),
        None => Err(not_found(&state)),
    }
}

/// What an operator says with an action.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionBody {
    note: Option<String>,
    /// The caller's own id of the command: the same one again changes nothing and answers 200.
    command_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveBody {
    outcome: Option<Outcome>,
    note: Option<String>,
    command_id: Option<String>,
}

pub async fn acknowledge(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let ActionBody { note, command_id } = body::json(&state, &request, payload).await?;
    let said = Said { kind: ActionKind::Acknowledge, note, command_id, outcome: None };
    let action = said.action(&caller.0, &id)?;
    if let Some(known) = pending::of(&state, &caller.0.scope, &action) {
        return known;
    }
    match perform(&state, &caller.0.scope, &action).await {
        // People have to know who has it in hand.
        Err(problem) if problem.is_outage() => pending::acknowledge(&state, caller.0.scope, action).await,
        done => done.map(|alert| HttpResponse::Ok().json(alert)),
    }
}

pub async fn comment(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let ActionBody { note, command_id } = body::json(&state, &request, payload).await?;
    if note.as_deref().is_none_or(|note| note.trim().is_empty()) {
        return Err(Problem::invalid("a comment needs a note"));
    }
    let said = Said { kind: ActionKind::Comment, note, command_id, outcome: None };
    let alert = perform(&state, &caller.0.scope, &said.action(&caller.0, &id)?).await?;
    Ok(HttpResponse::Ok().json(alert))
}

pub async fn resolve(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let ResolveBody { outcome, note, command_id } = body::json(&state, &request, payload).await?;
    let said = Said { kind: ActionKind::Resolve, note, command_id, outcome };
    let alert = perform(&state, &caller.0.scope, &said.action(&caller.0, &id)?).await?;
    Ok(HttpResponse::Ok().json(alert))
}

/// An action as it was asked for.
struct Said {
    kind: ActionKind,
    note: Option<String>,
    command_id: Option<String>,
    outcome: Option<Outcome>,
}

impl Said {
    fn action(self, caller: &Caller, id: &str) -> Result<OperatorAction, Problem> {
        let alert_id: AlertId = id.parse().map_err(|_| Problem::not_found(WHAT))?;
        let note = self.note.map(|note| text("note", note, NOTE_CHARS_MAX)).transpose()?;
        let command_id = match self.command_id {
            Some(id) => text("command_id", id, COMMAND_ID_CHARS_MAX)?,
            None => random_hex::<16>()?.into(),
        };
        let (kind, outcome, actor) = (self.kind, self.outcome, caller.name.as_str().into());
        Ok(OperatorAction { alert_id, kind, command_id, actor, note, outcome, said_at: None })
    }
}

/// The device's shard decides; the answer, the alert as it is then, comes after its commit.
pub(super) async fn perform(
    state: &ApiState,
    scope: &Scope,
    action: &OperatorAction,
) -> Result<Alert, Problem> {
    let alert_id = action.alert_id;
    let stored = find(state, scope, alert_id).await?;
    if let Some(outage) = state.admission.outage.current() {
        let detail = format!("{outage}; the action cannot be stored now, send it again");
        return Err(Problem::unavailable(OUTAGE, detail)
            .retry_after_s(state.config.admission.retry_after_s)
            .with("command_id", (*action.command_id).into()));
    }
    let was_open = stored.state.is_open();
    let mut refused = match decide(state, stored, action).await? {
        Ok(alert) => return Ok(alert),
        Err(refused) => refused,
    };
    if action.kind == ActionKind::Comment && was_open && refused == ActError::NotOpen {
        // It was resolved between the look and the shard, which has forgotten it. It stays resolved.
        let stored = find(state, scope, alert_id).await?;
        refused = match decide(state, stored, action).await? {
            Ok(alert) => return Ok(alert),
            Err(refused) => refused,
        };
    }
    if refused == ActError::NotStored {
        return Err(not_stored());
    }
    // Refused because it has been done: by the same command, which is no conflict?
    let done = is_done(state, action).await?;
    let present = match refused {
        ActError::Illegal(illegal) if !done => *illegal.present,
        _ => find(state, scope, alert_id).await?,
    };
    match done {
        true => Ok(present),
        false => Err(Problem::illegal_transition(&present)),
    }
}

/// It is in the log.
pub(super) async fn is_done(state: &ApiState, action: &OperatorAction) -> Result<bool, Problem> {
    let (cause, transition) = (Cause::Action(action.command_id.clone()), action.kind.transition());
    let alert_id = action.alert_id;
    Ok(state.readers.read(move |conn| alerts::has_change(conn, alert_id, &cause, transition)).await?)
}

/// What the shard of the alert's device answers, after the commit.
async fn decide(
    state: &ApiState,
    stored: Alert,
    action: &OperatorAction,
) -> Result<Result<Alert, ActError>, Problem> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let device_sn = stored.device_sn.clone();
    let resolved = (!stored.state.is_open()).then(|| Box::new(stored));
    let message = Act { device_sn, action: action.clone(), resolved, reply };
    state.admission.router.act(message).map_err(|_| not_stored())?;
    let timeout = Duration::from_millis(state.config.watch.receipt_timeout_ms);
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(not_stored()),
        Err(_) => {
            let detail = "the action is not stored yet; send it again with the same command_id";
            let problem = Problem::unavailable("not-stored-yet", detail);
            Err(problem.with("command_id", (*action.command_id).into()))
        }
    }
}

fn not_stored() -> Problem {
    Problem::unavailable("not-stored", "the action was not stored; send it again")
}

pub(super) async fn find(state: &ApiState, scope: &Scope, id: AlertId) -> Result<Alert, Problem> {
    let scope = scope.clone();
    let found = state.readers.read(move |conn| alerts::get(conn, &scope, id)).await?;
    found.ok_or_else(|| not_found(state))
}

/// While not everything can be read, what is not found may exist all the same.
fn not_found(state: &ApiState) -> Problem {
    match state.readers.is_incomplete() {
        true => Problem::unavailable("incomplete", "not every alert can be read now; try again"),
        false => Problem::not_found(WHAT),
    }
}

fn text(field: &str, text: String, chars_max: usize) -> Result<Box<str>, Problem> {
    if text.chars().count() > chars_max || text.contains('\0') {
        return Err(Problem::invalid(format!("{field} must have at most {chars_max} characters and no NUL")));
    }
    Ok(text.into())
}
