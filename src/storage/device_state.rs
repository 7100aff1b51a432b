//! Loading what a shard must know of its devices.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Double, Nullable, Text};

use super::apply::parse_alert;
use super::conn::is_postgres;
use super::database::{Conn, StorageError};
use super::schema::{device, event};
use super::statement::TextsQuery;
use crate::domain::device::{DeviceState, Wear};
use crate::domain::identity::EventIdentity;
use crate::domain::ids::{AlertId, DeviceSn, EventId};
use crate::domain::recent::{EVENTS_MAX, SAMPLES_MAX, Sample, SeenEvent};
use crate::domain::time::UtcMillis;
use crate::domain::vitals::{Metric, Metrics};

/// Devices in one load: keeps the statement below SQLite's bind limit by far.
pub const LOAD_DEVICES_MAX: usize = 512;

/// A device as it is stored.
#[derive(Debug)]
pub struct LoadedDevice {
    pub device_sn: DeviceSn,
    /// False if this device has never been seen.
    pub known: bool,
    pub state: DeviceState,
}

#[derive(QueryableByName)]
struct OpenAlert {
    #[diesel(sql_type = Text)]
    device_sn: String,
    #[diesel(sql_type = Text)]
    body: String,
}

#[derive(QueryableByName)]
struct EventKey {
    #[diesel(sql_type = Binary)]
    event_id: Vec<u8>,
    #[diesel(sql_type = Text)]
    device_sn: String,
    #[diesel(sql_type = BigInt)]
    received_ms: i64,
    #[diesel(sql_type = Nullable<Binary>)]
    identity_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    alert_id: Option<i64>,
}

#[derive(QueryableByName)]
struct SampleRow {
    #[diesel(sql_type = Text)]
    device_sn: String,
    #[diesel(sql_type = BigInt)]
    measured_ms: i64,
    #[diesel(sql_type = Nullable<Double>)]
    heart_rate: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    blood_oxygen: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    body_temperature: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    blood_pressure_systolic: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    blood_pressure_diastolic: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    stress: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    step: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    distance: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    calorie: Option<f64>,
    #[diesel(sql_type = Bool)]
    worn: bool,
    #[diesel(sql_type = Nullable<Binary>)]
    identity_hash: Option<Vec<u8>>,
}

/// Loads the states of `devices`, at most [`LOAD_DEVICES_MAX`]. The number of statements does not
/// depend on how many devices there are: five of them, in the caller's read transaction.
pub fn load(conn: &mut Conn, devices: &[DeviceSn]) -> Result<Vec<LoadedDevice>, StorageError> {
    let mut states: HashMap<&str, LoadedDevice> = devices
        .iter()
        .map(|sn| {
            let loaded = LoadedDevice { device_sn: sn.clone(), known: false, state: DeviceState::default() };
            (sn.as_str(), loaded)
        })
        .collect();
    let names: Vec<&str> = states.keys().copied().collect();

    let known: Vec<(String, Option<bool>, i64, i64)> = device::table
        .filter(device::device_sn.eq_any(&names))
        .select((device::device_sn, device::worn, device::worn_ms, device::last_seen_ms))
        .load(conn)?;
    for (sn, worn, worn_ms, last_seen_ms) in known {
        if let Some(loaded) = states.get_mut(sn.as_str()) {
            loaded.known = true;
            loaded.state.wear = Wear::new(worn, UtcMillis(worn_ms));
            loaded.state.touched_at = Some(UtcMillis(last_seen_ms));
        }
    }

    // Left to itself SQLite takes the index of all alerts of a device, open or not.
    let index = if is_postgres(conn) { "" } else { "INDEXED BY alert_open " };
    let open = format!(
        "SELECT device_sn, body FROM alert {index}WHERE is_open AND device_sn IN ({})",
        placeholders(names.len())
    );
    for OpenAlert { device_sn: sn, body } in TextsQuery::new(open, &names).load(conn)? {
        if let Some(loaded) = states.get_mut(sn.as_str()) {
            // The serial that strangers share has alerts and no row of its own.
            loaded.known = true;
            loaded.state.open_alerts.push(parse_alert(&body)?);
        }
    }

    load_events(conn, &names, &mut states)?;
    load_samples(conn, &names, &mut states)?;
    Ok(states.into_values().collect())
}

/// The newest ids by time, and by arrival those whose bytes are their identity.
fn load_events(
    conn: &mut Conn,
    names: &[&str],
    states: &mut HashMap<&str, LoadedDevice>,
) -> Result<(), StorageError> {
    let wanted = wanted(names.len());
    let columns = "e.event_id, e.device_sn, e.received_ms, e.identity_hash, e.alert_id";
    let newest = format!("x.device_sn = d.device_sn ORDER BY x.event_id DESC LIMIT {EVENTS_MAX}");
    let by_id = format!("{wanted} SELECT {columns} {}", newest_of(conn, "event e", "event_id", &newest));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for row in TextsQuery::new(by_id, names).load::<EventKey>(conn)? {
        *counts.entry(row.device_sn.clone()).or_default() += 1;
        remember(states, row)?;
    }
    for (sn, count) in counts {
        if let (true, Some(loaded)) = (count >= EVENTS_MAX, states.get_mut(sn.as_str())) {
            loaded.state.events.mark_incomplete(true, false);
        }
    }
    let newest = format!(
        "x.device_sn = d.device_sn AND x.identity_hash IS NOT NULL \
         ORDER BY x.received_ms DESC LIMIT {EVENTS_MAX}"
    );
    let by_hash = format!("{wanted} SELECT {columns} {}", newest_of(conn, "event e", "event_id", &newest));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for row in TextsQuery::new(by_hash, names).load::<EventKey>(conn)? {
        *counts.entry(row.device_sn.clone()).or_default() += 1;
        remember(states, row)?;
    }
    for (sn, count) in counts {
        if let (true, Some(loaded)) = (count >= EVENTS_MAX, states.get_mut(sn.as_str())) {
            loaded.state.events.mark_incomplete(false, true);
        }
    }
    Ok(())
}

