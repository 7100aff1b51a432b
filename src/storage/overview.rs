//! The figures of the overview, each from ranges of one index.
//!
//! Nothing here is kept up to date by the writer: uploads pay nothing for it. What a count costs
//! grows with what it counts, so the caller does not ask more often than somebody can read.

use std::collections::HashMap;

use diesel::connection::DefaultLoadingMode;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use serde::Serialize;

use super::conn::Db;
use super::database::{Conn, StorageError};
use super::events;
use super::page::filter_only;
use super::schema::{alert, alert_change, device, device_binding, org};
use crate::domain::days::{Days, HOUR_MS, Span};
use crate::domain::owner::Scope;
use crate::domain::presence::Patience;
use crate::domain::rule::Severity;
use crate::domain::time::UtcMillis;

/// Acknowledgements that the time to acknowledge is taken from: of this many days.
pub const ACKNOWLEDGED_DAYS: i64 = 7;
/// Of more acknowledgements, the newest.
const ACKNOWLEDGED_MAX: i64 = 20_000;
/// Organisations with open alerts that are named; of more, those with the most critical ones.
pub const ORGS_MAX: usize = 50;

/// A number for each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BySeverity([i64; Severity::ALL.len()]);

impl BySeverity {
    pub fn get(&self, severity: Severity) -> i64 {
        self.0[severity as usize]
    }

    pub fn sum(&self) -> i64 {
        self.0.iter().sum()
    }
}

impl Serialize for BySeverity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Severity::ALL.map(|severity| (severity.name(), self.get(severity))))
    }
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub from: UtcMillis,
    /// By the watch's clock; by arrival where that is no use.
    pub events: i64,
    /// By the time that they were raised.
    pub alerts: i64,
    pub by_severity: BySeverity,
}

#[derive(Debug, Clone, Serialize)]
pub struct Yesterday {
    #[serde(flatten)]
    pub whole: Figures,
    /// Up to the time of day that it is now.
    pub until_now: Figures,
}

