//! Reads of `alert` and `alert_change` for the stream: what is open now, and what has changed.

use std::sync::Arc;

use diesel::prelude::*;

use super::database::{Conn, StorageError};
use super::schema::{alert, alert_change};
use crate::domain::alert::{Alert, LoggedChange, Transition};
use crate::domain::ids::Offset;
use crate::domain::rule::Severity;
use crate::domain::time::UtcMillis;

/// The open alerts and the position in the log that they stand for.
#[derive(Debug, Clone)]
pub struct OpenSnapshot {
    /// Most severe first, then newest first.
    pub alerts: Vec<Alert>,
    /// True if some are left out: beyond the limit, or unreadable.
    pub truncated: bool,
    pub last_offset: Offset,
}

/// At most `limit` open alerts, most severe first, then newest first, and whether some are left
/// out. A row that cannot be read is left out and reported: the others matter more.
pub fn open_alerts(conn: &mut Conn, limit: usize) -> Result<(Vec<Alert>, bool), StorageError> {
    let (mut alerts, mut truncated) = (Vec::new(), false);
    for severity in Severity::ALL.into_iter().rev() {
        let room = limit - alerts.len();
        let bodies: Vec<String> = alert::table
            .filter(alert::is_open.eq(true))
            .filter(alert::severity.eq(severity.name()))
            .order((alert::raised_ms.desc(), alert::alert_id.desc()))
            .limit(i64::try_from(room).unwrap_or(i64::MAX).saturating_add(1))
            .select(alert::body)
            .load(conn)?;
        truncated |= bodies.len() > room;
        for body in bodies.iter().take(room) {
            match alert_from_json(body) {
                Ok(alert) => alerts.push(alert),
                Err(err) => {
                    tracing::error!("an open alert is left out: {err}");
                    truncated = true;
                }
            }
        }
    }
    Ok((alerts, truncated))
}

/// Offset of the newest change, 0 before the first.
pub fn last_offset(conn: &mut Conn) -> Result<Offset, StorageError> {
    let newest: Option<Offset> =
        alert_change::table.select(diesel::dsl::max(alert_change::change_offset)).first(conn)?;
    Ok(newest.unwrap_or(0))
}

/// Both, of the same state: the caller's transaction.
pub fn snapshot(conn: &mut Conn, limit: usize) -> Result<OpenSnapshot, StorageError> {
    let (alerts, truncated) = open_alerts(conn, limit)?;
    Ok(OpenSnapshot { alerts, truncated, last_offset: last_offset(conn)? })
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = alert_change)]
struct ChangeRow {
    change_offset: i64,
    transition: String,
    cause: String,
    at_ms: i64,
    actor: Option<String>,
    note: Option<String>,
    quiet: bool,
    body: String,
}

/// Changes with `after < offset <= until`, in order, at most `limit`.
pub fn changes_after(
    conn: &mut Conn,
    after: Offset,
    until: Offset,
    limit: usize,
) -> Result<Vec<LoggedChange>, StorageError> {
    let rows: Vec<ChangeRow> = alert_change::table
        .filter(alert_change::change_offset.gt(after))
        .filter(alert_change::change_offset.le(until))
        .order(alert_change::change_offset)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select(ChangeRow::as_select())
        .load(conn)?;
    rows.into_iter().map(change_from_row).collect()
}

fn change_from_row(row: ChangeRow) -> Result<LoggedChange, StorageError> {
    let corrupt = |message: String| StorageError::Corrupt {
        what: "alert change",
        message: format!("offset {}: {message}", row.change_offset),
    };
    let transition = Transition::from_name(&row.transition)
        .ok_or_else(|| corrupt(format!("unknown transition {:?}", row.transition)))?;
    let alert = alert_from_json(&row.body).map_err(|err| corrupt(err.to_string()))?;
    Ok(LoggedChange {
        offset: row.change_offset,
        transition,
        cause: row.cause.into(),
        at: UtcMillis(row.at_ms),
        actor: row.actor.map(Into::into),
        note: row.note.map(Into::into),
        quiet: row.quiet,
        alert: Arc::new(alert),
        arrived: None,
    })
}

fn alert_from_json(body: &str) -> Result<Alert, StorageError> {
    serde_json::from_str(body)
        .map_err(|err| StorageError::Corrupt { what: "alert", message: err.to_string() })
}
