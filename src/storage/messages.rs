//! Tables `watch_log`, `device_message` and `alert_shown`: written as they come.

use diesel::prelude::*;

use super::command::{NewDeviceMessage, NewWatchLog};
use super::database::{Conn, StorageError};
use super::statement::{Bind, Statement};
use crate::domain::ids::AlertId;
use crate::domain::time::UtcMillis;

/// A log that is known already stays as it is.
pub(super) fn store_watch_logs(
    conn: &mut Conn,
    logs: &[NewWatchLog],
    now: UtcMillis,
) -> Result<(), StorageError> {
    struct InsertWatchLog;
    const SQL: &str = "INSERT INTO watch_log (log_key, device_sn, logged_ms, level, content, received_ms) \
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    for log in logs {
        let binds = [
            Bind::Bytes(&log.log_key),
            Bind::Text(log.device_sn.as_str()),
            Bind::BigInt(log.logged_at.0),
            Bind::OptionalText(log.level.as_deref()),
            Bind::Text(&log.content),
            Bind::BigInt(now.0),
        ];
        Statement::<InsertWatchLog>::new(SQL, &binds).execute(conn)?;
    }
    Ok(())
}

/// A message that is known already stays as it is.
pub(super) fn store_device_message(
    conn: &mut Conn,
    message: &NewDeviceMessage,
    now: UtcMillis,
) -> Result<(), StorageError> {
    struct InsertMessage;
    const SQL: &str = "INSERT INTO device_message \
        (message_key, device_sn, direction, message_id, body, received_ms) \
        VALUES (?, ?, 'from_watch', ?, ?, ?) ON CONFLICT DO NOTHING";
    let binds = [
        Bind::Bytes(&message.message_key),
        Bind::Text(message.device_sn.as_str()),
        Bind::OptionalText(message.message_id.as_deref()),
        Bind::Text(&message.body),
        Bind::BigInt(now.0),
    ];
    Statement::<InsertMessage>::new(SQL, &binds).execute(conn)?;
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
