//! Rows as the pipeline would write them.

use diesel::prelude::*;
use watchpost::domain::alert::{Alert, AlertChange, Cause, Occurrence};
use watchpost::domain::ids::{AlertId, BindingId, EventId};
use watchpost::domain::owner::Owner;
use watchpost::domain::rule::Rule;
use watchpost::domain::rule_seeds;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::database::Conn;
use watchpost::storage::schema::{alert, alert_change, device, event, vitals};

use super::store::{customer, sn};

pub fn event_id(at: i64, number: u8) -> EventId {
    let mut id = [number; 16];
    id[..6].copy_from_slice(&at.to_be_bytes()[2..]);
    EventId(id)
}

pub fn insert_event(
    conn: &mut Conn,
    (at, number): (i64, u8),
    device_sn: &str,
    owner: &str,
    event_type: &str,
) {
    diesel::insert_into(event::table)
        .values((
            event::event_id.eq(event_id(at, number).0.to_vec()),
            event::device_sn.eq(device_sn),
            event::customer_id.eq(owner),
            event::binding_id.eq(0),
            event::event_type.eq(event_type),
            event::type_key.eq(event_type.rsplit('.').next().expect("a segment").to_lowercase()),
            event::occurred_ms.eq(at),
            event::time_source.eq("device"),
            event::received_ms.eq(at),
            event::extra.eq("{\"b\":1.50,\"a\":2}"),
            event::evaluated.eq(true),
        ))
        .execute(conn)
        .expect("an event");
}

pub fn insert_device(conn: &mut Conn, device_sn: &str, owner: &str) {
    diesel::insert_into(device::table)
        .values((
            device::device_sn.eq(device_sn),
            device::customer_id.eq(owner),
            device::first_seen_ms.eq(1),
            device::last_seen_ms.eq(2),
        ))
        .execute(conn)
        .expect("a device");
}

pub fn insert_vitals(conn: &mut Conn, device_sn: &str, owner: &str, at: i64, heart_rate: f64) {
    diesel::insert_into(vitals::table)
        .values((
            vitals::device_sn.eq(device_sn),
            vitals::measured_ms.eq(at),
            vitals::received_ms.eq(at),
            vitals::customer_id.eq(owner),
            vitals::heart_rate.eq(heart_rate),
            vitals::worn.eq(true),
        ))
        .execute(conn)
        .expect("vitals");
}

pub fn sos_rule() -> Rule {
    rule_seeds::emergencies().remove(0)
}

/// The change that raises an alert of `rule` on a device of `owner`.
pub fn raised(at: i64, number: u8, device_sn: &str, owner: &str, rule: &Rule) -> AlertChange {
    let owner = Owner { customer_id: customer(owner), binding_id: BindingId(1), ..Owner::unbound() };
    let occurrence = Occurrence {
        cause: Cause::Event(event_id(at, number)),
        occurred_at: UtcMillis(at),
        received_at: UtcMillis(at),
        event_id: Some(event_id(at, number)),
        event_type: Some("SOS_EVENT".into()),
        value: None,
        location: None,
        vitals: None,
        verified: true,
    };
    Alert::raise(rule, &sn(device_sn), &owner, occurrence)
}

/// Stores a change and the alert as it is after it.
pub fn store_change(conn: &mut Conn, change: &AlertChange) -> AlertId {
    let offset: Option<i64> = alert_change::table
        .select(diesel::dsl::max(alert_change::change_offset))
        .first(conn)
        .expect("the last offset");
    let offset = offset.unwrap_or(0) + 1;
    let body = serde_json::to_string(&change.alert).expect("JSON");
    let present = &change.alert;
    diesel::insert_into(alert_change::table)
        .values((
            alert_change::change_offset.eq(offset),
            alert_change::alert_id.eq(present.alert_id.0),
            alert_change::transition.eq(change.transition.name()),
            alert_change::cause.eq(change.cause.key()),
            alert_change::at_ms.eq(change.at.0),
            alert_change::actor.eq(change.actor.as_deref()),
            alert_change::note.eq(change.note.as_deref()),
            alert_change::quiet.eq(change.quiet),
            alert_change::device_sn.eq(present.device_sn.as_str()),
            alert_change::customer_id.eq(present.customer_id.as_str()),
            alert_change::severity.eq(present.severity.name()),
            alert_change::body.eq(&body),
        ))
        .execute(conn)
        .expect("a change");
    diesel::delete(alert::table.find(present.alert_id.0)).execute(conn).expect("the alert before");
    diesel::insert_into(alert::table)
        .values((
            alert::alert_id.eq(present.alert_id.0),
            alert::rule_id.eq(present.rule_id.as_str()),
            alert::device_sn.eq(present.device_sn.as_str()),
            alert::binding_id.eq(present.binding_id.0),
            alert::customer_id.eq(present.customer_id.as_str()),
            alert::severity.eq(present.severity.name()),
            alert::state.eq(present.state.name()),
            alert::is_open.eq(present.state.is_open()),
            alert::count.eq(present.count as i32),
            alert::occurred_ms.eq(present.occurred_at.0),
            alert::raised_ms.eq(present.raised_at.0),
            alert::last_offset.eq(offset),
            alert::body.eq(&body),
        ))
        .execute(conn)
        .expect("an alert");
    present.alert_id
}

pub fn insert_alert(conn: &mut Conn, at: i64, number: u8, device_sn: &str, owner: &str) -> AlertId {
    store_change(conn, &raised(at, number, device_sn, owner, &sos_rule()))
}
