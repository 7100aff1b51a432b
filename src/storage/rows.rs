//! Rows as they are inserted: domain records borrowed into columns.

use diesel::prelude::*;

use super::schema::{alert, alert_change, device_status, event, vitals};
use crate::domain::alert::AlertChange;
use crate::domain::event::Location;
use crate::domain::ids::Offset;
use crate::domain::record::{EventRecord, StatusRecord, VitalsRecord};
use crate::domain::status::Charging;
use crate::domain::vitals::Metric;

#[derive(Insertable)]
#[diesel(table_name = event, treat_none_as_default_value = false)]
pub(super) struct EventRow<'a> {
    event_id: &'a [u8],
    device_sn: &'a str,
    customer_id: &'a str,
    org_id: Option<&'a str>,
    person_id: Option<&'a str>,
    binding_id: i64,
    event_type: &'a str,
    type_key: String,
    value: Option<&'a str>,
    occurred_ms: i64,
    time_source: &'a str,
    received_ms: i64,
    client_event_id: Option<&'a str>,
    level: Option<&'a str>,
    description: Option<&'a str>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    altitude: Option<f64>,
    vitals_ms: Option<i64>,
    claims: Option<String>,
    extra: Option<&'a str>,
    warnings: Option<&'a str>,
    identity_hash: Option<&'a [u8]>,
    alert_id: Option<i64>,
    evaluated: bool,
}

impl<'a> EventRow<'a> {
    pub fn new(record: &'a EventRecord) -> Self {
        let (latitude, longitude, altitude) = coordinates(record.event.location);
        // Texts of a map of texts: there is nothing in it that could fail to be written.
        let claims =
            (!record.claims.is_empty()).then(|| serde_json::to_string(&record.claims).unwrap_or_default());
        Self {
            event_id: &record.event_id.0,
            device_sn: record.device_sn.as_str(),
            customer_id: record.owner.customer_id.as_str(),
            org_id: record.owner.org_id.as_ref().map(|id| id.as_str()),
            person_id: record.owner.person_id.as_ref().map(|id| id.as_str()),
            binding_id: record.owner.binding_id.0,
            event_type: &record.event.event_type,
            type_key: record.event.short_type().to_lowercase(),
            value: record.event.value.as_deref(),
            occurred_ms: record.occurred_at.0,
            time_source: record.time_source.name(),
            received_ms: record.received_at.0,
            client_event_id: record.event.client_event_id.as_deref(),
            level: record.event.level.as_deref(),
            description: record.event.description.as_deref(),
            latitude,
            longitude,
            altitude,
            vitals_ms: record.vitals_at.map(|at| at.0),
            claims,
            extra: record.extra.as_deref(),
            warnings: record.warnings.as_deref(),
            identity_hash: record.identity_hash.as_ref().map(|hash| hash.as_slice()),
            alert_id: record.alert_id.map(|id| id.0),
            evaluated: record.evaluated,
        }
    }
}

#[derive(Insertable)]
#[diesel(table_name = vitals, treat_none_as_default_value = false)]
pub(super) struct VitalsRow<'a> {
    device_sn: &'a str,
    measured_ms: i64,
    received_ms: i64,
    customer_id: &'a str,
    person_id: Option<&'a str>,
    heart_rate: Option<f64>,
    blood_oxygen: Option<f64>,
    body_temperature: Option<f64>,
    blood_pressure_systolic: Option<f64>,
    blood_pressure_diastolic: Option<f64>,
    stress: Option<f64>,
    step: Option<f64>,
    distance: Option<f64>,
    calorie: Option<f64>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    altitude: Option<f64>,
    upload_method: Option<&'a str>,
    sleep: Option<&'a str>,
    exercise_daily: Option<&'a str>,
    exercise_week: Option<&'a str>,
    scientific_sleep: Option<&'a str>,
    workout: Option<&'a str>,
    worn: bool,
    identity_hash: Option<&'a [u8]>,
    extra: Option<&'a str>,
}

impl<'a> VitalsRow<'a> {
    pub fn new(record: &'a VitalsRecord) -> Self {
        let (latitude, longitude, altitude) = coordinates(record.location);
        let metric = |metric| record.metrics.get(metric);
        Self {
            device_sn: record.device_sn.as_str(),
            measured_ms: record.measured_at.0,
            received_ms: record.received_at.0,
            customer_id: record.owner.customer_id.as_str(),
            person_id: record.owner.person_id.as_ref().map(|id| id.as_str()),
            heart_rate: metric(Metric::HeartRate),
            blood_oxygen: metric(Metric::BloodOxygen),
            body_temperature: metric(Metric::BodyTemperature),
            blood_pressure_systolic: metric(Metric::BloodPressureSystolic),
            blood_pressure_diastolic: metric(Metric::BloodPressureDiastolic),
            stress: metric(Metric::Stress),
            step: metric(Metric::Step),
            distance: metric(Metric::Distance),
            calorie: metric(Metric::Calorie),
            latitude,
            longitude,
            altitude,
            upload_method: record.upload_method.as_deref(),
            sleep: record.history.sleep.as_deref(),
            exercise_daily: record.history.exercise_daily.as_deref(),
            exercise_week: record.history.exercise_week.as_deref(),
            scientific_sleep: record.history.scientific_sleep.as_deref(),
            workout: record.history.workout.as_deref(),
            worn: record.worn,
            identity_hash: record.identity_hash.as_ref().map(|hash| hash.as_slice()),
            extra: record.extra.as_deref(),
        }
    }
}

