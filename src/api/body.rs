//! Bodies of the REST API. Read by the handler, after the caller is known, up to a limit.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::Problem;
use super::state::ApiState;

/// The whole body, at most `server.body_bytes_max`.
pub async fn bytes(state: &ApiState, payload: web::Payload) -> Result<Bytes, Problem> {
    let limit = state.config.server.body_bytes_max;
    match payload.to_bytes_limited(limit).await {
        Err(_) => {
            let detail = format!("the body is larger than {limit} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail))
        }
        Ok(Err(err)) => Err(Problem::invalid(format!("the body could not be read: {err}"))),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// The body as JSON of a shape. An empty body is `{}`, for actions that need no argument.
pub async fn json<T: DeserializeOwned>(
    state: &ApiState,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<T, Problem> {
    require_type(request, "application/json")?;
    let bytes = bytes(state, payload).await?;
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
