//! Reads of tables `device`, `device_status` and `vitals` for lists and single devices.

use std::collections::HashMap;

use diesel::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;

use super::conn::Db;
use super::database::{Conn, StorageError};
use super::history::{self, Place};
use super::page::{Page, PageLimit, filter_only};
use super::schema::{device, device_status, vitals};
use super::{alerts, owners};
use crate::domain::event::Location;
use crate::domain::ids::{CustomerId, DeviceSn};
use crate::domain::owner::{Owner, Scope};
use crate::domain::presence::{Patience, Presence};
use crate::domain::time::UtcMillis;
use crate::domain::vitals::{Metric, Metrics};

/// Devices that one page looks at when it searches; the next goes on from there. So a page may be
/// short, even empty, although it is not the last.
pub const EXAMINED_MAX: usize = 20_000;
/// Devices that are read at a time.
const CHUNK: usize = 500;

/// Which devices a list shows.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    pub customer_id: Option<CustomerId>,
    /// Part of the serial, of the wearer's name or of the organisation's name, without case.
    pub search: Option<String>,
    pub state: Option<Presence>,
}

/// A device as lists show it.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceSummary {
    pub device_sn: DeviceSn,
    pub customer_id: String,
    pub first_seen_at: UtcMillis,
    /// `None` if it is bound and has not reported yet.
    pub last_seen_at: Option<UtcMillis>,
    pub state: Presence,
    /// Last sign of life of a device that is silent, milliseconds since 1970.
    pub silent_since: Option<i64>,
    /// `None` is unknown.
    pub worn: Option<bool>,
    /// `None` is unknown.
    pub charging: Option<bool>,
    pub battery_percent: Option<i32>,
    pub model: Option<String>,
    pub person_id: Option<String>,
    pub person_name: Option<Box<str>>,
    pub org_id: Option<String>,
    pub org_name: Option<Box<str>>,
    /// How many alerts of it are open.
    pub open_alerts: i64,
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
    /// Where it was last, of what it said within [`history::HOURS_MAX`].
    pub last_location: Option<Place>,
    pub bindings: Vec<owners::BindingPeriod>,
    /// The open alerts themselves, newest first.
    pub alerts: Vec<Box<RawValue>>,
}

type Row = (String, String, i64, i64, Option<bool>);
const COLUMNS: (
    device::device_sn,
    device::customer_id,
    device::first_seen_ms,
    device::last_seen_ms,
    device::worn,
) = (device::device_sn, device::customer_id, device::first_seen_ms, device::last_seen_ms, device::worn);

/// A row of `device` and who wears it.
struct Known {
    device_sn: DeviceSn,
    customer_id: String,
    first_seen_at: UtcMillis,
    last_seen_at: Option<UtcMillis>,
    worn: Option<bool>,
    owner: Option<Owner>,
}

/// Devices by serial. A search reads on until the page is full, at most [`EXAMINED_MAX`] devices.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &DeviceFilter,
    patience: Patience,
    after: Option<&DeviceSn>,
    limit: PageLimit,
) -> Result<Page<DeviceSummary, DeviceSn>, StorageError> {
    let Some(customer) = scope.narrowed(filter.customer_id.as_ref()) else { return Ok(Page::empty()) };
    let wanted = limit.rows() as usize;
    let searches = filter.search.is_some() || filter.state.is_some();
    let chunk = if searches { CHUNK } else { wanted };
    let needle = filter.search.as_deref().map(str::to_lowercase);
    let mut after = after.cloned();
    let (mut found, mut examined) = (Vec::new(), 0);
    loop {
        let known = chunk_of(conn, customer, after.as_ref(), chunk)?;
        let is_last = known.len() < chunk;
        examined += known.len();
        after = known.last().map(|known| known.device_sn.clone()).or(after);
        for known in known {
            if needle.as_deref().is_some_and(|needle| !known.is_called(needle)) {
                continue;
            }
            if filter.state.is_some_and(|state| known.is_surely_not(state, patience)) {
                continue;
            }
            let (summary, _) = summarise(conn, scope, known, patience)?;
            if filter.state.is_none_or(|state| state == summary.state) {
                found.push(summary);
            }
            if found.len() == wanted {
                break;
            }
        }
        if is_last || found.len() == wanted {
            return Ok(Page::cut(found, limit, |device: &DeviceSummary| device.device_sn.clone()));
        }
        if examined >= EXAMINED_MAX {
            return Ok(Page { items: found, next: after });
        }
    }
}