#[derive(Insertable)]
#[diesel(table_name = device_status, treat_none_as_default_value = false)]
pub(super) struct StatusRow<'a> {
    device_sn: &'a str,
    reported_ms: i64,
    received_ms: i64,
    battery_percent: Option<i32>,
    voltage_mv: Option<i32>,
    charging: Option<&'a str>,
    worn: Option<bool>,
    software_version: Option<&'a str>,
    model: Option<&'a str>,
    device_name: Option<&'a str>,
    imei: Option<&'a str>,
    wifi_address: Option<&'a str>,
    bluetooth_address: Option<&'a str>,
    ip_address: Option<&'a str>,
    network_mode: Option<&'a str>,
    status: Option<&'a str>,
    extra: Option<&'a str>,
}

impl<'a> StatusRow<'a> {
    pub fn new(record: &'a StatusRecord) -> Self {
        let status = &record.status;
        Self {
            device_sn: record.device_sn.as_str(),
            reported_ms: record.reported_at.0,
            received_ms: record.received_at.0,
            battery_percent: status.battery_percent.map(i32::from),
            voltage_mv: status.voltage_mv,
            charging: status.charging.map(|charging| match charging {
                Charging::Charging => "charging",
                Charging::NotCharging => "not_charging",
            }),
            worn: status.worn,
            software_version: status.software_version.as_deref(),
            model: status.model.as_deref(),
            device_name: status.device_name.as_deref(),
            imei: status.imei.as_deref(),
            wifi_address: status.wifi_address.as_deref(),
            bluetooth_address: status.bluetooth_address.as_deref(),
            ip_address: status.ip_address.as_deref(),
            network_mode: status.network_mode.as_deref(),
            status: status.status.as_deref(),
            extra: record.extra.as_deref(),
        }
    }
}

#[derive(Insertable)]
#[diesel(table_name = alert, treat_none_as_default_value = false)]
pub(super) struct AlertRow<'a> {
    alert_id: i64,
    rule_id: &'a str,
    device_sn: &'a str,
    binding_id: i64,
    customer_id: &'a str,
    severity: &'a str,
    state: &'a str,
    is_open: bool,
    count: i32,
    occurred_ms: i64,
    raised_ms: i64,
    last_offset: i64,
    body: &'a str,
}

impl<'a> AlertRow<'a> {
    /// `body` is the alert as JSON.
    pub fn new(change: &'a AlertChange, offset: Offset, body: &'a str) -> Self {
        let alert = &change.alert;
        Self {
            alert_id: alert.alert_id.0,
            rule_id: alert.rule_id.as_str(),
            device_sn: alert.device_sn.as_str(),
            binding_id: alert.binding_id.0,
            customer_id: alert.customer_id.as_str(),
            severity: alert.severity.name(),
            state: alert.state.name(),
            is_open: alert.state.is_open(),
            count: i32::try_from(alert.count).unwrap_or(i32::MAX),
            occurred_ms: alert.occurred_at.0,
            raised_ms: alert.raised_at.0,
            last_offset: offset,
            body,
        }
    }
}

#[derive(Insertable)]
#[diesel(table_name = alert_change, treat_none_as_default_value = false)]
pub(super) struct ChangeRow<'a> {
    change_offset: i64,
    alert_id: i64,
    transition: &'a str,
    cause: &'a str,
    at_ms: i64,
    actor: Option<&'a str>,
    note: Option<&'a str>,
    quiet: bool,
    device_sn: &'a str,
    customer_id: &'a str,
    severity: &'a str,
    body: &'a str,
}

impl<'a> ChangeRow<'a> {
    pub fn new(change: &'a AlertChange, offset: Offset, cause: &'a str, body: &'a str) -> Self {
        Self {
            change_offset: offset,
            alert_id: change.alert.alert_id.0,
            transition: change.transition.name(),
            cause,
            at_ms: change.at.0,
            actor: change.actor.as_deref(),
            note: change.note.as_deref(),
            quiet: change.quiet,
            device_sn: change.alert.device_sn.as_str(),
            customer_id: change.alert.customer_id.as_str(),
            severity: change.alert.severity.name(),
            body,
        }
    }
}

fn coordinates(location: Option<Location>) -> (Option<f64>, Option<f64>, Option<f64>) {
    match location {
        Some(location) => (Some(location.latitude), Some(location.longitude), location.altitude),
        None => (None, None, None),
    }
}
