//! What one device measured and where it was, over hours: charts and tracks.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Nullable};
use serde::Serialize;

use super::conn::Db;
use super::database::{Conn, StorageError};
use super::events::{ZONE_OFFSET_MAX_MS, id_prefix};
use super::page::{filter_only, filter_only_if};
use super::schema::{device, event, vitals};
use crate::domain::days::HOUR_MS;
use crate::domain::ids::DeviceSn;
use crate::domain::owner::Scope;
use crate::domain::time::UtcMillis;
use crate::domain::vitals::Metric;

/// Hours that a chart or a track may go back: a week.
pub const HOURS_MAX: u16 = 168;
/// Points of one metric.
pub const POINTS_MAX: i64 = 500;
/// Points of a track; of more, the newest.
pub const TRACK_MAX: usize = 1_000;

/// Widths of a point, seconds. Watches measure about once a minute.
const STEPS_S: [i64; 8] = [60, 120, 180, 300, 600, 900, 1_200, 1_800];

/// The hours before an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: UtcMillis,
    to: UtcMillis,
    step_s: i64,
}

impl Window {
    /// `None` unless `hours` is 1 to [`HOURS_MAX`].
    pub fn new(now: UtcMillis, hours: u16) -> Option<Self> {
        if !(1..=HOURS_MAX).contains(&hours) {
            return None;
        }
        let length_s = i64::from(hours) * 3_600;
        // One point more, since the first and the last step may be cut off.
        let fits = |step: &i64| length_s / step < POINTS_MAX;
        let step_s = STEPS_S.into_iter().find(fits).unwrap_or(STEPS_S[STEPS_S.len() - 1]);
        Some(Self { from: now.saturating_add_ms(-i64::from(hours) * HOUR_MS), to: now, step_s })
    }
}

/// `[t_ms, min, avg, max]` of the samples from `t_ms` on, for one step.
pub type Point = (i64, f64, f64, f64);

/// What was measured, in equal steps. Steps without a sample are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    pub step_s: i64,
    #[serde(serialize_with = "by_name")]
    pub metrics: Vec<(Metric, Vec<Point>)>,
}

