//! What a device reports, free of any wire dialect: the output of `wire`, the input of the
//! pipeline.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ids::DeviceSn;
use super::status::DeviceStatus;
use super::time::DeviceTime;
use super::vitals::VitalsSample;

/// A position. Never (0,0), which watches send for "no fix", and never an invented default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Degrees, -90 to 90.
    pub latitude: f64,
    /// Degrees, -180 to 180.
    pub longitude: f64,
    /// Metres.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub altitude: Option<f64>,
}

/// Ids that a body claims. Stored as said; they never scope anything, a device's binding does.
/// `None` for absent, empty, `"0"` and `null`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Claims {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub customer_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub org_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<Box<str>>,
}

impl Claims {
    pub fn is_empty(&self) -> bool {
        self.customer_id.is_none() && self.org_id.is_none() && self.user_id.is_none()
    }
}

/// Something odd about a body that was accepted all the same; listed in the answer's `warnings`
/// and stored with the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Stable snake-case name, for example `unreadable_time`.
    pub code: Cow<'static, str>,
    /// What exactly, for a person: the key and, shortened, the value.
    pub detail: Cow<'static, str>,
}

impl Warning {
    pub fn new(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Cow::Borrowed(code), detail: detail.into() }
    }
}

/// The time of a report as far as the body told it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedTime {
    /// The body carries no time at all, neither here nor in its health record.
    Missing,
    /// It carries one that is not a time; the original text, shortened.
    Unreadable(Box<str>),
    At(DeviceTime),
}

impl ReportedTime {
    pub fn at(&self) -> Option<DeviceTime> {
        match self {
            ReportedTime::At(time) => Some(*time),
            _ => None,
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventReport {
    /// As sent, usually a dotted action name. May be empty: then nothing but a claimed level can
    /// match.
    pub event_type: Box<str>,
    /// As sent: a text as it is, any other JSON value as its JSON text. `None` if absent or null.
    pub value: Option<Box<str>>,
    /// Top level, else that of the first health record.
    pub time: ReportedTime,
    /// The sender's own id of the event (`eventId`, or an `Idempotency-Key`).
    pub client_event_id: Option<Box<str>>,
    /// `eventLevel` or `severity` as sent, upper case.
    pub level: Option<Box<str>>,
    pub description: Option<Box<str>>,
    /// Top level, else that of the first health record.
    pub location: Option<Location>,
    /// Health records that came with it; usually none or one.
    pub vitals: Vec<VitalsSample>,
}

impl EventReport {
    /// Last dotted segment of the type: what rules are usually written for.
    pub fn short_type(&self) -> &str {
        self.event_type.rsplit('.').next().unwrap_or(&self.event_type)
    }
}

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportBody {
    Event(EventReport),
    Vitals(VitalsSample),
    Status(DeviceStatus),
}

/// One report of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    pub device_sn: DeviceSn,
    #[serde(skip_serializing_if = "Claims::is_empty", default)]
    pub claims: Claims,
    #[serde(flatten)]
    pub body: ReportBody,
    /// A JSON object of the keys that no field holds, with their values as the original bytes.
    /// Bounded by the body's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<Warning>,
    /// SHA-256 of this report's own bytes as sent: its identity where it has no usable time.
    #[serde(skip)]
    pub body_hash: [u8; 32],
}

impl DeviceReport {
    /// Bytes that this report takes in memory, near enough for the admission bound: everything of
    /// variable size, plus a flat allowance for the rest.
    pub fn decoded_bytes(&self) -> usize {
        const FLAT: usize = 512;
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let sample = |sample: &VitalsSample| {
            let history = &sample.history;
            size_of::<VitalsSample>()
                + [&history.sleep, &history.exercise_daily, &history.exercise_week, &history.scientific_sleep]
                    .into_iter()
                    .chain([&history.workout, &sample.upload_method])
                    .map(text)
                    .sum::<usize>()
        };
        let body = match &self.body {
            ReportBody::Event(event) => {
                event.event_type.len()
                    + text(&event.value)
                    + text(&event.description)
                    + text(&event.client_event_id)
                    + event.vitals.iter().map(sample).sum::<usize>()
            }
            ReportBody::Vitals(vitals) => sample(vitals),
            ReportBody::Status(_) => size_of::<DeviceStatus>(),
        };
        FLAT + self.device_sn.as_str().len() + text(&self.extra) + body
    }
}
