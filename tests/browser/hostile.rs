//! What watches send stays text, wherever it is shown.

use serde_json::{Value, json};

use super::page::Page;
use super::scene::{Scene, now, sos, with};

const HOSTILE: [&str; 6] = [
    "<img src=x onerror=window.hacked=1>",
    "<script>window.hacked=1</script>",
    "\"><svg onload=window.hacked=1>",
    "' onmouseover='window.hacked=1' style='position:fixed;inset:0",
    "javascript:window.hacked=1//",
    "\u{202e}${window.hacked=1}{{hacked}}\u{0000}%00__proto__",
];

fn harmless(page: &Page, place: &str) {
    let planted = "window.hacked !== undefined || document.querySelector('#app img, #app script, #app iframe, [onerror], [onload], [onmouseover]') !== null \
        || [...document.querySelectorAll('#app a')].some((link) => !/^(#|geo:-?[0-9.]+,-?[0-9.]+$)/.test(link.getAttribute('href')))";
    assert_eq!(page.eval(planted), false, "{place}");
    super::pages::fits(page, place);
}

#[test]
fn hostile_strings_in_every_field_of_a_watch_stay_text() {
    let scene = Scene::start();
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let serial = format!("H{number}{}", text.replace('\0', ""));
        let mut body = with(sos(&serial), "eventValue", text.into());
        body["eventDescription"] = text.into();
        body["healthData"]["data"]["sleepData"] = text.into();
        body["healthData"]["data"][text] = text.into();
        scene.post("/upload_common_event", &body);
        let kind = format!("{text}_HIGH_EVENT");
        let long = "W".repeat(200);
        for key in ["customerId", "orgId", "userId", "eventLevel"] {
            let body = json!({"eventType": kind, "eventValue": text, "deviceSn": format!("K{number}{long}"), key: text, "timestamp": now()});
            scene.post("/upload_common_event", &body);
        }
        let info = json!({"SerialNumber": serial, "System Software Version": text, "Device Name": text, "IMEI": text,
            "Wifi Address": text, "Bluetooth Address": text, "IP Address": text, "Network Access Mode": text,
            "batteryLevel": "77%", "wearState": text, "chargingStatus": text, "status": text, "timestamp": now()});
        scene.post("/upload_device_info", &info);
        if !text.contains('\0') {
            let encoded: String = serial.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let names = json!({"org_id": "o", "org_name": text, "person_id": format!("p{number}"), "person_name": text});
            scene.rest(&format!("PUT /api/v1/devices/{encoded}/binding"), &names);
            scene.post("/upload_common_event", &with(body, "timestamp", super::scene::ago(-2).into()));
        }
    }
    let page = scene.operator();
    page.size(390, 844);
    page.until_seen("dialog.popup[data-armed]");
    harmless(&page, "the pop-up");
    page.press("l");
    page.until_gone("dialog.popup");
    page.until_seen("[data-alert]");
    harmless(&page, "the list of alerts");
    let (_, alerts) = scene.rest("GET /api/v1/alerts?open=true", &Value::Null);
    let items = alerts["items"].as_array().expect("alerts");
    assert!(items.len() >= HOSTILE.len() * 2, "{}", items.len());
    for alert in items {
        let id = alert["alert_id"].as_str().expect("an id");
        page.show(&format!("alerts/{id}"));
        page.until_seen(&format!("[data-detail='{id}'] .timeline li"));
        harmless(&page, "the details of an alert");
        let serial = alert["device_sn"].as_str().expect("a serial");
        page.run(&format!("location.hash = '#/devices/' + encodeURIComponent({})", json!(serial)));
        let there = format!("document.querySelector('[data-serial]')?.dataset.serial === {}", json!(serial));
        page.until("the watch", &there);
        harmless(&page, "a watch");
    }
    for place in ["devices", "overview", "system"] {
        page.show(place);
        page.until_seen("main h1");
        harmless(&page, place);
    }
    assert!(
        items.iter().any(|alert| alert["device_sn"].as_str().is_some_and(|serial| serial.contains("<img"))),
        "they were stored as sent"
    );
}