fn by_name<S: serde::Serializer>(metrics: &[(Metric, Vec<Point>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(metrics.iter().map(|(metric, points)| (metric.name(), points)))
}

type Value = Nullable<Double>;
type Values = (Value, Value, Value, Value, Value, Value, Value, Value, Value);
type Measured = (
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
);

/// Smallest, mean and largest value of each metric, by step. What a watch repeats that nobody
/// wears is no measurement. `None` if the caller may not see the device.
pub fn series(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
    window: Window,
) -> Result<Option<Series>, StorageError> {
    if !is_visible(conn, scope, device_sn)? {
        return Ok(None);
    }
    let step_ms = window.step_s * 1_000;
    let each = |function: &str| Metric::ALL.map(|metric| format!("{function}({})", metric.name())).join(", ");
    let columns =
        format!("measured_ms / {step_ms} AS at_step, {}, {}, {}", each("min"), each("avg"), each("max"));
    let mut query = vitals::table
        .group_by(sql::<BigInt>("at_step"))
        .select(sql::<(BigInt, Values, Values, Values)>(&columns))
        .into_boxed::<Db>();
    query = query
        .filter(vitals::device_sn.eq(device_sn.as_str()))
        .filter(vitals::measured_ms.ge(window.from.0))
        .filter(vitals::measured_ms.le(window.to.0))
        .filter(filter_only_if("+worn"));
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let mut rows: Vec<(i64, Measured, Measured, Measured)> = query.load(conn)?;
    rows.sort_unstable_by_key(|(step, ..)| *step);
    let mut metrics: Vec<(Metric, Vec<Point>)> =
        Metric::ALL.map(|metric| (metric, Vec::with_capacity(rows.len()))).into();
    for (step, min, mean, max) in rows {
        for ((((_, points), min), mean), max) in
            metrics.iter_mut().zip(array(min)).zip(array(mean)).zip(array(max))
        {
            if let (Some(min), Some(mean), Some(max)) = (min, mean, max) {
                points.push((step * step_ms, min, (mean * 100.0).round() / 100.0, max));
            }
        }
    }
    metrics.retain(|(_, points)| !points.is_empty());
    Ok(Some(Series { step_s: window.step_s, metrics }))
}

fn array(row: Measured) -> [Option<f64>; Metric::COUNT] {
    [row.0, row.1, row.2, row.3, row.4, row.5, row.6, row.7, row.8]
}

/// A place and when the device was there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    pub at: UtcMillis,
    pub latitude: f64,
    pub longitude: f64,
}

/// A place, and what happened there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrackPoint {
    #[serde(flatten)]
    pub place: Place,
    /// `None` for a place that came with vital signs.
    pub event_type: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Track {
    /// Oldest first.
    pub points: Vec<TrackPoint>,
    /// True if older points were left out.
    pub truncated: bool,
}

/// Where the device was. `None` if the caller may not see it.
pub fn track(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
    window: Window,
) -> Result<Option<Track>, StorageError> {
    if !is_visible(conn, scope, device_sn)? {
        return Ok(None);
    }
    let mut points = event_places(conn, scope, device_sn, window, TRACK_MAX + 1)?;
    let samples = vitals_places(conn, scope, device_sn, window, TRACK_MAX + 1)?;
    points.extend(samples.into_iter().map(|place| TrackPoint { place, event_type: None }));
    // At the same time what happened goes before what was measured, which is the same place again.
    points.sort_by(|a, b| b.place.at.cmp(&a.place.at).then(b.event_type.cmp(&a.event_type)));
    points.dedup_by(|next, kept| next.place.at == kept.place.at && next.event_type.is_none());
    let truncated = points.len() > TRACK_MAX;
    points.truncate(TRACK_MAX);
    points.reverse();
    Ok(Some(Track { points, truncated }))
}

/// The newest place of the last [`HOURS_MAX`] hours.
pub(super) fn last_place(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
    now: UtcMillis,
) -> Result<Option<Place>, StorageError> {
    let Some(window) = Window::new(now, HOURS_MAX) else { return Ok(None) };
    let events = event_places(conn, scope, device_sn, window, 1)?.into_iter().map(|point| point.place);
    let samples = vitals_places(conn, scope, device_sn, window, 1)?;
    Ok(events.chain(samples).max_by_key(|place| place.at))
}

/// Newest first.
fn event_places(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
    window: Window,
    max: usize,
) -> Result<Vec<TrackPoint>, StorageError> {
    type Row = (i64, Option<f64>, Option<f64>, String);
    let lower = id_prefix(window.from.0.saturating_sub(ZONE_OFFSET_MAX_MS));
    let columns = (event::occurred_ms, event::latitude, event::longitude, event::event_type);
    let mut query = event::table.select(columns).into_boxed::<Db>();
    query = query
        .filter(event::device_sn.eq(device_sn.as_str()))
        .filter(event::event_id.ge(lower.to_vec()))
        .filter(event::occurred_ms.ge(window.from.0))
        .filter(event::occurred_ms.le(window.to.0))
        .filter(event::latitude.is_not_null())
        .order(event::event_id.desc());
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let rows: Vec<Row> = query.limit(max as i64).load(conn)?;
    let point = |(at, latitude, longitude, event_type): Row| {
        Some(TrackPoint { place: place(at, latitude, longitude)?, event_type: Some(event_type) })
    };
    Ok(rows.into_iter().filter_map(point).collect())
}

/// Newest first.
fn vitals_places(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
    window: Window,
    max: usize,
) -> Result<Vec<Place>, StorageError> {
    type Row = (i64, Option<f64>, Option<f64>);
    let columns = (vitals::measured_ms, vitals::latitude, vitals::longitude);
    let mut query = vitals::table.select(columns).into_boxed::<Db>();
    query = query
        .filter(vitals::device_sn.eq(device_sn.as_str()))
        .filter(vitals::measured_ms.ge(window.from.0))
        .filter(vitals::measured_ms.le(window.to.0))
        .filter(vitals::latitude.is_not_null())
        .order(vitals::measured_ms.desc());
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let rows: Vec<Row> = query.limit(max as i64).load(conn)?;
    Ok(rows.into_iter().filter_map(|(at, latitude, longitude)| place(at, latitude, longitude)).collect())
}

fn place(at: i64, latitude: Option<f64>, longitude: Option<f64>) -> Option<Place> {
    Some(Place { at: UtcMillis(at), latitude: latitude?, longitude: longitude? })
}

fn is_visible(conn: &mut Conn, scope: &Scope, device_sn: &DeviceSn) -> Result<bool, StorageError> {
    let mut query = device::table.select(device::device_sn).into_boxed::<Db>();
    query = query.filter(device::device_sn.eq(device_sn.as_str()));
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+customer_id").eq(customer.as_str()));
    }
    let found: Option<String> = query.first(conn).optional()?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_has_more_points_than_are_allowed() {
        for hours in 1..=HOURS_MAX {
            let window = Window::new(UtcMillis(1_757_480_730_123), hours).expect("a window");
            let steps = window.to.0 / 1_000 / window.step_s - window.from.0 / 1_000 / window.step_s + 1;
            assert!(steps <= POINTS_MAX, "{hours} hours have {steps} points");
            assert_eq!(window.to.ms_since(window.from), i64::from(hours) * HOUR_MS);
        }
        assert!(Window::new(UtcMillis(0), 0).is_none() && Window::new(UtcMillis(0), HOURS_MAX + 1).is_none());
    }
}
