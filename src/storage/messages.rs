//! Tables `watch_log`, `device_message` and `alert_shown`: written as they come.

use diesel::prelude::*;

use super::command::{NewDeviceMessage, NewWatchLog};
use super::database::{Conn, StorageError};
use super::schema::{device_message, watch_log};
use super::statement::{Bind, Statement};
use crate::domain::ids::AlertId;
use crate::domain::time::UtcMillis;

/// Rows of one INSERT: SQLite binds at most 32,766 values in a statement.
const ROWS_PER_INSERT: usize = 1_000;

#[derive(Insertable)]
#[diesel(table_name = watch_log, treat_none_as_default_value = false)]
struct WatchLogRow<'a> {
    log_key: &'a [u8],
    device_sn: &'a str,
    logged_ms: i64,
    level: Option<&'a str>,
    content: &'a str,
    received_ms: i64,
}

/// A log that is known already stays as it is.
pub(super) fn store_watch_logs(
    conn: &mut Conn,
    logs: &[NewWatchLog],
    now: UtcMillis,
) -> Result<(), StorageError> {
    for chunk in logs.chunks(ROWS_PER_INSERT) {
        let rows: Vec<WatchLogRow> = chunk
            .iter()
            .map(|log| WatchLogRow {
                log_key: &log.log_key,
                device_sn: log.device_sn.as_str(),
                logged_ms: log.logged_at.0,
                level: log.level.as_deref(),
                content: &log.content,
                received_ms: now.0,
            })
            .collect();
        diesel::insert_into(watch_log::table).values(rows).on_conflict_do_nothing().execute(conn)?;
    }
    Ok(())
}

/// A message that is known already stays as it is.
pub(super) fn store_device_message(
    conn: &mut Conn,
    message: &NewDeviceMessage,
    now: UtcMillis,
) -> Result<(), StorageError> {
    diesel::insert_into(device_message::table)
        .values((
            device_message::message_key.eq(message.message_key.as_slice()),
            device_message::device_sn.eq(message.device_sn.as_str()),
            device_message::direction.eq("from_watch"),
            device_message::message_id.eq(message.message_id.as_deref()),
            device_message::body.eq(&message.body),
            device_message::received_ms.eq(now.0),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(())
}

/// The first time that a viewer had an alert on the screen is what counts.
pub(super) fn record_shown(
    conn: &mut Conn,
    viewer: &str,
    alerts: &[(AlertId, UtcMillis)],
) -> Result<(), StorageError> {
    struct InsertShown;
    const SQL: &str = "INSERT INTO alert_shown (alert_id, viewer, shown_ms) VALUES (?, ?, ?) \
                       ON CONFLICT DO NOTHING";
    for (alert_id, at) in alerts {
        let binds = [Bind::BigInt(alert_id.0), Bind::Text(viewer), Bind::BigInt(at.0)];
        Statement::<InsertShown>::new(SQL, &binds).execute(conn)?;
    }
    Ok(())
}