fn remember(states: &mut HashMap<&str, LoadedDevice>, row: EventKey) -> Result<(), StorageError> {
    let Some(loaded) = states.get_mut(row.device_sn.as_str()) else { return Ok(()) };
    let seen = SeenEvent { alert_id: row.alert_id.map(AlertId), committed: true };
    let hash = match row.identity_hash {
        None => None,
        Some(hash) => {
            Some((hash.try_into().map_err(|_| corrupt_event("identity hash"))?, UtcMillis(row.received_ms)))
        }
    };
    let id = EventId::from_slice(&row.event_id).map_err(|_| corrupt_event("id"))?;
    loaded.state.events.insert(id, hash, seen);
    Ok(())
}

fn load_samples(
    conn: &mut Conn,
    names: &[&str],
    states: &mut HashMap<&str, LoadedDevice>,
) -> Result<(), StorageError> {
    let wanted = wanted(names.len());
    let newest = format!("x.device_sn = d.device_sn ORDER BY x.measured_ms DESC LIMIT {SAMPLES_MAX}");
    let query = format!(
        "{wanted} SELECT v.device_sn, v.measured_ms, v.heart_rate, v.blood_oxygen, v.body_temperature, \
         v.blood_pressure_systolic, v.blood_pressure_diastolic, v.stress, v.step, v.distance, v.calorie, \
         v.worn, v.identity_hash {}",
        newest_of(conn, "vitals v", "measured_ms", &newest)
    );
    let mut counts: HashMap<String, usize> = HashMap::new();
    for row in TextsQuery::new(query, names).load::<SampleRow>(conn)? {
        let Some(loaded) = states.get_mut(row.device_sn.as_str()) else { continue };
        let mut metrics = Metrics::default();
        for (metric, value) in [
            (Metric::HeartRate, row.heart_rate),
            (Metric::BloodOxygen, row.blood_oxygen),
            (Metric::BodyTemperature, row.body_temperature),
            (Metric::BloodPressureSystolic, row.blood_pressure_systolic),
            (Metric::BloodPressureDiastolic, row.blood_pressure_diastolic),
            (Metric::Stress, row.stress),
            (Metric::Step, row.step),
            (Metric::Distance, row.distance),
            (Metric::Calorie, row.calorie),
        ] {
            if let Some(value) = value {
                metrics.set(metric, value);
            }
        }
        let at = UtcMillis(row.measured_ms);
        loaded.state.samples.merge(at, Sample { metrics, worn: row.worn });
        if let Some(hash) = row.identity_hash.and_then(|hash| hash.try_into().ok()) {
            loaded.state.samples.remember_hash(hash, at);
        }
        *counts.entry(row.device_sn).or_default() += 1;
    }
    for (sn, count) in counts {
        if let (true, Some(loaded)) = (count >= SAMPLES_MAX, states.get_mut(sn.as_str())) {
            loaded.state.samples.mark_incomplete();
        }
    }
    Ok(())
}

/// Looks an old event up by its identities: one or two indexed reads.
pub fn find_event(
    conn: &mut Conn,
    device: &DeviceSn,
    identity: &EventIdentity,
    now: UtcMillis,
) -> Result<Option<(EventId, Option<AlertId>)>, StorageError> {
    if let Some(id) = identity.timed {
        let found: Option<Option<i64>> =
            event::table.find(id.0.to_vec()).select(event::alert_id).first(conn).optional()?;
        if let Some(alert_id) = found {
            return Ok(Some((id, alert_id.map(AlertId))));
        }
    }
    let Some(hashed) = identity.hashed else { return Ok(None) };
    let found: Option<(Vec<u8>, Option<i64>)> = event::table
        .filter(event::device_sn.eq(device.as_str()))
        .filter(event::identity_hash.is_not_null())
        .filter(event::received_ms.gt(now.0 - hashed.window_ms))
        .filter(event::identity_hash.eq(hashed.hash.to_vec()))
        .select((event::event_id, event::alert_id))
        .first(conn)
        .optional()?;
    match found {
        None => Ok(None),
        Some((id, alert_id)) => {
            let id = EventId::from_slice(&id).map_err(|_| corrupt_event("id"))?;
            Ok(Some((id, alert_id.map(AlertId))))
        }
    }
}

fn corrupt_event(what: &str) -> StorageError {
    StorageError::Corrupt { what: "event", message: format!("its {what} has a wrong length") }
}

/// The serials to load. Not the table of devices: an SOS may be stored when its device has no row
/// yet, because the report that was to write it has not committed.
fn wanted(count: usize) -> String {
    format!("WITH wanted (device_sn) AS (VALUES {})", vec!["(?)"; count].join(","))
}

/// Some newest rows of each wanted device. In SQLite their keys are picked first, and a row is found by
/// its key; PostgreSQL would do so for each row that the device has, and joins sideways instead.
fn newest_of(conn: &Conn, table_and_alias: &str, key: &str, newest: &str) -> String {
    let (table, alias) = table_and_alias.split_once(' ').unwrap_or((table_and_alias, "t"));
    if is_postgres(conn) {
        return format!("FROM wanted d CROSS JOIN LATERAL (SELECT * FROM {table} x WHERE {newest}) {alias}");
    }
    format!(
        "FROM wanted d JOIN {table} {alias} ON {alias}.device_sn = d.device_sn AND {alias}.{key} IN \
         (SELECT x.{key} FROM {table} x WHERE {newest})"
    )
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(",")
}
