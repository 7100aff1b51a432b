//! Bodies as watches send them, with the times of the protocol's examples.

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};

/// The serial of the examples.
pub const SN: &str = "CRFTQ23409001890";
pub const SOS: &str = "com.tdtech.ohos.health.action.SOS_EVENT";
pub const WEAR: &str = "com.tdtech.ohos.action.WEAR_STATUS_CHANGED";
pub const EVENTS: &str = "/upload_common_event";
pub const HEALTH: &str = "/upload_health_data";
pub const INFO: &str = "/upload_device_info";

/// 2025-09-10 13:05:24 in Shanghai, the moment of the examples, in milliseconds since 1970.
pub const EXAMPLE_MS: i64 = 1_757_480_724_000;

/// A wall clock as a watch writes it, so many seconds after the examples.
pub fn wall(seconds: i64) -> String {
    let utc = DateTime::from_timestamp_millis(EXAMPLE_MS).expect("in range");
    let local = utc + TimeDelta::hours(8) + TimeDelta::seconds(seconds);
    local.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// An event so many seconds after the examples.
pub fn event(sn: &str, event_type: &str, value: &str, seconds: i64) -> Value {
    json!({
        "eventType": event_type,
        "eventValue": value,
        "deviceSn": sn,
        "customerId": "0",
        "orgId": "",
        "userId": "",
        "timestamp": wall(seconds),
    })
}

/// As watches send it: the value is the serial.
pub fn sos(sn: &str, seconds: i64) -> Value {
    event(sn, SOS, sn, seconds)
}

/// A health record on its own; `metrics` are further keys.
pub fn vitals(sn: &str, seconds: i64, metrics: &Value) -> Value {
    let mut record = json!({"deviceSn": sn, "timestamp": wall(seconds), "upload_method": "wifi"});
    let (Value::Object(record_keys), Value::Object(metrics)) = (&mut record, metrics) else {
        panic!("metrics are an object")
    };
    record_keys.extend(metrics.clone());
    json!({ "data": record })
}

pub fn heart_rate(sn: &str, seconds: i64, bpm: u32) -> Value {
    vitals(sn, seconds, &json!({"heart_rate": bpm}))
}

/// An example body from `tests/corpus`.
pub fn corpus(name: &str) -> Vec<u8> {
    let path = format!("{}/../corpus/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|err| panic!("{path}: {err}"))
}
