//! Writes of tables `device_binding`, `customer`, `org` and `person`: who is given which device.

use diesel::prelude::*;

use super::command::{CommandError, NewBinding};
use super::database::{Conn, StorageError};
use super::owners::{corrupt, owner};
use super::schema::{customer, device, device_binding, org, person};
use crate::domain::ids::{CustomerId, DeviceSn, OrgId, PersonId};
use crate::domain::owner::{Owner, Scope};
use crate::domain::time::UtcMillis;

/// What became of one binding.
pub(super) struct Put {
    pub owner: Owner,
    /// Also true if only a name is another one.
    pub changed: bool,
}

/// Why a binding would contradict what is stored; `None` if it would not. What [`put`] checks
/// first, and a rehearsal on its own.
pub fn conflict(
    conn: &mut Conn,
    binding: &NewBinding,
    scope: &Scope,
) -> Result<Option<String>, StorageError> {
    let wanted = binding.customer_id.as_str();
    if !scope.allows(&binding.customer_id) {
        return Ok(Some(format!("you cannot bind devices to customer {wanted}")));
    }
    let present = customer_of(conn, &binding.device_sn)?;
    if present.is_some_and(|present| !may_take(scope, &present)) {
        return Ok(Some(format!("device {} is not one that you can bind", binding.device_sn)));
    }
    if let Some(id) = &binding.org_id {
        let found: Option<String> =
            org::table.find(id.as_str()).select(org::customer_id).first(conn).optional()?;
        if found.is_some_and(|found| found != wanted) {
            return Ok(Some(format!("org_id {id} belongs to another customer; use another id")));
        }
    }
    if let Some(id) = &binding.person_id {
        let found: Option<String> =
            person::table.find(id.as_str()).select(person::customer_id).first(conn).optional()?;
        if found.is_some_and(|found| found != wanted) {
            return Ok(Some(format!("person_id {id} belongs to another customer; use another id")));
        }
    }
    Ok(None)
}

/// A device that nobody has is free to take.
fn may_take(scope: &Scope, present: &CustomerId) -> bool {
    scope.allows(present) || *present == CustomerId::default_customer()
}

fn customer_of(conn: &mut Conn, device_sn: &DeviceSn) -> Result<Option<CustomerId>, StorageError> {
    let found: Option<String> =
        device::table.find(device_sn.as_str()).select(device::customer_id).first(conn).optional()?;
    found.as_deref().map(CustomerId::parse).transpose().map_err(corrupt)
}

/// Gives a device to somebody. The binding that it has already stays.
pub(super) fn put(
    conn: &mut Conn,
    binding: &NewBinding,
    scope: &Scope,
    actor: &str,
    now: UtcMillis,
) -> Result<Put, CommandError> {
    if let Some(conflict) = conflict(conn, binding, scope)? {
        return Err(CommandError::Conflict(conflict));
    }
    let before = owner(conn, &binding.device_sn)?;
    name_customer(conn, binding, now)?;
    name_org(conn, binding, now)?;
    name_person(conn, binding, now)?;
    let same = before.is_bound()
        && before.customer_id == binding.customer_id
        && before.org_id == binding.org_id
        && before.person_id == binding.person_id;
    if !same {
        close(conn, &binding.device_sn, actor, now)?;
        let last: Option<i64> =
            device_binding::table.select(diesel::dsl::max(device_binding::binding_id)).first(conn)?;
        diesel::insert_into(device_binding::table)
            .values((
                device_binding::binding_id.eq(last.unwrap_or(0) + 1),
                device_binding::device_sn.eq(binding.device_sn.as_str()),
                device_binding::customer_id.eq(binding.customer_id.as_str()),
                device_binding::org_id.eq(binding.org_id.as_ref().map(OrgId::as_str)),
                device_binding::person_id.eq(binding.person_id.as_ref().map(PersonId::as_str)),
                device_binding::bound_ms.eq(now.0),
                device_binding::bound_by.eq(actor),
            ))
            .execute(conn)?;
        diesel::insert_into(device::table)
            .values((
                device::device_sn.eq(binding.device_sn.as_str()),
                device::customer_id.eq(binding.customer_id.as_str()),
                device::first_seen_ms.eq(now.0),
                // It has not been seen yet.
                device::last_seen_ms.eq(0),
            ))
            .on_conflict(device::device_sn)
            .do_update()
            .set(device::customer_id.eq(binding.customer_id.as_str()))
            .execute(conn)?;
    }
    let owner = owner(conn, &binding.device_sn)?;
    Ok(Put { changed: owner != before, owner })
}

