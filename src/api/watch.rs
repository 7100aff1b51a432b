//! The watch API: uploads. A real watch takes everything but 200 for a failure and repeats the
//! oldest item for ever, so 200 is the answer to everything that a real watch can send, after it
//! has been stored.

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::{Value, json};

use super::intake::{BodyBudget, BodyError};
use super::quarantine_desk::{DeskError, Kept, QuarantineDesk};
use super::state::ApiState;
use super::watch_door::{Door, ROUTES, Taken};

pub fn configure(cfg: &mut web::ServiceConfig) {
    for (route, door) in ROUTES {
        let receive = move |request, payload, state, budget, desk| {
            receive(route, door, request, payload, state, budget, desk)
        };
        cfg.route(route, web::post().to(receive));
    }
    super::watch_device::configure(cfg);
}

pub type Desk = web::Data<QuarantineDesk>;

async fn receive(
    route: &'static str,
    door: Door,
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<ApiState>,
    budget: web::Data<BodyBudget>,
    desk: Desk,
) -> HttpResponse {
    let (body, _room) = match budget.into_inner().read(&request, payload).await {
        Ok(read) => read,
        Err(err) => return unread(&state, &err),
    };
    match door.take(route, &body, &state, &desk).await {
        Taken::Stored { answer, .. } => HttpResponse::Ok().json(answer),
        Taken::Guarded { answer } => unavailable(&state).json(answer),
        Taken::Unreadable(reason) => quarantined(&state, &desk, &body, route, reason).await,
        Taken::Busy(reason) => busy(&state, &reason),
    }
}

/// A body that is no report: 400 and a copy the first time, 200 from then on.
async fn quarantined(
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
fn busy(state: &ApiState, reason: &str) -> HttpResponse {
    let message = format!("{reason}; send it again");
    unavailable(state).json(json!({ "status": "error", "success": false, "message": message }))
}

fn unavailable(state: &ApiState) -> HttpResponseBuilder {
    let mut response = HttpResponse::ServiceUnavailable();
    response.insert_header((RETRY_AFTER, state.config.admission.retry_after_s));
    response
}

/// A body that was not read to its end.
fn unread(state: &ApiState, err: &BodyError) -> HttpResponse {
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
