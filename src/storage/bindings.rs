//! Writes of tables `device_binding`, `customer`, `org` and `person`: who is given which device.

use diesel::prelude::*;

use super::command::{CommandError, NewBinding};
use super::database::{Conn, StorageError};
use super::owners::{corrupt, owner};
use super::schema::{customer, device, device_binding, org, person};
use super::statement::{Bind, Statement};
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
        struct OwnDevice;
        // One that is new has not been seen yet.
        const SQL: &str = "INSERT INTO device (device_sn, customer_id, first_seen_ms, last_seen_ms) \
            VALUES (?, ?, ?, 0) ON CONFLICT (device_sn) DO UPDATE SET customer_id = excluded.customer_id";
        let binds = [
            Bind::Text(binding.device_sn.as_str()),
            Bind::Text(binding.customer_id.as_str()),
            Bind::BigInt(now.0),
        ];
        Statement::<OwnDevice>::new(SQL, &binds).execute(conn)?;
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
    struct InsertCustomer;
    const SQL: &str =
        "INSERT INTO customer (customer_id, name, created_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    let binds = [Bind::Text(id), Bind::Text(name.unwrap_or(id)), Bind::BigInt(now.0)];
    Statement::<InsertCustomer>::new(SQL, &binds).execute(conn)?;
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
    struct InsertOrg;
    const SQL: &str =
        "INSERT INTO org (org_id, customer_id, name, created_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let binds = [
        Bind::Text(id),
        Bind::Text(binding.customer_id.as_str()),
        Bind::Text(name.unwrap_or(id)),
        Bind::BigInt(now.0),
    ];
    Statement::<InsertOrg>::new(SQL, &binds).execute(conn)?;
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
    struct InsertPerson;
    const SQL: &str = "INSERT INTO person (person_id, customer_id, org_id, name, created_ms) \
        VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let binds = [
        Bind::Text(id),
        Bind::Text(binding.customer_id.as_str()),
        Bind::OptionalText(org_id),
        Bind::Text(name.unwrap_or(id)),
        Bind::BigInt(now.0),
    ];
    Statement::<InsertPerson>::new(SQL, &binds).execute(conn)?;
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
