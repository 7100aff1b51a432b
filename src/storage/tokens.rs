//! Table `api_token`: who may call, and how far they see.
//!
//! A session made from token `T` has an id that begins with `T.`, so revoking `T` ends its
//! sessions too. Ids of other tokens have no dot.

use diesel::prelude::*;
use serde::Serialize;

use super::command::{CommandError, NewToken, TokenKind};
use super::conn::Db;
use super::database::{Conn, StorageError};
use super::page::{Page, PageLimit, filter_only};
use super::schema::api_token;
use crate::domain::ids::CustomerId;
use crate::domain::owner::{Caller, Scope};
use crate::domain::time::UtcMillis;

/// Expired tokens are kept this long, so that a list can show what they were.
const EXPIRED_KEPT_MS: i64 = 7 * 24 * 3_600_000;

/// Between the id of a token and the rest of the ids of its sessions.
pub const CHILD_MARK: char = '.';

impl TokenKind {
    pub fn name(self) -> &'static str {
        match self {
            TokenKind::Admin => "admin",
            TokenKind::Session => "session",
            TokenKind::LoginCode => "login_code",
        }
    }
}

/// Stores a token. The same one again is nothing new.
pub(super) fn create(conn: &mut Conn, token: &NewToken, now: UtcMillis) -> Result<(), CommandError> {
    let expired_long_ago = api_token::expires_ms.lt(now.0.saturating_sub(EXPIRED_KEPT_MS));
    diesel::delete(api_token::table.filter(expired_long_ago)).execute(conn)?;
    let known: Option<Vec<u8>> =
        api_token::table.find(&token.token_id).select(api_token::token_hash).first(conn).optional()?;
    match known {
        Some(hash) if hash == token.token_hash => return Ok(()),
        Some(_) => return Err(CommandError::Conflict("a token with this id exists already".into())),
        None => {}
    }
    diesel::insert_into(api_token::table)
        .values((
            api_token::token_id.eq(&token.token_id),
            api_token::token_hash.eq(token.token_hash.as_slice()),
            api_token::name.eq(&token.name),
            api_token::kind.eq(token.kind.name()),
            api_token::customer_id.eq(token.customer_id.as_ref().map(CustomerId::as_str)),
            api_token::created_ms.eq(now.0),
            api_token::expires_ms.eq(token.expires.map(|expires| expires.0)),
        ))
        .execute(conn)?;
    Ok(())
}

/// Revokes a token and its sessions; one that is revoked already stays as it is.
pub(super) fn revoke(conn: &mut Conn, token_id: &str, now: UtcMillis) -> Result<(), CommandError> {
    let known: Option<String> =
        api_token::table.find(token_id).select(api_token::token_id).first(conn).optional()?;
    if known.is_none() {
        return Err(CommandError::NotFound("the token"));
    }
    let children = format!("{token_id}{CHILD_MARK}");
    let after_children = format!("{token_id}{}", char::from(CHILD_MARK as u8 + 1));
    diesel::update(api_token::table.find(token_id))
        .filter(api_token::revoked_ms.is_null())
        .set(api_token::revoked_ms.eq(now.0))
        .execute(conn)?;
    let of_children = api_token::token_id.ge(children).and(api_token::token_id.lt(after_children));
    diesel::update(api_token::table.filter(of_children).filter(api_token::revoked_ms.is_null()))
        .set(api_token::revoked_ms.eq(now.0))
        .execute(conn)?;
    Ok(())
}

