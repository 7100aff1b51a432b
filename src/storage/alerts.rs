//! Reads of tables `alert` and `alert_change` for lists and single alerts.

use diesel::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;

use super::conn::Db;
use super::database::{Conn, StorageError};
use super::events::raw;
use super::page::{Page, PageLimit, filter_only, filter_only_if};
use super::schema::{alert, alert_change, alert_shown};
use crate::domain::alert::{Alert, AlertState, Cause, Transition};
use crate::domain::ids::{AlertId, CustomerId, DeviceSn, Offset, RuleId};
use crate::domain::owner::Scope;
use crate::domain::rule::Severity;
use crate::domain::time::UtcMillis;

/// Changes that one alert shows; of more, the newest.
pub const CHANGES_SHOWN_MAX: usize = 500;
/// Viewers that one alert names.
pub const VIEWERS_SHOWN_MAX: i64 = 500;
/// Open alerts that one device shows; of more, the newest.
const OPEN_SHOWN_MAX: i64 = 100;

#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    pub state: Option<AlertState>,
    pub open: Option<bool>,
    /// Any of these; empty for all.
    pub severities: Vec<Severity>,
    pub device_sn: Option<DeviceSn>,
    pub rule_id: Option<RuleId>,
    pub customer_id: Option<CustomerId>,
    /// By the time that it was raised; `to` is not part of it.
    pub from: Option<UtcMillis>,
    pub to: Option<UtcMillis>,
}

/// Where a page of alerts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertKey {
    pub raised: UtcMillis,
    pub alert_id: AlertId,
}

/// One change of an alert, without the alert.
#[derive(Debug, Clone, Serialize)]
pub struct ChangeSummary {
    pub offset: Offset,
    pub transition: String,
    pub cause: String,
    pub at: UtcMillis,
    pub actor: Option<String>,
    pub note: Option<String>,
    pub outcome: Option<String>,
    pub quiet: bool,
}

/// Who has had an alert on the screen, and when first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Viewed {
    pub viewer: String,
    pub at: UtcMillis,
}

/// The condition that picks the index to walk; the others only filter what it finds.
#[derive(PartialEq)]
enum Walk {
    Device,
    OpenOfCustomer,
    Open,
    Rule,
    Customer,
    State,
    Severity,
    Time,
}

fn walk(filter: &AlertFilter, customer: Option<&CustomerId>) -> Walk {
    match filter {
        _ if filter.device_sn.is_some() => Walk::Device,
        _ if filter.open == Some(true) && customer.is_some() => Walk::OpenOfCustomer,
        _ if filter.open == Some(true) => Walk::Open,
        _ if filter.rule_id.is_some() => Walk::Rule,
        _ if customer.is_some() => Walk::Customer,
        _ if filter.state.is_some() => Walk::State,
        _ if filter.severities.len() == 1 => Walk::Severity,
        _ => Walk::Time,
    }
}

/// Alert objects, newest first by (raised, id), after `after`.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &AlertFilter,
    after: Option<AlertKey>,
    limit: PageLimit,
) -> Result<Page<Box<RawValue>, AlertKey>, StorageError> {
    let Some(customer) = scope.narrowed(filter.customer_id.as_ref()) else { return Ok(Page::empty()) };
    let walk = walk(filter, customer);
    let end = filter.to.map(|to| (to.0.saturating_sub(1), i64::MAX));
    let after = after.map(|key| (key.raised.0, key.alert_id.0));
    let (raised_ms, alert_id) = after.into_iter().chain(end).min().unwrap_or((i64::MAX, i64::MAX));

    let mut query = alert::table
        .select((alert::raised_ms, alert::alert_id, alert::body))
        .filter(alert::raised_ms.le(raised_ms))
        .filter(alert::raised_ms.lt(raised_ms).or(alert::alert_id.lt(alert_id)))
        .order((alert::raised_ms.desc(), alert::alert_id.desc()))
        .into_boxed::<Db>();
    if let Some(from) = filter.from {
        query = query.filter(alert::raised_ms.ge(from.0));
    }
    if let Some(device_sn) = &filter.device_sn {
        query = query.filter(alert::device_sn.eq(device_sn.as_str()));
    }
    if let Some(rule_id) = &filter.rule_id {
        query = match walk {
            Walk::Rule => query.filter(alert::rule_id.eq(rule_id.as_str())),
            _ => query.filter(filter_only("+rule_id").eq(rule_id.as_str())),
        };
    }
    if let Some(customer) = customer {
        query = match walk {
            Walk::Customer | Walk::OpenOfCustomer => query.filter(alert::customer_id.eq(customer.as_str())),
            _ => query.filter(filter_only("+customer_id").eq(customer.as_str())),
        };
    }
    if let Some(state) = filter.state {
        query = match walk {
            Walk::State => query.filter(alert::state.eq(state.name())),
            _ => query.filter(filter_only("+state").eq(state.name())),
        };
    }
    query = match (filter.open, &walk) {
        (None, _) => query,
        (Some(true), Walk::Open | Walk::OpenOfCustomer) => query.filter(alert::is_open),
        (Some(true), _) => query.filter(filter_only_if("+is_open")),
        (Some(false), _) => query.filter(filter_only_if("NOT +is_open")),
    };
    query = match filter.severities.as_slice() {
        [] => query,
        [severity] if walk == Walk::Severity => query.filter(alert::severity.eq(severity.name())),
        several => query.filter(filter_only("+severity").eq_any(several.iter().map(|one| one.name()))),
    };
    let rows: Vec<(i64, i64, String)> = query.limit(limit.rows()).load(conn)?;
    let key = |(raised, id, _): &(i64, i64, String)| AlertKey {
        raised: UtcMillis(*raised),
        alert_id: AlertId(*id),
    };
    Page::cut(rows, limit, key).try_map(|(_, _, body)| object(body))
}

