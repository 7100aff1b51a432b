//! Domain records as rows: one prepared INSERT per table, skipped where the key is taken.

use diesel::prelude::*;

use super::database::Conn;
use super::statement::{Bind, Statement};
use crate::domain::alert::{AlertChange, Outcome};
use crate::domain::event::Location;
use crate::domain::ids::{AlertId, Offset};
use crate::domain::record::{EventRecord, Records, StatusRecord, VitalsRecord};
use crate::domain::status::Charging;
use crate::domain::vitals::Metric;

/// Inserts an event under the alert that it really raised or repeated. 0 if it is stored already.
pub(super) fn insert_event(
    conn: &mut Conn,
    record: &EventRecord,
    alert_id: Option<AlertId>,
) -> QueryResult<usize> {
    struct InsertEvent;
    const SQL: &str = "INSERT INTO event (event_id, device_sn, customer_id, org_id, person_id, binding_id, \
        event_type, type_key, value, occurred_ms, time_source, received_ms, client_event_id, level, \
        description, latitude, longitude, altitude, vitals_ms, claims, extra, warnings, identity_hash, \
        alert_id, evaluated) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
        ON CONFLICT DO NOTHING";
    let texts = EventTexts::of(record);
    Statement::<InsertEvent>::new(SQL, &event_binds(record, &texts, alert_id)).execute(conn)
}

/// Texts of an event's row that are made from its record.
pub(super) struct EventTexts {
    type_key: String,
    claims: Option<String>,
}

impl EventTexts {
    pub fn of(record: &EventRecord) -> Self {
        let type_key = record.event.short_type().to_lowercase();
        // A map of texts: there is nothing in it that could fail to be written.
        let claims =
            (!record.claims.is_empty()).then(|| serde_json::to_string(&record.claims).unwrap_or_default());
        Self { type_key, claims }
    }
}

/// An event's row, in the order of its table.
pub(super) fn event_binds<'a>(
    record: &'a EventRecord,
    texts: &'a EventTexts,
    alert_id: Option<AlertId>,
) -> [Bind<'a>; 25] {
    let (event, owner) = (&record.event, &record.owner);
    let [latitude, longitude, altitude] = coordinates(event.location);
    [
        Bind::Bytes(&record.event_id.0),
        Bind::Text(record.device_sn.as_str()),
        Bind::Text(owner.customer_id.as_str()),
        Bind::OptionalText(owner.org_id.as_ref().map(|id| id.as_str())),
        Bind::OptionalText(owner.person_id.as_ref().map(|id| id.as_str())),
        Bind::BigInt(owner.binding_id.0),
        Bind::Text(&event.event_type),
        Bind::Text(&texts.type_key),
        Bind::OptionalText(event.value.as_deref()),
        Bind::BigInt(record.occurred_at.0),
        Bind::Text(record.time_source.name()),
        Bind::BigInt(record.received_at.0),
        Bind::OptionalText(event.client_event_id.as_deref()),
        Bind::OptionalText(event.level.as_deref()),
        Bind::OptionalText(event.description.as_deref()),
        latitude,
        longitude,
        altitude,
        Bind::OptionalBigInt(record.vitals_at.map(|at| at.0)),
        Bind::OptionalText(texts.claims.as_deref()),
        Bind::OptionalText(record.extra.as_deref()),
        Bind::OptionalText(record.warnings.as_deref()),
        Bind::OptionalBytes(record.identity_hash.as_ref().map(|hash| hash.as_slice())),
        Bind::OptionalBigInt(alert_id.map(|id| id.0)),
        Bind::Bool(record.evaluated),
    ]
}

/// Inserts a sample. 0 if its key is taken.
pub(super) fn insert_vitals(conn: &mut Conn, record: &VitalsRecord) -> QueryResult<usize> {
    struct InsertVitals;
    const SQL: &str = "INSERT INTO vitals (heart_rate, blood_oxygen, body_temperature, \
        blood_pressure_systolic, blood_pressure_diastolic, stress, step, distance, calorie, \
        latitude, longitude, altitude, sleep, exercise_daily, exercise_week, scientific_sleep, workout, \
        extra, device_sn, measured_ms, received_ms, customer_id, person_id, upload_method, worn, \
        identity_hash) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
        ON CONFLICT DO NOTHING";
    Statement::<InsertVitals>::new(SQL, &vitals_binds(record)).execute(conn)
}

