//! The rows of a report: the columns, sizes and indexes of the server's tables, in its own schema.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};
use watchpost::config::StorageConfig;
use watchpost::domain::event::{DeviceReport, EventReport, Location, ReportBody};
use watchpost::domain::time::UtcMillis;
use watchpost::domain::vitals::{Metric, VitalsSample};
use watchpost::storage::database::{Database, WRITER_CACHE_KIB};
use watchpost::storage::migrate;

const CUSTOMER: &str = "0";
const RULE: &str = "sos";
/// SQLite's own functions for files. The server's, which write the log in fewer calls, are its own
/// work, and were registered when the schema was made.
const SQLITE_FILES: &str = "unix";

/// Alerts as the log has them so far.
#[derive(Debug, Default)]
pub struct Alerts {
    last_offset: i64,
    /// How often each happened.
    counts: HashMap<i64, i64>,
}

/// A new file with the server's schema, opened for writing with every commit synced. `bare_tables`:
/// with no index but the primary keys.
pub fn create(path: &Path, bare_tables: bool) -> anyhow::Result<Connection> {
    ensure!(!path.exists(), "{} exists", path.display());
    let config =
        StorageConfig { database_url: format!("sqlite:{}", path.display()), ..StorageConfig::default() };
    migrate::prepare(&Database::from_config(&config)?, &[], now())?;
    let mut conn = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), SQLITE_FILES)?;
    conn.set_transaction_behavior(TransactionBehavior::Immediate);
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))?;
    conn.pragma_update(None, "wal_autocheckpoint", config.checkpoint_pages)?;
    if bare_tables {
        drop_indexes(&conn)?;
    }
    Ok(conn)
}

fn drop_indexes(conn: &Connection) -> anyhow::Result<()> {
    // Those of primary keys have no text.
    let indexes = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";
    let names: Vec<String> =
        conn.prepare(indexes)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        conn.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    Ok(())
}

fn now() -> UtcMillis {
    UtcMillis(chrono::Utc::now().timestamp_millis())
}

/// Everything that one report becomes. `alerts`: also the rows of an alert for every event.
pub fn insert(
    transaction: &Transaction<'_>,
    report: &DeviceReport,
    alerts: Option<&mut Alerts>,
) -> anyhow::Result<()> {
    let ReportBody::Event(event) = &report.body else {
        anyhow::bail!("the prototype stores events only");
    };
    let received = now();
    let (occurred, wall_ms) =
        event.time.at().map_or((received, received.0), |at| (at.utc, at.wall_as_utc_ms()));
    let id = event_id(wall_ms, &report.body_hash);
    let alert_id = alerts.is_some().then(|| alert_id(report));
    insert_event(transaction, report, event, &id, (occurred, received), alert_id)?;
    for sample in &event.vitals {
        insert_vitals(transaction, report, sample, received)?;
    }
    if let (Some(alert_id), Some(alerts)) = (alert_id, alerts) {
        alerts.write(transaction, report, event, (alert_id, &id), (occurred, received))?;
    }
    Ok(())
}

/// Begins with the time, as the server's do, so that inserts go to the same place in the index.
fn event_id(wall_ms: i64, hash: &[u8; 32]) -> [u8; 16] {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&wall_ms.to_be_bytes()[2..]);
    id[6..].copy_from_slice(&hash[..10]);
    id
}

