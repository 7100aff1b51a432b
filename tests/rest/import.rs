//! Many bindings in one command, as the writer carries it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::InstrumentationEvent;
use diesel::prelude::*;
use watchpost::domain::ids::{OrgId, PersonId};
use watchpost::domain::owner::{Owner, Scope};
use watchpost::domain::time::UtcMillis;
use watchpost::storage::command::{Command, CommandReply, NewBinding};
use watchpost::storage::schema::{customer, device, device_binding, org, person};
use watchpost::storage::{bindings, owners};

use super::store::{NOW, Store, bind, binding, customer as customer_id, run, sn};

fn import(bindings: Vec<NewBinding>) -> Command {
    Command::ImportBindings { bindings, scope: Scope::All, actor: "ann".into() }
}

/// Runs `work` and counts its statements.
fn statements(store: &mut Store, work: impl FnOnce(&mut Store)) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    store.conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    work(store);
    store.conn.set_instrumentation(|_: InstrumentationEvent<'_>| {});
    count.load(Ordering::Relaxed)
}

/// What is stored about bindings, in order.
fn stored(store: &mut Store) -> impl PartialEq + std::fmt::Debug + use<> {
    type Period = (i64, String, String, Option<String>, Option<String>, i64, Option<i64>, Option<String>);
    let conn = &mut store.conn;
    let periods: Vec<Period> = device_binding::table
        .select((
            device_binding::binding_id,
            device_binding::device_sn,
            device_binding::customer_id,
            device_binding::org_id,
            device_binding::person_id,
            device_binding::bound_ms,
            device_binding::unbound_ms,
            device_binding::unbound_by,
        ))
        .order(device_binding::binding_id)
        .load(conn)
        .expect("bindings");
    let devices: Vec<(String, String)> = device::table
        .select((device::device_sn, device::customer_id))
        .order(device::device_sn)
        .load(conn)
        .expect("devices");
    let customers: Vec<(String, String)> = customer::table
        .select((customer::customer_id, customer::name))
        .order(customer::customer_id)
        .load(conn)
        .expect("customers");
    let orgs: Vec<(String, String, String)> = org::table
        .select((org::org_id, org::customer_id, org::name))
        .order(org::org_id)
        .load(conn)
        .expect("orgs");
    let persons: Vec<(String, String, Option<String>, String)> = person::table
        .select((person::person_id, person::customer_id, person::org_id, person::name))
        .order(person::person_id)
        .load(conn)
        .expect("persons");
    (periods, devices, customers, orgs, persons)
}

#[test]
fn many_bindings_take_few_statements() {
    let mut store = Store::new();
    let many = |from: usize, to: usize| -> Vec<NewBinding> {
        let one = |at: usize| {
            binding(
                &format!("W{at}"),
                &format!("{}", at % 3),
                &format!("o{}", at % 30),
                &format!("p{}", at * 30 + at % 30),
            )
        };
        (from..to).map(one).collect()
    };
    let imported = |store: &mut Store, bindings: Vec<NewBinding>| {
        let count = bindings.len();
        statements(store, |store| match store.run(import(bindings)).expect("imported") {
            CommandReply::Imported { changed } => assert_eq!(changed.len(), count),
            other => unreachable!("{other:?}"),
        })
    };
    // Each of its queries is in parts of 500.
    const PARTS: usize = 4;
    let few = imported(&mut store, many(0, 100));
    let hundreds = imported(&mut store, many(100, 2_100));
    if testkit::database::server().is_some() {
        assert!(hundreds <= PARTS * few, "{few} statements for 100 bindings, {hundreds} for 2,000");
    } else {
        // A row in a file is a step of a prepared statement: of a person, a binding and a device.
        assert!(hundreds <= 3 * 2_000 + PARTS * few, "{hundreds} statements for 2,000 bindings");
    }
    // All of them move.
    let moved = |mut binding: NewBinding| {
        binding.person_id = None;
        binding.person_name = None;
        binding
    };
    let moved: Vec<NewBinding> = many(100, 2_100).into_iter().map(moved).collect();
    let again = imported(&mut store, moved.clone());
    assert!(again <= hundreds + PARTS, "{hundreds} statements for new bindings, {again} for others");
    // And a rehearsal reads in both databases.
    let moved: Vec<&NewBinding> = moved.iter().collect();
    let rehearsed = statements(&mut store, |store| {
        let conflicts = bindings::conflicts(&mut store.conn, &moved, &Scope::All).expect("an answer");
        assert!(conflicts.iter().all(Option::is_none), "{conflicts:?}");
    });
    assert!(rehearsed <= 3 * PARTS, "{rehearsed} queries to rehearse 2,000 bindings");
    assert_eq!(owners::owners(&mut store.conn, &[sn("W0"), sn("W2099")]).expect("owners").len(), 2);
}

