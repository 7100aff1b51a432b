//! What the screen reads about devices, after real watches have reported through the whole server.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, EXAMPLE_MS, HEALTH, INFO, WEAR, wall};

const MINUTE_MS: i64 = 60_000;

/// A device-info upload so many seconds after the examples.
fn info(sn: &str, seconds: i64, battery: u32, charging: &str) -> Value {
    json!({
        "SerialNumber": sn,
        "System Software Version": "ARC-AL00CN 4.0.0.900(SP41C700E104R412P100)",
        "batteryLevel": battery,
        "chargingStatus": charging,
        "timestamp": wall(seconds),
    })
}

async fn read(app: &TestApp, token: &str, path: &str) -> Value {
    let answer = app.api_as(token, Method::GET, path, None).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

fn serials(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["device_sn"].as_str().expect("a serial")).collect()
}

/// Four watches of customer 1, one of customer 2, one that has never reported.
async fn fleet() -> (TestApp, String, String) {
    let app = TestApp::start().await;
    for (sn, customer, person, org) in [
        ("W-charging", "1", "Änne Maier", "North"),
        ("W-off", "1", "王小明", "North"),
        ("W-on", "1", "Bob", "养老院"),
        ("W-quiet", "1", "Eve", "North"),
        ("W-other", "2", "Mallory", "South"),
        ("W-unheard", "1", "Zoe", "North"),
    ] {
        let binding = json!({
            "customer_id": customer, "person_id": format!("p-{sn}"), "person_name": person,
            "org_id": format!("o-{org}"), "org_name": org,
        });
        app.bind(sn, &binding).await;
    }
    app.stored(INFO, &info("W-quiet", 0, 11, "NONE")).await;
    // The others go on for longer than a watch may be silent.
    app.advance_ms(16 * MINUTE_MS);
    for sn in ["W-charging", "W-off", "W-on", "W-other"] {
        app.stored(HEALTH, &bodies::heart_rate(sn, 900, 70)).await;
    }
    app.stored(INFO, &info("W-charging", 901, 63, "CHARGING")).await;
    app.stored(EVENTS, &bodies::event("W-off", WEAR, "0", 902)).await;
    app.stored(EVENTS, &bodies::sos("W-on", 903)).await;
    let (one, two) = (app.token_of("1").await, app.token_of("2").await);
    (app, one, two)
}

