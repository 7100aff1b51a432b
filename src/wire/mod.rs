//! Decoders of the watch dialects: the bytes of a request become domain values.
//!
//! Watches, phones that relay for them, old scripts and Java services write the same facts in
//! different shapes, and send them to whichever route they know. So the shape of a record, not the
//! route, picks its decoder. Everything here is pure, works on slices of the request, and never
//! refuses a body for one odd value: a watch repeats a refused body for ever and sends nothing
//! newer meanwhile. What a field cannot hold is kept in the report's `extra`, with a warning.
//!
//! | file | idea |
//! | --- | --- |
//! | `depth`, `json`, `object` | a body as slices; which keys of an object have been taken |
//! | `alias` | every name of every field |
//! | `walk`, `flatten` | from wrappers, lists and JSON in texts to records, and what each is |
//! | `identity`, `location`, `time` | what all records have |
//! | `event`, `vitals`, `status`, `log`, `reply` | one kind of record each |

mod alias;
mod depth;
mod event;
mod flatten;
mod identity;
mod json;
mod location;
mod log;
mod object;
mod reply;
mod status;
mod time;
mod vitals;
mod walk;

use serde::{Serialize, Serializer};

use self::json::Raw;
use crate::domain::event::{DeviceReport, Warning};

pub use self::log::{DecodedLog, decode_watch_log};
pub use self::reply::decode_message_reply;

/// What decoding depends on besides the bytes.
#[derive(Debug, Clone, Copy)]
pub struct DecodeOptions {
    /// Zone of wall clocks without offset, and of the wall clocks of numbers.
    pub zone: chrono_tz::Tz,
    /// Most records in one body, counting health records inside events and records at fault.
    pub records_max: usize,
    /// Deepest nesting of objects and lists, of a body and of JSON inside its texts.
    pub depth_max: usize,
}

impl Default for DecodeOptions {
    /// China's zone, where the watches are; 1,000 records; 32 levels, of which a watch uses 3.
    fn default() -> Self {
        Self { zone: chrono_tz::Asia::Shanghai, records_max: 1_000, depth_max: 32 }
    }
}

/// What a body says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decoded {
    /// At most `records_max`, in the order sent; of a body with several kinds of records, events
    /// come first.
    pub reports: Vec<DeviceReport>,
    /// Records to be quarantined; the body as a whole is accepted.
    pub faults: Vec<RecordFault>,
    /// About the body as a whole; those about one report are in the report.
    pub warnings: Vec<Warning>,
}

/// A record that cannot be attributed, in a body whose other records can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordFault {
    /// The record as sent (unescaped, if it was JSON inside a text).
    #[serde(serialize_with = "as_text")]
    pub original: Vec<u8>,
    pub reason: FaultReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum FaultReason {
    #[error("the record names no device")]
    NoDevice,
    #[error("the record is not a JSON object")]
    NotAnObject,
}

/// Why a whole body is refused. The messages tell the sender what to change.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, not UTF-8, or something behind the JSON.
    #[error("the body is not JSON: {0}; send exactly one JSON object or list in UTF-8")]
    NotJson(serde_json::Error),
    #[error("the body nests deeper than {depth_max} levels; send flat records")]
    TooDeep { depth_max: usize },
    #[error("the body holds more than {records_max} records; send them in several requests")]
    TooManyRecords { records_max: usize },
    #[error("no record names its device; put the serial number into `deviceSn` (or `SerialNumber`)")]
    NoDevice,
}

/// Decodes the body of any upload of events, vitals or device information.
///
/// Empty bodies (no bytes, `null`, `""`, `{}`, `[]`, `{"data":{}}`, ...) are fine: no reports and a
/// warning, since watches send them after an error of their own and repeat what is refused.
///
/// Linear in the body's length; recursion is bounded by `depth_max`.
pub fn decode(body: &[u8], options: &DecodeOptions) -> Result<Decoded, DecodeError> {
    match checked(body, options)? {
        None => Ok(Decoded { reports: Vec::new(), faults: Vec::new(), warnings: vec![empty_body()] }),
        Some(raw) => walk::Walk::new(options).run(body, raw),
    }
}

/// The body as one checked value; `None` if there are no bytes but white space. A byte order mark
/// is passed over.
fn checked<'a>(body: &'a [u8], options: &DecodeOptions) -> Result<Option<Raw<'a>>, DecodeError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    if depth::exceeds(body, options.depth_max) {
        return Err(DecodeError::TooDeep { depth_max: options.depth_max });
    }
    Raw::parse(body).map(Some).map_err(DecodeError::NotJson)
}

fn empty_body() -> Warning {
    Warning::new("empty_body", "the body holds no records")
}

fn as_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&String::from_utf8_lossy(bytes))
}
