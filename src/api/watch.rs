//! The watch API: uploads. A real watch takes everything but 200 for a failure and repeats the
//! oldest item for ever, so 200 is the answer to everything that a real watch can send, after it
//! has been stored.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use super::intake::{BodyBudget, BodyError};
use super::quarantine_desk::{DeskError, Kept, QuarantineDesk};
use super::state::ApiState;
use crate::domain::event::{ReportBody, Warning};
use crate::domain::ids::DeviceSn;
use crate::ingest::ring_guard::Candidate;
use crate::supervision::permits::Outcome;
use crate::wire::{self, DecodeOptions};

/// Results listed one by one in an answer; the counts cover all.
const RESULTS_SHOWN_MAX: usize = 100;

/// The upload routes. The shape of a body, not its route, says what it is.
pub const UPLOAD_ROUTES: [&str; 5] = [
    "/upload_common_event",
    "/upload_health_data",
    "/upload_device_info",
    "/batch/upload_common_event",
    "/batch/upload-common-event",
];

pub fn configure(cfg: &mut web::ServiceConfig) {
    for route in UPLOAD_ROUTES {
        let upload =
            move |request, payload, state, budget, desk| upload(route, request, payload, state, budget, desk);
        cfg.route(route, web::post().to(upload));
    }
    super::watch_device::configure(cfg);
}

/// What the watch handlers share besides [`ApiState`].
pub type Budget = web::Data<BodyBudget>;
pub type Desk = web::Data<QuarantineDesk>;

async fn upload(
    route: &'static str,
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<ApiState>,
    budget: Budget,
    desk: Desk,
) -> HttpResponse {
    let begun = Instant::now();
    let (body, _room) = match budget.into_inner().read(&request, payload).await {
        Ok(read) => read,
        Err(err) => return unread(&state, &err),
    };
    let options = decode_options(&state);
    let decoded = match wire::decode(&body, &options) {
        Ok(decoded) => decoded,
        Err(err) => return quarantined(&state, &desk, &body, route, err.to_string()).await,
    };
    let now = state.clock.now();
    let live = state.ring_guard.as_ref().and_then(|guard| guard.received(&decoded.reports, now));
    let devices: Vec<DeviceSn> = match state.ring_guard {
        Some(_) => decoded.reports.iter().map(|report| report.device_sn.clone()).collect(),
        None => Vec::new(),
    };
    let refused = |reason: &str| {
        if let Some(guard) = &state.ring_guard {
            guard.refused(&devices, state.clock.now());
        }
        busy(&state, reason)
    };
    let mut warnings = decoded.warnings;
    for fault in &decoded.faults {
        match desk.keep(&fault.original, route, format!("{:?}", fault.reason)).await {
            Ok(Kept::NoRoom) => return refused("there is no room in quarantine now"),
            Ok(Kept::First { .. } | Kept::Again) => {}
            Err(err) => return refused(&err.to_string()),
        }
        warnings.push(Warning::new("quarantined", "a record without a device is kept in quarantine"));
    }
    warnings.extend(decoded.reports.iter().flat_map(|report| report.warnings.iter().cloned()));

    let told: Vec<(String, Option<String>)> = decoded
        .reports
        .iter()
        .map(|report| {
            let event_type = match &report.body {
                ReportBody::Event(event) => Some(event.short_type().to_string()),
                _ => None,
            };
            (report.device_sn.to_string(), event_type)
        })
        .collect();
    match state.admission.submit(decoded.reports, body.len()).await {
        Ok(outcomes) if is_guarded(&state, live.as_ref(), &outcomes) => guarded(&state, &outcomes),
        Ok(outcomes) => stored(&told, &outcomes, &warnings, begun),
        Err(err) => refused(&err.to_string()),
    }
}

pub fn decode_options(state: &ApiState) -> DecodeOptions {
    let watch = &state.config.watch;
    DecodeOptions { zone: state.zone, records_max: watch.records_max, depth_max: watch.depth_max }
}

/// 200: all of it is committed.
fn stored(
    told: &[(String, Option<String>)],
    outcomes: &[Outcome],
    warnings: &[Warning],
    begun: Instant,
) -> HttpResponse {
    let elapsed = begun.elapsed();
    let mut answer = Map::new();
    answer.insert("status".into(), "success".into());
    answer.insert("success".into(), true.into());
    answer.insert("message".into(), "stored".into());
    // The event, if there is one, is what the sender asks about; otherwise the first record.
    let index = told.iter().position(|(_, event_type)| event_type.is_some()).unwrap_or(0);
    if let (Some((device_sn, event_type)), Some(outcome)) = (told.get(index), outcomes.get(index)) {
        answer.insert("device_sn".into(), device_sn.as_str().into());
        answer.insert("event_type".into(), event_type.clone().into());
        answer.extend(ids(outcome));
    }
    if told.len() > 1 {
        answer.insert("processed".into(), told.len().into());
        let results =
            told.iter().zip(outcomes).take(RESULTS_SHOWN_MAX).map(|((device_sn, event_type), outcome)| {
                let mut result = ids(outcome);
                result.insert("device_sn".into(), device_sn.as_str().into());
                result.insert("event_type".into(), event_type.clone().into());
                Value::Object(result)
            });
        answer.insert("results".into(), results.collect());
    }
    if !warnings.is_empty() {
        answer.insert("warnings".into(), json!(warnings.iter().take(RESULTS_SHOWN_MAX).collect::<Vec<_>>()));
    }
    answer.insert("processing_time".into(), json!(format!("{:.6}s", elapsed.as_secs_f64())));
    answer.insert("processing_time_ms".into(), json!((elapsed.as_secs_f64() * 1e6).round() / 1e3));
    HttpResponse::Ok().json(answer)
}

