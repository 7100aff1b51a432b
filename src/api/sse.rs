//! `GET /api/v1/stream/sse`: the stream for scripts and proxies that cannot hold a WebSocket.

use std::collections::HashSet;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::alerts::read_severities;
use super::auth::Credentials;
use super::error::Problem;
use super::stream::{NOBODYS, StreamState};
use crate::domain::ids::{CustomerId, DeviceSn, OrgId};
use crate::domain::rule::Severity;
use crate::session::filter::Filter;
use crate::session::frames::Since;
use crate::session::inbound::Opening;
use crate::session::sse::events;

const LAST_EVENT_ID: &str = "Last-Event-ID";

/// The parts of a filter; lists have commas between their entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamQuery {
    severity: Option<String>,
    min_severity: Option<Severity>,
    customer_id: Option<CustomerId>,
    org_id: Option<OrgId>,
    kinds: Option<String>,
    devices: Option<String>,
    #[serde(default)]
    vitals: bool,
    #[serde(default)]
    stats: bool,
    /// For clients that cannot set the header of this name, which wins.
    last_event_id: Option<String>,
}

/// 400 for a filter or a `Last-Event-ID` that is none, 401 without a token, otherwise as the socket.
pub async fn open(
    request: HttpRequest,
    state: web::Data<StreamState>,
    query: web::Query<StreamQuery>,
) -> Result<HttpResponse, Problem> {
    let opening = opening(&request, query.into_inner())?;
    let vitals_devices_max = state.sessions.config.vitals_devices_max;
    opening.filter.check(vitals_devices_max).map_err(|err| Problem::invalid(err.to_string()))?;
    state.let_in(&request)?;
    let revocations = state.sessions.revocations.count();
    let credentials = Credentials::of(&request)
        .ok_or_else(|| Problem::unauthenticated("send the header Authorization: Bearer <token>"))?;
    let caller = state.caller(&credentials).await?.ok_or_else(|| Problem::unauthenticated(NOBODYS))?;
    let slot = state.slot(Some(&caller))?;
    let body =
        events(&state.sessions, slot, caller, revocations, opening).map_err(|err| Problem::internal(&err))?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would collect events until its buffer is full.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

fn opening(request: &HttpRequest, query: StreamQuery) -> Result<Opening, Problem> {
    let devices = |text: &str| -> Result<HashSet<DeviceSn>, Problem> {
        let read = |sn| {
            DeviceSn::parse(sn)
                .map_err(|err| Problem::invalid(format!("devices: {sn:?} is no serial: {err}")))
        };
        entries(text).map(read).collect()
    };
    let filter = Filter {
        severity: query.severity.as_deref().map(read_severities).transpose()?,
        min_severity: query.min_severity,
        customer_id: query.customer_id,
        org_id: query.org_id,
        kinds: query.kinds.as_deref().map(|kinds| entries(kinds).map(str::to_owned).collect()),
        devices: query.devices.as_deref().map(devices).transpose()?,
        vitals: query.vitals,
    };
    let header = request.headers().get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("?").to_owned());
    let since = match header.or(query.last_event_id).filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => {
            Some(Since::parse(&id).ok_or_else(|| Problem::invalid("Last-Event-ID must be epoch:offset"))?)
        }
    };
    Ok(Opening { filter, since, stats: query.stats })
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}
