//! Reads of table `device_binding`: whose a device is, and was.

use diesel::prelude::*;
use serde::Serialize;

use super::conn::Db;
use super::database::{Conn, StorageError};
use super::page::filter_only;
use super::schema::{device, device_binding, org, person};
use crate::domain::ids::{BindingId, CustomerId, DeviceSn, OrgId, PersonId};
use crate::domain::owner::{Owner, Scope};
use crate::domain::time::UtcMillis;

/// Serials of one query; further ones are asked for in another.
const SERIALS_PER_QUERY: usize = 500;
/// Bindings that one device shows; of more, the newest.
const HISTORY_MAX: i64 = 100;

type OwnerRow = (String, i64, String, Option<String>, Option<String>, Option<String>, Option<String>);

/// Open bindings with the names of whom they name.
#[diesel::dsl::auto_type]
fn open_bindings() -> _ {
    device_binding::table
        .left_join(org::table.on(device_binding::org_id.eq(org::org_id.nullable())))
        .left_join(person::table.on(device_binding::person_id.eq(person::person_id.nullable())))
        .filter(device_binding::unbound_ms.is_null())
        .select((
            device_binding::device_sn,
            device_binding::binding_id,
            device_binding::customer_id,
            device_binding::org_id,
            org::name.nullable(),
            device_binding::person_id,
            person::name.nullable(),
        ))
}

/// The owners of those devices that are bound now.
pub fn owners(conn: &mut Conn, devices: &[DeviceSn]) -> Result<Vec<(DeviceSn, Owner)>, StorageError> {
    let mut found = Vec::new();
    for chunk in devices.chunks(SERIALS_PER_QUERY) {
        let these = device_binding::device_sn.eq_any(chunk.iter().map(DeviceSn::as_str));
        let rows: Vec<OwnerRow> = open_bindings().filter(these).load(conn)?;
        for row in rows {
            found.push(into_owner(row)?);
        }
    }
    Ok(found)
}

/// The owner of one device; [`Owner::unbound`] if it has none. A query of its own, since diesel
/// 2.3 keeps no prepared statement for a list of any length.
pub fn owner(conn: &mut Conn, device_sn: &DeviceSn) -> Result<Owner, StorageError> {
    let this = device_binding::device_sn.eq(device_sn.as_str());
    let row: Option<OwnerRow> = open_bindings().filter(this).first(conn).optional()?;
    Ok(row.map(into_owner).transpose()?.map_or_else(Owner::unbound, |(_, owner)| owner))
}

fn into_owner(row: OwnerRow) -> Result<(DeviceSn, Owner), StorageError> {
    let (device_sn, binding_id, customer_id, org_id, org_name, person_id, person_name) = row;
    let owner = Owner {
        binding_id: BindingId(binding_id),
        customer_id: CustomerId::parse(&customer_id).map_err(corrupt)?,
        org_id: org_id.as_deref().map(OrgId::parse).transpose().map_err(corrupt)?,
        org_name: org_name.map(Into::into),
        person_id: person_id.as_deref().map(PersonId::parse).transpose().map_err(corrupt)?,
        person_name: person_name.map(Into::into),
    };
    Ok((DeviceSn::parse(&device_sn).map_err(corrupt)?, owner))
}

pub(super) fn corrupt(err: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt { what: "binding", message: err.to_string() }
}

/// A time during which somebody had a device.
#[derive(Debug, Clone, Serialize)]
pub struct BindingPeriod {
    pub binding_id: i64,
    pub customer_id: String,
    pub org_id: Option<String>,
    pub org_name: Option<String>,
    pub person_id: Option<String>,
    pub person_name: Option<String>,
    pub bound_at: UtcMillis,
    pub bound_by: String,
    pub unbound_at: Option<UtcMillis>,
    pub unbound_by: Option<String>,
}

/// Bindings of a device as far as the caller may see them, newest first.
pub fn history(
    conn: &mut Conn,
    scope: &Scope,
    device_sn: &DeviceSn,
) -> Result<Vec<BindingPeriod>, StorageError> {
    type Names = (Option<String>, Option<String>, Option<String>, Option<String>);
    type Row = (i64, String, Names, i64, String, Option<i64>, Option<String>);
    let mut query = device_binding::table
        .left_join(org::table.on(device_binding::org_id.eq(org::org_id.nullable())))
        .left_join(person::table.on(device_binding::person_id.eq(person::person_id.nullable())))
        .select((
            device_binding::binding_id,
            device_binding::customer_id,
            (
                device_binding::org_id,
                org::name.nullable(),
                device_binding::person_id,
                person::name.nullable(),
            ),
            device_binding::bound_ms,
            device_binding::bound_by,
            device_binding::unbound_ms,
            device_binding::unbound_by,
        ))
        .filter(device_binding::device_sn.eq(device_sn.as_str()))
        .order(device_binding::binding_id.desc())
        .into_boxed::<Db>();
    if let Some(customer) = scope.customer() {
        query = query.filter(filter_only("+device_binding.customer_id").eq(customer.as_str()));
    }
    let rows: Vec<Row> = query.limit(HISTORY_MAX).load(conn)?;
    let periods =
        rows.into_iter().map(|(binding_id, customer_id, names, bound, bound_by, unbound, unbound_by)| {
            let (org_id, org_name, person_id, person_name) = names;
            BindingPeriod {
                binding_id,
                customer_id,
                org_id,
                org_name,
                person_id,
                person_name,
                bound_at: UtcMillis(bound),
                bound_by,
                unbound_at: unbound.map(UtcMillis),
                unbound_by,
            }
        });
    Ok(periods.collect())
}

/// When the device last changed hands; long ago if it never did.
pub(super) fn in_these_hands_since(conn: &mut Conn, device_sn: &DeviceSn) -> Result<UtcMillis, StorageError> {
    let newest: Option<(i64, Option<i64>)> = device_binding::table
        .filter(device_binding::device_sn.eq(device_sn.as_str()))
        .order(device_binding::binding_id.desc())
        .select((device_binding::bound_ms, device_binding::unbound_ms))
        .first(conn)
        .optional()?;
    Ok(newest.map_or(UtcMillis(i64::MIN), |(bound, unbound)| UtcMillis(unbound.unwrap_or(bound))))
}

/// Of `devices`, those that the caller may report for: all for the administrator, the devices of
/// its own customer for anybody else.
pub fn visible(conn: &mut Conn, scope: &Scope, devices: &[DeviceSn]) -> Result<Vec<DeviceSn>, StorageError> {
    let Some(customer) = scope.customer() else { return Ok(devices.to_vec()) };
    let mut visible = Vec::new();
    for chunk in devices.chunks(SERIALS_PER_QUERY) {
        let serials: Vec<String> = device::table
            .filter(device::device_sn.eq_any(chunk.iter().map(DeviceSn::as_str)))
            .filter(filter_only("+customer_id").eq(customer.as_str()))
            .select(device::device_sn)
            .load(conn)?;
        for serial in serials {
            visible.push(DeviceSn::parse(&serial).map_err(corrupt)?);
        }
    }
    Ok(visible)
}
