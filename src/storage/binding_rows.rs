//! Writes of tables `customer`, `org`, `person`, `device_binding` and `device` for many bindings at
//! once: a statement for each table, however many there are.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::command::NewBinding;
use super::database::{Conn, StorageError};
use super::schema::device_binding;
use super::statement::{Bind, Statement};
use crate::domain::ids::{OrgId, PersonId};
use crate::domain::time::UtcMillis;

/// Serials of one query; further ones are in another.
pub(super) const IDS_PER_QUERY: usize = 500;

/// Inserts rows with one statement where each costs a way to another machine, and with one for each
/// row, kept prepared, in a file.
macro_rules! insert {
    ($conn:expr, $rows:expr, $into:literal, $values:literal, $conflict:literal) => {{
        struct Insert;
        insert_rows::<Insert>(
            $conn,
            concat!($into, " VALUES ", $values, " ", $conflict),
            concat!($into, " SELECT * FROM unnest({}) ", $conflict),
            $rows,
        )
    }};
}

fn insert_rows<'a, Name: 'static>(
    conn: &mut Conn,
    one: &'static str,
    all: &'static str,
    rows: impl IntoIterator<Item = impl AsRef<[Bind<'a>]>>,
) -> Result<(), StorageError> {
    #[cfg(feature = "postgres")]
    if let Conn::Postgres(conn) = conn {
        super::postgres::batch::execute::<Name>(conn, all, rows)?;
        return Ok(());
    }
    #[cfg(not(feature = "postgres"))]
    let _ = all;
    for row in rows {
        Statement::<Name>::new(one, row.as_ref()).execute(conn)?;
    }
    Ok(())
}

/// What the bindings of a file say about one customer, organisation or person: the last one that says
/// something about it.
#[derive(Default, Clone, Copy)]
struct Said<'a> {
    customer_id: &'a str,
    org_id: Option<&'a str>,
    name: Option<&'a str>,
}

/// By id, so that a file makes the same rows in the same order wherever it is carried out.
#[derive(Default)]
struct Members<'a>(BTreeMap<&'a str, Said<'a>>);

impl<'a> Members<'a> {
    fn add(&mut self, id: &'a str, said: Said<'a>) {
        let known = self.0.entry(id).or_default();
        known.customer_id = said.customer_id;
        known.org_id = said.org_id.or(known.org_id);
        known.name = said.name.or(known.name);
    }

    /// Those with a name, or those without.
    fn named(&self, named: bool) -> impl Iterator<Item = (&'a str, Said<'a>)> + '_ {
        self.0.iter().map(|(id, said)| (*id, *said)).filter(move |(_, said)| said.name.is_some() == named)
    }
}

/// Makes the customers, organisations and persons that are new. Whoever is new and has no name is
/// called by the id; whoever is known is renamed only by a name.
pub(super) fn name_members(
    conn: &mut Conn,
    bindings: &[NewBinding],
    now: UtcMillis,
) -> Result<(), StorageError> {
    let (mut customers, mut orgs, mut persons) = (Members::default(), Members::default(), Members::default());
    for binding in bindings {
        let customer_id = binding.customer_id.as_str();
        let org_id = binding.org_id.as_ref().map(OrgId::as_str);
        let said = |name| Said { customer_id, org_id, name };
        customers.add(customer_id, said(binding.customer_name.as_deref()));
        if let Some(id) = org_id {
            orgs.add(id, said(binding.org_name.as_deref()));
        }
        if let Some(id) = binding.person_id.as_ref().map(PersonId::as_str) {
            persons.add(id, said(binding.person_name.as_deref()));
        }
    }
    put_customers(conn, &customers, now)?;
    put_orgs(conn, &orgs, now)?;
    put_persons(conn, &persons, now)
}

fn put_customers(conn: &mut Conn, customers: &Members<'_>, now: UtcMillis) -> Result<(), StorageError> {
    insert!(
        conn,
        customers.named(true).map(|(id, said)| customer_binds(id, said, now)),
        "INSERT INTO customer (customer_id, name, created_ms)",
        "(?, ?, ?)",
        "ON CONFLICT (customer_id) DO UPDATE SET name = excluded.name WHERE customer.name <> excluded.name"
    )?;
    insert!(
        conn,
        customers.named(false).map(|(id, said)| customer_binds(id, said, now)),
        "INSERT INTO customer (customer_id, name, created_ms)",
        "(?, ?, ?)",
        "ON CONFLICT DO NOTHING"
    )
}

fn customer_binds<'a>(id: &'a str, said: Said<'a>, now: UtcMillis) -> [Bind<'a>; 3] {
    [Bind::Text(id), Bind::Text(said.name.unwrap_or(id)), Bind::BigInt(now.0)]
}