fn chunk_of(
    conn: &mut Conn,
    customer: Option<&CustomerId>,
    after: Option<&DeviceSn>,
    rows: usize,
) -> Result<Vec<Known>, StorageError> {
    let mut query = device::table.select(COLUMNS).into_boxed::<Db>();
    query = query.filter(device::device_sn.gt(after.map_or("", DeviceSn::as_str))).order(device::device_sn);
    if let Some(customer) = customer {
        query = query.filter(device::customer_id.eq(customer.as_str()));
    }
    let rows: Vec<Row> = query.limit(rows as i64).load(conn)?;
    let mut known = rows.into_iter().map(|row| Known::new(row, None)).collect::<Result<Vec<_>, _>>()?;
    let serials: Vec<DeviceSn> = known.iter().map(|known| known.device_sn.clone()).collect();
    let mut owned: HashMap<_, _> = owners::owners(conn, &serials)?.into_iter().collect();
    for known in &mut known {
        known.owner = owned.remove(&known.device_sn);
    }
    Ok(known)
}

impl Known {
    fn new(
        (serial, customer_id, first_seen, last_seen, worn): Row,
        owner: Option<Owner>,
    ) -> Result<Self, StorageError> {
        let device_sn = DeviceSn::parse(&serial)
            .map_err(|err| StorageError::Corrupt { what: "device", message: err.to_string() })?;
        Ok(Self {
            device_sn,
            customer_id,
            first_seen_at: UtcMillis(first_seen),
            last_seen_at: (last_seen > 0).then_some(UtcMillis(last_seen)),
            worn,
            owner,
        })
    }

    /// `needle` is in lower case.
    fn is_called(&self, needle: &str) -> bool {
        let (person, org) = match &self.owner {
            Some(owner) => (owner.person_name.as_deref(), owner.org_name.as_deref()),
            None => (None, None),
        };
        let names = [Some(self.device_sn.as_str()), person, org];
        names.into_iter().flatten().any(|name| name.to_lowercase().contains(needle))
    }

    /// True if no look at its status is needed to see that it is not in this state.
    fn is_surely_not(&self, state: Presence, patience: Patience) -> bool {
        let roughly = Presence::of(self.last_seen_at, None, self.worn, patience);
        (roughly.is_away() || state.is_away()) && roughly != state
    }
}

/// Fills in what other tables know, as far as the caller may see it.
fn summarise(
    conn: &mut Conn,
    scope: &Scope,
    known: Known,
    patience: Patience,
) -> Result<(DeviceSummary, Option<PresentStatus>), StorageError> {
    let Known { device_sn, customer_id, first_seen_at, last_seen_at, worn, owner } = known;
    // What it said before it came to its present customer stays hidden from that customer.
    let since = match scope {
        Scope::All => UtcMillis(i64::MIN),
        Scope::Customer(_) => owners::in_these_hands_since(conn, &device_sn)?,
    };
    let status = status(conn, &device_sn, since)?;
    let said = status.as_ref();
    let charging = said.and_then(|said| said.charging.as_deref()).map(|word| word == "charging");
    let state = Presence::of(last_seen_at, charging, worn, patience);
    let wearer = owner.as_ref();
    let summary = DeviceSummary {
        open_alerts: alerts::count_open_of_device(conn, scope, &device_sn)?,
        customer_id,
        first_seen_at,
        last_seen_at,
        state,
        silent_since: last_seen_at.filter(|_| state == Presence::Silent).map(|last| last.0),
        worn,
        charging,
        battery_percent: said.and_then(|said| said.battery_percent),
        model: said.and_then(|said| said.model.clone()),
        person_id: wearer.and_then(|owner| owner.person_id.as_ref()).map(ToString::to_string),
        person_name: wearer.and_then(|owner| owner.person_name.clone()),
        org_id: wearer.and_then(|owner| owner.org_id.as_ref()).map(ToString::to_string),
        org_name: wearer.and_then(|owner| owner.org_name.clone()),
        binding: owner,
        device_sn,
    };
    Ok((summary, status))
}

/// One device, if the caller may see it: what came before it was theirs stays hidden.
pub fn get(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
    patience: Patience,
) -> Result<Option<DeviceDetail>, StorageError> {
    let Some(known) = find(conn, scope, device_sn)? else { return Ok(None) };
    let (device, status) = summarise(conn, scope, known, patience)?;
    Ok(Some(DeviceDetail {
        device,
        status_reported_at: status.as_ref().map(|status| UtcMillis(status.reported_ms)),
        status,
        vitals: last_vitals(conn, scope, device_sn)?,
        last_location: history::last_place(conn, scope, device_sn, patience.now)?,
        bindings: owners::history(conn, scope, device_sn)?,
        alerts: alerts::open_of_device(conn, scope, device_sn)?,
    }))
}

fn find(conn: &mut Conn, scope: &Scope, device_sn: &DeviceSn) -> Result<Option<Known>, StorageError> {
    let mut query =
        device::table.filter(device::device_sn.eq(device_sn.as_str())).select(COLUMNS).into_boxed::<Db>();
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let row: Option<Row> = query.first(conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    let owner = owners::owner(conn, device_sn)?;
    Known::new(row, Some(owner).filter(Owner::is_bound)).map(Some)
}

/// Who has one device now; `None` within if nobody does, without if the caller may not see it.
pub fn binding(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
) -> Result<Option<Option<Owner>>, StorageError> {
    Ok(find(conn, scope, device_sn)?.map(|known| known.owner))
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
