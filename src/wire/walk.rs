//! From a body to its records: which dialect each of them speaks is read off its shape.

use sha2::{Digest, Sha256};

use super::alias::{
    CUSTOMER, DEVICE, HEALTH, LATITUDE, LOCATION, LONGITUDE, ORG, STATUS, TIME, UPLOAD_METHOD, USER, VOLTAGE,
};
use super::flatten::{NESTING_MAX, unpack};
use super::json::{Kind, Raw};
use super::object::{RawObject, extra_of};
use super::{DecodeError, DecodeOptions, Decoded, FaultReason, RecordFault};
use super::{event, identity, status, time, vitals};
use crate::domain::event::{Claims, DeviceReport, ReportBody, ReportedTime, Warning};
use crate::domain::ids::DeviceSn;

/// What a container says about its records. Their own shape counts more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    None,
    Event,
    Vitals,
    Status,
}

/// Keys under which one body carries several kinds of records.
const CONTAINERS: [(&str, Hint); 10] = [
    ("batchEvents", Hint::Event),
    ("batch_events", Hint::Event),
    ("alert_data", Hint::Event),
    ("alertData", Hint::Event),
    ("health_data", Hint::Vitals),
    ("healthData", Hint::Vitals),
    ("heatlhData", Hint::Vitals),
    ("device_info", Hint::Status),
    ("deviceInfo", Hint::Status),
    ("data", Hint::None),
];

/// What records take from the containers around them where they do not say it themselves.
struct Envelope {
    device: Option<DeviceSn>,
    claims: Claims,
    time: ReportedTime,
}

/// One walk over one body.
pub(super) struct Walk<'o> {
    options: &'o DecodeOptions,
    reports: Vec<DeviceReport>,
    faults: Vec<RecordFault>,
    /// Records so far, those inside events included.
    records: usize,
    /// Records that say nothing at all.
    blank: usize,
}

impl<'o> Walk<'o> {
    pub(super) fn new(options: &'o DecodeOptions) -> Self {
        Self { options, reports: Vec::new(), faults: Vec::new(), records: 0, blank: 0 }
    }

    /// Walks a checked body and gives what was found.
    pub(super) fn run(mut self, body: &[u8], raw: Raw<'_>) -> Result<Decoded, DecodeError> {
        let outside = Envelope { device: None, claims: Claims::default(), time: ReportedTime::Missing };
        self.value(raw, &outside, Hint::None, 0)?;
        let mut warnings = Vec::new();
        match (self.reports.as_mut_slice(), self.faults.is_empty()) {
            ([], true) => warnings.push(super::empty_body()),
            ([], false) => return Err(DecodeError::NoDevice),
            ([only], true) => only.body_hash = Sha256::digest(body).into(),
            _ => {}
        }
        if self.blank > 0 && !self.reports.is_empty() {
            let detail = format!("{} of the records said nothing and were passed over", self.blank);
            warnings.push(Warning::new("empty_record", detail));
        }
        Ok(Decoded { reports: self.reports, faults: self.faults, warnings })
    }

    fn value(&mut self, raw: Raw<'_>, from: &Envelope, hint: Hint, level: usize) -> Result<(), DecodeError> {
        if raw.is_blank() {
            self.blank += 1;
            return Ok(());
        }
        if level > NESTING_MAX {
            return self.fault(raw, FaultReason::NotAnObject);
        }
        match raw.kind() {
            Kind::List => raw.items().try_for_each(|item| self.value(item, from, hint, level + 1)),
            Kind::Object => self.object(raw, from, hint, level),
            Kind::Text => {
                match unpack(raw, self.options).as_deref().map(|text| Raw::parse(text.as_bytes())) {
                    Some(Ok(inner)) => self.value(inner, from, hint, level + 1),
                    _ => self.fault(raw, FaultReason::NotAnObject),
                }
            }
            Kind::Number | Kind::Bool | Kind::Null => self.fault(raw, FaultReason::NotAnObject),
        }
    }