fn put_orgs(conn: &mut Conn, orgs: &Members<'_>, now: UtcMillis) -> Result<(), StorageError> {
    insert!(
        conn,
        orgs.named(true).map(|(id, said)| org_binds(id, said, now)),
        "INSERT INTO org (org_id, customer_id, name, created_ms)",
        "(?, ?, ?, ?)",
        "ON CONFLICT (org_id) DO UPDATE SET name = excluded.name WHERE org.name <> excluded.name"
    )?;
    insert!(
        conn,
        orgs.named(false).map(|(id, said)| org_binds(id, said, now)),
        "INSERT INTO org (org_id, customer_id, name, created_ms)",
        "(?, ?, ?, ?)",
        "ON CONFLICT DO NOTHING"
    )
}

fn org_binds<'a>(id: &'a str, said: Said<'a>, now: UtcMillis) -> [Bind<'a>; 4] {
    let name = said.name.unwrap_or(id);
    [Bind::Text(id), Bind::Text(said.customer_id), Bind::Text(name), Bind::BigInt(now.0)]
}

fn put_persons(conn: &mut Conn, persons: &Members<'_>, now: UtcMillis) -> Result<(), StorageError> {
    insert!(
        conn,
        persons.named(true).map(|(id, said)| person_binds(id, said, now)),
        "INSERT INTO person (person_id, customer_id, org_id, name, created_ms)",
        "(?, ?, ?, ?, ?)",
        "ON CONFLICT (person_id) DO UPDATE SET name = excluded.name, \
         org_id = coalesce(excluded.org_id, person.org_id) WHERE person.name <> excluded.name \
         OR coalesce(excluded.org_id, '') <> coalesce(person.org_id, '')"
    )?;
    insert!(
        conn,
        persons.named(false).map(|(id, said)| person_binds(id, said, now)),
        "INSERT INTO person (person_id, customer_id, org_id, name, created_ms)",
        "(?, ?, ?, ?, ?)",
        "ON CONFLICT (person_id) DO UPDATE SET org_id = excluded.org_id \
         WHERE excluded.org_id <> coalesce(person.org_id, '')"
    )
}

fn person_binds<'a>(id: &'a str, said: Said<'a>, now: UtcMillis) -> [Bind<'a>; 5] {
    [
        Bind::Text(id),
        Bind::Text(said.customer_id),
        Bind::OptionalText(said.org_id),
        Bind::Text(said.name.unwrap_or(id)),
        Bind::BigInt(now.0),
    ]
}

/// Ends the open bindings of these devices.
pub(super) fn close(
    conn: &mut Conn,
    serials: &[&str],
    actor: &str,
    now: UtcMillis,
) -> Result<(), StorageError> {
    for chunk in serials.chunks(IDS_PER_QUERY) {
        let open = device_binding::table
            .filter(device_binding::device_sn.eq_any(chunk.iter().copied()))
            .filter(device_binding::unbound_ms.is_null());
        diesel::update(open)
            .set((device_binding::unbound_ms.eq(now.0), device_binding::unbound_by.eq(actor)))
            .execute(conn)?;
    }
    Ok(())
}

/// Opens bindings of devices that have none, each of another device, numbered in this order.
pub(super) fn open(
    conn: &mut Conn,
    bindings: &[&NewBinding],
    actor: &str,
    now: UtcMillis,
) -> Result<(), StorageError> {
    let last: Option<i64> =
        device_binding::table.select(diesel::dsl::max(device_binding::binding_id)).first(conn)?;
    let rows = (last.unwrap_or(0) + 1..).zip(bindings).map(|(binding_id, binding)| {
        [
            Bind::BigInt(binding_id),
            Bind::Text(binding.device_sn.as_str()),
            Bind::Text(binding.customer_id.as_str()),
            Bind::OptionalText(binding.org_id.as_ref().map(OrgId::as_str)),
            Bind::OptionalText(binding.person_id.as_ref().map(PersonId::as_str)),
            Bind::BigInt(now.0),
            Bind::Text(actor),
        ]
    });
    insert!(
        conn,
        rows,
        "INSERT INTO device_binding \
         (binding_id, device_sn, customer_id, org_id, person_id, bound_ms, bound_by)",
        "(?, ?, ?, ?, ?, ?, ?)",
        ""
    )?;
    // One that is new has not been seen yet.
    let rows = bindings.iter().map(|binding| {
        [
            Bind::Text(binding.device_sn.as_str()),
            Bind::Text(binding.customer_id.as_str()),
            Bind::BigInt(now.0),
            Bind::BigInt(0),
        ]
    });
    insert!(
        conn,
        rows,
        "INSERT INTO device (device_sn, customer_id, first_seen_ms, last_seen_ms)",
        "(?, ?, ?, ?)",
        "ON CONFLICT (device_sn) DO UPDATE SET customer_id = excluded.customer_id"
    )
}
