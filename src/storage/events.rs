//! Reads of table `event`.

use diesel::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;

use super::conn::Db;
use super::database::{Conn, StorageError};
use super::page::{Page, PageLimit, filter_only};
use super::schema::event;
use crate::domain::event::Location;
use crate::domain::ids::{AlertId, CustomerId, DeviceSn, EventId};
use crate::domain::owner::Scope;
use crate::domain::time::UtcMillis;

/// The time in an event id is the wall clock read as UTC: it may be off by any zone's offset.
pub(super) const ZONE_OFFSET_MAX_MS: i64 = 24 * 3_600_000;

#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub device_sn: Option<DeviceSn>,
    /// Compared by its last dotted segment, without case.
    pub event_type: Option<String>,
    pub customer_id: Option<CustomerId>,
    /// By the time that it happened; `to` is not part of it.
    pub from: Option<UtcMillis>,
    pub to: Option<UtcMillis>,
}

/// An event as the REST API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct StoredEvent {
    pub event_id: EventId,
    pub device_sn: String,
    pub event_type: String,
    pub value: Option<String>,
    pub occurred_at: UtcMillis,
    pub time_source: String,
    pub received_at: UtcMillis,
    pub client_event_id: Option<String>,
    pub level: Option<String>,
    pub description: Option<String>,
    pub location: Option<Location>,
    /// Key of the health record that came with it.
    pub vitals_at: Option<UtcMillis>,
    pub customer_id: String,
    pub org_id: Option<String>,
    pub person_id: Option<String>,
    pub binding_id: i64,
    pub alert_id: Option<AlertId>,
    pub evaluated: bool,
    pub claims: Option<Box<RawValue>>,
    pub extra: Option<Box<RawValue>>,
    pub warnings: Option<Box<RawValue>>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = event, check_for_backend(Db))]
struct EventRow {
    event_id: Vec<u8>,
    device_sn: String,
    customer_id: String,
    org_id: Option<String>,
    person_id: Option<String>,
    binding_id: i64,
    event_type: String,
    value: Option<String>,
    occurred_ms: i64,
    time_source: String,
    received_ms: i64,
    client_event_id: Option<String>,
    level: Option<String>,
    description: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    altitude: Option<f64>,
    vitals_ms: Option<i64>,
    claims: Option<String>,
    extra: Option<String>,
    warnings: Option<String>,
    alert_id: Option<i64>,
    evaluated: bool,
}

/// Events in the order of their ids, newest first, before `before`.
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &EventFilter,
    before: Option<EventId>,
    limit: PageLimit,
) -> Result<Page<StoredEvent, EventId>, StorageError> {
    let Some(customer) = scope.narrowed(filter.customer_id.as_ref()) else { return Ok(Page::empty()) };
    let to = filter.to.map(|to| id_prefix(to.0.saturating_add(ZONE_OFFSET_MAX_MS)));
    let before = before.map(|id| id.0);
    let upper = before.into_iter().chain(to).min().unwrap_or([0xff; 16]);

    let mut query = event::table.select(EventRow::as_select()).into_boxed::<Db>();
    query = query.filter(event::event_id.lt(upper.to_vec())).order(event::event_id.desc());
    if let Some(from) = filter.from {
        let lower = id_prefix(from.0.saturating_sub(ZONE_OFFSET_MAX_MS));
        query = query.filter(event::event_id.ge(lower.to_vec())).filter(event::occurred_ms.ge(from.0));
    }
    if let Some(to) = filter.to {
        query = query.filter(event::occurred_ms.lt(to.0));
    }
    // One of these picks the index, from the most to the least selective; the others filter.
    let type_key = filter.event_type.as_deref().map(type_key);
    let by_device = filter.device_sn.is_some();
    let by_type = !by_device && type_key.is_some();
    if let Some(device_sn) = &filter.device_sn {
        query = query.filter(event::device_sn.eq(device_sn.as_str()));
    }
    if let Some(type_key) = type_key {
        query = match by_type {
            true => query.filter(event::type_key.eq(type_key)),
            false => query.filter(filter_only("+type_key").eq(type_key)),
        };
    }
    if let Some(customer) = customer {
        query = match by_device || by_type {
            true => query.filter(filter_only("+customer_id").eq(customer.as_str())),
            false => query.filter(event::customer_id.eq(customer.as_str())),
        };
    }
    let rows: Vec<EventRow> = query.limit(limit.rows()).load(conn)?;
    let events = rows.into_iter().map(EventRow::into_event).collect::<Result<_, _>>()?;
    Ok(Page::cut(events, limit, |event: &StoredEvent| event.event_id))
}

/// What `event.type_key` holds for a type.
fn type_key(event_type: &str) -> String {
    event_type.rsplit('.').next().unwrap_or(event_type).to_lowercase()
}

/// Events whose ids begin with a time from `from_ms` up to `to_ms`, which is not part of it: wall
/// clocks read as UTC, or arrival in UTC for what came without a usable time. Reads nothing but
/// one index.
pub(super) fn count(conn: &mut Conn, scope: &Scope, from_ms: i64, to_ms: i64) -> QueryResult<i64> {
    let (from, to) = (id_prefix(from_ms).to_vec(), id_prefix(to_ms).to_vec());
    let mut query = event::table.count().into_boxed::<Db>();
    query = query.filter(event::event_id.ge(from)).filter(event::event_id.lt(to));
    if let Some(customer) = scope.customer() {
        query = query.filter(event::customer_id.eq(customer.as_str()));
    }
    query.first(conn)
}

/// The smallest event id of a millisecond.
pub(super) fn id_prefix(ms: i64) -> [u8; 16] {
    let ms = ms.clamp(0, (1 << 48) - 1);
    let mut id = [0u8; 16];
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    id
}

impl EventRow {
    fn into_event(self) -> Result<StoredEvent, StorageError> {
        let event_id = EventId::from_slice(&self.event_id)
            .map_err(|err| StorageError::Corrupt { what: "event id", message: err.to_string() })?;
        let location = match (self.latitude, self.longitude) {
            (Some(latitude), Some(longitude)) => {
                Some(Location { latitude, longitude, altitude: self.altitude })
            }
            _ => None,
        };
        Ok(StoredEvent {
            event_id,
            device_sn: self.device_sn,
            event_type: self.event_type,
            value: self.value,
            occurred_at: UtcMillis(self.occurred_ms),
            time_source: self.time_source,
            received_at: UtcMillis(self.received_ms),
            client_event_id: self.client_event_id,
            level: self.level,
            description: self.description,
            location,
            vitals_at: self.vitals_ms.map(UtcMillis),
            customer_id: self.customer_id,
            org_id: self.org_id,
            person_id: self.person_id,
            binding_id: self.binding_id,
            alert_id: self.alert_id.map(AlertId),
            evaluated: self.evaluated,
            claims: raw("claims", self.claims)?,
            extra: raw("extra", self.extra)?,
            warnings: raw("warnings", self.warnings)?,
        })
    }
}

/// A stored JSON text, given out as it is.
pub(super) fn raw(what: &'static str, text: Option<String>) -> Result<Option<Box<RawValue>>, StorageError> {
    text.map(RawValue::from_string)
        .transpose()
        .map_err(|err| StorageError::Corrupt { what, message: err.to_string() })
}
