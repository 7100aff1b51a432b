//! The registry's core against a model: whatever is lost or late, every subscriber sees exactly the
//! changes after its cursor that pass its filter, in order and once, or a snapshot that says so.

use std::time::Instant;

use proptest::prelude::*;
use watchpost::domain::alert::Transition;
use watchpost::domain::ids::Offset;
use watchpost::domain::rule::Severity;
use watchpost::session::delivery::SessionId;
use watchpost::session::frames::Since;
use watchpost::session::live_log::{LogRead, ReadFailure};
use watchpost::session::open_alerts::OpenCounts;
use watchpost::session::registry::{Effect, Limits, Registry};
use watchpost::storage::alert_log::OpenSnapshot;

use super::history::History;
use super::world::{Change, Hint, LIMITS, Op, World, id, op, view};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_subscriber_sees_every_change_once_or_a_snapshot_that_says_so(
        ops in prop::collection::vec(op(), 1..120)
    ) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.finish();
    }
}

fn loaded_world(changes: usize) -> World {
    let mut world = World::new();
    world.end_log_read(false);
    world.settle();
    for _ in 0..changes {
        let raise = Change::Raise { device: 0, customer: 0, severity: 4 };
        world.run(&Op::Commit(vec![raise], Hint::Sent));
    }
    world
}

fn resume(world: &mut World, offset: Offset) -> SessionId {
    world.subscribe(id(0), Some(Since { epoch: "epoch".into(), offset }), view(0));
    id(0)
}

#[test]
fn a_resume_within_the_ring_needs_no_read() {
    let mut world = loaded_world(20);
    let session = resume(&mut world, 15);
    world.clients.get_mut(&session).unwrap().asked_since = false;
    world.settle();
    assert!(world.replay.is_none());
    assert_eq!(world.clients[&session].seen, 18);
    world.finish();
}

#[test]
fn a_resume_behind_the_ring_is_read_from_storage_and_joins_the_ring_without_a_hole() {
    let mut world = loaded_world(20);
    let session = resume(&mut world, 6);
    // A snapshot would fail: there is none to be had without a gap.
    world.clients.get_mut(&session).unwrap().asked_since = false;
    world.settle();
    assert!(world.replay.is_some());
    world.finish();
    assert_eq!(world.clients[&session].seen, 20);
}

#[test]
fn a_resume_from_too_far_back_gets_a_gap_and_a_snapshot() {
    let mut world = loaded_world(20);
    let session = resume(&mut world, 5);
    world.settle();
    assert!(world.replay.is_none());
    assert!(world.clients[&session].outstanding);
    assert_eq!(world.clients[&session].seen, 20);
}

#[test]
fn a_client_that_does_not_pull_is_closed_when_it_leaves_the_ring() {
    let mut world = loaded_world(3);
    world.subscribe(id(0), None, view(0));
    world.settle();
    assert!(world.clients[&id(0)].outstanding);
    for _ in 0..LIMITS.ring_changes + 1 {
        let raise = Change::Raise { device: 0, customer: 0, severity: 4 };
        world.run(&Op::Commit(vec![raise], Hint::Sent));
    }
    world.pull(id(0));
    world.settle();
    assert!(!world.clients.contains_key(&id(0)));
    assert_eq!(world.stopped[&id(0)].0, 3);
}

#[test]
fn a_late_hint_is_looked_for_after_a_grace_and_the_timer_does_not_wait() {
    let mut world = loaded_world(1);
    let raise = || vec![Change::Raise { device: 0, customer: 0, severity: 4 }];
    world.run(&Op::Commit(raise(), Hint::Lost));
    assert!(world.log_read.is_none());
    world.run(&Op::Pass(20));
    assert_eq!(world.log_read, Some(LogRead::CatchUp { after: 1, until: 2, limit: 4 }));
    world.run(&Op::LogRead { fails: true });
    world.run(&Op::Reconcile);
    assert!(world.log_read.is_some());
    world.run(&Op::LogRead { fails: false });
    assert_eq!(world.registry.last(), 2);
}

#[test]
fn an_unreadable_change_makes_everybody_start_from_what_is_open() {
    let mut world = loaded_world(1);
    world.subscribe(id(0), None, view(0));
    world.settle();
    world.pull(id(0));
    world.run(&Op::Commit(vec![Change::Raise { device: 0, customer: 0, severity: 4 }], Hint::OnlyWatermark));
    world.log_read.take().unwrap();
    world.registry.caught_up(Err(ReadFailure::Unreadable));
    world.settle();
    assert!(matches!(world.log_read, Some(LogRead::Load { .. })));
    world.run(&Op::LogRead { fails: false });
    assert_eq!(world.registry.last(), 2);
    assert!(world.stopped.contains_key(&id(0)), "told that it cannot go on");
}

#[test]
fn alerts_that_were_left_out_come_back_when_there_is_room_but_not_those_resolved_meanwhile() {
    let mut history = History::default();
    for _ in 0..5 {
        history.raise("w1", "c1", Severity::High);
    }
    let open_read = |registry: &mut Registry, read: LogRead, history: &History| {
        let (LogRead::Load { limit } | LogRead::Refill { limit }) = read else { panic!("{read:?}") };
        let (mut alerts, last_offset) = (history.open_at(history.last()), history.last());
        let truncated = alerts.len() > limit;
        alerts.truncate(limit);
        registry.open_read(read, Ok(OpenSnapshot { alerts, truncated, last_offset }));
    };
    let next_read = |registry: &mut Registry| {
        registry.take_effects().into_iter().find_map(|effect| match effect {
            Effect::ReadLog(read) => Some(read),
            _ => None,
        })
    };
    let limits = Limits { snapshot_alerts_max: 4, ..LIMITS };
    let (mut registry, now) = (Registry::new(limits, "epoch".into()), Instant::now());
    let load = next_read(&mut registry).unwrap();
    open_read(&mut registry, load, &history);
    assert_eq!(registry.open_alerts(), 4);
    registry.reconcile(history.last());
    assert_eq!(next_read(&mut registry), None, "still full");

    for pick in [4, 3] {
        let change = history.touch(pick, Transition::Resolved, false);
        registry.publish(vec![change], history.last(), now);
    }
    registry.reconcile(history.last());
    let refill = next_read(&mut registry).unwrap();
    // Resolved after the read, known before its result.
    let at_read = history.clone();
    let change = history.touch(0, Transition::Resolved, false);
    registry.publish(vec![change], history.last(), now);
    open_read(&mut registry, refill, &at_read);
    assert_eq!(registry.open_alerts(), history.open_at(history.last()).len());
    assert_eq!(registry.open_alerts(), 2);
    let mut counts = OpenCounts::default();
    counts[0][Severity::High as usize] = 2;
    assert_eq!(*registry.open_counts(), counts);

    let change = history.touch(2, Transition::Acknowledged, false);
    registry.publish(vec![change], history.last(), now);
    counts[0][Severity::High as usize] = 1;
    counts[1][Severity::High as usize] = 1;
    assert_eq!(*registry.open_counts(), counts);
}

#[test]
fn a_session_is_behind_until_it_has_written_what_it_was_handed() {
    let mut world = loaded_world(20);
    assert_eq!(world.registry.slowest_behind(), 0, "nobody is there");
    let session = resume(&mut world, 15);
    // Three are handed over at a time.
    for behind in [5, 2, 0] {
        assert_eq!(world.registry.slowest_behind(), behind);
        world.settle();
        world.pull(session);
    }
    world.finish();
}
