//! A shard's promises, decided without actor, database or time.

use std::time::Duration;

use watchpost::config::DeviceConfig;
use watchpost::device::judge::UNREGISTERED_SN;
use watchpost::domain::alert::Transition;
use watchpost::domain::device::DeviceState;
use watchpost::domain::event::EventReport;
use watchpost::domain::ids::{BindingId, CustomerId};
use watchpost::domain::owner::Owner;
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;
use watchpost::rules::evaluate::{self, Finding};
use watchpost::rules::set::RuleSet;
use watchpost::supervision::permits::Outcome;

use super::bench::{Bench, outcome, sn};
use super::tools::event;

fn stored_as(outcome: Option<Outcome>) -> (String, Option<i64>, bool) {
    match outcome {
        Some(Outcome::Stored { event_id: Some(id), alert_id, duplicate }) => {
            (id.to_string(), alert_id.map(|id| id.0), duplicate)
        }
        other => panic!("not stored: {other:?}"),
    }
}

#[test]
fn reports_of_a_device_are_decided_in_order_also_those_that_waited_for_its_state() {
    let mut bench = Bench::new();
    let answers: Vec<_> = (1..=3).map(|second| bench.send(&event("A", "SOS_EVENT", second))).collect();
    assert!(bench.written.is_empty(), "nothing is decided before the state is there");
    assert_eq!(bench.loads, [vec![sn("A")]], "one load");
    bench.load();
    bench.send(&event("A", "SOS_EVENT", 4));
    let counts: Vec<(Transition, u32)> = bench
        .written
        .iter()
        .flat_map(|item| &item.changes)
        .map(|change| (change.transition, change.alert.count))
        .collect();
    let repeated = Transition::Repeated;
    assert_eq!(counts, [(Transition::Raised, 1), (repeated, 2), (repeated, 3), (repeated, 4)]);
    bench.commit();
    for mut answer in answers {
        assert!(!stored_as(outcome(&mut answer)).2);
    }
    assert!(bench.shard.is_drained());
    assert_eq!(bench.pool.used_kib(), 0);
}

#[test]
fn a_copy_of_an_uncommitted_event_waits_for_its_commit_and_gets_its_ids() {
    let mut bench = Bench::new();
    let body = event("A", "SOS_EVENT", 1);
    let mut first = bench.send(&body);
    bench.load();
    let mut copy = bench.send(&body);
    assert_eq!(bench.written.len(), 1, "the copy is not written");
    assert_eq!(outcome(&mut copy), None, "and not promised before the first is");
    bench.commit();
    let (first, copy) = (stored_as(outcome(&mut first)), stored_as(outcome(&mut copy)));
    assert_eq!((first.2, copy.2), (false, true));
    assert_eq!((first.0, first.1), (copy.0, copy.1));
    assert_eq!(stored_as(outcome(&mut bench.send(&body))).1, first.1, "nor is a later one written");
    assert_eq!(bench.written.len(), 0);
}

#[test]
fn what_was_given_up_is_forgotten_and_loaded_again_only_behind_the_barrier() {
    let mut bench = Bench::new();
    let body = event("A", "SOS_EVENT", 1);
    let mut first = bench.send(&body);
    bench.load();
    let mut copy = bench.send(&body);
    bench.give_up();
    for lost in [&mut first, &mut copy] {
        assert_eq!(outcome(lost), Some(Outcome::NotPromised));
    }
    assert_eq!(bench.barriers.len(), 1);
    assert_eq!(bench.barriers[0].0, Some(vec![sn("A")]));
    assert!(bench.shard.is_drained(), "nothing is on its way any more");

    let mut retry = bench.send(&body);
    bench.send(&event("B", "BOOT", 1));
    assert_eq!(bench.loads, [vec![sn("B")]], "only A is barred");
    bench.shard.barrier_passed(u64::MAX, bench.now);
    bench.collect();
    assert_eq!(bench.loads.len(), 1, "another barrier opens nothing");
    bench.answer_barriers();
    assert_eq!(bench.loads, [vec![sn("B")], vec![sn("A")]]);
    bench.load();
    let raised = bench.written.iter().flat_map(|item| &item.changes).next().expect("an alert");
    assert_eq!((raised.transition, raised.alert.count), (Transition::Raised, 1));
    bench.commit();
    assert!(!stored_as(outcome(&mut retry)).2);
}