    fn object(&mut self, raw: Raw<'_>, from: &Envelope, hint: Hint, level: usize) -> Result<(), DecodeError> {
        let object = RawObject::new(raw);
        if event::is_event(&object) {
            return self.record(raw, object, from, Hint::Event);
        }
        let type_hint = object.get("type").and_then(|kind| hint_of(&kind.unescape()?));
        let is_record = vitals::is_health_record(&object) || status::is_device_info(&object);
        let mut parts = Vec::new();
        for (key, part_hint) in CONTAINERS {
            // A record keeps its unknown `data`; an item of an event list keeps its health records.
            let keeps = if key == "data" { is_record } else { hint == Hint::Event && HEALTH.contains(&key) };
            if let Some(part) = object.get(key)
                && !keeps
                && (part.is_blank() || part.is_container())
            {
                parts.push((key, part, if key == "data" { type_hint.unwrap_or(hint) } else { part_hint }));
            }
        }
        if parts.iter().any(|(_, part, _)| !part.is_blank()) {
            return self.envelope(object, &parts, (from, type_hint.is_some()), level);
        }
        if !parts.is_empty() && object.says_only(&[&["type"], DEVICE, CUSTOMER, ORG, USER, TIME]) {
            self.blank += 1;
            return Ok(());
        }
        self.record(raw, object, from, hint)
    }

