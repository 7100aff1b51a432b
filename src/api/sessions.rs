//! Signing a browser in and out, and the codes for it.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::auth::{Authenticated, SESSION_COOKIE, authenticate, is_same_origin};
use super::body;
use super::credentials::{CredentialError, Secret, create_login_code, new_token};
use super::error::Problem;
use super::state::ApiState;
use crate::domain::identity::sha256;
use crate::storage::command::{Command, CommandError, TokenKind};
use crate::storage::tokens::{CHILD_MARK, is_live_code};

const USED_UP: &str = "the sign-in link has expired or was used; get another one with `watchpost login-link`";

impl From<CredentialError> for Problem {
    fn from(err: CredentialError) -> Self {
        match err {
            CredentialError::Command(err) => err.into(),
            CredentialError::Storage(err) => err.into(),
            CredentialError::Random(_) | CredentialError::File { .. } => Problem::internal(&err),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum SignIn {
    /// From a sign-in link.
    Code(String),
    Token(String),
}

/// `POST /api/v1/session`: needs no token, it is how a browser gets one.
pub async fn sign_in(
    state: web::Data<ApiState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    if !is_same_origin(&request) {
        return Err(Problem::forbidden("a page of another origin may not sign in here"));
    }
    let sign_in: SignIn = body::json(&state, &request, payload).await?;
    let secret = Secret::make()?;
    let hours = i64::from(state.config.session.sign_in_hours);
    let expires = Some(state.clock.now().saturating_add_ms(hours * 3_600_000));
    match sign_in {
        SignIn::Code(code) => {
            // Name and customer are those of the code.
            let session = new_token(&secret, TokenKind::Session, None, "", None, expires)?;
            let code_hash = sha256(code.as_bytes());
            // Guesses cost a read, not a place in the writer's queue.
            let now = state.clock.now();
            if !state.readers.read(move |conn| is_live_code(conn, &code_hash, now)).await? {
                return Err(Problem::unauthenticated(USED_UP));
            }
            let redeemed = state.writer.execute(Command::RedeemLoginCode { code_hash, session }).await;
            redeemed.map_err(|err| match err {
                CommandError::NotFound(_) | CommandError::Conflict(_) => Problem::unauthenticated(USED_UP),
                other => other.into(),
            })?;
        }
        SignIn::Token(token) => {
            let caller = authenticate(&state.readers, &state.clock, &token).await?;
            // A session cannot prolong itself.
            let caller = caller
                .filter(|caller| !caller.token_id.contains(CHILD_MARK))
                .ok_or_else(|| Problem::unauthenticated("the token is unknown, revoked or expired"))?;
            let customer_id = caller.scope.customer().cloned();
            let (kind, name) = (TokenKind::Session, caller.name.as_str());
            let session = new_token(&secret, kind, Some(&caller), name, customer_id, expires)?;
            state.writer.execute(Command::CreateToken(session)).await?;
        }
    }
    let mut cookie = session_cookie(secret.text(), Duration::hours(hours));
    // Behind a proxy that speaks TLS with the browser.
    cookie.set_secure(request.headers().get("x-forwarded-proto").is_some_and(|proto| proto == "https"));
    Ok(HttpResponse::Ok().cookie(cookie).json(json!({ "expires_at": expires })))
}

/// `GET /api/v1/session`: who the caller is, and when that ends by itself.
pub async fn whoami(caller: Authenticated) -> HttpResponse {
    let Authenticated(caller) = caller;
    HttpResponse::Ok().json(json!({
        "name": caller.name,
        "customer_id": caller.scope.customer(),
        "expires_at": caller.expires,
    }))
}

/// `DELETE /api/v1/session`: ends the browser's session. A token that is no session stays.
pub async fn sign_out(state: web::Data<ApiState>, caller: Authenticated) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    if caller.token_id.contains(CHILD_MARK) {
        state.writer.execute(Command::RevokeToken { token_id: caller.token_id.clone() }).await?;
        state.revocations.add(&caller.token_id);
    }
    Ok(HttpResponse::NoContent().cookie(session_cookie("", Duration::ZERO)).finish())
}

/// `POST /api/v1/login-codes`: a one-time code that signs a browser in.
pub async fn create_code(state: web::Data<ApiState>, caller: Authenticated) -> Result<HttpResponse, Problem> {
    let caller = caller.admin()?;
    let code = create_login_code(&state.writer, &state.clock, Some(&caller)).await?;
    let body = json!({
        "code": code.code,
        "url_fragment": code.fragment(),
        "expires_at": code.expires,
    });
    Ok(HttpResponse::Created().json(body))
}

fn session_cookie(value: &str, max_age: Duration) -> Cookie<'_> {
    Cookie::build(SESSION_COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(max_age)
        .finish()
}
