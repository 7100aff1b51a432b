//! The decoders, and what must hold of their answers.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::value::RawValue;
use watchpost::api::{alerts, event_item, import, paging};
use watchpost::domain::event::{DeviceReport, ReportBody};
use watchpost::domain::ids::{DeviceSn, EventId, RuleId};
use watchpost::domain::kept;
use watchpost::session::frames::{ClientFrame, SUBSCRIPTION_ID_CHARS_MAX};
use watchpost::wire::{DecodeOptions, decode, decode_message_reply, decode_watch_log};

use super::engine::{corpus, fuzz};

const OPTIONS: DecodeOptions =
    DecodeOptions { zone: chrono_tz::Asia::Shanghai, records_max: 20, depth_max: 12 };

fn kind(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A text without what changes with every input: digits, and what is quoted.
fn without_details(text: &str) -> String {
    text.split(['"', '`'])
        .step_by(2)
        .flat_map(|part| part.chars())
        .filter(|char| !char.is_ascii_digit())
        .collect()
}

/// Bodies small enough that millions of them can be tried.
fn bodies() -> Vec<Vec<u8>> {
    corpus("").into_iter().filter(|body| body.len() < 4_000).collect()
}

fn shape(report: &DeviceReport) -> (u8, usize, bool, Vec<String>) {
    let (kind, inside) = match &report.body {
        ReportBody::Event(event) => (1, event.vitals.len().min(3)),
        ReportBody::Vitals(_) => (2, 0),
        ReportBody::Status(_) => (3, 0),
    };
    let warnings =
        report.warnings.iter().map(|warning| format!("{warning:?}")).map(|text| without_details(&text));
    (kind, inside, report.extra.is_some(), warnings.collect())
}

#[test]
fn uploads_of_watches_and_phones() {
    fuzz("wire::decode", bodies(), |body| {
        let decoded = match decode(body, &OPTIONS) {
            Ok(decoded) => decoded,
            Err(err) => return kind(without_details(&err.to_string())),
        };
        assert!(decoded.reports.len() + decoded.faults.len() <= OPTIONS.records_max);
        for report in &decoded.reports {
            let extra = report.extra.as_deref().map(serde_json::from_str::<&RawValue>);
            assert!(extra.is_none_or(|extra| extra.is_ok()), "extra is JSON: {:?}", report.extra);
            assert!(!report.device_sn.as_str().contains('\0'));
            // What goes to quarantine comes back as it was.
            let bytes = kept::to_bytes(report).expect("it can be kept");
            assert_eq!(kept::from_bytes(&bytes).expect("it can be read"), *report);
        }
        let shapes: Vec<_> = decoded.reports.iter().take(3).map(shape).collect();
        let answer = kind((shapes, decoded.faults.len().min(3), decoded.reports.len().min(4)));
        assert_eq!(decode(body, &OPTIONS).ok(), Some(decoded), "nothing depends on chance");
        answer
    });
}

#[test]
fn logs_of_watches() {
    fuzz("wire::decode_watch_log", bodies(), |body| match decode_watch_log(body, &OPTIONS) {
        Ok(log) => {
            assert!(log.entries.len() + log.faults.len() <= OPTIONS.records_max);
            kind((log.entries.len(), log.faults.len(), log.warnings.len()))
        }
        Err(err) => kind(without_details(&err.to_string())),
    });
}

#[test]
fn replies_to_messages() {
    fuzz("wire::decode_message_reply", bodies(), |body| match decode_message_reply(body, &OPTIONS) {
        Ok(replies) => {
            assert!(replies.len() <= OPTIONS.records_max);
            kind((replies.len(), replies.iter().filter(|reply| reply.message_id.is_some()).count()))
        }
        Err(err) => kind(without_details(&err.to_string())),
    });
}

#[test]
fn items_of_the_rest_api() {
    let seeds = [bodies(), corpus("fuzz/rest-item")].concat();
    fuzz("api::event_item", seeds, |bytes| {
        let Some(raw) =
            std::str::from_utf8(bytes).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok())
        else {
            return 0;
        };
        let _ = event_item::names(raw);
        match event_item::parse(raw, None, OPTIONS.zone) {
            Ok(report) => {
                let ReportBody::Event(event) = &report.body else { panic!("an item is an event") };
                assert!(!event.event_type.trim().is_empty() && event.event_type.chars().count() <= 255);
                assert!(
                    event.location.is_none_or(|at| at.latitude.abs() <= 90.0 && at.longitude.abs() <= 180.0)
                );
                kind(shape(&report))
            }
            Err(err) => {
                assert!(!err.is_empty());
                kind(without_details(&err))
            }
        }
    });
}

#[test]
fn imports_of_bindings() {
    fuzz("api::import", corpus("fuzz/csv"), |bytes| {
        let (rows, faults) = import::read(bytes);
        assert!(rows.len() <= import::ROWS_MAX);
        assert!(!rows.is_empty() || !faults.is_empty(), "a file without a row is at fault");
        assert!(faults.iter().all(|fault| !fault.error.is_empty()));
        let serials: std::collections::HashSet<_> = rows.iter().map(|row| &row.binding.device_sn).collect();
        assert_eq!(serials.len(), rows.len(), "no watch twice");
        kind((
            rows.len().min(4),
            faults.iter().map(|fault| without_details(&fault.error)).collect::<Vec<_>>(),
        ))
    });
}

#[test]
fn cursors_of_lists() {
    fuzz("api::paging", corpus("fuzz/cursor"), |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
        let some = Some(text);
        let answers = [
            paging::cursor(some, alerts::read_key).is_ok(),
            paging::cursor(some, |key| key.parse::<EventId>().ok()).is_ok(),
            paging::cursor(some, |key| DeviceSn::parse(key).ok()).is_ok(),
            paging::cursor(some, |key| RuleId::parse(key).ok()).is_ok(),
            paging::cursor(some, |key| key.parse::<i64>().ok()).is_ok(),
        ];
        kind((answers, text.len().min(16)))
    });
}

#[test]
fn frames_of_clients() {
    fuzz("session::frames", corpus("fuzz/frame"), |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
        match ClientFrame::parse(text) {
            Ok(frame) => {
                if let ClientFrame::Subscribe { id, .. } = &frame {
                    assert!(id.chars().count() <= SUBSCRIPTION_ID_CHARS_MAX);
                }
                kind((std::mem::discriminant(&frame), without_details(&format!("{frame:?}"))))
            }
            Err(err) => kind(without_details(&err)),
        }
    });
}

#[test]
fn copies_in_quarantine() {
    let written = bodies().into_iter().filter_map(|body| decode(&body, &OPTIONS).ok());
    let written = written.flat_map(|decoded| decoded.reports);
    let seeds: Vec<Vec<u8>> =
        written.map(|report| kept::to_bytes(&report).expect("it can be kept")).collect();
    fuzz("domain::kept", [seeds, corpus("fuzz/kept")].concat(), |bytes| match kept::from_bytes(bytes) {
        Ok(report) => {
            let again = kept::to_bytes(&report).expect("it can be kept");
            assert_eq!(kept::from_bytes(&again).expect("it can be read"), report);
            kind(shape(&report))
        }
        Err(err) => kind(without_details(&err.to_string())),
    });
}
