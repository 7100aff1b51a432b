//! Reads of tables `device`, `device_status` and `vitals` for lists and single devices.

use diesel::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;

use super::conn::Db;
use super::database::{Conn, StorageError};
use super::page::{Page, PageLimit, filter_only};
use super::schema::{device, device_status, vitals};
use super::{alerts, owners};
use crate::domain::event::Location;
use crate::domain::ids::{CustomerId, DeviceSn};
use crate::domain::owner::{Owner, Scope};
use crate::domain::time::UtcMillis;
use crate::domain::vitals::{Metric, Metrics};

#[derive(Debug, Clone, Serialize)]
pub struct DeviceSummary {
    pub device_sn: DeviceSn,
    pub customer_id: String,
    pub first_seen_at: UtcMillis,
    /// `None` if it is bound and has not reported yet.
    pub last_seen_at: Option<UtcMillis>,
    /// `None` is unknown.
    pub worn: Option<bool>,
    /// `None` if nobody has it.
    pub binding: Option<Owner>,
}

/// What the device last said about itself.
#[derive(Debug, Clone, Serialize, Queryable, Selectable)]
#[diesel(table_name = device_status, check_for_backend(Db))]
pub struct PresentStatus {
    #[serde(skip)]
    reported_ms: i64,
    pub battery_percent: Option<i32>,
    pub voltage_mv: Option<i32>,
    pub charging: Option<String>,
    pub worn: Option<bool>,
    pub software_version: Option<String>,
    pub model: Option<String>,
    pub device_name: Option<String>,
    pub imei: Option<String>,
    pub wifi_address: Option<String>,
    pub bluetooth_address: Option<String>,
    pub ip_address: Option<String>,
    pub network_mode: Option<String>,
    pub status: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct LastVitals {
    pub measured_at: UtcMillis,
    pub worn: bool,
    pub metrics: Metrics,
    pub location: Option<Location>,
}

/// All that one device's page shows.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceDetail {
    #[serde(flatten)]
    pub device: DeviceSummary,
    pub status_reported_at: Option<UtcMillis>,
    pub status: Option<PresentStatus>,
    pub vitals: Option<LastVitals>,
    pub bindings: Vec<owners::BindingPeriod>,
    pub open_alerts: Vec<Box<RawValue>>,
}

type SummaryRow = (String, String, i64, i64, Option<bool>);
const SUMMARY: (
    device::device_sn,
    device::customer_id,
    device::first_seen_ms,
    device::last_seen_ms,
    device::worn,
) = (device::device_sn, device::customer_id, device::first_seen_ms, device::last_seen_ms, device::worn);

/// Devices by serial.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    customer_id: Option<&CustomerId>,
    after: Option<&DeviceSn>,
    limit: PageLimit,
) -> Result<Page<DeviceSummary, DeviceSn>, StorageError> {
    let customer = match (scope.customer(), customer_id) {
        (Some(own), Some(asked)) if own != asked => return Ok(Page::empty()),
        (own, asked) => own.or(asked),
    };
    let mut query = device::table.select(SUMMARY).into_boxed::<Db>();
    query = query.filter(device::device_sn.gt(after.map_or("", DeviceSn::as_str))).order(device::device_sn);
    if let Some(customer) = customer {
        query = query.filter(device::customer_id.eq(customer.as_str()));
    }
    let rows: Vec<SummaryRow> = query.limit(limit.rows()).load(conn)?;
    let mut devices = rows.into_iter().map(into_summary).collect::<Result<Vec<_>, _>>()?;
    let serials: Vec<DeviceSn> = devices.iter().map(|device| device.device_sn.clone()).collect();
    let mut owned: std::collections::HashMap<_, _> = owners::owners(conn, &serials)?.into_iter().collect();
    for device in &mut devices {
        device.binding = owned.remove(&device.device_sn);
    }
    Ok(Page::cut(devices, limit, |device: &DeviceSummary| device.device_sn.clone()))
}

