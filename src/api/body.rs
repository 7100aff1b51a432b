//! Bodies of the REST API. Read by the handler, after the caller is known, within the same budget
//! as the bodies of watches.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::Problem;
use super::intake::{BodyBudget, BodyError, BodyRoom};
use super::state::ApiState;

impl From<BodyError> for Problem {
    fn from(err: BodyError) -> Self {
        match err {
            BodyError::TooLarge(_) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", err.to_string())
            }
            BodyError::Busy => Problem::unavailable("at-limit", err.to_string()),
            BodyError::TimedOut => {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", err.to_string())
            }
            BodyError::Broken(_) => Problem::invalid(err.to_string()),
        }
    }
}

/// The whole body, at most `server.body_bytes_max`, and the room that it takes.
pub async fn bytes(request: &HttpRequest, payload: web::Payload) -> Result<(Bytes, BodyRoom), Problem> {
    let budget = request
        .app_data::<web::Data<BodyBudget>>()
        .ok_or_else(|| Problem::internal(&"the server was built without its body budget"))?;
    Ok(budget.clone().into_inner().read(request, payload).await?)
}

/// The body as JSON of a shape, at most `server.body_small_bytes`. An empty body is `{}`, for
/// actions that need no argument.
pub async fn json<T: DeserializeOwned>(
    state: &ApiState,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<T, Problem> {
    require_type(request, "application/json")?;
    let (bytes, _room) = bytes(request, payload).await?;
    let max = state.config.server.body_small_bytes;
    if bytes.len() > max {
        return Err(BodyError::TooLarge(max).into());
    }
    let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|err| Problem::invalid(format!("the body: {err}")))
}

/// A body of another type is refused. A missing type is taken for the right one.
pub fn require_type(request: &HttpRequest, expected: &str) -> Result<(), Problem> {
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let detail = format!("the body must be {expected}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", detail))
}
