//! `GET /api/v1/stream`: the door of the dashboards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::session::actor::{SessionDeps, upgrade};

/// Cookie that a browser got for a sign-in link or a token.
pub const SESSION_COOKIE: &str = "watchpost_session";

/// One per server, shared by all HTTP workers as `web::Data<StreamState>`.
pub struct StreamState {
    pub sessions: Arc<SessionDeps>,
    /// False from SIGTERM on.
    pub accepting: Arc<AtomicBool>,
}

pub fn configure(cfg: &mut web::ServiceConfig) {
    cfg.route("/api/v1/stream", web::get().to(open));
}

/// Token in the `Authorization` header, session in the cookie, or neither: then the first frame
/// must be `auth`. 401 for a token that nobody has, 403 for a page of another site, 503 with
/// `Retry-After` at the limit of sessions.
async fn open(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<StreamState>,
) -> Result<HttpResponse, actix_web::Error> {
    if !is_same_origin(&request) {
        return Ok(refuse(StatusCode::FORBIDDEN, "this page belongs to another site"));
    }
    let accepting = state.accepting.load(Ordering::Acquire);
    let Some(slot) = accepting.then(|| state.sessions.slots.take()).flatten() else {
        return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, "too many sessions are open; try again"));
    };
    let caller = match (bearer(&request), request.cookie(SESSION_COOKIE)) {
        (Some(token), _) => match (state.sessions.authenticate)(token).await {
            Some(caller) => Some(caller),
            None => return Ok(refuse(StatusCode::UNAUTHORIZED, "the token is not valid")),
        },
        // An old cookie is no reason to fail: the page is told by a frame, which it can read.
        (None, Some(cookie)) => (state.sessions.authenticate)(cookie.value().to_string()).await,
        (None, None) => None,
    };
    upgrade(&request, payload, &state.sessions, slot, caller)
}

/// Browsers say which page opens a socket, and send cookies along whichever it is. A page of
/// another site must not act as its visitor. Others send no `Origin`.
fn is_same_origin(request: &HttpRequest) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

fn bearer(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_string())
}

fn refuse(status: StatusCode, detail: &str) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, "2"));
    }
    let title = status.canonical_reason().unwrap_or_default();
    let problem = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
    });
    response.content_type("application/problem+json").body(problem.to_string())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_pages_of_this_host_may_open_a_stream() {
        let request = |origin: Option<&str>| {
            let request = TestRequest::default().insert_header((header::HOST, "watch.example:5001"));
            match origin {
                Some(origin) => request.insert_header((header::ORIGIN, origin)).to_http_request(),
                None => request.to_http_request(),
            }
        };
        assert!(is_same_origin(&request(None)));
        assert!(is_same_origin(&request(Some("http://watch.example:5001"))));
        assert!(!is_same_origin(&request(Some("http://evil.example"))));
        assert!(!is_same_origin(&request(Some("http://watch.example:5001.evil.example"))));
        assert!(!is_same_origin(&request(Some("null"))));
    }
}
