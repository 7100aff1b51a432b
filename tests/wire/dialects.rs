//! The same fact in different dialects is the same value.

use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use watchpost::domain::event::{DeviceReport, EventReport, ReportBody};
use watchpost::domain::vitals::{Metric, VitalsSample};
use watchpost::wire::{DecodeError, DecodeOptions, decode};

use super::body;

const SERIAL: &str = "CRFTQ23409001890";

fn only_report(body: &[u8]) -> DeviceReport {
    let mut decoded = decode(body, &DecodeOptions::default()).expect("accepted");
    assert_eq!(decoded.reports.len(), 1, "{}", String::from_utf8_lossy(body));
    decoded.reports.remove(0)
}

fn event(report: &DeviceReport) -> &EventReport {
    match &report.body {
        ReportBody::Event(event) => event,
        other => panic!("not an event: {other:?}"),
    }
}

fn vitals(report: &DeviceReport) -> &VitalsSample {
    match &report.body {
        ReportBody::Vitals(sample) => sample,
        other => panic!("not vitals: {other:?}"),
    }
}

/// Type, value, device and time of an SOS in every dialect that can say them.
#[test]
fn an_event_is_the_same_in_every_dialect() {
    let bodies = [
        r#"{"eventType":"com.tdtech.ohos.health.action.SOS_EVENT","eventValue":"v","deviceSn":"S1","timestamp":"2025-09-10 13:05:24"}"#,
        r#"{"event_type":"SOS_EVENT","event_value":"v","device_sn":"S1","timestamp":1757480724000}"#,
        r#"{"event_type":"SOS_EVENT","event_value":"v","device_sn":"S1","timestamp":"1757480724"}"#,
        r#"{"type":"commonEvent","data":{"action":"a.b.SOS_EVENT","value":"v","device_sn":"S1","timestamp":"2025-09-10 13:05:24"}}"#,
        r#"{"batchEvents":[{"eventType":"SOS_EVENT","value":"v","deviceSn":"S1","eventTime":1757480724000}]}"#,
        r#"{"alert_data":[{"alert_type":"SOS_EVENT","message":"v","device_id":"S1","timestamp":"2025-09-10T13:05:24"}]}"#,
        r#"{"data":{"eventType":"SOS_EVENT","eventData":"v","id":"S1","occurAt":"2025-09-10T05:05:24Z"}}"#,
        r#"[{"eventType":"x.SOS_EVENT","eventValue":"v","SerialNumber":"S1","cjsj":"2025-09-10T13:05:24+08:00"}]"#,
        r#"{"deviceSn":"S1","data":"{\"eventType\":\"SOS_EVENT\",\"eventValue\":\"v\",\"create_time\":1757480724}"}"#,
    ];
    let wall =
        NaiveDate::from_ymd_opt(2025, 9, 10).and_then(|day| day.and_hms_opt(13, 5, 24)).expect("a time");
    for body in bodies {
        let report = only_report(body.as_bytes());
        let event = event(&report);
        assert_eq!(report.device_sn.as_str(), "S1", "{body}");
        assert_eq!(event.short_type(), "SOS_EVENT", "{body}");
        assert_eq!(event.value.as_deref(), Some("v"), "{body}");
        let time = event.time.at().expect("a time");
        assert_eq!((time.wall, time.utc.0), (wall, 1_757_480_724_000), "{body}");
        assert_eq!((report.extra.as_deref(), report.warnings.as_slice()), (None, [].as_slice()), "{body}");
    }
}

#[test]
fn a_health_record_is_the_same_in_every_packing() {
    let expected = event(&only_report(&body("event-sos-complete"))).vitals.clone();
    assert_eq!(expected.len(), 1);
    for name in [
        "event-health-flat",
        "event-health-text-of-object",
        "event-health-text-of-flat",
        "event-health-text-of-list",
        "event-health-misspelt-text",
        "event-health-misspelt-object",
    ] {
        let report = only_report(&body(name));
        let found = &event(&report).vitals;
        assert_eq!((found[0].time, found[0].metrics), (expected[0].time, expected[0].metrics), "{name}");
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(report.extra, None, "{name}");
    }
}

