//! One event in any dialect, with the health records that came with it.

use super::alias::{
    ALERT_TYPE, ALERT_VALUE, EVENT_DATA, EVENT_DESCRIPTION, EVENT_ID, EVENT_LEVEL, EVENT_MARKS, EVENT_METRIC,
    EVENT_TYPE, EVENT_VALUE, HEALTH, TIME, metric_named,
};
use super::flatten::{self, Packing, Part};
use super::object::{RawObject, extra_of, read_any};
use super::{DecodeError, DecodeOptions, identity, location, time, vitals};
use crate::domain::event::{Claims, EventReport, ReportedTime, Warning};
use crate::domain::ids::DeviceSn;
use crate::domain::vitals::{Metrics, VitalsSample};

/// True if the object has a key that only events have. `action` is one too, but in a wrapper it
/// may be anything.
pub(super) fn is_event(object: &RawObject<'_>) -> bool {
    object.has_any(EVENT_MARKS)
        || (object.has_any(&["action"]) && !object.get("data").is_some_and(|data| data.is_container()))
}

/// An event and what its object said around it.
pub(super) struct ReadEvent {
    pub device: Option<DeviceSn>,
    pub claims: Claims,
    pub event: EventReport,
    /// Health records that came with it; the sample of a metric event is not one.
    pub health_records: usize,
    /// `extra` of the report: keys that no field holds, those of health records in `healthData`.
    pub extra: Option<Box<str>>,
    pub warnings: Vec<Warning>,
}

/// Takes everything that an event says. `records_left` is how many health records it may bring.
pub(super) fn read(
    object: &mut RawObject<'_>,
    options: &DecodeOptions,
    records_left: usize,
) -> Result<ReadEvent, DecodeError> {
    let mut device = identity::device(object);
    let mut claims = identity::claims(object);
    let mut event_time = time::pick(object, TIME, options.zone);
    let event_type = object.text(EVENT_TYPE).unwrap_or_default();
    if event_type.is_empty() {
        object.warn("missing_event_type", "no eventType; only a rule on the claimed level can match");
    }
    let mut place = location::read(object);
    if place.is_none() {
        place = object.get(EVENT_DATA).and_then(location::inside);
    }
    let values = if object.has_any(&[ALERT_TYPE]) { ALERT_VALUE } else { EVENT_VALUE };
    let value: Option<Box<str>> = object.pick(values, read_any).map(Box::from);

    let mut health = Health::default();
    for key in HEALTH {
        health.read(object, key, (device.as_ref(), &claims), options, records_left)?;
    }
    if device.is_none() {
        device = health.device;
    }
    identity::fill_claims(&mut claims, &health.claims);
    if event_time == ReportedTime::Missing {
        event_time = health.time.unwrap_or(ReportedTime::Missing);
    }
    let health_records = health.samples.len();
    place = place.or_else(|| health.samples.first().and_then(|sample| sample.location));
    if let Some(metrics) = metric_event(object, &event_type, value.as_deref()) {
        health.samples.push(VitalsSample { metrics, ..VitalsSample::default() });
    }
    for sample in &mut health.samples {
        sample.time = sample.time.or(event_time.at());
    }

    let event = EventReport {
        event_type,
        value,
        time: event_time,
        client_event_id: object.text(EVENT_ID).filter(|id| &**id != "0"),
        level: object.text(EVENT_LEVEL).map(|level| level.trim().to_uppercase().into()),
        description: object.text(EVENT_DESCRIPTION),
        location: place,
        vitals: health.samples,
    };
    let mut warnings = std::mem::take(&mut object.warnings);
    warnings.append(&mut health.warnings);
    let nested = match health.extras.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(","))),
    };
    let extra = extra_of(object.leftover(), "healthData", nested.as_deref());
    Ok(ReadEvent { device, claims, event, health_records, extra, warnings })
}

/// The sample that an event of the metric dialect is: the type (or `metric`) names what was
/// measured, the value says how much.
fn metric_event(object: &mut RawObject<'_>, event_type: &str, value: Option<&str>) -> Option<Metrics> {
    let number = value?.trim().parse::<f64>().ok().filter(|number| number.is_finite())?;
    let short_type = event_type.rsplit('.').next().unwrap_or(event_type);
    let named = metric_named(short_type);
    let metric = named.or_else(|| metric_named(&object.get(EVENT_METRIC)?.unescape()?))?;
    let mut metrics = Metrics::default();
    metrics.set(metric, number);
    if metrics.is_empty() {
        return None;
    }
    if named.is_none() {
        object.take(EVENT_METRIC);
    }
    Some(metrics)
}

/// What the health records of an event say together.
#[derive(Default)]
struct Health {
    samples: Vec<VitalsSample>,
    /// Of the first record that names one, for an event that does not.
    device: Option<DeviceSn>,
    claims: Claims,
    time: Option<ReportedTime>,
    /// A JSON object for each record with keys that no field holds.
    extras: Vec<String>,
    warnings: Vec<Warning>,
}

const PACKING: Packing = Packing { wrapped_in: &["data"], is_record: vitals::is_health_record };

impl Health {
    /// Reads the records under `key`. If any of it is unreadable, the value also stays as it is.
    fn read(
        &mut self,
        object: &mut RawObject<'_>,
        key: &str,
        owner: (Option<&DeviceSn>, &Claims),
        options: &DecodeOptions,
        records_left: usize,
    ) -> Result<(), DecodeError> {
        let Some(raw) = object.get(key) else { return Ok(()) };
        let extras_before = self.extras.len();
        let mut unreadable = false;
        flatten::each(raw, &PACKING, options, &mut |part| {
            let mut inner = match part {
                Part::Record(_, mut record) => {
                    if self.samples.len() >= records_left {
                        return Err(DecodeError::TooManyRecords { records_max: options.records_max });
                    }
                    let (sample, time) = vitals::read(&mut record, options);
                    self.samples.push(sample);
                    if self.time.is_none() && time != ReportedTime::Missing {
                        self.time = Some(time);
                    }
                    record
                }
                Part::Wrapper(wrapper) => wrapper,
                Part::Unreadable(_) => {
                    unreadable = true;
                    return Ok(());
                }
            };
            self.settle(&mut inner, owner);
            Ok(())
        })?;
        if unreadable {
            self.extras.truncate(extras_before);
            self.warnings.push(Warning::new("unreadable_health", format!("{key}: {}", raw.shortened())));
        } else {
            object.take(key);
        }
        Ok(())
    }

    /// Takes device and claims of a record or wrapper, and keeps what nobody took.
    fn settle(&mut self, object: &mut RawObject<'_>, owner: (Option<&DeviceSn>, &Claims)) {
        let device = identity::device(object);
        let claims = identity::claims(object);
        if self.device.is_none() {
            self.device.clone_from(&device);
        }
        identity::fill_claims(&mut self.claims, &claims);
        let mut kept = owner.1.clone();
        identity::fill_claims(&mut kept, &self.claims);
        let kept_device = owner.0.or(self.device.as_ref());
        if device.is_some() && device.as_ref() != kept_device {
            object.warn("other_device", "a health record names another device than its event");
        }
        identity::restore_what_differs(object, (device.as_ref(), &claims), (kept_device, &kept));
        if let Some(extra) = extra_of(object.leftover(), "", None) {
            self.extras.push(extra.into());
        }
        self.warnings.append(&mut object.warnings);
    }
}
