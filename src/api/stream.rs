//! `GET /api/v1/stream`: the door of the dashboards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::{HttpRequest, HttpResponse, web};

use super::auth::{Credentials, is_same_origin};
use super::error::Problem;
use crate::session::actor::{SessionDeps, upgrade};

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
///
/// Browsers send cookies along whichever page opens a socket, so the page's origin is looked at.
async fn open(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<StreamState>,
) -> Result<HttpResponse, actix_web::Error> {
    if !is_same_origin(&request) {
        return Err(Problem::forbidden("a page of another origin may not open the stream").into());
    }
    if !state.accepting.load(Ordering::Acquire) {
        return Err(Problem::unavailable("stopping", "the server is stopping").into());
    }
    let Some(slot) = state.sessions.slots.take() else {
        return Err(Problem::unavailable("too-many-sessions", "too many sessions are open").into());
    };
    let authenticate = |token: &str| (state.sessions.authenticate)(token.to_owned());
    let caller = match Credentials::of(&request) {
        Some(Credentials::Bearer(token)) => match authenticate(&token).await {
            Some(caller) => Some(caller),
            None => return Err(Problem::unauthenticated("the token is unknown, revoked or expired").into()),
        },
        // An old cookie is no reason to fail: the page is told by a frame, which it can read.
        Some(Credentials::Cookie(token)) => authenticate(&token).await,
        None => None,
    };
    upgrade(&request, payload, &state.sessions, slot, caller)
}
