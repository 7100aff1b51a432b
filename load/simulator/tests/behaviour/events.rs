//! Which occurrences become events, and what they say.

use watch_simulator::{Kind, Occurrence, Profile, Purpose};

use crate::{SERIAL, START_MS, World, body, settings};

fn events(world: &World) -> Vec<String> {
    let events = world.watch.record().of(Kind::Event).skip(1).filter_map(|item| item.event.as_ref());
    events.map(|(name, value)| format!("{}={value}", name.rsplit('.').next().unwrap_or(name))).collect()
}

#[test]
fn the_same_type_within_a_second_is_dropped() {
    let mut world = World::quiet();
    world.happen(Occurrence::Wear(false));
    world.pass(500);
    world.happen(Occurrence::Wear(true));
    world.pass(499);
    world.happen(Occurrence::Wear(true));
    assert_eq!(events(&world), ["WEAR_STATUS_CHANGED=0"]);
    world.pass(1);
    world.happen(Occurrence::Wear(true));
    assert_eq!(events(&world), ["WEAR_STATUS_CHANGED=0", "WEAR_STATUS_CHANGED=1"]);
    assert_eq!(world.watch.record().suppressed, 2);
}

#[test]
fn a_second_sos_in_a_row_is_not_sent_until_something_else_happened() {
    let mut world = World::quiet();
    for occurrence in [Occurrence::Sos, Occurrence::Sos, Occurrence::Call, Occurrence::Sos] {
        world.happen(occurrence);
        world.pass(60_000);
    }
    let sos = format!("SOS_EVENT={SERIAL}");
    assert_eq!(events(&world), [sos.clone(), format!("CALL_STATE={SERIAL}"), sos]);
}

#[test]
fn a_build_that_sends_no_falls_lets_the_next_sos_through() {
    let profile = Profile { sends_falls: false, ..Profile::new(SERIAL) };
    let mut world = World::with(profile, &settings(36_000, 36_000, 36_000));
    for occurrence in [Occurrence::Sos, Occurrence::Fall, Occurrence::Sos] {
        world.happen(occurrence);
        world.pass(60_000);
    }
    assert_eq!(events(&world), [format!("SOS_EVENT={SERIAL}"), format!("SOS_EVENT={SERIAL}")]);
}

#[test]
fn a_change_of_wear_is_two_device_reports_and_an_event() {
    let mut world = World::quiet();
    world.happen(Occurrence::Wear(false));
    let before = world.take(Purpose::Device);
    assert_eq!(body(&before)["wearState"], "0", "as text, before the event");
    assert!(world.open.is_empty());
    world.reply(&before, &watch_simulator::Answer::Failed);
    let event = world.finish(Purpose::Event, 200);
    assert_eq!(body(&event)["eventValue"], "0");
    world.pass(999);
    assert_eq!(body(&world.take(Purpose::Device))["wearState"], 0);
    assert!(world.open.is_empty(), "{:?}", world.purposes());
}

#[test]
fn a_watch_that_is_off_repeats_its_last_values_under_new_times() {
    let mut world = World::with(Profile::new(SERIAL), &settings(30, 36_000, 36_000));
    world.pass(30_000);
    let last = body(&world.finish(Purpose::Health, 200));
    world.happen(Occurrence::Wear(false));
    world.pass(30_000);
    let request = world.take(Purpose::Health);
    let mut again = body(&request);
    assert_ne!(again["data"]["timestamp"], last["data"]["timestamp"]);
    again["data"]["timestamp"] = last["data"]["timestamp"].clone();
    assert_eq!(again, last);
}

#[test]
fn an_event_is_dated_by_the_watch_and_carries_a_health_record() {
    let profile = Profile { clock_offset_ms: -240_000, ..Profile::new(SERIAL) };
    let mut world = World::with(profile, &settings(36_000, 36_000, 36_000));
    world.pass(60_000);
    world.happen(Occurrence::Sos);
    let sos = world.take(Purpose::Event);
    let event = body(&sos);
    assert_eq!(world.now_ms, START_MS + 60_000);
    assert_eq!(event["timestamp"], "2025-09-10 13:02:30", "4 minutes behind");
    assert_eq!(event["eventType"], "com.tdtech.ohos.health.action.SOS_EVENT");
    assert_eq!(event["healthData"]["data"]["upload_method"], "common_event");
    assert!(event["latitude"].is_f64() && event["orgId"] == "7" && event["userId"] == "");
    let http = String::from_utf8(sos.to_http("h:1")).expect("text");
    let head = "POST /upload_common_event HTTP/1.1\r\nHost: h:1\r\nAccept: application/json\r\nAuthorization: Basic eHl6\r\n";
    assert!(http.starts_with(head), "{http}");
}

#[test]
fn before_the_first_pulse_records_are_zero_and_events_have_none() {
    let profile = Profile { has_location: false, ..Profile::new(SERIAL) };
    let mut watch = watch_simulator::Watch::new(profile, 1, START_MS);
    watch.advance(START_MS);
    let first = watch.next_request().expect("a request");
    watch.answer(START_MS, first.id, &watch_simulator::Answer::Failed);
    let boot = body(&watch.next_request().expect("the boot event"));
    assert!(boot.get("healthData").is_none() && boot.get("latitude").is_none(), "{boot}");
    let health = body(&watch.next_request().expect("a health record"));
    assert_eq!(health["data"]["heart_rate"], 0);
    assert_eq!(
        (&health["data"]["body_temperature"], &health["data"]["latitude"]),
        (&"0.0".into(), &"0".into())
    );
}