#[test]
fn what_was_read_before_a_barrier_does_not_count() {
    let mut bench = Bench::new();
    bench.send(&event("A", "SOS_EVENT", 1));
    bench.shard.given_up(vec![sn("A")], bench.now);
    bench.collect();
    bench.load();
    assert!(bench.written.is_empty() && bench.loads.is_empty());
    bench.answer_barriers();
    assert_eq!(bench.loads, [vec![sn("A")]], "it is read again");
    bench.load();
    assert_eq!(bench.written.len(), 1);
}

#[test]
fn after_a_restart_of_the_writer_everything_waits_for_the_last_barrier() {
    let mut bench = Bench::new();
    let mut lost = bench.send(&event("A", "SOS_EVENT", 1));
    bench.load();
    bench.written.clear();
    for _ in 0..2 {
        bench.shard.forget_everything();
        bench.collect();
    }
    assert_eq!(outcome(&mut lost), Some(Outcome::NotPromised));
    let tokens: Vec<u64> = bench.barriers.iter().map(|(_, token)| *token).collect();
    assert!(bench.barriers.iter().all(|(devices, _)| devices.is_none()) && tokens.len() == 2);
    bench.send(&event("A", "SOS_EVENT", 1));
    bench.shard.barrier_passed(tokens[0], bench.now);
    bench.collect();
    assert!(bench.loads.is_empty(), "the first barrier was overtaken by the second");
    bench.shard.barrier_passed(tokens[1], bench.now);
    bench.collect();
    assert_eq!(bench.loads, [vec![sn("A")]]);
}

#[test]
fn an_emergency_does_not_wait_for_a_state_longer_than_its_limit() {
    let limit = Duration::from_millis(DeviceConfig::default().emergency_load_timeout_ms);
    let mut bench = Bench::new();
    bench.send(&event("A", "BOOT", 1));
    let mut sos = bench.send(&event("A", "SOS_EVENT", 2));
    bench.pass(limit - Duration::from_millis(1));
    assert!(bench.written.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.written.len(), 1, "the emergency, and nothing else");
    assert_eq!(bench.written[0].changes[0].alert.severity, Severity::Critical);
    bench.commit();
    assert!(stored_as(outcome(&mut sos)).1.is_some());
    assert!(!bench.shard.is_drained(), "the other report still waits");
    bench.load();
    assert!(bench.written.is_empty(), "what was read before does not know of the emergency's alert");
    bench.load();
    assert_eq!(bench.written.len(), 1, "after it has been read again");
}

#[test]
fn a_state_is_not_read_while_something_of_its_device_is_on_its_way() {
    let limit = Duration::from_millis(DeviceConfig::default().emergency_load_timeout_ms);
    let mut bench = Bench::new();
    bench.send(&event("A", "SOS_EVENT", 1));
    bench.fail_loads();
    bench.pass(limit);
    assert_eq!(bench.written.len(), 1, "raised without its state");
    bench.loads.clear();
    bench.send(&event("A", "BOOT", 2));
    bench.pass(Duration::from_secs(1));
    assert!(bench.loads.is_empty(), "the alert may not be in storage yet");
    bench.commit();
    assert_eq!(bench.loads, [vec![sn("A")]]);
}

#[test]
fn emergencies_decided_without_a_state_and_given_up_are_not_waited_for() {
    let mut bench = Bench::new();
    bench.send(&event("A", "SOS_EVENT", 1));
    bench.pass(Duration::from_secs(1));
    bench.give_up();
    bench.answer_barriers();
    bench.load();
    assert!(bench.shard.is_drained());
}

#[test]
fn a_known_owner_serves_while_storage_is_away() {
    let mut bench = Bench::new();
    let owner = Owner { binding_id: BindingId(7), ..Owner::unbound() };
    bench.send(&event("A", "BOOT", 1));
    bench.load_as(&owner);
    bench.commit();
    bench.now += Duration::from_secs(DeviceConfig::default().bindings_ttl_s);
    let mut answer = bench.send(&event("A", "SOS_EVENT", 2));
    assert!(bench.written.is_empty(), "storage is asked first");
    bench.fail_loads();
    assert_eq!(bench.written.len(), 1);
    assert_eq!(bench.written[0].changes[0].alert.binding_id, BindingId(7));
    bench.commit();
    assert!(stored_as(outcome(&mut answer)).1.is_some());
    // Of a device without a state nothing can be decided; it is tried again after a pause.
    bench.send(&event("B", "BOOT", 1));
    bench.fail_loads();
    assert!(bench.written.is_empty() && bench.loads.is_empty());
    bench.pass(Duration::from_millis(DeviceConfig::default().load_retry_ms));
    assert_eq!(bench.loads, [vec![sn("B")]]);
}

