//! The one timer thread, and threads beside it.

use serde_json::json;
use watch_simulator::{Answer, Kind, Occurrence, Profile, Purpose};

use crate::{SERIAL, World, body, ok, settings};

fn world(health_s: u64, device_s: u64, message_s: u64) -> World {
    World::with(Profile::new(SERIAL), &settings(health_s, device_s, message_s))
}

#[test]
fn uploads_follow_their_intervals_on_ticks_of_5_s() {
    let mut world = world(10, 20, 15);
    let mut seen = Vec::new();
    for tick in 1..=12 {
        world.pass(5_000);
        while let Some(request) = world.open.pop() {
            seen.push((tick * 5, request.purpose));
            world.reply(&request, &Answer::status(200));
        }
    }
    let at = |purpose| seen.iter().filter(|(_, p)| *p == purpose).map(|(s, _)| *s).collect::<Vec<_>>();
    assert_eq!(at(Purpose::Health), [10, 20, 30, 40, 50, 60]);
    assert_eq!(at(Purpose::Device), [20, 40, 60]);
    assert_eq!(at(Purpose::Poll), [15, 30, 45, 60]);
}

#[test]
fn an_interval_below_a_tick_never_comes() {
    let mut world = world(4, 0, 36_000);
    world.pass(100_000);
    assert!(world.open.is_empty(), "{:?}", world.purposes());
}

#[test]
fn jobs_of_the_timer_thread_wait_for_each_other() {
    let mut world = world(60, 60, 60);
    world.pass(60_000);
    assert_eq!(world.purposes(), [Purpose::Health]);
    world.pass(3_000);
    world.finish(Purpose::Health, 200);
    assert_eq!(world.purposes(), [Purpose::Device]);
    world.pass(3_000);
    world.finish(Purpose::Device, 503);
    assert_eq!(world.purposes(), [Purpose::Poll]);
}

#[test]
fn a_slow_server_stops_the_timer_thread_and_stretches_its_rhythm() {
    let mut world = world(5, 36_000, 36_000);
    let mut health = 0;
    for _ in 0..10 {
        world.pass(10_000);
        let request = world.take(Purpose::Health);
        health += 1;
        assert!(world.open.is_empty(), "nothing else while it waits");
        world.reply(&request, &Answer::Failed);
        // The next tick is overdue and begins at once.
        assert_eq!(world.purposes(), [Purpose::Health]);
    }
    // Ticks that were missed are not made up for.
    assert_eq!(health, 10);
}

#[test]
fn events_do_not_wait_for_the_timer_thread_so_requests_overlap() {
    let mut world = world(60, 36_000, 36_000);
    world.pass(60_000);
    world.happen(Occurrence::Sos);
    world.happen(Occurrence::Call);
    assert_eq!(world.purposes(), [Purpose::Health, Purpose::Event, Purpose::Event]);
    let (sos, call) = (world.open[1].clone(), world.open[2].clone());
    world.reply(&call, &Answer::status(200));
    world.reply(&sos, &Answer::status(200));
    let events: Vec<_> = world.watch.record().of(Kind::Event).map(|item| item.confirmed_ms).collect();
    assert!(events.iter().all(Option::is_some), "a late 200 counts, though the ring was clear: {events:?}");
}

#[test]
fn a_health_batch_is_tried_three_times_with_pauses_of_1_and_2_s() {
    let mut world = world(100, 36_000, 36_000);
    world.pass(100_000);
    world.finish(Purpose::Health, 503);
    world.pass(20_000);
    let mut gone_ms = Vec::new();
    for pause_ms in [1_000, 2_000] {
        world.finish(Purpose::HealthBatch, 503);
        world.pass(pause_ms - 1);
        assert!(world.open.is_empty());
        world.pass(1);
        gone_ms.push(world.now_ms);
    }
    world.finish(Purpose::HealthBatch, 503);
    world.pass(60_000);
    assert!(world.open.is_empty(), "{:?}", world.purposes());
    assert_eq!(world.watch.waiting(Kind::Health), 1);
    assert_eq!(gone_ms[1] - gone_ms[0], 2_000);
}

#[test]
fn a_snapshot_is_used_for_some_seconds_so_times_repeat() {
    let mut world = world(5, 36_000, 36_000);
    let mut times = Vec::new();
    for _ in 0..20 {
        world.pass(5_000);
        times.push(body(&world.finish(Purpose::Health, 200))["data"]["timestamp"].to_string());
    }
    let all = times.len();
    times.dedup();
    assert!((8..all).contains(&times.len()), "{} of {all} differ", times.len());
}

#[test]
fn a_message_is_answered_at_once_and_a_poll_with_a_missing_key_is_dropped() {
    let message = json!({
        "message_id": "1", "message_type": "warning", "sent_time": "2025-09-10 12:59:00", "message": "x",
        "department_name": "d", "department_id": "2", "is_public": true, "user_id": null, "user_name": null,
    });
    let mut answer = json!({"success": true, "data": {
        "totalMessages": 1, "personalMessagesCount": 0, "publicMessagesCount": 1, "departments": [],
        "messageTypeCount": {"warning": 1}, "messages": [message.clone(), message],
    }});
    let mut world = world(36_000, 36_000, 60);
    world.pass(60_000);
    let poll = world.take(Purpose::Poll);
    assert_eq!(poll.target, format!("/DeviceMessage/receive?deviceSn={SERIAL}"));
    world.reply(&poll, &ok(&answer));
    let reply = world.finish(Purpose::Reply, 500);
    assert_eq!(
        (body(&reply)["message_status"].as_str(), reply.target.as_str()),
        (Some("responded"), "/DeviceMessage/send")
    );
    world.finish(Purpose::Reply, 200);
    answer["data"].as_object_mut().expect("an object").remove("departments");
    world.pass(60_000);
    let poll = world.take(Purpose::Poll);
    world.reply(&poll, &ok(&answer));
    assert!(world.open.is_empty());
}