/// One alert per device, as while nobody acknowledges it.
fn alert_id(report: &DeviceReport) -> i64 {
    let digits = report.device_sn.as_str().bytes().filter(u8::is_ascii_digit);
    digits.fold(1, |id: i64, digit| id.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'))) & i64::MAX
}

fn insert_event(
    transaction: &Transaction<'_>,
    report: &DeviceReport,
    event: &EventReport,
    id: &[u8; 16],
    (occurred, received): (UtcMillis, UtcMillis),
    alert_id: Option<i64>,
) -> anyhow::Result<()> {
    const SQL: &str = "INSERT INTO event (event_id, device_sn, customer_id, binding_id, event_type, type_key, \
        value, occurred_ms, time_source, received_ms, latitude, longitude, altitude, vitals_ms, claims, extra, \
        alert_id, evaluated) \
        VALUES (?, ?, ?, 0, ?, ?, ?, ?, 'device', ?, ?, ?, ?, ?, ?, ?, ?, TRUE)";
    let claims = serde_json::to_string(&report.claims)?;
    let [latitude, longitude, altitude] = coordinates(event.location);
    transaction.prepare_cached(SQL)?.execute(params![
        id,
        report.device_sn.as_str(),
        CUSTOMER,
        event.event_type,
        event.short_type().to_lowercase(),
        event.value,
        occurred.0,
        received.0,
        latitude,
        longitude,
        altitude,
        event.vitals.first().and_then(|sample| sample.time).map(|time| time.utc.0),
        claims,
        report.extra,
        alert_id,
    ])?;
    Ok(())
}

fn insert_vitals(
    transaction: &Transaction<'_>,
    report: &DeviceReport,
    sample: &VitalsSample,
    received: UtcMillis,
) -> anyhow::Result<()> {
    const SQL: &str = "INSERT INTO vitals (device_sn, measured_ms, received_ms, customer_id, heart_rate, \
        blood_oxygen, body_temperature, blood_pressure_systolic, blood_pressure_diastolic, stress, step, distance, \
        calorie, latitude, longitude, altitude, upload_method, sleep, exercise_daily, exercise_week, \
        scientific_sleep, workout, worn) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, TRUE)";
    let metric = |metric| sample.metrics.get(metric);
    let [latitude, longitude, altitude] = coordinates(sample.location);
    let history = &sample.history;
    transaction.prepare_cached(SQL)?.execute(params![
        report.device_sn.as_str(),
        sample.time.map_or(received.0, |time| time.utc.0),
        received.0,
        CUSTOMER,
        metric(Metric::HeartRate),
        metric(Metric::BloodOxygen),
        metric(Metric::BodyTemperature),
        metric(Metric::BloodPressureSystolic),
        metric(Metric::BloodPressureDiastolic),
        metric(Metric::Stress),
        metric(Metric::Step),
        metric(Metric::Distance),
        metric(Metric::Calorie),
        latitude,
        longitude,
        altitude,
        sample.upload_method,
        history.sleep,
        history.exercise_daily,
        history.exercise_week,
        history.scientific_sleep,
        history.workout,
    ])?;
    Ok(())
}

impl Alerts {
    /// The row of the device's open alert and a row of the log, each with the alert as JSON.
    fn write(
        &mut self,
        transaction: &Transaction<'_>,
        report: &DeviceReport,
        event: &EventReport,
        (alert_id, event_id): (i64, &[u8; 16]),
        (occurred, received): (UtcMillis, UtcMillis),
    ) -> anyhow::Result<()> {
        const RAISE: &str = "INSERT INTO alert (alert_id, rule_id, device_sn, binding_id, customer_id, severity, \
            state, is_open, count, occurred_ms, raised_ms, last_offset, body) \
            VALUES (?, ?, ?, 0, ?, 'critical', 'raised', TRUE, 1, ?, ?, ?, ?)";
        const REPEAT: &str = "UPDATE alert SET count = ?, last_offset = ?, body = ? WHERE alert_id = ?";
        const LOG: &str = "INSERT INTO alert_change (change_offset, alert_id, transition, cause, at_ms, quiet, \
            device_sn, customer_id, severity, body) VALUES (?, ?, ?, ?, ?, FALSE, ?, ?, 'critical', ?)";
        let device_sn = report.device_sn.as_str();
        self.last_offset += 1;
        let offset = self.last_offset;
        let count = self.counts.entry(alert_id).and_modify(|count| *count += 1).or_insert(1);
        let event_id = uuid_text(event_id);
        let body = serde_json::json!({
            "alert_id": alert_id.to_string(), "rule_id": RULE, "rule_name": "SOS", "device_sn": device_sn,
            "severity": "critical", "state": "raised", "count": count,
            "occurred_at": occurred, "raised_at": received, "last_at": received,
            "event_id": event_id, "event_type": event.event_type, "value": event.value,
            "location": event.location, "vitals": event.vitals.first().map(|sample| &sample.metrics),
            "binding_id": "0", "customer_id": CUSTOMER, "org_id": null, "org_name": null, "person_id": null,
            "person_name": null, "verified": false, "acknowledged_at": null, "acknowledged_by": null,
            "resolved_at": null, "resolved_by": null, "back_to_normal_at": null, "pushed_at": received,
        })
        .to_string();
        let transition = if *count == 1 {
            let values = params![alert_id, RULE, device_sn, CUSTOMER, occurred.0, received.0, offset, body];
            transaction.prepare_cached(RAISE)?.execute(values).context("raise")?;
            "raised"
        } else {
            let values = params![*count, offset, body, alert_id];
            transaction.prepare_cached(REPEAT)?.execute(values).context("repeat")?;
            "repeated"
        };
        let cause = format!("event:{event_id}");
        let values = params![offset, alert_id, transition, cause, received.0, device_sn, CUSTOMER, body];
        transaction.prepare_cached(LOG)?.execute(values).context("log")?;
        Ok(())
    }
}

fn uuid_text(id: &[u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn coordinates(location: Option<Location>) -> [Option<f64>; 3] {
    location.map_or([None; 3], |at| [Some(at.latitude), Some(at.longitude), at.altitude])
}