#[actix_web::test]
async fn a_list_says_how_each_device_is_and_finds_it_by_name_and_state() {
    let (app, one, two) = fleet().await;
    let list = read(&app, &one, "/api/v1/devices").await;
    let states: Vec<(&str, &str)> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| (item["device_sn"].as_str().expect("a text"), item["state"].as_str().expect("a text")))
        .collect();
    let all = [
        ("W-charging", "charging"),
        ("W-off", "not_worn"),
        ("W-on", "online"),
        ("W-quiet", "silent"),
        ("W-unheard", "unknown"),
    ];
    assert_eq!(states, all);
    let charging = &list["items"][0];
    assert_eq!(charging["model"], "ARC-AL00");
    assert_eq!((&charging["battery_percent"], &charging["charging"]), (&json!(63), &json!(true)));
    assert_eq!((&charging["person_name"], &charging["org_name"]), (&json!("Änne Maier"), &json!("North")));
    assert_eq!((&list["items"][2]["open_alerts"], &list["items"][0]["open_alerts"]), (&json!(1), &json!(0)));
    let quiet = &list["items"][3];
    assert_eq!(quiet["silent_since"], json!(crate::support::NOW.0));
    assert!(list["items"][2]["silent_since"].is_null() && list["items"][4]["last_seen_at"].is_null());

    for (query, found) in [
        ("state=silent", &["W-quiet"][..]),
        ("state=unknown", &["W-unheard"]),
        ("state=online", &["W-on"]),
        ("state=charging", &["W-charging"]),
        ("state=not_worn", &["W-off"]),
        ("search=%E5%B0%8F%E6%98%8E", &["W-off"]),
        // änne
        ("search=%C3%84NNE", &["W-charging"]),
        ("search=%20w-O%20", &["W-off", "W-on"]),
        ("search=north&state=not_worn", &["W-off"]),
        ("search=Mallory", &[]),
        ("customer_id=2", &[]),
    ] {
        let list = read(&app, &one, &format!("/api/v1/devices?{query}")).await;
        assert_eq!(serials(&list), found, "{query}");
        assert!(list["next"].is_null(), "{query}");
    }
    assert_eq!(serials(&read(&app, &two, "/api/v1/devices?search=w").await), ["W-other"]);
    assert_eq!(serials(&read(&app, &app.admin, "/api/v1/devices?search=w").await).len(), 6);
    for query in ["state=asleep".to_owned(), format!("search={}", "x".repeat(256))] {
        let answer = app.get(&format!("/api/v1/devices?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
    }

    // Page by page, a filter leaves nothing out and repeats nothing.
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = read(&app, &one, &format!("/api/v1/devices?search=north&limit=1{cursor}")).await;
        found.extend(serials(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, ["W-charging", "W-off", "W-quiet", "W-unheard"]);
    app.stop().await;
}

#[actix_web::test]
async fn a_device_shows_where_it_was_last_and_only_to_its_own_customer() {
    let (app, one, two) = fleet().await;
    let place = |latitude: &str| json!({"latitude": latitude, "longitude": "114.0"});
    app.stored(HEALTH, &bodies::vitals("W-on", 910, &place("22.5"))).await;
    let mut sos = bodies::sos("W-on", 905);
    sos["latitude"] = json!(22.25);
    sos["longitude"] = json!(114.25);
    app.stored(EVENTS, &sos).await;
    let device = read(&app, &one, "/api/v1/devices/W-on").await;
    let at = "2025-09-10T05:20:34.000Z";
    assert_eq!(device["last_location"], json!({"at": at, "latitude": 22.5, "longitude": 114.0}));
    assert_eq!((&device["binding"]["person_name"], &device["state"]), (&json!("Bob"), &json!("online")));
    assert_eq!((&device["open_alerts"], device["alerts"].as_array().expect("alerts").len()), (&json!(1), 1));
    assert!(device["status"].is_null() && device["vitals"]["metrics"].is_object());

    let track = read(&app, &one, "/api/v1/devices/W-on/track").await;
    let points = track["points"].as_array().expect("points");
    let kinds: Vec<&Value> = points.iter().map(|point| &point["event_type"]).collect();
    assert_eq!(kinds, [&json!(bodies::SOS), &Value::Null], "{track}");
    assert_eq!((&points[0]["latitude"], &points[1]["latitude"]), (&json!(22.25), &json!(22.5)));
    assert_eq!(track["truncated"], false);
    for path in ["", "/track", "/vitals"] {
        for (token, sn) in [(&two, "W-on"), (&one, "W-other"), (&one, "nobody")] {
            let answer = app.api_as(token, Method::GET, &format!("/api/v1/devices/{sn}{path}"), None).await;
            assert_eq!(answer.status, 404, "{sn}{path}");
        }
    }
    for query in ["hours=0", "hours=169", "hours=x", "days=1"] {
        for path in ["track", "vitals"] {
            let answer = app.get(&format!("/api/v1/devices/W-on/{path}?{query}")).await;
            assert_eq!(answer.status, 400, "{path}?{query}");
        }
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_track_has_the_newest_thousand_points_oldest_first() {
    let app = TestApp::start().await;
    let record = |second: i64| {
        json!({"deviceSn": "w", "timestamp": wall(second - 3_000), "heart_rate": 70, "latitude": 22.0,
            "longitude": 100.0 + second as f64 / 1_000.0})
    };
    for from in [0, 600] {
        let records: Vec<Value> = (from..from + 600).map(record).collect();
        app.stored(HEALTH, &json!(records)).await;
    }
    let track = read(&app, &app.admin, "/api/v1/devices/w/track?hours=1").await;
    let points = track["points"].as_array().expect("points");
    assert_eq!((points.len(), &track["truncated"]), (1_000, &json!(true)));
    assert_eq!(points[0]["longitude"], json!(100.2));
    assert_eq!(points[999]["longitude"], json!(100.0 + 1_199.0 / 1_000.0));
    app.stop().await;
}

#[actix_web::test]
async fn a_chart_has_the_extremes_and_the_mean_of_each_step() {
    let app = TestApp::start().await;
    // Three samples of one step of three minutes, then one of the next.
    for (second, bpm) in [(-324, 60), (-264, 63), (-204, 90), (-144, 70)] {
        app.stored(HEALTH, &bodies::heart_rate("w", second, bpm)).await;
    }
    app.stored(HEALTH, &bodies::vitals("w", -84, &json!({"blood_oxygen": 97, "heart_rate": 0}))).await;
    // Older than a day.
    app.stored(HEALTH, &bodies::heart_rate("w", -90_000, 200)).await;
    let chart = read(&app, &app.admin, "/api/v1/devices/w/vitals").await;
    assert_eq!(chart["step_s"], 180);
    let first = EXAMPLE_MS - 324_000;
    assert_eq!(first % 180_000, 0, "the first sample begins a step");
    let heart_rate = json!([[first, 60.0, 71.0, 90.0], [first + 180_000, 70.0, 70.0, 70.0]]);
    assert_eq!(chart["metrics"]["heart_rate"], heart_rate, "{chart}");
    assert_eq!(chart["metrics"]["blood_oxygen"], json!([[first + 180_000, 97.0, 97.0, 97.0]]));
    assert_eq!(chart["metrics"].as_object().expect("metrics").len(), 2);
    let week = read(&app, &app.admin, "/api/v1/devices/w/vitals?hours=168").await;
    assert_eq!(week["step_s"], 1_800);
    assert_eq!(week["metrics"]["heart_rate"][0][3], json!(200.0));

    // What lies on a table repeats its last values: no measurement.
    app.stored(EVENTS, &bodies::event("w", WEAR, "0", -60)).await;
    app.stored(HEALTH, &bodies::heart_rate("w", 0, 70)).await;
    let chart = read(&app, &app.admin, "/api/v1/devices/w/vitals").await;
    assert_eq!(chart["metrics"]["heart_rate"], heart_rate);
    app.stop().await;
}

#[actix_web::test]
async fn a_chart_shows_a_new_owner_nothing_of_the_one_before() {
    let app = TestApp::start().await;
    app.bind("w", &json!({"customer_id": "1"})).await;
    let place = json!({"heart_rate": 80, "latitude": "22.5", "longitude": "114.0"});
    app.stored(HEALTH, &bodies::vitals("w", -600, &place)).await;
    app.stored(INFO, &info("w", -600, 40, "CHARGING")).await;
    assert_eq!(app.api(Method::DELETE, "/api/v1/devices/w/binding", None).await.status, 204);
    app.advance_ms(1_000);
    app.bind("w", &json!({"customer_id": "2"})).await;
    let two = app.token_of("2").await;
    let chart = read(&app, &two, "/api/v1/devices/w/vitals").await;
    let track = read(&app, &two, "/api/v1/devices/w/track").await;
    assert_eq!((&chart["metrics"], &track["points"]), (&json!({}), &json!([])));
    let device = read(&app, &two, "/api/v1/devices/w").await;
    assert!(device["last_location"].is_null() && device["charging"].is_null());
    assert_eq!(serials(&read(&app, &two, "/api/v1/devices?state=charging").await), [""; 0]);
    let overview = read(&app, &two, "/api/v1/overview").await;
    assert_eq!((&overview["devices"]["charging"], &overview["devices"]["online"]), (&json!(0), &json!(1)));
    app.stop().await;
}