/// Uses up a login code. The same session again is the same command.
pub(super) fn redeem(
    conn: &mut Conn,
    code_hash: &[u8; 32],
    session: NewToken,
    now: UtcMillis,
) -> Result<(), CommandError> {
    type Code = (String, String, Option<String>, Option<i64>, Option<i64>);
    let code: Option<Code> = api_token::table
        .filter(api_token::token_hash.eq(code_hash.as_slice()))
        .filter(api_token::kind.eq(TokenKind::LoginCode.name()))
        .select((
            api_token::token_id,
            api_token::name,
            api_token::customer_id,
            api_token::expires_ms,
            api_token::revoked_ms,
        ))
        .first(conn)
        .optional()?;
    let (code_id, name, customer_id, expires, used) =
        code.ok_or(CommandError::NotFound("the sign-in code"))?;
    if used.is_some() {
        let by_this: Option<String> = api_token::table
            .filter(api_token::token_hash.eq(session.token_hash.as_slice()))
            .select(api_token::token_id)
            .first(conn)
            .optional()?;
        return by_this
            .map(|_| ())
            .ok_or_else(|| CommandError::Conflict("the sign-in code has been used already".into()));
    }
    if expires.is_some_and(|expires| expires <= now.0) {
        return Err(CommandError::Conflict("the sign-in code has expired".into()));
    }
    diesel::update(api_token::table.find(&code_id)).set(api_token::revoked_ms.eq(now.0)).execute(conn)?;
    let issuer = code_id.split(CHILD_MARK).next().unwrap_or(&code_id);
    let customer_id = customer_id.as_deref().map(CustomerId::parse).transpose().map_err(corrupt)?;
    let token_id = format!("{issuer}{CHILD_MARK}{}", session.token_id);
    create(conn, &NewToken { token_id, name, customer_id, ..session }, now)
}

/// True for a sign-in code that can still be used.
pub fn is_live_code(conn: &mut Conn, hash: &[u8; 32], now: UtcMillis) -> Result<bool, StorageError> {
    let code: Option<(String, Option<i64>, Option<i64>)> = api_token::table
        .filter(api_token::token_hash.eq(hash.as_slice()))
        .select((api_token::kind, api_token::expires_ms, api_token::revoked_ms))
        .first(conn)
        .optional()?;
    Ok(code.is_some_and(|(kind, expires, used)| {
        kind == TokenKind::LoginCode.name() && used.is_none() && expires.is_none_or(|at| at > now.0)
    }))
}

/// Whose token this is; `None` if it is unknown, revoked, expired, or only a sign-in code.
pub fn token_by_hash(
    conn: &mut Conn,
    hash: &[u8; 32],
    now: UtcMillis,
) -> Result<Option<Caller>, StorageError> {
    type Row = (String, String, String, Option<String>, Option<i64>, Option<i64>);
    let row: Option<Row> = api_token::table
        .filter(api_token::token_hash.eq(hash.as_slice()))
        .select((
            api_token::token_id,
            api_token::name,
            api_token::kind,
            api_token::customer_id,
            api_token::expires_ms,
            api_token::revoked_ms,
        ))
        .first(conn)
        .optional()?;
    let Some((token_id, name, kind, customer_id, expires, revoked)) = row else { return Ok(None) };
    let ended = revoked.is_some() || expires.is_some_and(|expires| expires <= now.0);
    if ended || kind == TokenKind::LoginCode.name() {
        return Ok(None);
    }
    let scope = match customer_id {
        None => Scope::All,
        Some(id) => Scope::Customer(CustomerId::parse(&id).map_err(corrupt)?),
    };
    Ok(Some(Caller { token_id, name, scope, expires: expires.map(UtcMillis) }))
}

fn corrupt(err: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt { what: "token", message: err.to_string() }
}

/// A token as lists show it.
#[derive(Debug, Clone, Serialize)]
pub struct TokenSummary {
    pub token_id: String,
    pub name: String,
    pub kind: String,
    pub customer_id: Option<String>,
    pub created_at: UtcMillis,
    pub expires_at: Option<UtcMillis>,
    pub revoked_at: Option<UtcMillis>,
}

/// By id.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<&str>,
    limit: PageLimit,
) -> Result<Page<TokenSummary, String>, StorageError> {
    type Row = (String, String, String, Option<String>, i64, Option<i64>, Option<i64>);
    let columns = (
        api_token::token_id,
        api_token::name,
        api_token::kind,
        api_token::customer_id,
        api_token::created_ms,
        api_token::expires_ms,
        api_token::revoked_ms,
    );
    let mut query = api_token::table.select(columns).into_boxed::<Db>();
    query = query.filter(api_token::token_id.gt(after.unwrap_or_default())).order(api_token::token_id);
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let rows: Vec<Row> = query.limit(limit.rows()).load(conn)?;
    let tokens =
        rows.into_iter().map(|(token_id, name, kind, customer_id, created, expires, revoked)| TokenSummary {
            token_id,
            name,
            kind,
            customer_id,
            created_at: UtcMillis(created),
            expires_at: expires.map(UtcMillis),
            revoked_at: revoked.map(UtcMillis),
        });
    Ok(Page::cut(tokens.collect(), limit, |token: &TokenSummary| token.token_id.clone()))
}
