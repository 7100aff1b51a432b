//! What waits, what is lost, what is sent again.

use watch_simulator::{CAPACITY_MAX, Kind, Left, Occurrence, Purpose, Ring, Waiting};

use crate::{World, body};

const ORDER: [Occurrence; 4] =
    [Occurrence::Sos, Occurrence::Call, Occurrence::DoubleClick, Occurrence::OneKeyAlarm];

fn waiting(item: usize) -> Waiting {
    Waiting { item, json: item.to_string() }
}

/// Lets these happen a second apart, all of them in vain.
fn in_vain(world: &mut World, occurrences: &[Occurrence]) {
    for occurrence in occurrences {
        world.happen(*occurrence);
        world.finish(Purpose::Event, 503);
        world.pass(1_000);
    }
}

fn kind_of_event(world: &World, item: usize) -> String {
    let event = world.watch.record().items()[item].event.clone().expect("an event");
    event.0.rsplit('.').next().expect("a segment").to_owned()
}

#[test]
fn a_full_ring_drops_its_oldest() {
    let mut ring = Ring::new(3);
    assert_eq!((1..=5).filter_map(|item| ring.push(waiting(item))).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(ring.clear(), [3, 4, 5]);
    let mut ring = Ring::new(1_000);
    assert_eq!((0..=CAPACITY_MAX).filter_map(|item| ring.push(waiting(item))).collect::<Vec<_>>(), [0]);
    assert_eq!(ring.len(), 100);
}

#[test]
fn the_hundred_and_first_event_in_an_outage_drops_the_first() {
    let mut world = World::quiet();
    for n in 0..101 {
        world.happen(if n % 2 == 0 { Occurrence::Call } else { Occurrence::DoubleClick });
        while let Some(request) = world.open.pop() {
            world.reply(&request, &watch_simulator::Answer::Failed);
        }
        world.pass(1_000);
        world.open.clear();
    }
    let dropped: Vec<_> =
        world.watch.record().of(Kind::Event).map(|item| item.left.map(|(_, why)| why)).collect();
    assert_eq!(dropped.iter().filter(|why| **why == Some(Left::DroppedOldest)).count(), 1);
    assert_eq!(dropped[1], Some(Left::DroppedOldest), "the first after the boot event");
    assert_eq!(world.watch.waiting(Kind::Event), 100);
}

#[test]
fn a_200_clears_the_whole_ring_and_loses_what_was_never_answered() {
    let mut world = World::quiet();
    in_vain(&mut world, &ORDER[..3]);
    assert_eq!(world.watch.waiting(Kind::Event), 3);
    world.happen(Occurrence::OneKeyAlarm);
    world.finish(Purpose::Event, 200);
    assert_eq!(world.watch.waiting(Kind::Event), 0);
    let lost: Vec<bool> =
        world.watch.record().of(Kind::Event).map(|item| item.is_unconfirmed_and_gone()).collect();
    assert_eq!(lost, [false, true, true, true, false], "all between the boot event and the last");
    world.pass(300_000);
    assert!(world.open.is_empty(), "and nothing is sent again: {:?}", world.purposes());
}

#[test]
fn a_200_for_one_kind_leaves_the_other_rings_alone() {
    let mut world = World::quiet();
    in_vain(&mut world, &ORDER[..1]);
    world.happen(Occurrence::Wear(false));
    world.finish(Purpose::Device, 200);
    assert_eq!((world.watch.waiting(Kind::Event), world.watch.waiting(Kind::Device)), (2, 0));
}

#[test]
fn a_replay_is_oldest_first_stops_at_the_first_failure_and_begins_anew() {
    let mut world = World::quiet();
    in_vain(&mut world, &ORDER);
    world.pass(116_000);
    let mut replay = |statuses: &[u16]| -> Vec<String> {
        let sent =
            statuses.iter().map(|status| world.finish(Purpose::EventReplay, *status)).collect::<Vec<_>>();
        assert!(world.open.is_empty(), "it stops: {:?}", world.purposes());
        let names = sent.iter().map(|request| kind_of_event(&world, request.items[0])).collect();
        world.pass(119_000);
        assert!(world.open.is_empty(), "not before 120 s: {:?}", world.purposes());
        world.pass(1_000);
        names
    };
    assert_eq!(replay(&[200, 200, 503]), ["SOS_EVENT", "CALL_STATE", "FUN_DOUBLE_CLICK"]);
    // What was answered 200 comes again.
    assert_eq!(replay(&[200, 400]), ["SOS_EVENT", "CALL_STATE"]);
    assert_eq!(replay(&[200; 4]), ["SOS_EVENT", "CALL_STATE", "FUN_DOUBLE_CLICK", "ONE_KEY_ALARM"]);
    assert!(world.open.is_empty() && world.watch.waiting(Kind::Event) == 0);
    assert!(world.watch.record().of(Kind::Event).all(|item| item.confirmed_ms.is_some()));
}

#[test]
fn a_replay_is_identical_to_the_byte() {
    let mut world = World::quiet();
    world.happen(Occurrence::Sos);
    let first = world.finish(Purpose::Event, 500);
    world.pass(120_000);
    assert_eq!(world.finish(Purpose::EventReplay, 200).body, first.body);
}

#[test]
fn a_finished_replay_also_clears_what_came_meanwhile() {
    let mut world = World::quiet();
    in_vain(&mut world, &ORDER[..1]);
    world.pass(120_000);
    world.happen(Occurrence::Call);
    world.finish(Purpose::Event, 503);
    world.finish(Purpose::EventReplay, 200);
    let last = world.watch.record().of(Kind::Event).last().expect("an event");
    assert!(last.is_unconfirmed_and_gone());
    assert_eq!(last.left.map(|(_, why)| why), Some(Left::ClearedByReplay));
}

#[test]
fn health_records_that_wait_are_sent_as_one_list() {
    let profile = watch_simulator::Profile::new(crate::SERIAL);
    let mut world = World::with(profile, &crate::settings(30, 36_000, 36_000));
    for _ in 0..3 {
        world.pass(30_000);
        let single = world.finish(Purpose::Health, 503);
        assert!(body(&single)["data"].is_object());
    }
    world.pass(30_000);
    world.finish(Purpose::Health, 503);
    let batch = world.take(Purpose::HealthBatch);
    assert_eq!(body(&batch)["data"].as_array().map(Vec::len), Some(4));
    assert_eq!(batch.items.len(), 4);
    world.reply(&batch, &watch_simulator::Answer::status(200));
    assert_eq!(world.watch.waiting(Kind::Health), 0);
}

#[test]
fn one_health_record_that_waits_is_sent_as_it_was() {
    let profile = watch_simulator::Profile::new(crate::SERIAL);
    let mut world = World::with(profile, &crate::settings(100, 36_000, 36_000));
    world.pass(100_000);
    let first = world.finish(Purpose::Health, 503);
    world.pass(20_000);
    assert_eq!(world.take(Purpose::HealthBatch).body, first.body);
}
