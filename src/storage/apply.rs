//! Writing alerts and their log, and the one place where two views of an alert can meet: a shard
//! that raised without its device's state, and what is stored.

use std::time::Instant;

use diesel::prelude::*;

use super::commit::{alert_json, logged};
use super::database::{Conn, StorageError};
use super::rows::{insert_alert, insert_change};
use super::schema::{alert, alert_change};
use super::statement::{Bind, Statement};
use crate::domain::alert::{
    ActionKind, Alert, AlertChange, Cause, LoggedChange, Occurrence, OperatorAction, Outcome, Transition,
};
use crate::domain::ids::{AlertId, Offset};

/// What became of a change.
pub(super) enum Applied {
    Logged(LoggedChange),
    /// Its cause is already in the log: a replay.
    Known,
    /// It was meant for an alert that is not stored; the open one of the same key took it.
    Merged {
        into: AlertId,
        logged: Option<LoggedChange>,
    },
}

/// Applies one change under `offset`, unless its cause is known.
pub(super) fn apply_change(
    conn: &mut Conn,
    change: &AlertChange,
    offset: Offset,
    arrived: Instant,
) -> Result<Applied, StorageError> {
    let body = alert_json(change)?;
    if change.transition == Transition::Repeated && has_raised(conn, change)? {
        return Ok(Applied::Known);
    }
    let stored = match change.transition {
        Transition::Raised => insert_alert(conn, change, offset, &body)? == 1,
        _ => true,
    };
    if stored {
        let cause = change.cause.key();
        if insert_change(conn, change, offset, &cause, &body)? == 0 {
            return Ok(Applied::Known);
        }
        if change.transition == Transition::Raised || update_alert(conn, change, offset, &body)? == 1 {
            return Ok(Applied::Logged(logged(change, offset, cause, arrived)));
        }
        // The alert is not stored, or was written by a later change. The line goes back and is
        // written as what it turns out to be.
        diesel::delete(alert_change::table.find(offset)).execute(conn)?;
    }
    reconcile(conn, change, offset, &body, arrived)
}

/// The event that raised an alert does not repeat it: it was sent again, and decided upon a state
/// that did not know of it.
fn has_raised(conn: &mut Conn, change: &AlertChange) -> QueryResult<bool> {
    let raised = alert_change::table
        .filter(alert_change::alert_id.eq(change.alert.alert_id.0))
        .filter(alert_change::cause.eq(change.cause.key()))
        .filter(alert_change::transition.eq(Transition::Raised.name()));
    diesel::select(diesel::dsl::exists(raised)).get_result(conn)
}

/// The slow way, for what should hardly ever happen.
fn reconcile(
    conn: &mut Conn,
    change: &AlertChange,
    offset: Offset,
    body: &str,
    arrived: Instant,
) -> Result<Applied, StorageError> {
    let by_id: Option<i64> =
        alert::table.find(change.alert.alert_id.0).select(alert::last_offset).first(conn).optional()?;
    if by_id.is_some() {
        // The same raise again, or a row that a later change has written already.
        return match change.transition {
            Transition::Raised => Ok(Applied::Known),
            _ => {
                let cause = change.cause.key();
                insert_change(conn, change, offset, &cause, body)?;
                Ok(Applied::Logged(logged(change, offset, cause, arrived)))
            }
        };
    }
    let open: Option<String> = alert::table
        .filter(alert::device_sn.eq(change.alert.device_sn.as_str()))
        .filter(alert::rule_id.eq(change.alert.rule_id.as_str()))
        .filter(alert::binding_id.eq(change.alert.binding_id.0))
        .filter(alert::is_open)
        .select(alert::body)
        .first(conn)
        .optional()?;
    let Some(open) = open else {
        // Nothing to merge with, so the alert as the shard sees it is all there is.
        insert_alert(conn, change, offset, body)?;
        let cause = change.cause.key();
        insert_change(conn, change, offset, &cause, body)?;
        return Ok(Applied::Logged(logged(change, offset, cause, arrived)));
    };
    let open = parse_alert(&open)?;
    let into = open.alert_id;
    let logged = match rebase(open, change) {
        None => None,
        Some(change) => match apply_change(conn, &change, offset, arrived)? {
            Applied::Logged(logged) => Some(logged),
            Applied::Known | Applied::Merged { .. } => None,
        },
    };
    Ok(Applied::Merged { into, logged })
}

