//! Alert rules.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::auth::Authenticated;
use super::body;
use super::credentials::random_hex;
use super::error::Problem;
use super::paging::{self, PageQuery};
use super::state::ApiState;
use crate::domain::ids::{CustomerId, RuleId};
use crate::domain::owner::{Caller, Scope};
use crate::domain::rule::{Condition, Rule, Severity};
use crate::rules::messages::{ChangeRule, RuleChange};
use crate::storage::rules;

/// Characters of a name that go into the id made from it.
const SLUG_CHARS_MAX: usize = 40;

/// A rule as callers write it. What a rule is answered with may be sent back, changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    rule_id: Option<RuleId>,
    customer_id: Option<CustomerId>,
    name: String,
    severity: Severity,
    #[serde(default = "enabled")]
    enabled: bool,
    condition: Condition,
    /// If given, the rule must still have it: two people do not overwrite each other.
    version: Option<i64>,
    /// Cannot be changed; accepted and ignored.
    #[serde(default, rename = "built_in")]
    _built_in: bool,
}

fn enabled() -> bool {
    true
}

pub async fn list(
    state: web::Data<ApiState>,
    caller: Authenticated,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.0.scope;
    let limit = paging::limit(query.limit)?;
    let after = paging::cursor(query.cursor.as_deref(), |key| RuleId::parse(key).ok())?;
    let page = state.readers.read(move |conn| rules::list(conn, &scope, after.as_ref(), limit)).await?;
    Ok(paging::answer(&state, &page, RuleId::to_string))
}

pub async fn get(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let rule = find(&state, &caller.0.scope, &id).await?;
    Ok(HttpResponse::Ok().json(rule))
}

pub async fn create(
    state: web::Data<ApiState>,
    caller: Authenticated,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    let wanted: RuleBody = body::json(&state, &request, payload).await?;
    let rule_id = match &wanted.rule_id {
        Some(id) => id.clone(),
        None => id_from(&wanted.name)?,
    };
    let customer_id = customer(&caller.scope, wanted.customer_id.clone())?;
    let rule = change(&state, &caller, RuleChange::Create(wanted.into_rule(rule_id, customer_id))).await?;
    Ok(HttpResponse::Created().json(rule))
}

pub async fn replace(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    let wanted: RuleBody = body::json(&state, &request, payload).await?;
    let present = own(find(&state, &caller.scope, &id).await?, &caller.scope)?;
    if wanted.rule_id.as_ref().is_some_and(|id| *id != present.rule_id) {
        return Err(Problem::invalid("rule_id cannot be changed; it is that of the path"));
    }
    if wanted.version.is_some_and(|version| version != present.version) {
        let detail = format!("the rule has version {} by now; read it again", present.version);
        return Err(Problem::conflict(detail));
    }
    let asked = wanted.customer_id.clone().or(present.customer_id);
    let customer_id = customer(&caller.scope, asked)?;
    let rule = wanted.into_rule(present.rule_id, customer_id);
    let rule = change(&state, &caller, RuleChange::Replace(rule)).await?;
    Ok(HttpResponse::Ok().json(rule))
}

pub async fn delete(
    state: web::Data<ApiState>,
    caller: Authenticated,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    let present = own(find(&state, &caller.scope, &id).await?, &caller.scope)?;
    change(&state, &caller, RuleChange::Delete(present.rule_id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

impl RuleBody {
    fn into_rule(self, rule_id: RuleId, customer_id: Option<CustomerId>) -> Rule {
        Rule {
            rule_id,
            customer_id,
            name: self.name,
            severity: self.severity,
            enabled: self.enabled,
            built_in: false,
            version: self.version.unwrap_or(1),
            condition: self.condition,
        }
    }
}

/// Whose rule it becomes: a customer makes its own only.
fn customer(scope: &Scope, asked: Option<CustomerId>) -> Result<Option<CustomerId>, Problem> {
    match (scope.customer(), asked) {
        (Some(own), Some(asked)) if *own != asked => {
            Err(Problem::forbidden("customer_id must be your own, or absent"))
        }
        (Some(own), _) => Ok(Some(own.clone())),
        (None, asked) => Ok(asked),
    }
}

/// A rule for everybody is seen by everybody and changed by the administrator.
fn own(rule: Rule, scope: &Scope) -> Result<Rule, Problem> {
    match (scope.customer(), &rule.customer_id) {
        (Some(_), None) => {
            Err(Problem::forbidden("this rule is for all customers; an administrator may change it"))
        }
        _ => Ok(rule),
    }
}

async fn find(state: &ApiState, scope: &Scope, id: &str) -> Result<Rule, Problem> {
    let id = RuleId::parse(id).map_err(|_| Problem::not_found("the rule"))?;
    let scope = scope.clone();
    let found = state.readers.read(move |conn| rules::get(conn, &scope, &id)).await?;
    found.ok_or_else(|| Problem::not_found("the rule"))
}

/// Through RuleCache: answered when every shard evaluates by it.
async fn change(state: &ApiState, caller: &Caller, change: RuleChange) -> Result<Option<Rule>, Problem> {
    let away = || Problem::unavailable("rules-away", "the rule was not changed yet; look, and try again");
    let (reply, answer) = tokio::sync::oneshot::channel();
    let message = ChangeRule { change, actor: caller.name.clone(), reply };
    state.change_rule.send(message).map_err(|_| away())?;
    let timeout = Duration::from_millis(state.config.watch.receipt_timeout_ms);
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(result)) => Ok(result?),
        Ok(Err(_)) | Err(_) => Err(away()),
    }
}

/// Readable, and never one that exists.
fn id_from(name: &str) -> Result<RuleId, Problem> {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-").to_lowercase();
    let slug: String = slug.chars().take(SLUG_CHARS_MAX).collect();
    let random = random_hex::<4>()?;
    let id = if slug.is_empty() { format!("rule-{random}") } else { format!("{slug}-{random}") };
    RuleId::parse(&id).map_err(|err| Problem::internal(&err))
}