#[derive(Debug, Clone, Serialize)]
pub struct OpenOfOrg {
    /// `None` for alerts of watches that belong to no organisation.
    pub org_id: Option<String>,
    pub org_name: Option<String>,
    pub open: i64,
    pub critical: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Open {
    pub by_severity: BySeverity,
    /// Most critical first, at most [`ORGS_MAX`].
    pub by_org: Vec<OpenOfOrg>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Hour {
    /// When it begins.
    pub hour: UtcMillis,
    pub count: i64,
    pub critical: i64,
}

/// Each device is in exactly one group beside `all`.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceCounts {
    pub all: i64,
    pub online: i64,
    pub not_worn: i64,
    pub charging: i64,
    pub silent: i64,
    /// Those that have never reported.
    pub unknown: i64,
    pub silent_after_s: u32,
}

/// From the moment that an alert was raised to its first acknowledgement, seconds.
#[derive(Debug, Clone, Serialize)]
pub struct TimeToAcknowledge {
    pub count: usize,
    pub p50_s: Option<f64>,
    pub p90_s: Option<f64>,
    pub max_s: Option<f64>,
    pub days: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// When it was counted.
    pub at: UtcMillis,
    pub today: Figures,
    pub yesterday: Yesterday,
    pub open: Open,
    /// The last 24 hours, oldest first; the last one is not over.
    pub alarms_per_hour: Vec<Hour>,
    pub devices: DeviceCounts,
    pub time_to_acknowledge: TimeToAcknowledge,
}

/// Counts all of it, of what the caller may see.
pub fn read(
    conn: &mut Conn,
    scope: &Scope,
    days: &Days,
    silent_after_s: u32,
) -> Result<Overview, StorageError> {
    let patience = Patience { now: days.now, silent_after_s };
    let hour = |conn: &mut Conn, hour: UtcMillis| {
        let raised = alerts(conn, scope, hour, hour.saturating_add_ms(HOUR_MS))?;
        Ok(Hour { hour, count: raised.sum(), critical: raised.get(Severity::Critical) })
    };
    Ok(Overview {
        at: days.now,
        today: figures(conn, scope, days.today)?,
        yesterday: Yesterday {
            whole: figures(conn, scope, days.yesterday)?,
            until_now: figures(conn, scope, days.yesterday_until_now)?,
        },
        open: open(conn, scope)?,
        alarms_per_hour: days
            .hours
            .into_iter()
            .map(|begin| hour(conn, begin))
            .collect::<Result<_, StorageError>>()?,
        devices: devices(conn, scope, patience)?,
        time_to_acknowledge: time_to_acknowledge(conn, scope, days.now)?,
    })
}

fn figures(conn: &mut Conn, scope: &Scope, span: Span) -> Result<Figures, StorageError> {
    let by_severity = alerts(conn, scope, span.from, span.to)?;
    let events = events::count(conn, scope, span.wall_from_ms, span.wall_to_ms)?;
    Ok(Figures { from: span.from, events, alerts: by_severity.sum(), by_severity })
}

/// Alerts that were raised from `from` on and before `to`. Of everybody, by an index that names the
/// severity; of one customer, by the index of its alerts and their rows.
fn alerts(
    conn: &mut Conn,
    scope: &Scope,
    from: UtcMillis,
    to: UtcMillis,
) -> Result<BySeverity, StorageError> {
    let mut counts = BySeverity::default();
    let raised = alert::raised_ms.ge(from.0).and(alert::raised_ms.lt(to.0));
    match scope.customer() {
        None => {
            for severity in Severity::ALL {
                let of_severity = alert::table.filter(alert::severity.eq(severity.name())).filter(raised);
                counts.0[severity as usize] = of_severity.count().first(conn)?;
            }
        }
        Some(customer) => {
            let rows = alert::table
                .filter(alert::customer_id.eq(customer.as_str()))
                .filter(raised)
                .select(alert::severity);
            for severity in rows.load_iter::<String, DefaultLoadingMode>(conn)? {
                counts.add(&severity?);
            }
        }
    }
    Ok(counts)
}

impl BySeverity {
    fn add(&mut self, name: &str) {
        if let Some(severity) = Severity::from_name(name) {
            self.0[severity as usize] += 1;
        }
    }
}

/// Open alerts, with the organisation that the watch belonged to when it was raised.
fn open(conn: &mut Conn, scope: &Scope) -> Result<Open, StorageError> {
    type Row = (String, Option<String>, Option<String>);
    let mut query = alert::table
        .left_join(device_binding::table.on(device_binding::binding_id.eq(alert::binding_id)))
        .left_join(org::table.on(org::org_id.nullable().eq(device_binding::org_id)))
        .select((alert::severity, device_binding::org_id.nullable(), org::name.nullable()))
        .filter(alert::is_open)
        .filter(alert::raised_ms.ge(0))
        .into_boxed::<Db>();
    if let Some(customer) = scope.customer() {
        query = query.filter(alert::customer_id.eq(customer.as_str()));
    }
    let mut by_severity = BySeverity::default();
    let mut orgs: HashMap<Option<String>, OpenOfOrg> = HashMap::new();
    for row in query.load_iter::<Row, DefaultLoadingMode>(conn)? {
        let (severity, org_id, org_name) = row?;
        by_severity.add(&severity);
        let org = orgs.entry(org_id).or_insert_with_key(|org_id| OpenOfOrg {
            org_id: org_id.clone(),
            org_name,
            open: 0,
            critical: 0,
        });
        org.open += 1;
        org.critical += i64::from(severity == Severity::Critical.name());
    }
    let mut by_org: Vec<OpenOfOrg> = orgs.into_values().collect();
    by_org.sort_by(|a, b| (b.critical, b.open, &a.org_id).cmp(&(a.critical, a.open, &b.org_id)));
    by_org.truncate(ORGS_MAX);
    Ok(Open { by_severity, by_org })
}

/// The newest status says whether a device is charging. What it said before it came to its present
/// customer stays hidden from that customer.
const NEWEST: &str = "(SELECT s.charging FROM device_status s WHERE s.device_sn = device.device_sn";
const IN_THESE_HANDS: &str = " AND s.received_ms >= coalesce((SELECT coalesce(b.unbound_ms, b.bound_ms) \
     FROM device_binding b WHERE b.device_sn = device.device_sn ORDER BY b.binding_id DESC LIMIT 1), 0)";
const ONE: &str = " ORDER BY s.reported_ms DESC LIMIT 1)";

/// As [`crate::domain::presence::Presence::of`] has it, counted in one walk.
fn devices(conn: &mut Conn, scope: &Scope, patience: Patience) -> Result<DeviceCounts, StorageError> {
    type Counts = (i64, i64, i64, i64, i64);
    let since = scope.customer().map_or("", |_| IN_THESE_HANDS);
    let charging = format!("coalesce({NEWEST}{since}{ONE}, '') = 'charging'");
    let heard = format!("last_seen_ms > 0 AND last_seen_ms >= {}", patience.silent_before().0);
    let silent = format!("last_seen_ms > 0 AND last_seen_ms < {}", patience.silent_before().0);
    let count = |condition: &str| format!("count(CASE WHEN {condition} THEN 1 END)");
    let columns: SqlLiteral<(BigInt, BigInt, BigInt, BigInt, BigInt)> = sql(&[
        "count(*)".to_owned(),
        count("last_seen_ms <= 0"),
        count(&silent),
        count(&format!("{heard} AND {charging}")),
        count(&format!("{heard} AND NOT worn AND NOT ({charging})")),
    ]
    .join(", "));
    let mut query = device::table.select(columns).into_boxed::<Db>();
    query = match scope.customer() {
        Some(customer) => query.filter(device::customer_id.eq(customer.as_str())),
        None => query.filter(device::device_sn.gt("")),
    };
    let (all, unknown, silent, charging, not_worn): Counts = query.first(conn)?;
    let online = all - unknown - silent - charging - not_worn;
    let silent_after_s = patience.silent_after_s;
    Ok(DeviceCounts { all, online, not_worn, charging, silent, unknown, silent_after_s })
}

/// A literal in the query, since SQLite takes the partial index only if it can read the condition.
fn is_acknowledgement() -> SqlLiteral<Bool> {
    sql("alert_change.transition = 'acknowledged'")
}

/// Of alerts that were raised within the days, so that their first acknowledgement is among them.
fn time_to_acknowledge(
    conn: &mut Conn,
    scope: &Scope,
    now: UtcMillis,
) -> Result<TimeToAcknowledge, StorageError> {
    let from = now.0.saturating_sub(ACKNOWLEDGED_DAYS * 24 * HOUR_MS);
    let mut query = alert_change::table
        .inner_join(alert::table.on(alert::alert_id.eq(alert_change::alert_id)))
        .select((alert_change::alert_id, alert_change::at_ms, alert::raised_ms))
        .filter(is_acknowledgement())
        .filter(alert_change::at_ms.ge(from))
        .order(alert_change::at_ms.desc())
        .into_boxed::<Db>();
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+alert_change.customer_id").eq(customer.as_str()));
    }
    let rows: Vec<(i64, i64, i64)> = query.limit(ACKNOWLEDGED_MAX).load(conn)?;
    // Newest first, so an earlier one overwrites a later one: raised again after a repeat, an alert
    // is acknowledged again.
    let firsts: HashMap<i64, i64> = rows
        .into_iter()
        .filter(|(_, _, raised)| *raised >= from)
        .map(|(alert, at, raised)| (alert, at.saturating_sub(raised).max(0)))
        .collect();
    let mut waits: Vec<i64> = firsts.into_values().collect();
    waits.sort_unstable();
    let at = |share: f64| {
        let rank = ((waits.len() as f64 * share).ceil() as usize).clamp(1, waits.len().max(1));
        waits.get(rank - 1).map(|ms| *ms as f64 / 1_000.0)
    };
    Ok(TimeToAcknowledge {
        count: waits.len(),
        p50_s: at(0.5),
        p90_s: at(0.9),
        max_s: at(1.0),
        days: ACKNOWLEDGED_DAYS,
    })
}
