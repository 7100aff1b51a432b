//! Table `alert_rule`.

use diesel::prelude::*;

use super::database::{Conn, StorageError};
use super::schema::alert_rule;
use crate::domain::ids::{CustomerId, RuleId};
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
    diesel::insert_into(alert_rule::table)
        .values(RuleRow::new(rule, now, "watchpost")?)
        .on_conflict_do_nothing()
        .execute(conn)?;
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
