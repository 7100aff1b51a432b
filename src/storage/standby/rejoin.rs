//! Where the main database has changes of alerts that were never here (a crash between its commit and
//! the mirror, another server, a backup put back), what was spooled is put on top of them: decided
//! anew where both touched the same alert, with offsets behind the last one there, under a new epoch.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::remote::TextRow;
use super::{Conflict, fill, journal};
use crate::domain::alert::{Alert, AlertChange, AlertState, Cause, LoggedChange, Transition};
use crate::domain::identity;
use crate::domain::ids::{AlertId, Offset};
use crate::storage::alert_log::changes_after;
use crate::storage::apply::{Applied, apply_change, parse_alert, rebase as rebased};
use crate::storage::commit::Session;
use crate::storage::conn::write_transaction;
use crate::storage::database::{Conn, StorageError};
use crate::storage::migrate::new_epoch;
use crate::storage::rows::insert_alert;
use crate::storage::schema::{alert, alert_change, event, meta};

/// Changes that are compared at a time.
const COMPARED: i64 = 10_000;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = BigInt)]
    change_offset: i64,
    #[diesel(sql_type = Text)]
    body: String,
}

/// What the main database has that is not known here, if there is anything: what has been handed on,
/// or committed after nobody waited any more, is known.
pub fn compare(
    main: &mut PgConnection,
    file: &mut SqliteConnection,
) -> Result<Option<Conflict>, StorageError> {
    let base: Offset = journal::note(file, "base")?.and_then(|base| base.parse().ok()).unwrap_or_default();
    let last = diesel::sql_query("SELECT max(change_offset) AS value FROM alert_change")
        .get_result::<journal::Number>(main)?
        .value
        .unwrap_or(0);
    let mut common = base.min(last);
    while common < last {
        let part = format!(
            "SELECT change_offset, alert_id || ' ' || transition || ' ' || cause AS body FROM alert_change \
             WHERE change_offset > {common} ORDER BY change_offset LIMIT {COMPARED}"
        );
        let theirs: Vec<Line> = diesel::sql_query(&part).load(main)?;
        let ours: Vec<Line> = diesel::sql_query(&part).load(file)?;
        let same = theirs.iter().zip(&ours).take_while(|(theirs, ours)| {
            theirs.change_offset == ours.change_offset && theirs.body == ours.body
        });
        let same = same.count();
        common = same.checked_sub(1).map_or(common, |at| theirs[at].change_offset);
        if same < theirs.len() {
            break;
        }
    }
    if common == last && last >= base {
        return Ok(None);
    }
    on_top(main, file, common, last).map(Some)
}

/// What the main database has behind `common`, the last that both have, up to `last`; and what it says of
/// the alerts that the file has changed since.
pub fn on_top(
    main: &mut PgConnection,
    file: &mut SqliteConnection,
    common: Offset,
    last: Offset,
) -> Result<Conflict, StorageError> {
    let touched: Vec<Line> = diesel::sql_query(format!(
        "SELECT DISTINCT 0 AS change_offset, CAST(alert_id AS TEXT) AS body FROM alert_change \
         WHERE change_offset > {common}"
    ))
    .load(file)?;
    let touched: Vec<&str> = touched.iter().map(|line| line.body.as_str()).collect();
    let changes: Vec<TextRow> = diesel::sql_query(format!(
        "SELECT row_to_json(c)::text AS body FROM alert_change c WHERE change_offset > {common} \
         ORDER BY change_offset"
    ))
    .load(main)?;
    let alerts: Vec<TextRow> = diesel::sql_query(format!(
        "SELECT row_to_json(a)::text AS body FROM alert a WHERE is_open \
         OR alert_id IN (SELECT value::bigint FROM json_array_elements_text($1::json)) \
         OR alert_id IN (SELECT alert_id FROM alert_change WHERE change_offset > {common})"
    ))
    .bind::<Text, _>(format!("[{}]", touched.join(",")))
    .load(main)?;
    let texts = |rows: Vec<TextRow>| rows.into_iter().map(|row| row.body).collect();
    Ok(Conflict { common, last, changes: texts(changes), alerts: texts(alerts) })
}

/// Puts what was spooled on top of what the main database has. Answers the new epoch.
pub fn rebase(local: &mut Session, conflict: &Conflict) -> Result<String, StorageError> {
    let epoch = new_epoch()?;
    let last = write_transaction(&mut local.conn, |conn| {
        let spooled = changes_after(conn, conflict.common, Offset::MAX, usize::MAX)?;
        // None of this is to be handed on: the main database has it.
        quietly(conn, journal::pause)?;
        take_theirs(conn, conflict, &spooled)?;
        let mut last = conflict.last;
        let mut renamed: HashMap<AlertId, AlertId> = HashMap::new();
        for change in &spooled {
            last += i64::from(replay(conn, change, last + 1, &mut renamed)?);
        }
        for (from, into) in &renamed {
            diesel::update(event::table.filter(event::alert_id.eq(from.0)))
                .set(event::alert_id.eq(into.0))
                .execute(conn)?;
        }
        quietly(conn, |file| {
            journal::log_alerts_after(file, conflict.last)?;
            journal::begin(file)?;
            journal::set_note(file, "base", &conflict.last.to_string())?;
            journal::set_note(file, "unsure", "yes")
        })?;
        diesel::update(meta::table.find("epoch")).set(meta::value.eq(&epoch)).execute(conn)?;
        Ok::<_, StorageError>(last)
    })?;
    local.last_offset = last;
    Ok(epoch)
}