/// Numbers that look like none, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn maybe<T>(&mut self, some: impl FnOnce(u64) -> T) -> Option<T> {
        let drawn = self.below(6);
        (drawn > 1).then(|| some(drawn))
    }

    fn binding(&mut self, round: usize) -> NewBinding {
        let to = self.below(2);
        // Now and then one of somebody else's.
        let theirs = if self.below(60) == 0 { 1 - to } else { to };
        let org_id = self.maybe(|drawn| OrgId::parse(&format!("o{theirs}{drawn}")).expect("an id"));
        let person_id = self.maybe(|drawn| PersonId::parse(&format!("p{to}{drawn}")).expect("an id"));
        NewBinding {
            device_sn: sn(&format!("W{}", self.below(12))),
            customer_id: customer_id(&to.to_string()),
            customer_name: self.maybe(|drawn| format!("customer {drawn} of {round}")),
            org_name: self.maybe(|drawn| format!("org {drawn}")).filter(|_| org_id.is_some()),
            person_name: self.maybe(|drawn| format!("person {drawn}")).filter(|_| person_id.is_some()),
            org_id,
            person_id,
        }
    }
}

#[test]
fn an_import_does_what_its_lines_do_one_after_the_other() {
    let (mut at_once, mut singly) = (Store::new(), Store::new());
    let mut dice = Dice(7);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..60 {
        let now = UtcMillis(NOW.0 + round as i64);
        let lines: Vec<NewBinding> = (0..1 + dice.below(20)).map(|_| dice.binding(round)).collect();
        let whose = |store: &mut Store| -> Vec<(String, Owner)> {
            let all: Vec<_> = (0..12).map(|at| sn(&format!("W{at}"))).collect();
            let mut found = owners::owners(&mut store.conn, &all).expect("owners");
            found.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
            found.into_iter().map(|(device, owner)| (device.to_string(), owner)).collect()
        };
        let before = whose(&mut at_once);
        // All or none, also of those that go one after the other.
        let one_by_one = testkit::database::write(&mut singly.conn, |conn| {
            lines.iter().try_for_each(|line| {
                watchpost::storage::command::execute(conn, bind(line.clone()), now).map(|_| ())
            })
        });
        let done = run(&mut at_once.conn, import(lines.clone()), now);
        match (done, one_by_one) {
            (Ok(CommandReply::Imported { changed }), Ok(())) => {
                taken += 1;
                let after = whose(&mut at_once);
                for (device, owner) in &after {
                    let line = lines.iter().any(|line| line.device_sn.as_str() == device);
                    let was = before.iter().find(|(known, _)| known == device).map(|(_, owner)| owner);
                    let told = changed.iter().any(|changed| changed.as_str() == device);
                    assert!(told || !line || was == Some(owner), "{device} changed in round {round}");
                }
            }
            (Err(here), Err(there)) => {
                refused += 1;
                assert_eq!(here.to_string(), there.to_string(), "round {round}");
            }
            (here, there) => panic!("round {round}: at once {here:?}, one by one {there:?}"),
        }
        assert_eq!(stored(&mut at_once), stored(&mut singly), "round {round}: {lines:?}");
    }
    assert!(taken > 10 && refused > 5, "{taken} were taken, {refused} refused");
}
