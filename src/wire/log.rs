//! Lines of a watch's own log.

use super::alias::{DEVICE, TIME};
use super::flatten::{self, Packing, Part};
use super::object::{extra_of, read_any};
use super::{DecodeError, DecodeOptions, FaultReason, RecordFault, checked, identity, time};
use crate::domain::event::Warning;
use crate::domain::message::WatchLogEntry;

/// What a body of log lines says. Empty bodies give no entries and a warning.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DecodedLog {
    pub entries: Vec<WatchLogEntry>,
    pub faults: Vec<RecordFault>,
    pub warnings: Vec<Warning>,
}

const CONTENT: &[&str] = &["content", "log", "message"];
const LEVEL: &[&str] = &["level", "logLevel", "log_level"];
const PACKING: Packing =
    Packing { wrapped_in: &["data", "logs"], is_record: |object| object.has_any(&["content", "level"]) };

/// Decodes `{"data":{deviceSn,timestamp,level,content}}`, with or without wrappers, or a list.
///
/// Fails as [`super::decode`] does. Pure.
pub fn decode_watch_log(body: &[u8], options: &DecodeOptions) -> Result<DecodedLog, DecodeError> {
    let mut log = DecodedLog { entries: Vec::new(), faults: Vec::new(), warnings: Vec::new() };
    if let Some(raw) = checked(body, options)? {
        flatten::each(raw, &PACKING, options, &mut |part| {
            if log.entries.len() + log.faults.len() >= options.records_max {
                return Err(DecodeError::TooManyRecords { records_max: options.records_max });
            }
            let mut fault = |original: &str, reason| {
                log.faults.push(RecordFault { original: original.as_bytes().to_vec(), reason });
            };
            match part {
                Part::Wrapper(_) => {}
                Part::Unreadable(raw) => fault(raw.as_str(), FaultReason::NotAnObject),
                Part::Record(raw, mut object) => match identity::device_from(&mut object, DEVICE) {
                    None => fault(raw.as_str(), FaultReason::NoDevice),
                    Some(device_sn) => log.entries.push(WatchLogEntry {
                        device_sn,
                        time: time::pick(&mut object, TIME, options.zone),
                        level: object.text(LEVEL).map(|level| level.trim().to_uppercase().into()),
                        content: object.pick(CONTENT, read_any).map(Box::from).unwrap_or_default(),
                        extra: extra_of(object.leftover(), "", None),
                        warnings: std::mem::take(&mut object.warnings),
                    }),
                },
            }
            Ok(())
        })?;
    }
    match (log.entries.is_empty(), log.faults.is_empty()) {
        (true, true) => log.warnings.push(super::empty_body()),
        (true, false) => return Err(DecodeError::NoDevice),
        _ => {}
    }
    Ok(log)
}