#[test]
fn a_measurement_is_the_same_in_every_dialect() {
    let pinyin = only_report(&body("vitals-pinyin"));
    let camel = only_report(&body("vitals-camel-case"));
    assert_eq!(vitals(&pinyin).metrics, vitals(&camel).metrics);
    assert_eq!(vitals(&pinyin).time, vitals(&camel).time);
    assert_eq!(pinyin.device_sn, camel.device_sn);
}

#[test]
fn a_metric_event_is_an_event_and_a_sample() {
    let report = only_report(&body("unified-metric-event"));
    let event = event(&report);
    assert_eq!(event.value.as_deref(), Some("180"));
    assert_eq!(event.vitals.len(), 1);
    assert_eq!(event.vitals[0].metrics.get(Metric::HeartRate), Some(180.0));
    assert_eq!(event.vitals[0].time, event.time.at());
}

/// A lone report is identified by the whole body, one of many by its own bytes.
#[test]
fn hashes_cover_the_bytes_that_were_sent() {
    let single = body("vitals-single");
    assert_eq!(only_report(&single).body_hash, <[u8; 32]>::from(Sha256::digest(&single)));

    let first = r#"{"deviceSn":"S1", "heart_rate":1}"#;
    let second = r#"{"deviceSn":"S1","heart_rate":2}"#;
    let decoded =
        decode(format!("[ {first} , {second}]").as_bytes(), &DecodeOptions::default()).expect("accepted");
    let hashes: Vec<_> = decoded.reports.iter().map(|report| report.body_hash).collect();
    assert_eq!(hashes, [first, second].map(|text| <[u8; 32]>::from(Sha256::digest(text))));
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    let options = DecodeOptions { records_max: 3, depth_max: 4, ..DecodeOptions::default() };
    let records = |count| format!("[{}]", vec![r#"{"deviceSn":"a","heart_rate":60}"#; count].join(","));
    assert_eq!(decode(records(3).as_bytes(), &options).expect("at the limit").reports.len(), 3);
    assert!(matches!(
        decode(records(4).as_bytes(), &options),
        Err(DecodeError::TooManyRecords { records_max: 3 })
    ));

    let event = |count| format!(r#"{{"eventType":"x","deviceSn":"a","healthData":{}}}"#, records(count));
    assert!(decode(event(2).as_bytes(), &options).is_ok());
    assert!(matches!(decode(event(3).as_bytes(), &options), Err(DecodeError::TooManyRecords { .. })));

    let metrics = format!("[{}]", [r#"{"eventType":"spo2","deviceSn":"a","value":88}"#; 3].join(","));
    assert_eq!(decode(metrics.as_bytes(), &options).expect("at the limit").reports.len(), 3);

    let deep = |depth: usize| {
        format!(r#"{{"deviceSn":"a","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    assert!(decode(deep(4).as_bytes(), &options).is_ok());
    assert!(matches!(decode(deep(5).as_bytes(), &options), Err(DecodeError::TooDeep { depth_max: 4 })));
}

#[test]
fn serials_of_255_characters_are_the_longest() {
    let with = |serial: &str| format!(r#"{{"eventType":"SOS","deviceSn":"{serial}"}}"#);
    assert!(decode(with(&"表".repeat(255)).as_bytes(), &DecodeOptions::default()).is_ok());
    assert!(matches!(
        decode(with(&"表".repeat(256)).as_bytes(), &DecodeOptions::default()),
        Err(DecodeError::NoDevice)
    ));
}

/// The zone is for texts without one; it does not move what the watch wrote.
#[test]
fn another_zone_changes_the_instant_but_not_the_wall_clock() {
    let options = DecodeOptions { zone: chrono_tz::UTC, ..DecodeOptions::default() };
    let there = decode(&body("event-sos-complete"), &options).expect("accepted").reports.remove(0);
    let here = only_report(&body("event-sos-complete"));
    let (there, here) = (event(&there).time.at().expect("time"), event(&here).time.at().expect("time"));
    assert_eq!(there.wall, here.wall);
    assert_eq!(there.utc.ms_since(here.utc), 8 * 3_600_000);
    assert_eq!(only_report(&body("event-sos-complete")).device_sn.as_str(), SERIAL);
}
