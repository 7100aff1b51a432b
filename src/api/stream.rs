//! `GET /api/v1/stream`: the door of the dashboards, and what it has in common with that of `sse`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::{HttpRequest, HttpResponse, web};

use super::auth::{Credentials, is_same_origin};
use super::error::Problem;
use super::sse;
use crate::domain::owner::Caller;
use crate::session::deps::SessionDeps;
use crate::session::slots::{Full, SessionSlot};
use crate::session::socket::upgrade;

pub(super) const NOBODYS: &str = "the token is unknown, revoked or expired";

/// One per server, shared by all HTTP workers as `web::Data<StreamState>`.
pub struct StreamState {
    pub sessions: Arc<SessionDeps>,
    /// False from SIGTERM on.
    pub accepting: Arc<AtomicBool>,
}

pub fn configure(cfg: &mut web::ServiceConfig) {
    cfg.route("/api/v1/stream", web::get().to(open));
    cfg.route("/api/v1/stream/sse", web::get().to(sse::open));
}

impl StreamState {
    /// Whether a stream may be opened now at all. Browsers send cookies along whichever page opens a
    /// stream, so the page's origin is looked at.
    pub(super) fn let_in(&self, request: &HttpRequest) -> Result<(), Problem> {
        if !is_same_origin(request) {
            return Err(Problem::forbidden("a page of another origin may not open the stream"));
        }
        if !self.accepting.load(Ordering::Acquire) {
            return Err(Problem::unavailable("stopping", "the server is stopping"));
        }
        Ok(())
    }

    /// A place for one more client. It is taken when the token has been checked, so a token that nobody
    /// has takes none.
    pub(super) fn slot(&self, caller: Option<&Caller>) -> Result<Arc<SessionSlot>, Problem> {
        let slots = &self.sessions.slots;
        let slot = if caller.is_some() { slots.take() } else { slots.take_anonymous() };
        slot.map_err(|full| match full {
            Full::SignedIn => Problem::unavailable("too-many-sessions", "too many sessions are open"),
            Full::Anonymous => Problem::unavailable(
                "too-many-anonymous-sessions",
                "too many sessions that have not signed in are open; send the token with the request",
            ),
        })
    }

    pub(super) async fn caller(&self, credentials: &Credentials) -> Result<Option<Caller>, Problem> {
        let checked = (self.sessions.authenticate)(credentials.token().to_owned()).await;
        checked.map_err(|err| {
            tracing::warn!("a token could not be checked: {err}");
            Problem::unavailable("token-not-checked", "the token could not be checked; try again")
        })
    }
}

/// Token in the `Authorization` header, session in the cookie, or neither: then the first frame
/// must be `auth`. 401 for a token that nobody has, 403 for a page of another site, 503 with
/// `Retry-After` at the limits of sessions, of which those that have to sign in yet have their own, or
/// if the token cannot be checked now.
async fn open(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<StreamState>,
) -> Result<HttpResponse, actix_web::Error> {
    state.let_in(&request)?;
    let revocations = state.sessions.revocations.count();
    let caller = match Credentials::of(&request) {
        Some(credentials) => match (state.caller(&credentials).await?, credentials) {
            (None, Credentials::Bearer(_)) => return Err(Problem::unauthenticated(NOBODYS).into()),
            // An old cookie is no reason to fail: the page is told by a frame, which it can read.
            (caller, _) => caller,
        },
        None => None,
    };
    let slot = state.slot(caller.as_ref())?;
    upgrade(&request, payload, &state.sessions, slot, caller, revocations)
}
