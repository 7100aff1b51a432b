//! Whatever bytes come, the decoders answer and keep their limits.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use watchpost::domain::event::ReportBody;
use watchpost::wire::{DecodeOptions, decode, decode_message_reply, decode_watch_log};

use super::corpus;

const OPTIONS: DecodeOptions =
    DecodeOptions { zone: chrono_tz::Asia::Shanghai, records_max: 20, depth_max: 12 };

static BODIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    corpus().into_iter().map(|(_, _, body)| body).filter(|body| (1..4_000).contains(&body.len())).collect()
});

/// Decodes with every decoder and checks what must hold for any input.
fn survives(body: &[u8]) {
    let _ = decode_watch_log(body, &OPTIONS);
    let _ = decode_message_reply(body, &OPTIONS);
    let Ok(decoded) = decode(body, &OPTIONS) else { return };
    assert!(decoded.reports.len() + decoded.faults.len() <= OPTIONS.records_max);
    let inside: usize = decoded
        .reports
        .iter()
        .map(|report| match &report.body {
            // A metric event adds one sample of its own.
            ReportBody::Event(event) => event.vitals.len().saturating_sub(1),
            _ => 0,
        })
        .sum();
    assert!(inside <= OPTIONS.records_max);
    for report in &decoded.reports {
        let text = serde_json::to_string(report).expect("serializable");
        // Escapes in `extra` are text about a NUL, not a NUL.
        assert!(!text.replace(r"\\", "").contains(r"\u0000"), "a NUL got through: {text}");
        if let Some(extra) = &report.extra {
            assert!(serde_json::from_str::<&serde_json::value::RawValue>(extra).is_ok(), "extra: {extra}");
        }
    }
    // The same bytes are the same value: nothing depends on a clock or an order of hashing.
    assert_eq!(decode(body, &OPTIONS).ok(), Some(decoded));
}

/// Scalars that dialects use and scalars that nobody should.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "null",
            "0",
            "0.0",
            "unknown",
            "未知",
            "85%",
            "2025-09-10 13:05:24",
            "1757480724",
            "{}",
            "[]",
            "{\"data\":[{\"heart_rate\":1}]}",
            "{\"a\":",
            "\u{1F198}",
            "99-99",
            "-"
        ])
        .prop_map(Value::from),
        any::<String>()
            .prop_filter("NUL is repaired on purpose", |text| !text.contains('\0'))
            .prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        prop::sample::select(vec![
            "data",
            "healthData",
            "heatlhData",
            "eventType",
            "eventValue",
            "deviceSn",
            "id",
            "timestamp",
            "location",
            "latitude",
            "longitude",
            "batchEvents",
            "alert_data",
            "health_data",
            "device_info",
            "type",
            "batteryLevel",
            "heart_rate",
            "sleepData",
            "eventData",
            "metric",
            "value",
            "IP Address"
        ])
        .prop_map(str::to_owned),
        "[a-z\"\\\\]{0,3}",
    ];
    scalar().prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner.clone()), 0..8)
                .prop_map(|members| Value::from(members.into_iter().collect::<serde_json::Map<_, _>>())),
            inner.prop_map(|value| Value::from(value.to_string())),
        ]
    })
}

/// Puts `new` at the place in the document that `at` happens to point to.
fn replace(value: &mut Value, at: usize, new: Value) {
    let count = match value {
        Value::Object(members) => members.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if count == 0 || at.is_multiple_of(5) {
        *value = new;
        return;
    }
    match value {
        Value::Object(members) => {
            if let Some(member) = members.values_mut().nth(at % count) {
                replace(member, at / count, new);
            }
        }
        Value::Array(items) => replace(&mut items[at % count], at / count, new),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&body);
    }

    #[test]
    fn any_json_is_answered(body in tree()) {
        survives(body.to_string().as_bytes());
    }

    #[test]
    fn corpus_bodies_with_damaged_bytes_are_answered(
        index in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = BODIES[index.index(BODIES.len())].clone();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let _ = decode(&body, &OPTIONS);
    }

    #[test]
    fn corpus_bodies_with_other_values_are_answered(
        index in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<usize>(), tree()), 1..4),
    ) {
        if let Ok(mut body) = serde_json::from_slice::<Value>(&BODIES[index.index(BODIES.len())]) {
            for (at, new) in changes {
                replace(&mut body, at, new);
            }
            survives(body.to_string().as_bytes());
        }
    }
}

/// JSON in text in JSON in text ends, however deep it goes.
#[test]
fn texts_in_texts_do_not_recurse_without_bound() {
    let mut body = r#"{"deviceSn":"a","heart_rate":60}"#.to_owned();
    for _ in 0..12 {
        body = serde_json::json!({ "data": body }).to_string();
    }
    survives(body.as_bytes());
}

#[test]
fn a_megabyte_of_brackets_or_keys_is_survived() {
    survives("[".repeat(1 << 20).as_bytes());
    survives(format!("[{}0]", "0,".repeat(1 << 19)).as_bytes());
    survives(format!(r#"{{"deviceSn":"a",{}"b":0}}"#, r#""a":0,"#.repeat(1 << 16)).as_bytes());
    survives(format!(r#"{{"data":[{}{{}}]}}"#, "{},".repeat(1 << 18)).as_bytes());
}
