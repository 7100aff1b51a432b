//! Counts and times every request by its route.

use std::sync::atomic::Ordering;
use std::time::Instant;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use prometheus_client::metrics::gauge::Gauge;
use tracing::Instrument;
use tracing::field::Empty;

use super::routes::ROUTES;
use super::state::ApiState;
use super::watch_door;
use crate::telemetry::RouteLabels;

/// Routes that are not in that table, besides those for bodies of watches.
const OTHER_ROUTES: [&str; 3] = ["/fetch_health_data_config", "/DeviceMessage/receive", "/api/v1/stream"];

/// Set while not everything that is stored can be read.
static INCOMPLETE: HeaderName = HeaderName::from_static("watchpost-incomplete");

/// For `App::wrap(middleware::from_fn(observe))`: outermost, so that it sees every answer.
pub async fn observe<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let state = request.app_data::<web::Data<ApiState>>().cloned();
    let in_flight = state.as_ref().map(|state| InFlight::begin(&state.metrics.in_flight));
    let span = tracing::debug_span!("request", method = %request.method(), route = Empty, code = Empty);
    let mut result = next.call(request).instrument(span.clone()).await;
    drop(in_flight);
    let Some(state) = state else { return result };
    if !state.accepting.load(Ordering::Acquire)
        && let Ok(response) = &mut result
    {
        // Shutting down: whoever keeps the connection open would only be cut off.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    if state.readers.is_incomplete()
        && let Ok(response) = &mut result
    {
        // What is read comes from what stands in for the database.
        response.headers_mut().insert(INCOMPLETE.clone(), HeaderValue::from_static("true"));
    }
    let (route, code) = match &result {
        Ok(response) => (response.request().match_pattern(), response.status()),
        Err(err) => (None, err.as_response_error().status_code()),
    };
    // Never the path itself: labels must not grow with what strangers ask for.
    let route = route.as_deref().and_then(known).unwrap_or("other");
    let labels = RouteLabels { route, code: code.as_u16() };
    span.record("route", route).record("code", labels.code);
    let took = started.elapsed();
    state.metrics.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    state.observer.answered(labels.code, took);
    if let Ok(response) = &result
        && let BodySize::Sized(bytes) = response.response().body().size()
    {
        state.metrics.sent_bytes.inc_by(bytes);
    }
    result
}

/// Counts a request for as long as it lives, also if its client goes away.
struct InFlight(Gauge);

impl InFlight {
    fn begin(counter: &Gauge) -> Self {
        counter.inc();
        Self(counter.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn known(pattern: &str) -> Option<&'static str> {
    let ours = ROUTES.iter().map(|(_, path)| *path);
    let doors = watch_door::ROUTES.into_iter().map(|(path, _)| path);
    ours.chain(doors).chain(OTHER_ROUTES).find(|path| *path == pattern)
}