/// The ring guard wants its watch to keep what it may not have sent yet.
fn is_guarded(state: &ApiState, live: Option<&Candidate>, outcomes: &[Outcome]) -> bool {
    let (Some(guard), Some(live)) = (&state.ring_guard, live) else { return false };
    match outcomes {
        [Outcome::Stored { event_id: Some(event_id), duplicate, .. }] => {
            guard.holds(live, *event_id, *duplicate, state.clock.now())
        }
        _ => false,
    }
}

/// 503 although it is stored: see [`crate::ingest::ring_guard`].
fn guarded(state: &ApiState, outcomes: &[Outcome]) -> HttpResponse {
    state.metrics.ring_guarded.inc();
    let mut answer = outcomes.first().map(ids).unwrap_or_default();
    answer.insert("status".into(), "error".into());
    answer.insert("success".into(), false.into());
    answer.insert("stored".into(), true.into());
    answer.insert("message".into(), "stored; send your whole cache again".into());
    HttpResponse::ServiceUnavailable()
        .insert_header((RETRY_AFTER, state.config.admission.retry_after_s))
        .json(answer)
}

fn ids(outcome: &Outcome) -> Map<String, Value> {
    let mut ids = Map::new();
    match outcome {
        Outcome::Stored { event_id, alert_id, duplicate } => {
            ids.insert("event_id".into(), json!(event_id));
            ids.insert("alert_id".into(), json!(alert_id));
            ids.insert("duplicate".into(), (*duplicate).into());
        }
        Outcome::Quarantined | Outcome::NotPromised => {
            ids.insert("event_id".into(), Value::Null);
            ids.insert("alert_id".into(), Value::Null);
            ids.insert("quarantined".into(), (*outcome == Outcome::Quarantined).into());
        }
    }
    ids
}

/// A body that is no report: 400 and a copy the first time, 200 from then on.
pub async fn quarantined(
    state: &ApiState,
    desk: &QuarantineDesk,
    body: &[u8],
    route: &'static str,
    reason: String,
) -> HttpResponse {
    match desk.keep(body, route, reason.clone()).await {
        Ok(Kept::Again) => HttpResponse::Ok().json(json!({
            "status": "success",
            "success": true,
            "quarantined": true,
            "message": format!("kept in quarantine: {reason}"),
            "event_id": null,
            "alert_id": null,
        })),
        Ok(Kept::First { quarantine_id }) => refuse(
            StatusCode::BAD_REQUEST,
            json!({ "message": reason, "quarantine_id": quarantine_id.to_string(), "quarantined": true }),
        ),
        Ok(Kept::NoRoom) => {
            refuse(StatusCode::BAD_REQUEST, json!({ "message": reason, "quarantined": false }))
        }
        Err(err @ (DeskError::NotRaised(_) | DeskError::Command(_))) => busy(state, &err.to_string()),
    }
}

fn refuse(status: StatusCode, mut answer: Value) -> HttpResponse {
    answer["status"] = "error".into();
    answer["success"] = false.into();
    HttpResponse::build(status).json(answer)
}

/// 503: not promised. The watch keeps its copy and comes again.
pub fn busy(state: &ApiState, reason: &str) -> HttpResponse {
    HttpResponse::ServiceUnavailable()
        .insert_header((RETRY_AFTER, state.config.admission.retry_after_s))
        .json(json!({ "status": "error", "success": false, "message": format!("{reason}; send it again") }))
}

/// A body that was not read to its end.
pub fn unread(state: &ApiState, err: &BodyError) -> HttpResponse {
    if let (Some(guard), false) = (&state.ring_guard, matches!(err, BodyError::TooLarge(_))) {
        guard.refused_unread(state.clock.now());
    }
    let message = json!({ "message": err.to_string() });
    match err {
        BodyError::TooLarge(_) => refuse(StatusCode::PAYLOAD_TOO_LARGE, message),
        BodyError::Busy => {
            crate::telemetry::Metrics::count(&state.metrics.refused, "body");
            busy(state, &err.to_string())
        }
        BodyError::TimedOut => refuse(StatusCode::REQUEST_TIMEOUT, message),
        BodyError::Broken(_) => refuse(StatusCode::BAD_REQUEST, message),
    }
}