    /// Walks the parts of a container. What else it says goes to the first report from it.
    fn envelope(
        &mut self,
        mut object: RawObject<'_>,
        parts: &[(&str, Raw<'_>, Hint)],
        (from, knows_type): (&Envelope, bool),
        level: usize,
    ) -> Result<(), DecodeError> {
        let first = self.reports.len();
        let device = identity::device(&mut object);
        let mut claims = identity::claims(&mut object);
        let said = (device.clone(), claims.clone());
        identity::fill_claims(&mut claims, &from.claims);
        let mut envelope =
            Envelope { device, claims, time: time::pick(&mut object, TIME, self.options.zone) };
        if envelope.device.is_none() {
            envelope.device.clone_from(&from.device);
        }
        if envelope.time == ReportedTime::Missing {
            envelope.time = from.time.clone();
        }
        for (key, part, hint) in parts {
            object.take(key);
            if !part.is_blank() {
                self.value(*part, &envelope, *hint, level + 1)?;
            }
        }
        if knows_type {
            object.take("type");
        }
        if let Some(report) = self.reports.get_mut(first) {
            let kept = (Some(&report.device_sn), &report.claims);
            identity::restore_what_differs(&mut object, (said.0.as_ref(), &said.1), kept);
            if let Some(envelope) = extra_of(object.leftover(), "", None) {
                let members =
                    report.extra.as_deref().and_then(|extra| extra.get(1..extra.len() - 1)).unwrap_or("");
                report.extra = extra_of(members.to_owned(), "envelope", Some(&envelope));
            }
            report.warnings.append(&mut object.warnings);
        }
        Ok(())
    }

    fn record(
        &mut self,
        raw: Raw<'_>,
        mut object: RawObject<'_>,
        from: &Envelope,
        hint: Hint,
    ) -> Result<(), DecodeError> {
        let kinds = match kinds_of(&object, hint) {
            Kinds::Event => return self.event(raw, &mut object, from),
            kinds => kinds,
        };
        let device = identity::device(&mut object);
        if device.is_none() && from.device.is_none() {
            return self.fault(raw, FaultReason::NoDevice);
        }
        let claims = identity::claims(&mut object);
        let mut bodies = Vec::with_capacity(1);
        if kinds != Kinds::Status {
            let (mut sample, time) = vitals::read(&mut object, self.options);
            if time == ReportedTime::Missing {
                sample.time = from.time.at();
            }
            bodies.push(ReportBody::Vitals(sample));
        }
        if kinds != Kinds::Vitals {
            let mut status = status::read(&mut object, self.options);
            status.time = status.time.or(from.time.at());
            bodies.push(ReportBody::Status(status));
        }
        // Both read the same time; one warning about it is enough.
        object.warnings.dedup();
        let mut extra = extra_of(object.leftover(), "", None);
        for body in bodies {
            let warnings = std::mem::take(&mut object.warnings);
            self.report(raw, from, (device.clone(), claims.clone()), (body, extra.take(), warnings))?;
        }
        Ok(())
    }

    fn event(
        &mut self,
        raw: Raw<'_>,
        object: &mut RawObject<'_>,
        from: &Envelope,
    ) -> Result<(), DecodeError> {
        let records_left = self.options.records_max.saturating_sub(self.records + 1);
        let mut read = event::read(object, self.options, records_left)?;
        self.records += read.health_records;
        if read.event.time == ReportedTime::Missing && from.time != ReportedTime::Missing {
            read.event.time = from.time.clone();
            for sample in &mut read.event.vitals {
                sample.time = sample.time.or(from.time.at());
            }
        }
        self.report(
            raw,
            from,
            (read.device, read.claims),
            (ReportBody::Event(read.event), read.extra, read.warnings),
        )
    }

    fn report(
        &mut self,
        raw: Raw<'_>,
        from: &Envelope,
        (device, mut claims): (Option<DeviceSn>, Claims),
        (body, extra, warnings): (ReportBody, Option<Box<str>>, Vec<Warning>),
    ) -> Result<(), DecodeError> {
        let Some(device_sn) = device.or_else(|| from.device.clone()) else {
            return self.fault(raw, FaultReason::NoDevice);
        };
        self.count()?;
        identity::fill_claims(&mut claims, &from.claims);
        let body_hash = Sha256::digest(raw.as_str().as_bytes()).into();
        self.reports.push(DeviceReport { device_sn, claims, body, extra, warnings, body_hash });
        Ok(())
    }

    fn fault(&mut self, raw: Raw<'_>, reason: FaultReason) -> Result<(), DecodeError> {
        self.count()?;
        self.faults.push(RecordFault { original: raw.as_str().as_bytes().to_vec(), reason });
        Ok(())
    }

    fn count(&mut self) -> Result<(), DecodeError> {
        self.records += 1;
        if self.records > self.options.records_max {
            return Err(DecodeError::TooManyRecords { records_max: self.options.records_max });
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Event,
    Vitals,
    Status,
    VitalsAndStatus,
}

/// What a record is about. An object that fits nothing is an event without a type: so it is
/// stored with all its keys.
fn kinds_of(object: &RawObject<'_>, hint: Hint) -> Kinds {
    if hint == Hint::Event || event::is_event(object) {
        return Kinds::Event;
    }
    match (vitals::is_health_record(object), status::is_device_info(object), hint) {
        (true, true, Hint::Vitals) | (true, false, _) | (false, false, Hint::Vitals) => Kinds::Vitals,
        (true, true, Hint::Status) | (false, true, _) | (false, false, Hint::Status) => Kinds::Status,
        (true, true, _) => Kinds::VitalsAndStatus,
        (false, false, _) => {
            if object.has_any(&["SerialNumber", "serial_number"])
                || object.has_any(STATUS)
                || object.has_any(VOLTAGE)
            {
                Kinds::Status
            } else if [LATITUDE, LONGITUDE, UPLOAD_METHOD, &[LOCATION]]
                .iter()
                .any(|names| object.has_any(names))
            {
                Kinds::Vitals
            } else {
                Kinds::Event
            }
        }
    }
}

/// What the `type` of a wrapper says about its records.
fn hint_of(kind: &str) -> Option<Hint> {
    let kind = kind.to_ascii_lowercase();
    if kind.contains("event") || kind.contains("alert") {
        Some(Hint::Event)
    } else if kind.contains("health") {
        Some(Hint::Vitals)
    } else if kind.contains("device") {
        Some(Hint::Status)
    } else {
        None
    }
}