/// Takes a device away from whoever has it. One that nobody has stays so.
pub(super) fn end(
    conn: &mut Conn,
    device_sn: &DeviceSn,
    scope: &Scope,
    actor: &str,
    now: UtcMillis,
) -> Result<Owner, CommandError> {
    let present = customer_of(conn, device_sn)?.ok_or(CommandError::NotFound("the device"))?;
    let owner = owner(conn, device_sn)?;
    if !scope.allows(&present) {
        return Err(CommandError::NotFound("the device"));
    }
    if owner.is_bound() {
        close(conn, device_sn, actor, now)?;
        diesel::update(device::table.find(device_sn.as_str()))
            .set(device::customer_id.eq(CustomerId::default_customer().as_str()))
            .execute(conn)?;
    }
    Ok(Owner::unbound())
}

fn close(conn: &mut Conn, device_sn: &DeviceSn, actor: &str, now: UtcMillis) -> Result<(), StorageError> {
    let open = device_binding::table
        .filter(device_binding::device_sn.eq(device_sn.as_str()))
        .filter(device_binding::unbound_ms.is_null());
    diesel::update(open)
        .set((device_binding::unbound_ms.eq(now.0), device_binding::unbound_by.eq(actor)))
        .execute(conn)?;
    Ok(())
}

/// Whoever is new and has no name is called by the id; whoever is known is renamed only by a name.
fn name_customer(conn: &mut Conn, binding: &NewBinding, now: UtcMillis) -> Result<(), StorageError> {
    let id = binding.customer_id.as_str();
    let name = binding.customer_name.as_deref();
    diesel::insert_into(customer::table)
        .values((
            customer::customer_id.eq(id),
            customer::name.eq(name.unwrap_or(id)),
            customer::created_ms.eq(now.0),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    if let Some(name) = name {
        diesel::update(customer::table.find(id))
            .filter(customer::name.ne(name))
            .set(customer::name.eq(name))
            .execute(conn)?;
    }
    Ok(())
}

fn name_org(conn: &mut Conn, binding: &NewBinding, now: UtcMillis) -> Result<(), StorageError> {
    let Some(id) = binding.org_id.as_ref().map(OrgId::as_str) else { return Ok(()) };
    let name = binding.org_name.as_deref();
    diesel::insert_into(org::table)
        .values((
            org::org_id.eq(id),
            org::customer_id.eq(binding.customer_id.as_str()),
            org::name.eq(name.unwrap_or(id)),
            org::created_ms.eq(now.0),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    if let Some(name) = name {
        diesel::update(org::table.find(id))
            .filter(org::name.ne(name))
            .set(org::name.eq(name))
            .execute(conn)?;
    }
    Ok(())
}

fn name_person(conn: &mut Conn, binding: &NewBinding, now: UtcMillis) -> Result<(), StorageError> {
    let Some(id) = binding.person_id.as_ref().map(PersonId::as_str) else { return Ok(()) };
    let org_id = binding.org_id.as_ref().map(OrgId::as_str);
    let name = binding.person_name.as_deref();
    diesel::insert_into(person::table)
        .values((
            person::person_id.eq(id),
            person::customer_id.eq(binding.customer_id.as_str()),
            person::org_id.eq(org_id),
            person::name.eq(name.unwrap_or(id)),
            person::created_ms.eq(now.0),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    if let Some(name) = name {
        diesel::update(person::table.find(id))
            .filter(person::name.ne(name))
            .set(person::name.eq(name))
            .execute(conn)?;
    }
    if let Some(org_id) = org_id {
        diesel::update(person::table.find(id)).set(person::org_id.eq(org_id)).execute(conn)?;
    }
    Ok(())
}
