//! More devices than anybody has registered, at a real server.

use std::time::Duration;

use actix_web::http::StatusCode;
use watchpost::config::DeviceConfig;
use watchpost::device::judge::UNREGISTERED_SN;
use watchpost::domain::ids::BindingId;
use watchpost::domain::owner::Owner;
use watchpost::rules::evaluate;

use super::bench::{Bench, sn};
use super::tools::{EVENTS, assert_gap_free, event, post, post_later};
use crate::support::TestApp;

#[actix_web::test]
async fn the_emergencies_of_strangers_beyond_the_limit_share_one_alert() {
    let app = TestApp::start_with(|config| config.device.devices_unbound_max = 3).await;
    let sos = |n: usize| event(&format!("STRANGER-{n}"), "SOS_EVENT", 1);
    let posts: Vec<_> = (0..20).map(|n| post_later(&app, EVENTS, &sos(n))).collect();
    let mut alerts = Vec::new();
    for told in posts {
        let told = told.await.expect("no panic");
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        alerts.push(told.body["alert_id"].as_str().expect("an alert").to_owned());
    }
    assert_eq!(app.count("SELECT count(*) FROM event"), 20);
    assert_eq!(app.count("SELECT count(*) FROM device"), 3);
    assert_eq!(app.count("SELECT count(*) FROM alert"), 4);
    let shared = format!("SELECT count FROM alert WHERE device_sn = '{UNREGISTERED_SN}'");
    assert_eq!(app.count(&shared), 17);
    // A retry is told of the same alert and raises no count.
    for (n, alert_id) in alerts.iter().enumerate() {
        let again = post(&app, EVENTS, &sos(n)).await;
        assert_eq!(again.body["alert_id"].as_str(), Some(alert_id.as_str()));
    }
    assert_eq!(app.count(&shared), 17);
    assert_eq!(app.count("SELECT count(*) FROM event"), 20);
    assert_gap_free(&app);
    app.stop().await;
}

#[test]
fn a_stranger_counts_once_and_only_as_long_as_it_is_one() {
    let config = DeviceConfig { devices_unbound_max: 2, ..DeviceConfig::default() };
    let mut bench = Bench::with(config, evaluate::event);
    let send = |bench: &mut Bench, device: &str, second: u32| {
        bench.send(&event(device, "SOS_EVENT", second));
        bench.load();
        let item = bench.written.last().expect("an item");
        item.changes[0].alert.device_sn.to_string()
    };
    // Seen again after a restart of the shard, it takes no second place.
    for second in 0..3 {
        assert_eq!(send(&mut bench, "A", second), "A");
        bench.commit();
        bench.shard.forget_everything();
        bench.collect();
        bench.answer_barriers();
    }
    assert_eq!(bench.strangers(), 1);
    // One that was not stored after all leaves its place to others.
    send(&mut bench, "B", 1);
    assert_eq!(bench.strangers(), 2);
    bench.give_up();
    bench.answer_barriers();
    assert_eq!(bench.strangers(), 1);
    assert_eq!(send(&mut bench, "C", 1), "C");
    assert_eq!(send(&mut bench, "D", 1), UNREGISTERED_SN);
    bench.commit();
    // So does one that somebody wears now.
    bench.deps.bindings.invalidate(&sn("A"), bench.now);
    bench.pass(Duration::from_millis(1));
    bench.send(&event("A", "SOS_EVENT", 9));
    bench.load_as(&Owner { binding_id: BindingId(1), ..Owner::unbound() });
    bench.commit();
    assert_eq!(bench.strangers(), 1);
    assert_eq!(send(&mut bench, "D", 2), "D");
    assert_eq!(bench.strangers(), 2);
}

#[test]
fn a_flood_that_makes_loads_slow_gets_no_more_alerts_than_there_are_places() {
    let config = DeviceConfig { devices_unbound_max: 2, ..DeviceConfig::default() };
    let late = Duration::from_millis(config.emergency_load_timeout_ms);
    let mut bench = Bench::with(config, evaluate::event);
    let bound = Owner { binding_id: BindingId(1), ..Owner::unbound() };
    bench.deps.bindings.learn(&sn("WORN"), Some(bound), bench.now);
    for n in 0..20 {
        bench.send(&event(&format!("S{n}"), "SOS_EVENT", 1));
    }
    bench.send(&event("WORN", "SOS_EVENT", 1));
    bench.pass(late);
    let mut shared = 0;
    for item in &bench.written {
        let alert = &item.changes[0].alert;
        let register = item.records.as_ref().expect("records").touch_device;
        match alert.device_sn.as_str() {
            UNREGISTERED_SN => shared += 1,
            "WORN" => assert!(alert.verified && register),
            _ => assert!(register),
        }
        assert_eq!(register, alert.device_sn.as_str() != UNREGISTERED_SN);
    }
    assert_eq!((bench.written.len(), shared, bench.strangers()), (21, 18, 2));
}