fn quietly(
    conn: &mut Conn,
    work: impl FnOnce(&mut SqliteConnection) -> QueryResult<()>,
) -> Result<(), StorageError> {
    match conn {
        Conn::Sqlite(conn) => Ok(work(conn)?),
        Conn::Postgres(_) => Ok(()),
    }
}

/// The log and the alerts as the main database has them; of what it does not have, as they were before.
fn take_theirs(conn: &mut Conn, conflict: &Conflict, spooled: &[LoggedChange]) -> Result<(), StorageError> {
    let touched: BTreeSet<i64> = spooled.iter().map(|change| change.alert.alert_id.0).collect();
    diesel::delete(alert_change::table.filter(alert_change::change_offset.gt(conflict.common)))
        .execute(conn)?;
    for id in &touched {
        diesel::delete(alert::table.find(id)).execute(conn)?;
    }
    for id in &touched {
        let before: Option<(Offset, String)> = alert_change::table
            .filter(alert_change::alert_id.eq(id))
            .order(alert_change::change_offset.desc())
            .select((alert_change::change_offset, alert_change::body))
            .first(conn)
            .optional()?;
        let Some((offset, body)) = before else { continue };
        let change = change_of(parse_alert(&body)?, Transition::Raised);
        insert_alert(conn, &change, offset, &body)?;
    }
    quietly_put(conn, "alert_change", &conflict.changes)?;
    quietly_put(conn, "alert", &conflict.alerts)
}

fn quietly_put(conn: &mut Conn, table: &str, rows: &[String]) -> Result<(), StorageError> {
    match conn {
        Conn::Sqlite(file) => fill::put(file, table, rows.iter().map(String::as_str)),
        Conn::Postgres(_) => Ok(()),
    }
}

fn change_of(alert: Alert, transition: Transition) -> AlertChange {
    let (cause, at) = (Cause::Action("".into()), alert.last_at);
    AlertChange { alert, transition, cause, at, actor: None, note: None, quiet: true }
}

/// Decides a spooled change once more. True if it took `offset`.
fn replay(
    conn: &mut Conn,
    logged: &LoggedChange,
    offset: Offset,
    renamed: &mut HashMap<AlertId, AlertId>,
) -> Result<bool, StorageError> {
    let Some(cause) = Cause::from_key(&logged.cause) else {
        return Err(StorageError::Corrupt {
            what: "alert change",
            message: format!("cause {}", logged.cause),
        });
    };
    let spooled = logged.alert.alert_id;
    let mut change = AlertChange {
        alert: (*logged.alert).clone(),
        transition: logged.transition,
        cause,
        at: logged.at,
        actor: logged.actor.clone(),
        note: logged.note.clone(),
        quiet: logged.quiet,
    };
    if let Some(into) = renamed.get(&spooled) {
        change.alert.alert_id = *into;
        if change.transition == Transition::Raised {
            change.transition = Transition::Repeated;
        }
    }
    let current: Option<String> =
        alert::table.find(change.alert.alert_id.0).select(alert::body).first(conn).optional()?;
    let change = match current.as_deref().map(parse_alert).transpose()? {
        None => change,
        // It was raised there by the same cause.
        Some(_) if change.transition == Transition::Raised => return Ok(false),
        Some(current) if current.state.is_open() || change.transition == Transition::Commented => {
            match rebased(current, &change) {
                Some(change) => change,
                None => return Ok(false),
            }
        }
        // It was resolved there. That it happened again shall be seen.
        Some(_) if change.transition == Transition::Repeated => anew(change),
        Some(_) => return Ok(false),
    };
    if change.alert.alert_id != spooled {
        renamed.insert(spooled, change.alert.alert_id);
    }
    match apply_change(conn, &change, offset, Instant::now())? {
        Applied::Logged(_) => Ok(true),
        Applied::Known => Ok(false),
        Applied::Merged { into, logged } => {
            renamed.insert(spooled, into);
            Ok(logged.is_some())
        }
    }
}

/// A repeat as an alert of its own.
fn anew(change: AlertChange) -> AlertChange {
    let alert_id = identity::alert_id(&change.cause.key(), &change.alert.rule_id);
    let alert = Alert {
        alert_id,
        state: AlertState::Raised,
        count: 1,
        occurred_at: change.alert.happened_at(),
        raised_at: change.at,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        resolved_by: None,
        outcome: None,
        back_to_normal_at: None,
        ..change.alert
    };
    AlertChange { alert, transition: Transition::Raised, quiet: false, ..change }
}
