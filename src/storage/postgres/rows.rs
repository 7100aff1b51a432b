//! What a batch writes, each table in one statement: to another machine it is the way that costs.

use diesel::prelude::*;

use super::super::rows::{EventTexts, device_binds, event_binds, vitals_binds};
use super::batch;
use crate::domain::ids::AlertId;
use crate::domain::record::{EventRecord, Records, VitalsRecord};

/// Inserts events; those that are stored already stay as they are.
pub fn insert_events(
    conn: &mut PgConnection,
    events: &[(&EventRecord, Option<AlertId>)],
) -> QueryResult<usize> {
    struct InsertEvents;
    const SQL: &str = "INSERT INTO event (event_id, device_sn, customer_id, org_id, person_id, binding_id, \
        event_type, type_key, value, occurred_ms, time_source, received_ms, client_event_id, level, \
        description, latitude, longitude, altitude, vitals_ms, claims, extra, warnings, identity_hash, \
        alert_id, evaluated) SELECT * FROM unnest({}) ON CONFLICT DO NOTHING";
    let texts: Vec<EventTexts> = events.iter().map(|(event, _)| EventTexts::of(event)).collect();
    let rows = events.iter().zip(&texts).map(|((event, alert), texts)| event_binds(event, texts, *alert));
    batch::execute::<InsertEvents>(conn, SQL, rows)
}

/// Inserts samples, each of another key, or fills what is empty where the key is taken.
pub fn store_vitals(conn: &mut PgConnection, samples: &[VitalsRecord]) -> QueryResult<usize> {
    struct StoreVitals;
    const SQL: &str = "INSERT INTO vitals (heart_rate, blood_oxygen, body_temperature, \
        blood_pressure_systolic, blood_pressure_diastolic, stress, step, distance, calorie, \
        latitude, longitude, altitude, sleep, exercise_daily, exercise_week, scientific_sleep, workout, \
        extra, device_sn, measured_ms, received_ms, customer_id, person_id, upload_method, worn, \
        identity_hash) SELECT * FROM unnest({}) ON CONFLICT (device_sn, measured_ms) DO UPDATE SET \
        heart_rate = coalesce(vitals.heart_rate, excluded.heart_rate), \
        blood_oxygen = coalesce(vitals.blood_oxygen, excluded.blood_oxygen), \
        body_temperature = coalesce(vitals.body_temperature, excluded.body_temperature), \
        blood_pressure_systolic = \
        coalesce(vitals.blood_pressure_systolic, excluded.blood_pressure_systolic), \
        blood_pressure_diastolic = \
        coalesce(vitals.blood_pressure_diastolic, excluded.blood_pressure_diastolic), \
        stress = coalesce(vitals.stress, excluded.stress), step = coalesce(vitals.step, excluded.step), \
        distance = coalesce(vitals.distance, excluded.distance), \
        calorie = coalesce(vitals.calorie, excluded.calorie), \
        latitude = coalesce(vitals.latitude, excluded.latitude), \
        longitude = coalesce(vitals.longitude, excluded.longitude), \
        altitude = coalesce(vitals.altitude, excluded.altitude), \
        sleep = coalesce(vitals.sleep, excluded.sleep), \
        exercise_daily = coalesce(vitals.exercise_daily, excluded.exercise_daily), \
        exercise_week = coalesce(vitals.exercise_week, excluded.exercise_week), \
        scientific_sleep = coalesce(vitals.scientific_sleep, excluded.scientific_sleep), \
        workout = coalesce(vitals.workout, excluded.workout), \
        extra = coalesce(vitals.extra, excluded.extra)";
    batch::execute::<StoreVitals>(conn, SQL, samples.iter().map(vitals_binds))
}

/// The row of each device, each once. The owner is not touched, nor a newer wear report.
pub fn upsert_devices<'a>(
    conn: &mut PgConnection,
    devices: impl Iterator<Item = &'a Records>,
) -> QueryResult<usize> {
    struct UpsertDevices;
    const SQL: &str = "INSERT INTO device \
        (device_sn, customer_id, first_seen_ms, last_seen_ms, worn, worn_ms) \
        SELECT * FROM unnest({}) ON CONFLICT (device_sn) DO UPDATE SET \
        last_seen_ms = excluded.last_seen_ms, \
        worn = CASE WHEN excluded.worn IS NULL \
        OR (device.worn IS NOT NULL AND excluded.worn_ms < device.worn_ms) \
        THEN device.worn ELSE excluded.worn END, \
        worn_ms = CASE WHEN excluded.worn IS NULL \
        OR (device.worn IS NOT NULL AND excluded.worn_ms < device.worn_ms) \
        THEN device.worn_ms ELSE excluded.worn_ms END";
    batch::execute::<UpsertDevices>(conn, SQL, devices.map(device_binds))
}
