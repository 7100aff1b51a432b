//! `docs/asyncapi.json` is true: every frame that any test client gets is held against it, and what it
//! says of client frames is what the server reads.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::schema::{Schemas, assert_frame};
use watchpost::session::frames::ClientFrame;

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found.push(reference.clone());
            }
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_message_is_sent_by_somebody() {
    let schemas = Schemas::load();
    let root = schemas.root();
    assert_eq!(root["asyncapi"], "3.0.0");
    let mut found = Vec::new();
    references(root, &mut found);
    for reference in &found {
        assert!(root.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    let used: BTreeSet<&str> =
        found.iter().filter_map(|reference| reference.strip_prefix("#/components/messages/")).collect();
    assert_eq!(used, schemas.messages().collect());
}

#[test]
fn client_frames_are_read_as_they_are_described() {
    let filter = json!({"severity": ["high"], "min_severity": "low", "customer_id": "c", "org_id": "o",
        "kinds": ["SOS"], "devices": ["w1"], "vitals": true});
    for frame in [
        json!({"type": "auth", "token": "t"}),
        json!({"type": "subscribe", "id": "a"}),
        json!({"type": "subscribe", "id": "a", "filter": filter, "since": {"epoch": "e", "offset": 1}, "stats": true}),
        json!({"type": "shown", "offset": 1}),
        json!({"type": "ping"}),
    ] {
        assert_frame(&frame);
        ClientFrame::parse(&frame.to_string()).unwrap_or_else(|err| panic!("{frame}: {err}"));
    }
}

#[test]
#[should_panic(expected = "snapshot.extra is not described")]
fn what_is_not_described_is_noticed() {
    assert_frame(&json!({"type": "snapshot", "id": "a", "offset": 1, "alerts": [], "extra": 1}));
}

#[test]
#[should_panic(expected = "breaks type")]
fn what_is_of_another_type_is_noticed() {
    assert_frame(&json!({"type": "snapshot", "id": "a", "offset": "1", "alerts": []}));
}
