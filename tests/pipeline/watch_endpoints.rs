//! What watches ask for and say besides reports. They check types, not meaning: one key of a wrong
//! type and they drop the whole answer.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::bodies::{SN, wall};
use crate::support::{Answer, TestApp};

/// As a watch asks: without any credentials.
async fn ask(app: &TestApp, path: &str) -> Answer {
    app.api_as("nobody", Method::GET, path, None).await
}

/// Whether a value is of the type that a watch insists on.
type Check = fn(&Value) -> bool;

fn assert_keys(what: &str, object: &Value, keys: &[(&str, Check)]) {
    let object = object.as_object().unwrap_or_else(|| panic!("{what} is no object"));
    let (mut present, mut wanted): (Vec<&str>, Vec<&str>) =
        (object.keys().map(String::as_str).collect(), keys.iter().map(|(key, _)| *key).collect());
    present.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(present, wanted, "keys of {what}");
    for (key, is_right) in keys {
        assert!(is_right(&object[*key]), "{what}.{key} has a wrong type: {}", object[*key]);
    }
}

fn flag(value: &Value) -> bool {
    value.as_i64().is_some_and(|number| number == 0 || number == 1)
}

fn numeric(value: &Value) -> bool {
    value.is_i64() || value.as_str().is_some_and(|text| text.parse::<i64>().is_ok())
}

const SETTINGS: [(&str, Check); 11] = [
    ("upload_method", |value| value == "wifi"),
    ("customer_id", Value::is_string),
    ("customer_name", |value| value.as_str().is_some_and(|name| !name.is_empty())),
    ("is_support_license", flag),
    ("license_key", Value::is_i64),
    ("cache_max_count", |value| value.as_i64().is_some_and(|count| (1..=100).contains(&count))),
    ("enable_resume", flag),
    ("upload_retry_count", Value::is_i64),
    ("upload_retry_interval", Value::is_i64),
    ("interface_data", Value::is_object),
    ("health_data", Value::is_object),
];