/// One alert, if the caller may see it.
pub fn get(conn: &mut Conn, scope: &Scope, id: AlertId) -> Result<Option<Alert>, StorageError> {
    let mut query = alert::table.find(id.0).select(alert::body).into_boxed::<Db>();
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let body: Option<String> = query.first(conn).optional()?;
    body.map(|body| serde_json::from_str(&body))
        .transpose()
        .map_err(|err| StorageError::Corrupt { what: "alert", message: format!("{id}: {err}") })
}

/// The newest changes of an alert, oldest first, and whether older ones were left out.
pub fn changes(
    conn: &mut Conn,
    scope: &Scope,
    id: AlertId,
) -> Result<(Vec<ChangeSummary>, bool), StorageError> {
    type Row = (i64, String, String, i64, Option<String>, Option<String>, Option<String>, bool);
    let columns = (
        alert_change::change_offset,
        alert_change::transition,
        alert_change::cause,
        alert_change::at_ms,
        alert_change::actor,
        alert_change::note,
        alert_change::outcome,
        alert_change::quiet,
    );
    let mut query = alert_change::table.select(columns).into_boxed::<Db>();
    query = query.filter(alert_change::alert_id.eq(id.0)).order(alert_change::change_offset.desc());
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let mut rows: Vec<Row> = query.limit(CHANGES_SHOWN_MAX as i64 + 1).load(conn)?;
    let truncated = rows.len() > CHANGES_SHOWN_MAX;
    rows.truncate(CHANGES_SHOWN_MAX);
    let changes =
        rows.into_iter().rev().map(|(offset, transition, cause, at, actor, note, outcome, quiet)| {
            ChangeSummary { offset, transition, cause, at: UtcMillis(at), actor, note, outcome, quiet }
        });
    Ok((changes.collect(), truncated))
}

/// Who has had the alert on the screen, in the order of the first time; at most [`VIEWERS_SHOWN_MAX`].
/// The caller has made sure that it may be seen.
pub fn viewed(conn: &mut Conn, id: AlertId) -> Result<Vec<Viewed>, StorageError> {
    let rows: Vec<(String, i64)> = alert_shown::table
        .filter(alert_shown::alert_id.eq(id.0))
        .select((alert_shown::viewer, alert_shown::shown_ms))
        .limit(VIEWERS_SHOWN_MAX)
        .load(conn)?;
    let mut viewed: Vec<Viewed> =
        rows.into_iter().map(|(viewer, at)| Viewed { viewer, at: UtcMillis(at) }).collect();
    viewed.sort_by(|one, other| (one.at, &one.viewer).cmp(&(other.at, &other.viewer)));
    Ok(viewed)
}

/// True if this cause has already made this transition of the alert.
pub fn has_change(
    conn: &mut Conn,
    id: AlertId,
    cause: &Cause,
    transition: Transition,
) -> Result<bool, StorageError> {
    let query = alert_change::table
        .filter(alert_change::alert_id.eq(id.0))
        .filter(alert_change::cause.eq(cause.key()))
        .filter(alert_change::transition.eq(transition.name()))
        .select(alert_change::change_offset);
    let found: Option<i64> = query.first(conn).optional()?;
    Ok(found.is_some())
}

/// Open alerts of one device, newest first.
pub(super) fn open_of_device(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
) -> Result<Vec<Box<RawValue>>, StorageError> {
    let mut query = alert::table.select(alert::body).into_boxed::<Db>();
    query = query
        .filter(alert::device_sn.eq(device_sn.as_str()))
        .filter(filter_only_if("+is_open"))
        .order((alert::raised_ms.desc(), alert::alert_id.desc()));
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let bodies: Vec<String> = query.limit(OPEN_SHOWN_MAX).load(conn)?;
    bodies.into_iter().map(object).collect()
}

/// How many alerts of one device are open.
pub(super) fn count_open_of_device(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
) -> Result<i64, StorageError> {
    let mut query = alert::table.count().into_boxed::<Db>();
    query = query.filter(alert::device_sn.eq(device_sn.as_str())).filter(alert::is_open);
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    Ok(query.first(conn)?)
}

fn object(body: String) -> Result<Box<RawValue>, StorageError> {
    raw("alert", Some(body))?
        .ok_or_else(|| StorageError::Corrupt { what: "alert", message: "it is empty".into() })
}
