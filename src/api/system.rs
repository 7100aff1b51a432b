//! The server about itself: health, readiness, metrics, state.

use std::sync::PoisonError;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde_json::json;

use super::auth::Authenticated;
use super::error::Problem;
use super::routes::OPENAPI;
use super::state::ApiState;
use crate::storage::database::{self, Database};
use crate::storage::quarantine;
use crate::supervision::health::ActorState;
use crate::telemetry::ActorLabels;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /api/v1/system`. The errors of actors may name devices of any customer, so it is for the
/// administrator.
pub async fn system(state: web::Data<ApiState>, caller: Authenticated) -> Result<HttpResponse, Problem> {
    caller.admin()?;
    let database = Database::from_config(&state.config.storage)?;
    let (path, name) = (database.path().to_path_buf(), database.name());
    let files = web::block(move || {
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        (size(&path), size(log.as_ref()))
    });
    let (file_size, wal_size) = files.await.map_err(|err| Problem::internal(&err))?;
    let size = match state.readers.read(database::size_bytes).await? {
        Some(size) => size.unsigned_abs(),
        None => file_size,
    };
    let (readers_used, readers_open, readers_max) = state.readers.usage();
    let integrity = state.integrity.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let actors: Vec<_> = state.board.all().iter().map(|health| health.report()).collect();
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "epoch": *state.epoch.get(),
        "offset": state.watermark.get(),
        "uptime_s": state.started.elapsed().as_secs(),
        "server_time": state.clock.now(),
        "time_zone": state.zone.name(),
        "ready": state.is_ready(),
        "actors": actors,
        "admission": {
            "used_kib": state.admission.pool.used_kib(),
            "capacity_kib": state.admission.pool.capacity_kib(),
        },
        "database": {
            "path": name,
            "size_bytes": size,
            "wal_size_bytes": wal_size,
            "readers_used": readers_used,
            "readers_open": readers_open,
            "readers_max": readers_max,
            "outage": state.admission.outage.report(),
            "spool": state.readers.spool(),
            "integrity": integrity,
        },
        "rule_set_version": state.rules.load().version,
        "pipeline": state.observer.pipeline(),
    })))
}

/// `GET /api/v1/openapi.json`.
pub async fn openapi(_caller: Authenticated) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(OPENAPI)
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: 503 with the reasons while something is missing.
pub async fn readyz(state: web::Data<ApiState>) -> Result<HttpResponse, Problem> {
    if state.is_ready() {
        // It takes reports all the same; who looks shall see it.
        let storage = if state.readers.is_incomplete() { "spooling" } else { "in order" };
        return Ok(HttpResponse::Ok().json(json!({ "status": "ready", "storage": storage })));
    }
    let mut reasons: Vec<String> = state
        .board
        .all()
        .iter()
        .filter(|health| health.state() != ActorState::Running)
        .map(|health| format!("{} is not running", health.name))
        .collect();
    if !state.accepting.load(std::sync::atomic::Ordering::Acquire) {
        reasons.push("the server is starting or stopping".into());
    }
    Err(Problem::unavailable("not-ready", reasons.join("; ")).with("reasons", json!(reasons)))
}

/// `GET /health`: what old watches keep the connection alive with.
pub async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "success", "success": true }))
}

/// `GET /metrics`, for this machine or with a token.
pub async fn metrics(state: web::Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if !is_local(&request) {
        Authenticated::extract(&request).await?;
    }
    for health in state.board.all() {
        let labels = ActorLabels { actor: health.name.clone() };
        state.metrics.queue_length.get_or_create(&labels).set(health.queue_length());
    }
    state.observer.refresh();
    if let Some(spool) = state.readers.spool() {
        state.metrics.spool_bytes.set(spool.bytes as i64);
    }
    // Metrics must not fail because storage does; they then show what was true.
    match state.readers.read(quarantine::held).await {
        Ok(held) => {
            state.metrics.quarantine_bodies.set(held.bodies);
            state.metrics.quarantine_bytes.set(held.bytes);
        }
        Err(err) => tracing::warn!("the size of the quarantine could not be read: {err}"),
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &state.registry)
        .map_err(|err| Problem::internal(&err))?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, OPENMETRICS)).body(text))
}

/// True for a program on this machine; not for a reverse proxy on it that speaks for others.
fn is_local(request: &HttpRequest) -> bool {
    let loopback = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip"];
    loopback && !forwarded.into_iter().any(|name| request.headers().contains_key(name))
}