/// A sample's row, in the order of the statement above.
pub(super) fn vitals_binds(record: &VitalsRecord) -> Vec<Bind<'_>> {
    let mut binds = measured(record);
    binds.extend([
        Bind::Text(record.device_sn.as_str()),
        Bind::BigInt(record.measured_at.0),
        Bind::BigInt(record.received_at.0),
        Bind::Text(record.owner.customer_id.as_str()),
        Bind::OptionalText(record.owner.person_id.as_ref().map(|id| id.as_str())),
        Bind::OptionalText(record.upload_method.as_deref()),
        Bind::Bool(record.worn),
        Bind::OptionalBytes(record.identity_hash.as_ref().map(|hash| hash.as_slice())),
    ]);
    binds
}

/// Fills what is empty in a stored sample; what was measured stays.
pub(super) fn fill_vitals(conn: &mut Conn, record: &VitalsRecord) -> QueryResult<usize> {
    struct FillVitals;
    const SQL: &str = "UPDATE vitals SET heart_rate = coalesce(heart_rate, ?), \
        blood_oxygen = coalesce(blood_oxygen, ?), body_temperature = coalesce(body_temperature, ?), \
        blood_pressure_systolic = coalesce(blood_pressure_systolic, ?), \
        blood_pressure_diastolic = coalesce(blood_pressure_diastolic, ?), stress = coalesce(stress, ?), \
        step = coalesce(step, ?), distance = coalesce(distance, ?), calorie = coalesce(calorie, ?), \
        latitude = coalesce(latitude, ?), longitude = coalesce(longitude, ?), \
        altitude = coalesce(altitude, ?), sleep = coalesce(sleep, ?), \
        exercise_daily = coalesce(exercise_daily, ?), exercise_week = coalesce(exercise_week, ?), \
        scientific_sleep = coalesce(scientific_sleep, ?), workout = coalesce(workout, ?), \
        extra = coalesce(extra, ?) WHERE device_sn = ? AND measured_ms = ?";
    let mut binds = measured(record);
    binds.extend([Bind::Text(record.device_sn.as_str()), Bind::BigInt(record.measured_at.0)]);
    Statement::<FillVitals>::new(SQL, &binds).execute(conn)
}

/// What a sample measured, in the order of both statements above.
fn measured(record: &VitalsRecord) -> Vec<Bind<'_>> {
    let mut binds = Vec::with_capacity(26);
    binds.extend(Metric::ALL.iter().map(|metric| Bind::OptionalDouble(record.metrics.get(*metric))));
    binds.extend(coordinates(record.location));
    let history = &record.history;
    binds.extend(
        [
            &history.sleep,
            &history.exercise_daily,
            &history.exercise_week,
            &history.scientific_sleep,
            &history.workout,
            &record.extra,
        ]
        .map(|text| Bind::OptionalText(text.as_deref())),
    );
    binds
}

/// Inserts the alert of a raise. 0 if its id or its open key is taken.
pub(super) fn insert_alert(
    conn: &mut Conn,
    change: &AlertChange,
    offset: Offset,
    body: &str,
) -> QueryResult<usize> {
    struct InsertAlert;
    const SQL: &str = "INSERT INTO alert (alert_id, rule_id, device_sn, binding_id, customer_id, severity, \
        state, is_open, count, occurred_ms, raised_ms, last_offset, body, outcome) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let alert = &change.alert;
    let binds = [
        Bind::BigInt(alert.alert_id.0),
        Bind::Text(alert.rule_id.as_str()),
        Bind::Text(alert.device_sn.as_str()),
        Bind::BigInt(alert.binding_id.0),
        Bind::Text(alert.customer_id.as_str()),
        Bind::Text(alert.severity.name()),
        Bind::Text(alert.state.name()),
        Bind::Bool(alert.state.is_open()),
        Bind::Integer(i32::try_from(alert.count).unwrap_or(i32::MAX)),
        Bind::BigInt(alert.occurred_at.0),
        Bind::BigInt(alert.raised_at.0),
        Bind::BigInt(offset),
        Bind::Text(body),
        Bind::OptionalText(alert.outcome.map(Outcome::name)),
    ];
    Statement::<InsertAlert>::new(SQL, &binds).execute(conn)
}

