//! Tokens of programs and people: made, listed and revoked by the administrator.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::auth::Authenticated;
use super::body;
use super::credentials::{Secret, new_token};
use super::error::Problem;
use super::paging::{self, PageQuery};
use super::state::ApiState;
use crate::domain::ids::CustomerId;
use crate::storage::command::{Command, TokenKind};
use crate::storage::tokens;

const NAME_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    /// Shown as the actor of what is done with the token.
    name: String,
    /// Whose data it sees; absent for everything.
    customer_id: Option<CustomerId>,
}

pub async fn list(
    state: web::Data<ApiState>,
    caller: Authenticated,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.admin()?.scope;
    let limit = paging::limit(query.limit)?;
    let after = paging::cursor(query.cursor.as_deref(), |key| Some(key.to_owned()))?;
    let page = state.readers.read(move |conn| tokens::list(conn, &scope, after.as_deref(), limit)).await?;
    Ok(paging::answer(&state, &page, String::clone))
}

/// The answer is the only place where the token is ever shown.
pub async fn create(
    state: web::Data<ApiState>,
    caller: Authenticated,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.admin()?;
    let wanted: TokenBody = body::json(&state, &request, payload).await?;
    let name = wanted.name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("name must have 1 to {NAME_CHARS_MAX} printable characters")));
    }
    let secret = Secret::make()?;
    let token = new_token(&secret, TokenKind::Admin, None, name, wanted.customer_id, None)?;
    let body = json!({
        "token_id": token.token_id,
        "token": secret.text(),
        "name": token.name,
        "customer_id": token.customer_id,
    });
    state.writer.execute(Command::CreateToken(token)).await?;
    Ok(HttpResponse::Created().json(body))
}

/// Revokes the token and the browser sessions that were made from it.
pub async fn revoke(
    state: web::Data<ApiState>,
    caller: Authenticated,
    token_id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.admin()?;
    let token_id = token_id.into_inner();
    state.writer.execute(Command::RevokeToken { token_id: token_id.clone() }).await?;
    state.revocations.add(&token_id);
    Ok(HttpResponse::NoContent().finish())
}
