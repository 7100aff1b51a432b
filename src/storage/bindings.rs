//! Writes of tables `device_binding`, `customer`, `org` and `person`: who is given which device.

use std::collections::{BTreeSet, HashMap, HashSet};

use diesel::prelude::*;

use super::binding_rows::{self, IDS_PER_QUERY};
use super::command::{CommandError, NewBinding};
use super::database::{Conn, StorageError};
use super::owners::{corrupt, owner, owners};
use super::schema::{device, org, person};
use crate::domain::ids::{CustomerId, DeviceSn, OrgId, PersonId};
use crate::domain::owner::{Owner, Scope};
use crate::domain::time::UtcMillis;

/// The customer of each of those rows of a table that are there, by their key.
macro_rules! customers_by {
    ($conn:expr, $table:ident, $key:ident, $ids:expr) => {{
        let ids: BTreeSet<&str> = $ids.collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut found: HashMap<String, String> = HashMap::new();
        for chunk in ids.chunks(IDS_PER_QUERY) {
            let these = $table::table.filter($table::$key.eq_any(chunk.iter().copied()));
            let rows: Vec<(String, String)> =
                these.select(($table::$key, $table::customer_id)).load($conn)?;
            found.extend(rows);
        }
        found
    }};
}

/// Why each of `bindings` would contradict what is stored; `None` for one that would not. What
/// [`put_all`] checks first, and a rehearsal on its own. A few queries for hundreds of them.
pub fn conflicts(
    conn: &mut Conn,
    bindings: &[&NewBinding],
    scope: &Scope,
) -> Result<Vec<Option<String>>, StorageError> {
    let devices = bindings.iter().map(|binding| binding.device_sn.as_str());
    let devices = customers_by!(conn, device, device_sn, devices);
    let orgs = bindings.iter().filter_map(|binding| binding.org_id.as_ref().map(OrgId::as_str));
    let orgs = customers_by!(conn, org, org_id, orgs);
    let persons = bindings.iter().filter_map(|binding| binding.person_id.as_ref().map(PersonId::as_str));
    let persons = customers_by!(conn, person, person_id, persons);
    let one = |binding: &&NewBinding| -> Result<Option<String>, StorageError> {
        let wanted = binding.customer_id.as_str();
        if !scope.allows(&binding.customer_id) {
            return Ok(Some(format!("you cannot bind devices to customer {wanted}")));
        }
        if let Some(present) = devices.get(binding.device_sn.as_str())
            && !may_take(scope, &CustomerId::parse(present).map_err(corrupt)?)
        {
            return Ok(Some(format!("device {} is not one that you can bind", binding.device_sn)));
        }
        let other = |found: &HashMap<String, String>, id| found.get(id).is_some_and(|found| found != wanted);
        if let Some(id) = binding.org_id.as_ref().filter(|id| other(&orgs, id.as_str())) {
            return Ok(Some(format!("org_id {id} belongs to another customer; use another id")));
        }
        if let Some(id) = binding.person_id.as_ref().filter(|id| other(&persons, id.as_str())) {
            return Ok(Some(format!("person_id {id} belongs to another customer; use another id")));
        }
        Ok(None)
    };
    bindings.iter().map(one).collect()
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
) -> Result<Owner, CommandError> {
    put_all(conn, std::slice::from_ref(binding), scope, actor, now)?;
    Ok(owner(conn, &binding.device_sn)?)
}

/// The same for many, as if one after the other. Answers the devices whose owner is another one now,
/// also if only a name is.
pub(super) fn put_all(
    conn: &mut Conn,
    bindings: &[NewBinding],
    scope: &Scope,
    actor: &str,
    now: UtcMillis,
) -> Result<Vec<DeviceSn>, CommandError> {
    let mut seen = HashSet::new();
    let devices = bindings.iter().map(|binding| binding.device_sn.clone());
    let devices: Vec<DeviceSn> = devices.filter(|device| seen.insert(device.clone())).collect();
    let before = owners_of(conn, &devices)?;
    let (part, mut rest) = bindings.split_at(at_once(bindings));
    put_part(conn, part, &before, scope, actor, now)?;
    while !rest.is_empty() {
        let (part, later) = rest.split_at(at_once(rest));
        // What came before them may have given them away.
        let known = owners_of(conn, &devices)?;
        put_part(conn, part, &known, scope, actor, now)?;
        rest = later;
    }
    let after = owners_of(conn, &devices)?;
    Ok(devices.into_iter().filter(|device| before.get(device) != after.get(device)).collect())
}

fn owners_of(conn: &mut Conn, devices: &[DeviceSn]) -> Result<HashMap<DeviceSn, Owner>, StorageError> {
    Ok(owners(conn, devices)?.into_iter().collect())
}

/// How many from the first on do not depend on what becomes of those before them: they give each
/// device once, and each organisation and person to one customer.
fn at_once(bindings: &[NewBinding]) -> usize {
    let (mut devices, mut orgs, mut persons) = (HashSet::new(), HashMap::new(), HashMap::new());
    let depends = |binding: &NewBinding| {
        let customer = &binding.customer_id;
        let org = binding
            .org_id
            .as_ref()
            .map(|id| *orgs.entry(id.clone()).or_insert(customer.clone()) == *customer);
        let person = binding
            .person_id
            .as_ref()
            .map(|id| *persons.entry(id.clone()).or_insert(customer.clone()) == *customer);
        !devices.insert(binding.device_sn.clone()) || org == Some(false) || person == Some(false)
    };
    bindings.iter().position(depends).unwrap_or(bindings.len())
}

fn put_part(
    conn: &mut Conn,
    bindings: &[NewBinding],
    before: &HashMap<DeviceSn, Owner>,
    scope: &Scope,
    actor: &str,
    now: UtcMillis,
) -> Result<(), CommandError> {
    let all: Vec<&NewBinding> = bindings.iter().collect();
    if let Some(conflict) = conflicts(conn, &all, scope)?.into_iter().flatten().next() {
        return Err(CommandError::Conflict(conflict));
    }
    binding_rows::name_members(conn, bindings, now)?;
    let stays = |binding: &&NewBinding| {
        before.get(&binding.device_sn).is_some_and(|before| {
            before.customer_id == binding.customer_id
                && before.org_id == binding.org_id
                && before.person_id == binding.person_id
        })
    };
    let moved: Vec<&NewBinding> = all.into_iter().filter(|binding| !stays(binding)).collect();
    let bound = moved.iter().filter(|binding| before.contains_key(&binding.device_sn));
    let bound: Vec<&str> = bound.map(|binding| binding.device_sn.as_str()).collect();
    binding_rows::close(conn, &bound, actor, now)?;
    if !moved.is_empty() {
        binding_rows::open(conn, &moved, actor, now)?;
    }
    Ok(())
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
        binding_rows::close(conn, &[device_sn.as_str()], actor, now)?;
        diesel::update(device::table.find(device_sn.as_str()))
            .set(device::customer_id.eq(CustomerId::default_customer().as_str()))
            .execute(conn)?;
    }
    Ok(Owner::unbound())
}
