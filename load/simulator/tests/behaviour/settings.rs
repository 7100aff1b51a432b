//! The start of the app.

use serde_json::json;
use watch_simulator::{Answer, Profile, Purpose, Rejected, Settings, Watch};

use crate::{SERIAL, START_MS, World, ok, settings};

fn begin() -> World {
    let watch = Watch::new(Profile::new(SERIAL), 1, START_MS);
    let mut world = World { watch, now_ms: START_MS, open: Vec::new() };
    world.pass(0);
    assert_eq!(world.purposes(), [Purpose::Settings]);
    world
}

#[test]
fn settings_are_asked_for_first_with_a_timeout_of_2_s() {
    let request = begin().take(Purpose::Settings);
    assert_eq!(request.target, format!("/fetch_health_data_config?customer_id=0&deviceSn={SERIAL}"));
    assert_eq!((request.timeout_ms, request.body), (2_000, None));
}

#[test]
fn without_a_usable_answer_it_goes_on_with_what_is_built_in() {
    for answer in [Answer::Failed, ok(&json!({"upload_method": "wifi"})), Answer::status(200)] {
        let mut world = begin();
        let request = world.take(Purpose::Settings);
        world.reply(&request, &answer);
        assert_eq!(world.purposes(), [Purpose::Event, Purpose::Health], "{answer:?}");
    }
}

#[test]
fn an_answer_other_than_200_keeps_the_service_off_until_the_next_try() {
    let mut world = begin();
    world.finish(Purpose::Settings, 400);
    world.happen(watch_simulator::Occurrence::Sos);
    world.pass(599_999);
    assert!(world.open.is_empty());
    world.pass(1);
    let request = world.take(Purpose::Settings);
    world.reply(&request, &ok(&settings(60, 300, 60)));
    assert_eq!(world.purposes(), [Purpose::Event, Purpose::Health]);
}

#[test]
fn one_key_of_a_wrong_type_rejects_the_whole() {
    let good = settings(60, 300, 60);
    let parsed = Settings::parse(good.to_string().as_bytes()).expect("good settings");
    assert_eq!((parsed.health_interval_s, parsed.org_id.as_str(), parsed.user_id.as_str()), (60, "7", ""));
    for (key, value) in [
        ("org_id", json!(null)),
        ("customer_id", json!(7)),
        ("is_support_license", json!(false)),
        ("cache_max_count", json!(0)),
        ("license_key", json!("x")),
        ("interface_data", json!({"事件上传接口": "http://h/e;5;1;;x"})),
        ("health_data", json!({"stress": "1800:1:1:None:0.0:5"})),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        assert_eq!(Settings::parse(bad.to_string().as_bytes()), Err(Rejected(key)));
    }
}