/// Writes a line of the log. 0 if its cause is known; a taken offset is an error, since two
/// writers must fail loudly.
pub(super) fn insert_change(
    conn: &mut Conn,
    change: &AlertChange,
    offset: Offset,
    cause: &str,
    body: &str,
) -> QueryResult<usize> {
    struct InsertChange;
    const SQL: &str = "INSERT INTO alert_change (change_offset, alert_id, transition, cause, at_ms, actor, \
        note, quiet, device_sn, customer_id, severity, body, outcome) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
        ON CONFLICT (alert_id, cause, transition) DO NOTHING";
    let binds = [
        Bind::BigInt(offset),
        Bind::BigInt(change.alert.alert_id.0),
        Bind::Text(change.transition.name()),
        Bind::Text(cause),
        Bind::BigInt(change.at.0),
        Bind::OptionalText(change.actor.as_deref()),
        Bind::OptionalText(change.note.as_deref()),
        Bind::Bool(change.quiet),
        Bind::Text(change.alert.device_sn.as_str()),
        Bind::Text(change.alert.customer_id.as_str()),
        Bind::Text(change.alert.severity.name()),
        Bind::Text(body),
        Bind::OptionalText(change.outcome().map(Outcome::name)),
    ];
    Statement::<InsertChange>::new(SQL, &binds).execute(conn)
}

/// Inserts what a device said about itself. 0 if its key is taken.
pub(super) fn insert_status(conn: &mut Conn, record: &StatusRecord) -> QueryResult<usize> {
    struct InsertStatus;
    const SQL: &str = "INSERT INTO device_status (device_sn, reported_ms, received_ms, battery_percent, \
        voltage_mv, charging, worn, software_version, model, device_name, imei, wifi_address, \
        bluetooth_address, ip_address, network_mode, status, extra) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let status = &record.status;
    let charging = status.charging.map(|charging| match charging {
        Charging::Charging => "charging",
        Charging::NotCharging => "not_charging",
    });
    let binds = [
        Bind::Text(record.device_sn.as_str()),
        Bind::BigInt(record.reported_at.0),
        Bind::BigInt(record.received_at.0),
        Bind::OptionalInteger(status.battery_percent.map(i32::from)),
        Bind::OptionalInteger(status.voltage_mv),
        Bind::OptionalText(charging),
        Bind::OptionalBool(status.worn),
        Bind::OptionalText(status.software_version.as_deref()),
        Bind::OptionalText(status.model.as_deref()),
        Bind::OptionalText(status.device_name.as_deref()),
        Bind::OptionalText(status.imei.as_deref()),
        Bind::OptionalText(status.wifi_address.as_deref()),
        Bind::OptionalText(status.bluetooth_address.as_deref()),
        Bind::OptionalText(status.ip_address.as_deref()),
        Bind::OptionalText(status.network_mode.as_deref()),
        Bind::OptionalText(status.status.as_deref()),
        Bind::OptionalText(record.extra.as_deref()),
    ];
    Statement::<InsertStatus>::new(SQL, &binds).execute(conn)
}

/// What a device's row gets from its reports.
pub(super) fn device_binds(records: &Records) -> [Bind<'_>; 6] {
    [
        Bind::Text(records.device_sn.as_str()),
        Bind::Text(records.customer_id.as_str()),
        Bind::BigInt(records.received_at.0),
        Bind::BigInt(records.received_at.0),
        Bind::OptionalBool(records.worn.map(|(worn, _)| worn)),
        Bind::BigInt(records.worn.map_or(0, |(_, at)| at.0)),
    ]
}

fn coordinates(location: Option<Location>) -> [Bind<'static>; 3] {
    [
        location.map(|location| location.latitude),
        location.map(|location| location.longitude),
        location.and_then(|location| location.altitude),
    ]
    .map(Bind::OptionalDouble)
}
