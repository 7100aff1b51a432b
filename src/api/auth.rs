//! Who calls: a bearer token, or a browser's session cookie.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HOST, ORIGIN};
use actix_web::{FromRequest, HttpRequest, web};

use super::error::Problem;
use super::state::ApiState;
use crate::domain::identity::sha256;
use crate::domain::owner::{Caller, Scope};
use crate::storage::database::{Readers, StorageError};
use crate::storage::tokens::token_by_hash;
use crate::supervision::clock::Clock;

/// Cookie that holds a browser's session token.
pub const SESSION_COOKIE: &str = "watchpost_session";

/// Whose token this is; `None` if it is unknown, revoked or expired. Every door asks here, so a
/// revocation counts from the next request on.
pub async fn authenticate(
    readers: &Readers,
    clock: &Clock,
    token: &str,
) -> Result<Option<Caller>, StorageError> {
    let (hash, now) = (sha256(token.as_bytes()), clock.now());
    let (caller, _) = readers.read_soon(move |conn| token_by_hash(conn, &hash, now)).await?;
    Ok(caller)
}

/// Token of a request and whether a browser sent it by itself.
pub enum Credentials {
    Bearer(String),
    Cookie(String),
}

impl Credentials {
    pub fn of(request: &HttpRequest) -> Option<Self> {
        if let Some(header) = request.headers().get(AUTHORIZATION) {
            let text = header.to_str().ok()?;
            let (scheme, token) = text.split_once(' ')?;
            return scheme.eq_ignore_ascii_case("bearer").then(|| Self::Bearer(token.trim().to_owned()));
        }
        request.cookie(SESSION_COOKIE).map(|cookie| Self::Cookie(cookie.value().to_owned()))
    }

    pub fn token(&self) -> &str {
        match self {
            Self::Bearer(token) | Self::Cookie(token) => token,
        }
    }
}

/// True unless the request comes from a page of another origin.
pub fn is_same_origin(request: &HttpRequest) -> bool {
    let Some(origin) = request.headers().get(ORIGIN) else { return true };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    matches!((from, host), (Some(from), Some(host)) if from.eq_ignore_ascii_case(host))
}

/// The caller of a request; without one the answer is 401.
#[derive(Debug)]
pub struct Authenticated(pub Caller);

impl Authenticated {
    /// The caller, if it is the administrator.
    pub fn admin(self) -> Result<Caller, Problem> {
        match self.0.scope {
            Scope::All => Ok(self.0),
            Scope::Customer(_) => Err(Problem::forbidden("only an administrator's token may do this")),
        }
    }
}

impl FromRequest for Authenticated {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { caller(&request).await.map(Authenticated) })
    }
}

async fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    let state = state(request)?;
    let credentials = Credentials::of(request)
        .ok_or_else(|| Problem::unauthenticated("send the header Authorization: Bearer <token>"))?;
    if matches!(credentials, Credentials::Cookie(_))
        && !request.method().is_safe()
        && !is_same_origin(request)
    {
        return Err(Problem::forbidden("a page of another origin may not change anything here"));
    }
    authenticate(&state.readers, &state.clock, credentials.token())
        .await?
        .ok_or_else(|| Problem::unauthenticated("the token is unknown, revoked or expired"))
}

pub(super) fn state(request: &HttpRequest) -> Result<&web::Data<ApiState>, Problem> {
    request.app_data().ok_or_else(|| Problem::internal(&"the server was built without its state"))
}