#[test]
fn strangers_beyond_the_limit_are_stored_without_a_state_and_share_one_alert() {
    let config = DeviceConfig { devices_unbound_max: 2, ..DeviceConfig::default() };
    let mut bench = Bench::with(config, evaluate::event);
    for device in ["A", "B", "C", "D"] {
        bench.send(&event(device, "SOS_EVENT", 1));
        bench.load();
    }
    let of = |item: &watchpost::writer::messages::WriteItem| {
        let alert = &item.changes[0].alert;
        let register = item.records.as_ref().expect("records").touch_device;
        (alert.device_sn.to_string(), alert.value.clone().unwrap_or_default().to_string(), register)
    };
    let written: Vec<_> = bench.written.iter().map(of).collect();
    let expect = |device: &str, value: &str, register| (device.to_owned(), value.to_owned(), register);
    let shared = UNREGISTERED_SN;
    assert_eq!(
        written,
        [
            expect("A", "1", true),
            expect("B", "1", true),
            expect(shared, "C", false),
            expect(shared, "D", false)
        ]
    );
    assert_eq!(bench.strangers(), 2);
    assert_eq!(bench.deps.metrics.device_states.get(), 2);
    bench.commit();
    bench.send(&event("C", "BOOT", 2));
    bench.load();
    assert!(bench.written[0].changes.is_empty(), "what is no emergency is only stored");
}

#[test]
fn eviction_keeps_states_with_open_alerts() {
    let config = DeviceConfig { states_max: 10, ..DeviceConfig::default() };
    let mut bench = Bench::with(config, evaluate::event);
    for n in 0..30 {
        let kind = if n < 5 { "SOS_EVENT" } else { "BOOT" };
        bench.send(&event(&format!("D{n}"), kind, 1));
        bench.load();
        bench.commit();
    }
    let held = bench.deps.metrics.device_states.get();
    assert!((5..=10).contains(&held), "{held} states");
    for n in 0..5 {
        bench.send(&event(&format!("D{n}"), "SOS_EVENT", 2));
    }
    assert!(bench.loads.is_empty(), "they were the least recently used, and are here");
    bench.send(&event("D5", "BOOT", 2));
    assert_eq!(bench.loads, [vec![sn("D5")]], "this one was evicted");
}

fn panicking(
    rules: &RuleSet,
    state: &DeviceState,
    event: &EventReport,
    at: UtcMillis,
    customer: &CustomerId,
) -> Vec<Finding> {
    assert!(event.value.as_deref() != Some("poison"), "a rule that panics");
    evaluate::event(rules, state, event, at, customer)
}

#[test]
fn a_report_whose_evaluation_panics_is_stored_and_the_built_in_rules_apply() {
    let mut bench = Bench::with(DeviceConfig::default(), panicking);
    let poison = |kind, second| {
        let mut body = event("A", kind, second);
        body["eventValue"] = "poison".into();
        body
    };
    let mut answers = [
        bench.send(&poison("SOS_EVENT", 1)),
        bench.send(&poison("GEOFENCE_EXIT", 2)),
        bench.send(&event("A", "GEOFENCE_EXIT", 3)),
    ];
    bench.load();
    let evaluated: Vec<(bool, usize)> = bench
        .written
        .iter()
        .map(|item| {
            let record = item.records.as_ref().and_then(|records| records.event.as_ref());
            (record.expect("an event").evaluated, item.changes.len())
        })
        .collect();
    assert_eq!(evaluated, [(false, 1), (false, 0), (true, 1)]);
    bench.commit();
    let answers: Vec<_> = answers.iter_mut().map(|answer| stored_as(outcome(answer)).1.is_some()).collect();
    assert_eq!(answers, [true, false, true], "200 for all of them");
}
