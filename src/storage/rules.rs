//! Table `alert_rule`.

use diesel::prelude::*;

use super::command::CommandError;
use super::conn::Db;
use super::database::{Conn, StorageError};
use super::page::{Page, PageLimit, filter_only};
use super::schema::alert_rule;
use crate::domain::ids::{CustomerId, RuleId};
use crate::domain::owner::Scope;
use crate::domain::rule::{Rule, Severity};
use crate::domain::time::UtcMillis;

#[derive(Debug, Insertable, Queryable, Selectable, AsChangeset)]
#[diesel(table_name = alert_rule, treat_none_as_null = true)]
pub(super) struct RuleRow {
    rule_id: String,
    customer_id: Option<String>,
    name: String,
    severity: String,
    enabled: bool,
    built_in: bool,
    version: i64,
    condition: String,
    changed_ms: i64,
    changed_by: String,
}

impl RuleRow {
    pub(super) fn new(rule: &Rule, at: UtcMillis, actor: &str) -> Result<Self, StorageError> {
        Ok(Self {
            rule_id: rule.rule_id.to_string(),
            customer_id: rule.customer_id.as_ref().map(ToString::to_string),
            name: rule.name.clone(),
            severity: rule.severity.name().into(),
            enabled: rule.enabled,
            built_in: rule.built_in,
            version: rule.version,
            condition: serde_json::to_string(&rule.condition).map_err(|err| corrupt(&rule.rule_id, err))?,
            changed_ms: at.0,
            changed_by: actor.into(),
        })
    }

    fn into_rule(self) -> Result<Rule, StorageError> {
        let id = &self.rule_id;
        let rule = Rule {
            rule_id: RuleId::parse(id).map_err(|err| corrupt(id, err))?,
            customer_id: self
                .customer_id
                .as_deref()
                .map(CustomerId::parse)
                .transpose()
                .map_err(|err| corrupt(id, err))?,
            severity: Severity::from_name(&self.severity).ok_or_else(|| corrupt(id, "unknown severity"))?,
            condition: serde_json::from_str(&self.condition).map_err(|err| corrupt(id, err))?,
            name: self.name,
            enabled: self.enabled,
            built_in: self.built_in,
            version: self.version,
        };
        rule.validate().map_err(|err| corrupt(&self.rule_id, err))?;
        Ok(rule)
    }
}

fn corrupt(id: impl std::fmt::Display, err: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt { what: "rule", message: format!("{id}: {err}") }
}

pub(super) fn insert_seed(conn: &mut Conn, rule: &Rule, now: UtcMillis) -> Result<(), StorageError> {
    let known: Option<String> =
        alert_rule::table.find(rule.rule_id.as_str()).select(alert_rule::rule_id).first(conn).optional()?;
    if known.is_none() {
        diesel::insert_into(alert_rule::table).values(RuleRow::new(rule, now, "watchpost")?).execute(conn)?;
    }
    Ok(())
}

/// All rules that can be read, and the errors of those that cannot: one bad row is skipped and
/// reported, never the set.
pub fn load_all(conn: &mut Conn) -> Result<(Vec<Rule>, Vec<StorageError>), StorageError> {
    let rows: Vec<RuleRow> =
        alert_rule::table.order(alert_rule::rule_id).select(RuleRow::as_select()).load(conn)?;
    let (mut rules, mut faults) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match row.into_rule() {
            Ok(rule) => rules.push(rule),
            Err(err) => faults.push(err),
        }
    }
    Ok((rules, faults))
}

/// One rule. A customer sees its own rules and those for everybody.
pub fn get(conn: &mut Conn, scope: &Scope, id: &RuleId) -> Result<Option<Rule>, StorageError> {
    let row: Option<RuleRow> =
        alert_rule::table.find(id.as_str()).select(RuleRow::as_select()).first(conn).optional()?;
    let rule = row.map(RuleRow::into_rule).transpose()?;
    Ok(rule.filter(|rule| rule.customer_id.as_ref().is_none_or(|customer| scope.allows(customer))))
}