/// One device, if the caller may see it: what came before it was theirs stays hidden.
pub fn get(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
) -> Result<Option<DeviceDetail>, StorageError> {
    let Some(device) = summary(conn, scope, device_sn)? else { return Ok(None) };
    let bindings = owners::history(conn, scope, device_sn)?;
    let since = match scope {
        Scope::All => UtcMillis(i64::MIN),
        Scope::Customer(_) => owners::in_these_hands_since(conn, device_sn)?,
    };
    let status = status(conn, device_sn, since)?;
    Ok(Some(DeviceDetail {
        device,
        status_reported_at: status.as_ref().map(|status| UtcMillis(status.reported_ms)),
        status,
        vitals: last_vitals(conn, scope, device_sn)?,
        bindings,
        open_alerts: alerts::open_of_device(conn, scope, device_sn)?,
    }))
}

/// One device with its owner.
pub fn summary(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
) -> Result<Option<DeviceSummary>, StorageError> {
    let mut query =
        device::table.filter(device::device_sn.eq(device_sn.as_str())).select(SUMMARY).into_boxed::<Db>();
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let row: Option<SummaryRow> = query.first(conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    let owner = owners::owner(conn, device_sn)?;
    Ok(Some(DeviceSummary { binding: Some(owner).filter(Owner::is_bound), ..into_summary(row)? }))
}

fn into_summary(row: SummaryRow) -> Result<DeviceSummary, StorageError> {
    let (serial, customer_id, first_seen, last_seen, worn) = row;
    let device_sn = DeviceSn::parse(&serial)
        .map_err(|err| StorageError::Corrupt { what: "device", message: err.to_string() })?;
    Ok(DeviceSummary {
        device_sn,
        customer_id,
        first_seen_at: UtcMillis(first_seen),
        last_seen_at: (last_seen > 0).then_some(UtcMillis(last_seen)),
        worn,
        binding: None,
    })
}

fn status(
    conn: &mut Conn,
    device_sn: &DeviceSn,
    since: UtcMillis,
) -> Result<Option<PresentStatus>, StorageError> {
    let newest = device_status::table
        .filter(device_status::device_sn.eq(device_sn.as_str()))
        .filter(device_status::received_ms.ge(since.0))
        .order(device_status::reported_ms.desc())
        .select(PresentStatus::as_select());
    Ok(newest.first(conn).optional()?)
}

fn last_vitals(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
) -> Result<Option<LastVitals>, StorageError> {
    type Values = (Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>);
    type More = (Option<f64>, Option<f64>, Option<f64>, Option<f64>);
    type Place = (Option<f64>, Option<f64>, Option<f64>);
    let mut query = vitals::table
        .filter(vitals::device_sn.eq(device_sn.as_str()))
        .order(vitals::measured_ms.desc())
        .select((
            vitals::measured_ms,
            vitals::worn,
            (
                vitals::heart_rate,
                vitals::blood_oxygen,
                vitals::body_temperature,
                vitals::blood_pressure_systolic,
                vitals::blood_pressure_diastolic,
            ),
            (vitals::stress, vitals::step, vitals::distance, vitals::calorie),
            (vitals::latitude, vitals::longitude, vitals::altitude),
        ))
        .into_boxed::<Db>();
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let row: Option<(i64, bool, Values, More, Place)> = query.first(conn).optional()?;
    Ok(row.map(|(measured_ms, worn, values, more, (latitude, longitude, altitude))| {
        let mut metrics = Metrics::default();
        let values = [values.0, values.1, values.2, values.3, values.4, more.0, more.1, more.2, more.3];
        // In the order of `Metric::ALL`.
        for (metric, value) in Metric::ALL.into_iter().zip(values) {
            if let Some(value) = value {
                metrics.set(metric, value);
            }
        }
        let location =
            latitude.zip(longitude).map(|(latitude, longitude)| Location { latitude, longitude, altitude });
        LastVitals { measured_at: UtcMillis(measured_ms), worn, metrics, location }
    }))
}

/// Devices that nobody is bound to, at most `max`: what strangers have registered so far.
pub fn unbound(conn: &mut Conn, max: usize) -> Result<Vec<DeviceSn>, StorageError> {
    use super::schema::device_binding;
    let bound = device_binding::table
        .filter(device_binding::device_sn.eq(device::device_sn))
        .filter(device_binding::unbound_ms.is_null());
    let serials: Vec<String> = device::table
        .filter(diesel::dsl::not(diesel::dsl::exists(bound)))
        .select(device::device_sn)
        .limit(i64::try_from(max).unwrap_or(i64::MAX))
        .load(conn)?;
    // All were parsed before they were stored.
    Ok(serials.iter().filter_map(|serial| DeviceSn::parse(serial).ok()).collect())
}
