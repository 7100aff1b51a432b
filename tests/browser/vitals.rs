//! Vital signs of the moment, as old as they are.

use serde_json::{Value, json};

use super::scene::{Scene, ago, event, with};

fn record(minutes: i64, more: &[(&str, f64)]) -> Value {
    let record = json!({"deviceSn": "W1", "timestamp": ago(minutes), "upload_method": "wifi"});
    let record = more.iter().fold(record, |record, (name, value)| with(record, name, json!(value)));
    json!({ "data": [record] })
}

#[test]
fn the_newest_known_vital_signs_are_there_at_once_with_their_age_and_then_follow_the_watch() {
    let scene = Scene::start();
    let answer = scene.post("/upload_common_event", &event("W1", "GEOFENCE_EXIT"));
    let alert = answer["alert_id"].as_str().expect("an alert");
    scene.post("/upload_health_data", &record(40, &[("heart_rate", 71.0), ("blood_oxygen", 96.0)]));
    let page = scene.operator();
    page.show(&format!("alerts/{alert}"));
    page.until_seen(".vitals-table .measured");
    let text = page.text(".vitals-table");
    for part in ["Last known", "40 min ago", "71 bpm", "96 %"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(page.count(".vitals-table .measured.old"), 1);
    assert_eq!(page.count(".vitals-table td.old"), 2, "neither looks live");

    scene.post("/upload_health_data", &record(0, &[("heart_rate", 88.0)]));
    page.until(
        "what the watch says now",
        "document.querySelector('.vitals-table').innerText.includes('88 bpm')",
    );
    assert_eq!(page.count(".vitals-table .measured.old"), 0);
    // The other one is still the newest of its kind, and is as old as it is.
    let old = page.text(".vitals-table td.old");
    assert!(old.contains("96 %") && old.contains("40 min ago"), "{old}");
    // What comes late is not the newest.
    scene.post("/upload_health_data", &record(20, &[("heart_rate", 60.0), ("body_temperature", 36.4)]));
    page.until("the temperature", "document.querySelector('.vitals-table').innerText.includes('36.4')");
    assert!(page.text(".vitals-table").contains("88 bpm"));

    page.show("devices/W1");
    page.until_seen(".now .measured");
    let text = page.text("ul.now");
    assert!(text.contains("88 bpm"), "{text}");
}