/// The change as it is for the alert that is really open. `None` if that has had it already.
pub(super) fn rebase(mut open: Alert, change: &AlertChange) -> Option<AlertChange> {
    let theirs = &change.alert;
    match change.transition {
        Transition::Raised | Transition::Repeated => Some(open.repeat(Occurrence {
            cause: change.cause.clone(),
            occurred_at: theirs.happened_at(),
            received_at: change.at,
            event_id: theirs.event_id,
            event_type: theirs.event_type.clone(),
            value: theirs.value.clone(),
            location: theirs.location,
            vitals: theirs.vitals,
            verified: theirs.verified,
        })),
        Transition::BackToNormal => Some(open.back_to_normal(change.cause.clone(), change.at)),
        Transition::Acknowledged | Transition::Commented | Transition::Resolved => {
            match (&change.cause, &change.actor) {
                (Cause::Action(command_id), Some(actor)) => {
                    let kind = match change.transition {
                        Transition::Acknowledged => ActionKind::Acknowledge,
                        Transition::Commented => ActionKind::Comment,
                        _ => ActionKind::Resolve,
                    };
                    let action = OperatorAction {
                        alert_id: open.alert_id,
                        kind,
                        command_id: command_id.clone(),
                        actor: actor.clone(),
                        note: change.note.clone(),
                        outcome: change.outcome(),
                        said_at: None,
                    };
                    open.act(&action, change.at).ok()
                }
                (cause, _) => Some(open.resolve_by_device(cause.clone(), change.at)),
            }
        }
    }
}

/// Absolute values, and only over a smaller offset: a replay changes nothing.
pub(super) fn update_alert(
    conn: &mut Conn,
    change: &AlertChange,
    offset: Offset,
    body: &str,
) -> QueryResult<usize> {
    struct UpdateAlert;
    let alert = &change.alert;
    let binds = [
        Bind::Text(alert.state.name()),
        Bind::Bool(alert.state.is_open()),
        Bind::Integer(i32::try_from(alert.count).unwrap_or(i32::MAX)),
        Bind::BigInt(offset),
        Bind::OptionalText(alert.outcome.map(Outcome::name)),
        Bind::Text(body),
        Bind::BigInt(alert.alert_id.0),
        Bind::BigInt(offset),
    ];
    const SQL: &str = "UPDATE alert SET state = ?, is_open = ?, count = ?, last_offset = ?, outcome = ?, \
                       body = ? \
                       WHERE alert_id = ? AND last_offset < ?";
    Statement::<UpdateAlert>::new(SQL, &binds).execute(conn)
}

/// An alert from the body of its row.
pub(super) fn parse_alert(body: &str) -> Result<Alert, StorageError> {
    serde_json::from_str(body)
        .map_err(|err| StorageError::Corrupt { what: "alert", message: err.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{DeviceSn, RuleId};
    use crate::domain::owner::Owner;
    use crate::domain::rule::{Condition, Rule, Severity};
    use crate::domain::time::UtcMillis;

    fn occurrence(minute: i64) -> Occurrence {
        Occurrence {
            cause: Cause::Action(format!("a{minute}").into()),
            occurred_at: UtcMillis(minute * 60_000),
            received_at: UtcMillis(minute * 60_000 + 5),
            event_id: None,
            event_type: None,
            value: None,
            location: None,
            vitals: None,
            verified: true,
        }
    }

    #[test]
    fn what_repeated_an_alert_repeats_another_with_the_time_at_which_it_happened() {
        let rule = Rule {
            rule_id: RuleId::parse("sos").unwrap(),
            customer_id: None,
            name: "SOS".into(),
            severity: Severity::Critical,
            enabled: true,
            built_in: true,
            version: 1,
            condition: Condition::ClaimedLevel { levels: vec!["CRITICAL".into()] },
        };
        let sn = DeviceSn::parse("w1").unwrap();
        let raise = |minute| Alert::raise(&rule, &sn, &Owner::unbound(), occurrence(minute)).alert;
        let (mut theirs, open) = (raise(1), raise(2));
        let merged = rebase(open, &theirs.repeat(occurrence(9))).unwrap().alert;
        assert_eq!(merged.count, 2);
        assert_eq!(merged.occurred_at, UtcMillis(2 * 60_000));
        assert_eq!(merged.last_occurred_at, Some(UtcMillis(9 * 60_000)));
    }
}
