//! What the server holds of a run: read from the database file, or page by page by REST.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, ensure};
use chrono::DateTime;
use diesel::Connection as _;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Text};
use serde_json::Value;

use super::request::{Fleet, Key, Kind, uuid};
use super::screens::{Door, Watched};
use crate::connection;

#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Of the run's watches. Without [`Stored::rows_of_vitals`] only the events.
    pub keys: HashSet<Key>,
    /// Rows beyond the first with the same key.
    pub twice: Vec<Key>,
    /// Events whose health record is not there.
    pub without_vitals: Vec<Key>,
    pub event_ids: HashMap<Key, u128>,
    /// Events of other serials.
    pub other_events: HashSet<u128>,
    /// In the order of their offsets.
    pub changes: Vec<Change>,
    /// Vital signs and device information could be read too.
    pub rows_of_vitals: bool,
}

/// A critical change of an alert that dashboards are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub offset: u64,
    /// `None` if it was no event.
    pub event: Option<u128>,
    /// As frames write it; empty if it is not known.
    pub alert_id: String,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Binary)]
    event_id: Vec<u8>,
    #[diesel(sql_type = Text)]
    device_sn: String,
    #[diesel(sql_type = Text)]
    type_key: String,
    #[diesel(sql_type = BigInt)]
    occurred_ms: i64,
}

#[derive(QueryableByName)]
struct DeviceRow {
    #[diesel(sql_type = Text)]
    device_sn: String,
    #[diesel(sql_type = BigInt)]
    at_ms: i64,
}

#[derive(QueryableByName)]
struct ChangeRow {
    #[diesel(sql_type = BigInt)]
    change_offset: i64,
    #[diesel(sql_type = BigInt)]
    alert_id: i64,
    #[diesel(sql_type = Text)]
    cause: String,
    #[diesel(sql_type = Bool)]
    quiet: bool,
    #[diesel(sql_type = Text)]
    severity: String,
}

/// Of a server that has stopped.
pub fn read_file(data_dir: &Path, fleet: &Fleet) -> anyhow::Result<Stored> {
    let path = data_dir.join("watchpost.db");
    // SQLite would make a new file.
    ensure!(path.exists(), "there is no {}", path.display());
    let mut conn = SqliteConnection::establish(&path.to_string_lossy())?;
    let mut stored = Stored { rows_of_vitals: true, ..Stored::default() };
    let events: Vec<EventRow> =
        diesel::sql_query("SELECT event_id, device_sn, type_key, occurred_ms FROM event").load(&mut conn)?;
    for row in events {
        let bytes: [u8; 16] = row.event_id.as_slice().try_into().context("an event id has 16 bytes")?;
        stored.event(fleet, &row.device_sn, &row.type_key, row.occurred_ms, u128::from_be_bytes(bytes));
    }
    let like = format!("{}%", fleet.prefix());
    let mut device_rows = |table: &str, column: &str| -> anyhow::Result<Vec<DeviceRow>> {
        let query =
            format!("SELECT device_sn, {column} AS at_ms FROM {table} WHERE device_sn LIKE ? ORDER BY 1, 2");
        let rows = diesel::sql_query(query).bind::<Text, _>(&like).load(&mut conn);
        rows.with_context(|| format!("read {table}"))
    };
    let mut vitals = HashSet::new();
    for row in device_rows("vitals", "measured_ms")? {
        vitals.extend(fleet.key(Kind::Vitals, &row.device_sn, row.at_ms));
    }
    let sent_by_phases = |event: &Key| event.device() < fleet.simulated_from;
    for event in stored.keys.clone().into_iter().filter(sent_by_phases) {
        // A health record in an event is a row of its own, of the same time.
        if !vitals.remove(&Key::new(Kind::Vitals, event.device(), event.nth())) {
            stored.without_vitals.push(event);
        }
    }
    stored.keys.extend(vitals);
    for row in device_rows("device_status", "reported_ms")? {
        stored.keys.extend(fleet.key(Kind::Device, &row.device_sn, row.at_ms));
    }
    let changes: Vec<ChangeRow> = diesel::sql_query(
        "SELECT change_offset, alert_id, cause, quiet, severity FROM alert_change ORDER BY change_offset",
    )
    .load(&mut conn)?;
    let told = changes.into_iter().filter(|row| row.severity == "critical" && !row.quiet);
    stored.changes = told
        .map(|row| Change {
            offset: u64::try_from(row.change_offset).unwrap_or_default(),
            event: row.cause.strip_prefix("event:").and_then(|id| uuid(id.as_bytes())),
            alert_id: row.alert_id.to_string(),
        })
        .collect();
    Ok(stored)
}

/// Of a server that belongs to somebody else: the events by REST, the changes as dashboards saw
/// them together.
pub async fn read_rest(door: &Door, fleet: &Fleet, watched: &Watched) -> anyhow::Result<Stored> {
    let mut stored = Stored::default();
    let mut connection = connection::Connection::open(door.server).await?;
    let mut cursor: Option<String> = None;
    loop {
        let path = match &cursor {
            Some(cursor) => format!("/api/v1/events?limit=200&cursor={cursor}"),
            None => "/api/v1/events?limit=200".into(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            door.server, door.token
        );
        let answer = connection.exchange(request.as_bytes()).await.context("read events")?;
        ensure!(answer.status == 200, "{path} answered {}", answer.status);
        let page: Value = serde_json::from_slice(answer.body)?;
        let items = page["items"].as_array().context("a list of events")?;
        let mut older = 0;
        for item in items {
            let text = |name: &str| item[name].as_str().unwrap_or_default();
            let at_ms = DateTime::parse_from_rfc3339(text("occurred_at"))?.timestamp_millis();
            let id = uuid(text("event_id").as_bytes()).context("an event id")?;
            let type_key = text("event_type").rsplit('.').next().unwrap_or_default().to_lowercase();
            stored.event(fleet, text("device_sn"), &type_key, at_ms, id);
            older += usize::from(at_ms < fleet.at_s(0) * 1_000);
        }
        cursor = page["next"].as_str().map(str::to_owned);
        // Events are listed from the newest on; before the run's first there is none of it.
        if cursor.is_none() || (older == items.len() && older > 0) {
            break;
        }
    }
    let change = |(offset, event): (&u64, &u128)| Change {
        offset: *offset,
        event: Some(*event),
        alert_id: String::new(),
    };
    stored.changes = watched.causes.iter().map(change).collect();
    stored.changes.sort_unstable_by_key(|change| change.offset);
    Ok(stored)
}

impl Stored {
    fn event(&mut self, fleet: &Fleet, serial: &str, type_key: &str, at_ms: i64, id: u128) {
        match fleet.event_key(type_key, serial, at_ms) {
            Some(key) => {
                if !self.keys.insert(key) {
                    self.twice.push(key);
                }
                self.event_ids.insert(key, id);
            }
            None => {
                self.other_events.insert(id);
            }
        }
    }
}
