//! `POST /api/v1/events`: one event or an array, each with a result of its own.

use std::collections::HashSet;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::auth::Authenticated;
use super::error::Problem;
use super::state::ApiState;
use super::{body, event_item};
use crate::domain::event::{DeviceReport, ReportBody};
use crate::domain::ids::{AlertId, DeviceSn, EventId};
use crate::domain::owner::Scope;
use crate::storage::owners;
use crate::supervision::permits::Outcome;

/// Longest `Idempotency-Key`, so that the key and an index are still a client's id.
const KEY_CHARS_MAX: usize = 200;

#[derive(Debug, Serialize)]
struct ItemResult {
    status: &'static str,
    event_id: Option<EventId>,
    alert_id: Option<AlertId>,
    device_sn: Option<String>,
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// An item that is to be stored, or its result already.
enum Item {
    Valid(Box<DeviceReport>),
    Invalid(ItemResult),
}

/// Answers 200 when every valid item is stored; items that are not valid say why. If none is
/// valid the answer is 400 with the same list.
pub async fn post(
    state: web::Data<ApiState>,
    caller: Authenticated,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    body::require_type(&request, "application/json")?;
    let key = idempotency_key(&request)?;
    let (bytes, _room) = body::bytes(&request, payload).await?;
    let raw_items = split(&bytes)?;
    let max = state.config.watch.records_max;
    if raw_items.len() > max {
        return Err(Problem::invalid(format!("the array has {} items, at most {max} go", raw_items.len())));
    }
    let mut items: Vec<Item> = raw_items
        .iter()
        .enumerate()
        .map(|(index, raw)| {
            let fallback = key.as_ref().map(|key| format!("{key}#{index}"));
            match event_item::parse(raw, fallback, state.zone) {
                Ok(report) => Item::Valid(Box::new(report)),
                Err(error) => Item::Invalid(invalid(event_item::names(raw), error)),
            }
        })
        .collect();
    refuse_devices_of_others(&state, &caller.scope, &mut items).await?;

    let mut reports = Vec::new();
    let results: Vec<Option<ItemResult>> = items
        .into_iter()
        .map(|item| match item {
            Item::Valid(report) => {
                reports.push(*report);
                None
            }
            Item::Invalid(result) => Some(result),
        })
        .collect();
    let names: Vec<_> = reports.iter().map(names).collect();
    let retry_after_s = state.config.admission.retry_after_s;
    let outcomes = state.admission.submit(reports, bytes.len()).await;
    let outcomes = outcomes.map_err(|err| Problem::from(err).retry_after_s(retry_after_s))?;
    let mut stored = outcomes.into_iter().zip(names).map(stored);
    let items: Vec<ItemResult> =
        results.into_iter().filter_map(|result| result.or_else(|| stored.next())).collect();
    if !items.is_empty() && items.iter().all(|item| item.status == "invalid") {
        let problem = Problem::invalid("no item is a valid event; each says what is wrong");
        return Err(problem.with("items", json!(items)));
    }
    Ok(HttpResponse::Ok().json(json!({ "items": items })))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(header) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    let key = header.to_str().ok().map(str::trim);
    match key {
        Some(key) if (1..=KEY_CHARS_MAX).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::invalid(format!("Idempotency-Key must be 1 to {KEY_CHARS_MAX} ASCII characters"))),
    }
}

/// The items of an array, or the one object.
fn split(bytes: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    let parsed = match bytes.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(bytes),
        Some(b'{') => serde_json::from_slice(bytes).map(|one| vec![one]),
        _ => return Err(Problem::invalid("the body must be an event or an array of events")),
    };
    parsed.map_err(|err| Problem::invalid(format!("the body: {err}")))
}

/// A customer's token reports for that customer's devices only.
async fn refuse_devices_of_others(
    state: &ApiState,
    scope: &Scope,
    items: &mut [Item],
) -> Result<(), Problem> {
    if *scope == Scope::All {
        return Ok(());
    }
    let serials: HashSet<DeviceSn> = items
        .iter()
        .filter_map(|item| match item {
            Item::Valid(report) => Some(report.device_sn.clone()),
            Item::Invalid(_) => None,
        })
        .collect();
    let (scope, serials) = (scope.clone(), serials.into_iter().collect::<Vec<_>>());
    let visible = state.readers.read(move |conn| owners::visible(conn, &scope, &serials)).await?;
    let visible: HashSet<DeviceSn> = visible.into_iter().collect();
    for item in items {
        if let Item::Valid(report) = item
            && !visible.contains(&report.device_sn)
        {
            *item = Item::Invalid(invalid(names(report), "device_sn is not one of your devices".into()));
        }
    }
    Ok(())
}

fn names(report: &DeviceReport) -> (Option<String>, Option<String>) {
    let event_type = match &report.body {
        ReportBody::Event(event) => Some(event.event_type.to_string()),
        ReportBody::Vitals(_) | ReportBody::Status(_) => None,
    };
    (Some(report.device_sn.to_string()), event_type)
}

fn invalid((device_sn, event_type): (Option<String>, Option<String>), error: String) -> ItemResult {
    ItemResult {
        status: "invalid",
        event_id: None,
        alert_id: None,
        device_sn,
        event_type,
        error: Some(error),
    }
}

fn stored((outcome, (device_sn, event_type)): (Outcome, (Option<String>, Option<String>))) -> ItemResult {
    let (status, event_id, alert_id, error) = match outcome {
        Outcome::Stored { event_id, alert_id, duplicate: false } => ("stored", event_id, alert_id, None),
        Outcome::Stored { event_id, alert_id, duplicate: true } => ("duplicate", event_id, alert_id, None),
        Outcome::Quarantined => ("quarantined", None, None, Some("the server kept a copy for inspection")),
        // `submit` answers an error instead; nothing is claimed if it ever does not.
        Outcome::NotPromised => ("not_stored", None, None, Some("send it again")),
    };
    ItemResult { status, event_id, alert_id, device_sn, event_type, error: error.map(Into::into) }
}