/// Rules by id, seen as by [`get`]. A row that cannot be read is left out.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<&RuleId>,
    limit: PageLimit,
) -> Result<Page<Rule, RuleId>, StorageError> {
    let mut query = alert_rule::table.select(RuleRow::as_select()).into_boxed::<Db>();
    query = query.filter(alert_rule::rule_id.gt(after.map_or("", RuleId::as_str))).order(alert_rule::rule_id);
    if let Some(customer) = scope.customer() {
        let own = filter_only("+customer_id").eq(customer.as_str());
        query = query.filter(own.or(alert_rule::customer_id.is_null()));
    }
    let rows: Vec<RuleRow> = query.limit(limit.rows()).load(conn)?;
    let page = Page::cut(rows, limit, |row: &RuleRow| row.rule_id.clone());
    let next = page.next.map(|id| RuleId::parse(&id).map_err(|err| corrupt(&id, err))).transpose()?;
    Ok(Page { items: page.items.into_iter().filter_map(|row| row.into_rule().ok()).collect(), next })
}

/// Creates or replaces; replacing by the same content changes nothing.
pub(super) fn put(
    conn: &mut Conn,
    rule: Rule,
    replace: bool,
    actor: &str,
    now: UtcMillis,
) -> Result<Rule, CommandError> {
    rule.validate().map_err(|err| CommandError::Invalid(err.to_string()))?;
    let present: Option<RuleRow> =
        alert_rule::table.find(rule.rule_id.as_str()).select(RuleRow::as_select()).first(conn).optional()?;
    let present = match present {
        None if replace => return Err(CommandError::NotFound("the rule")),
        None => {
            let rule = Rule { version: 1, built_in: false, ..rule };
            let row = RuleRow::new(&rule, now, actor)?;
            diesel::insert_into(alert_rule::table).values(row).execute(conn)?;
            return Ok(rule);
        }
        Some(present) => present,
    };
    let (version, built_in) = (present.version, present.built_in);
    // A stored rule that cannot be read may be replaced: that is how it is repaired.
    let known = present.into_rule().ok();
    let rule = Rule { version, built_in, ..rule };
    if !replace {
        let message = format!("a rule {} exists already; choose another rule_id or replace it", rule.rule_id);
        return Err(CommandError::Conflict(message));
    }
    if known.as_ref() == Some(&rule) {
        return Ok(rule);
    }
    if let Some(known) = &known {
        refuse_forbidden(known, &rule)?;
    }
    let rule = Rule { version: version + 1, ..rule };
    let row = RuleRow::new(&rule, now, actor)?;
    diesel::update(alert_rule::table.find(rule.rule_id.as_str())).set(row).execute(conn)?;
    Ok(rule)
}

fn refuse_forbidden(known: &Rule, rule: &Rule) -> Result<(), CommandError> {
    let conflict = |message: &str| Err(CommandError::Conflict(message.into()));
    if known.customer_id != rule.customer_id {
        return conflict("a rule stays with its customer; create another one");
    }
    if known.built_in && (!rule.enabled || known.condition != rule.condition) {
        return conflict("a built-in emergency rule cannot be disabled and keeps its condition");
    }
    if known.built_in && rule.severity < Severity::Critical {
        return conflict("a built-in emergency rule stays critical");
    }
    Ok(())
}

/// Deletes a rule; alerts that it has raised stay.
pub(super) fn delete(conn: &mut Conn, id: &RuleId) -> Result<(), CommandError> {
    let built_in: Option<bool> =
        alert_rule::table.find(id.as_str()).select(alert_rule::built_in).first(conn).optional()?;
    match built_in {
        None => Err(CommandError::NotFound("the rule")),
        Some(true) => {
            Err(CommandError::Conflict("a built-in emergency rule cannot be deleted or disabled".into()))
        }
        Some(false) => {
            diesel::delete(alert_rule::table.find(id.as_str())).execute(conn)?;
            Ok(())
        }
    }
}
