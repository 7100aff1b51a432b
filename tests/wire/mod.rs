//! The decoders against a corpus: one body for every shape and quirk of every dialect, each with
//! the exact value that it becomes.
//!
//! `tests/corpus/NNN-name.json` is exactly the bytes of a request. `log-` and `reply-` go to the
//! decoders of their routes, all others to the one for uploads. A new body gets its snapshot with
//! `INSTA_UPDATE=always`; read it against the protocol before it is committed.

mod dialects;
mod hostile;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use watchpost::wire::{DecodeOptions, decode, decode_message_reply, decode_watch_log};

fn corpus_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Name without number and ending, file name without ending, and bytes of every body, in order.
fn corpus() -> Vec<(String, String, Vec<u8>)> {
    let mut bodies: Vec<_> = stems("", ".json")
        .into_iter()
        .map(|stem| {
            let name = stem.split_once('-').expect("NNN-name.json").1.to_owned();
            let bytes = fs::read(corpus_dir().join(format!("{stem}.json"))).expect("readable body");
            (name, stem, bytes)
        })
        .collect();
    bodies.sort_by(|left, right| left.1.cmp(&right.1));
    bodies
}

/// The body with this name.
fn body(name: &str) -> Vec<u8> {
    corpus().into_iter().find(|(known, _, _)| known == name).expect("body in the corpus").2
}

fn stems(folder: &str, ending: &str) -> BTreeSet<String> {
    fs::read_dir(corpus_dir().join(folder))
        .expect("readable folder")
        .filter_map(|entry| {
            entry.expect("readable entry").file_name().to_str()?.strip_suffix(ending).map(str::to_owned)
        })
        .collect()
}

/// What the decoder for this name makes of the body, as JSON.
fn decoded(name: &str, body: &[u8]) -> Value {
    let options = DecodeOptions::default();
    let result = if name.starts_with("log-") {
        decode_watch_log(body, &options).map(|log| json!(log))
    } else if name.starts_with("reply-") {
        decode_message_reply(body, &options).map(|replies| json!(replies))
    } else {
        decode(body, &options).map(|decoded| json!(decoded))
    };
    result.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

#[test]
fn every_body_of_the_corpus_becomes_the_value_in_its_snapshot() {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(corpus_dir().join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, stem, body) in corpus() {
            insta::assert_json_snapshot!(stem, decoded(&name, &body));
        }
    });
}

#[test]
fn every_snapshot_belongs_to_a_body() {
    assert_eq!(stems("snapshots", ".snap"), stems("", ".json"));
    assert!(stems("snapshots", ".snap.new").is_empty());
}

#[test]
fn only_bodies_named_bad_are_refused() {
    for (name, stem, body) in corpus() {
        let refused = decoded(&name, &body).get("error").is_some();
        assert_eq!(refused, name.starts_with("bad-") || name.contains("-bad-"), "{stem}");
    }
}

/// Whatever a body says besides, at the top or in its wrapper, is kept as it was sent.
#[test]
fn an_unknown_key_is_never_lost() {
    let unknown = r#""zz":[1, 2.50,"\u00e9"]"#;
    for (_, stem, body) in corpus() {
        let Some(rest) = body.strip_prefix(b"{") else { continue };
        let known = decode(&body, &DecodeOptions::default());
        if rest.starts_with(b"}") || known.map_or(true, |decoded| decoded.reports.is_empty()) {
            continue;
        }
        let with = [b"{", unknown.as_bytes(), b",", rest].concat();
        let decoded = decode(&with, &DecodeOptions::default()).expect("accepted as before");
        let kept = decoded.reports.iter().filter_map(|report| report.extra.as_deref());
        assert_eq!(kept.filter(|extra| extra.contains(unknown)).count(), 1, "{stem}");
    }
}

/// Every `extra` must itself be JSON, or nobody can read it later.
#[test]
fn what_is_kept_is_a_json_object() {
    for (_, stem, body) in corpus() {
        let Ok(decoded) = decode(&body, &DecodeOptions::default()) else { continue };
        for extra in decoded.reports.iter().filter_map(|report| report.extra.as_deref()) {
            let value: Result<Box<serde_json::value::RawValue>, _> = serde_json::from_str(extra);
            assert!(value.is_ok() && extra.starts_with('{'), "{stem}: {extra}");
        }
    }
}