#[actix_web::test]
async fn the_settings_of_an_unknown_watch_are_usable_and_of_the_types_that_watches_insist_on() {
    let app = TestApp::start().await;
    for path in [
        "/fetch_health_data_config?customer_id=0&deviceSn=w-nobody-knows",
        "/fetch_health_data_config?customer_id=9",
        "/fetch_health_data_config",
    ] {
        let answer = ask(&app, path).await;
        assert_eq!(answer.status, 200, "{path}");
        // Unbound: org_id and user_id are absent, since null is fatal.
        assert_keys("settings", &answer.body, &SETTINGS);
        assert_eq!(answer.body["customer_id"], "0");
        check_health_data(&answer.body["health_data"]);
        check_interfaces(&app, &answer.body["interface_data"]);
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM device"), 0);
}

/// `interval:enabled:realtime:high:low:count`; integers but for the two bounds.
fn check_health_data(health_data: &Value) {
    let names = [
        "heart_rate",
        "temperature",
        "stress",
        "blood_oxygen",
        "calorie",
        "distance",
        "ecg",
        "location",
        "sleep",
        "step",
        "wear",
        "work_out",
        "exercise_daily",
        "exercise_week",
        "scientific_sleep",
    ];
    assert_keys("health_data", health_data, &names.map(|name| (name, Value::is_string as Check)));
    for name in names {
        let text = health_data[name].as_str().expect("a text");
        let parts: Vec<&str> = text.split(':').collect();
        assert_eq!(parts.len(), 6, "{name}: {text}");
        for index in [0, 1, 2, 5] {
            assert!(parts[index].parse::<i32>().is_ok(), "{name}: {text}");
        }
        let bounds: Vec<f64> = parts[3..5].iter().map(|part| part.parse().expect("a bound")).collect();
        assert!(name != "temperature" || bounds[0] > bounds[1], "{text}");
    }
}

/// `url;interval;enabled;id;auth`, none of them empty, at the host that the watch asked.
fn check_interfaces(app: &TestApp, interfaces: &Value) {
    let paths = [
        ("平台消息交互接口", "/DeviceMessage"),
        ("事件上传接口", "/upload_common_event"),
        ("设备信息上传接口", "/upload_device_info"),
        ("健康数据上传接口", "/upload_health_data"),
        ("配置获取接口", "/fetch_health_data_config"),
    ];
    assert_keys("interface_data", interfaces, &paths.map(|(name, _)| (name, Value::is_string as Check)));
    for (name, path) in paths {
        let text = interfaces[name].as_str().expect("a text");
        let parts: Vec<&str> = text.split(';').collect();
        assert!(parts.len() == 5 && parts.iter().all(|part| !part.is_empty()), "{text}");
        assert_eq!(parts[0], app.url(path));
        assert!(parts[1].parse::<i32>().is_ok_and(|seconds| seconds >= 5), "{text}");
        assert_eq!(parts[2], "1");
    }
}

#[actix_web::test]
async fn the_settings_of_a_bound_watch_name_its_owner_in_numbers_or_not_at_all() {
    let app = TestApp::start().await;
    let numbers = json!({"customer_id": "1939964806110937090", "org_id": "1939964806110937090", "org_name": "Mine",
        "person_id": "1940034533382479873", "person_name": "Ann"});
    app.bind(SN, &numbers).await;
    let settings = ask(&app, &format!("/fetch_health_data_config?customer_id=0&deviceSn={SN}")).await.body;
    let mut keys = SETTINGS.to_vec();
    keys.extend([("org_id", numeric as Check), ("user_id", numeric)]);
    assert_keys("settings", &settings, &keys);
    assert_eq!(settings["customer_id"], "1939964806110937090");
    assert_eq!(settings["user_id"], "1940034533382479873");

    app.bind("w2", &json!({"customer_id": "mine", "org_id": "shift-1", "person_id": "ann"})).await;
    let settings = ask(&app, "/fetch_health_data_config?deviceSn=w2").await.body;
    assert_keys("settings", &settings, &SETTINGS);
    assert_eq!(settings["customer_id"], "mine");
}

#[actix_web::test]
async fn the_host_in_the_settings_is_the_one_that_the_watch_has_asked() {
    let app = TestApp::start().await;
    let client = awc::Client::builder().no_default_headers().finish();
    let request = client.get(app.url("/fetch_health_data_config")).insert_header(("Connection", "close"));
    let mut answer =
        request.insert_header(("Host", "watch.example.org:5001")).send().await.expect("an answer");
    let settings: Value = serde_json::from_slice(&answer.body().await.expect("a body")).expect("JSON");
    let url = settings["interface_data"]["事件上传接口"].as_str().expect("a text");
    assert!(url.starts_with("http://watch.example.org:5001/upload_common_event;"), "{url}");
}

#[actix_web::test]
async fn the_answer_to_a_message_poll_has_every_key_of_the_old_and_the_new_server() {
    let app = TestApp::start().await;
    app.bind(SN, &json!({"customer_id": "1", "person_id": "7", "person_name": "Ann"})).await;
    for (path, sn) in [
        (format!("/DeviceMessage/receive?deviceSn={SN}"), SN),
        ("/DeviceMessage/receive?deviceSn=w-nobody-knows".to_owned(), "w-nobody-knows"),
        ("/DeviceMessage/receive".to_owned(), ""),
    ] {
        let answer = ask(&app, &path).await;
        assert_eq!((answer.status.as_u16(), &answer.body["success"]), (200, &json!(true)), "{path}");
        assert_keys(
            "data",
            &answer.body["data"],
            &[
                ("totalMessages", Value::is_i64),
                ("personalMessagesCount", Value::is_i64),
                ("publicMessagesCount", Value::is_i64),
                ("departments", Value::is_array),
                ("messageTypeCount", Value::is_object),
                ("messageStatusCount", Value::is_object),
                ("departmentMessageCount", Value::is_object),
                ("uniqueMessageTypes", Value::is_i64),
                ("messages", Value::is_array),
                ("total_count", Value::is_i64),
                ("user_info", Value::is_object),
                ("device_sn", Value::is_string),
                ("timestamp", Value::is_string),
            ],
        );
        assert_eq!(answer.body["data"]["device_sn"], sn);
    }
}

#[actix_web::test]
async fn a_reply_to_a_message_is_stored_once() {
    let mut app = TestApp::start().await;
    let watch = json!({"department_id": "1939964806110937090", "department_name": "示范矿业", "is_public": true,
        "message": "请各班组注意高温作业防护", "message_id": "1937767532697178143", "message_type": "announcement",
        "sent_time": "2025-09-10 12:59:00", "user_id": null, "user_name": null, "sender_type": "device",
        "receiver_type": "platform", "device_sn": SN, "received_time": "2025-09-10 13:00:05",
        "message_status": "responded"});
    let phone = json!({"message_id": 7, "device_sn": SN, "message": "已读", "received_time": "2025-09-10T13:00:05.123"});
    for round in 0..3 {
        if round == 2 {
            app = app.restart().await;
        }
        for body in [&watch, &phone] {
            app.stored("/DeviceMessage/send", body).await;
        }
    }
    let ids =
        app.texts("SELECT message_id || ' ' || direction AS value FROM device_message ORDER BY message_id");
    assert_eq!(ids.len(), 2, "{ids:?}");
    let bodies =
        app.texts("SELECT body AS value FROM device_message WHERE message_id = '1937767532697178143'");
    assert_eq!(serde_json::from_str::<Value>(bodies[0].as_deref().expect("a body")).expect("JSON"), watch);
}

#[actix_web::test]
async fn a_line_of_a_watch_log_is_stored_once_and_one_without_a_device_keeps_no_other_out() {
    let mut app = TestApp::start().await;
    let line = json!({"type": "watch_log", "data":
        {"deviceSn": SN, "timestamp": wall(0), "level": "error", "content": "sensor: 心率 timeout"}});
    app.stored("/upload_watch_log", &line).await;
    app = app.restart().await;
    app.stored("/upload_watch_log", &line).await;
    let rows = app.texts(
        "SELECT device_sn || '|' || logged_ms || '|' || level || '|' || content AS value FROM watch_log",
    );
    assert_eq!(rows, [Some(format!("{SN}|1757480724000|ERROR|sensor: 心率 timeout"))]);

    let mixed =
        json!({"logs": [{"content": "whose?"}, {"deviceSn": "w2", "content": "mine", "timestamp": wall(1)}]});
    app.stored("/upload_watch_log", &mixed).await;
    assert_eq!(app.count("SELECT COUNT(*) FROM watch_log"), 2);
    assert_eq!(app.count("SELECT COUNT(*) FROM quarantine"), 1);
}
