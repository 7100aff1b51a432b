//! Counts and times every request by its route.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::routes::ROUTES;
use super::state::ApiState;
use crate::telemetry::RouteLabels;

/// Routes of the other doors, which this module's table does not hold.
const OTHER_ROUTES: [&str; 8] = [
    "/upload_common_event",
    "/upload_health_data",
    "/upload_device_info",
    "/upload_watch_log",
    "/fetch_health_data_config",
    "/DeviceMessage/receive",
    "/DeviceMessage/send",
    "/api/v1/stream",
];

/// For `App::wrap(middleware::from_fn(observe))`: outermost, so that it sees every answer.
pub async fn observe<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let state = request.app_data::<web::Data<ApiState>>().cloned();
    let result = next.call(request).await;
    let Some(state) = state else { return result };
    let (route, code) = match &result {
        Ok(response) => (response.request().match_pattern(), response.status()),
        Err(err) => (None, err.as_response_error().status_code()),
    };
    // Never the path itself: labels must not grow with what strangers ask for.
    let route = route.as_deref().and_then(known).unwrap_or("other");
    let labels = RouteLabels { route, code: code.as_u16() };
    state.metrics.request_seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    result
}

fn known(pattern: &str) -> Option<&'static str> {
    let ours = ROUTES.iter().map(|(_, path)| *path);
    ours.chain(OTHER_ROUTES).find(|path| *path == pattern)
}
