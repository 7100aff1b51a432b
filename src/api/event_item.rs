//! One item of `POST /api/v1/events`, strictly read: JSON to a device report.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::event::{Claims, DeviceReport, EventReport, Location, ReportBody, ReportedTime};
use crate::domain::identity::sha256;
use crate::domain::ids::DeviceSn;
use crate::domain::time::{DeviceTime, UtcMillis};
use crate::domain::vitals::{Metric, Metrics, VitalsSample};

/// Longest type, level and client's id, in characters.
const TEXT_CHARS_MAX: usize = 255;
/// Longest value and description, in characters.
const LONG_TEXT_CHARS_MAX: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    device_sn: String,
    event_type: String,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    occurred_at: Option<String>,
    event_id: Option<String>,
    level: Option<String>,
    description: Option<String>,
    location: Option<LocationBody>,
    vitals: Option<BTreeMap<String, f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocationBody {
    latitude: f64,
    longitude: f64,
    altitude: Option<f64>,
}

/// What an invalid item says it is about, so that its result can be told apart.
pub fn names(raw: &RawValue) -> (Option<String>, Option<String>) {
    let value: serde_json::Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(|text| text.as_str()).map(str::to_owned);
    (text("device_sn"), text("event_type"))
}

/// Reads an item. `fallback_id` stands in where it has no id of its own. The error is for the
/// caller: what is wrong and what would be right.
pub fn parse(raw: &RawValue, fallback_id: Option<String>, zone: Tz) -> Result<DeviceReport, String> {
    let item: Item = serde_json::from_str(raw.get()).map_err(|err| err.to_string())?;
    let device_sn = DeviceSn::parse(&item.device_sn).map_err(|err| format!("device_sn: {err}"))?;
    let event_type = text("event_type", item.event_type, TEXT_CHARS_MAX)?;
    if event_type.trim().is_empty() {
        return Err("event_type is empty".into());
    }
    let time = item.occurred_at.as_deref().map(|text| read_time(text, zone)).transpose()?;
    let location = item.location.map(read_location).transpose()?;
    let vitals = item.vitals.map(read_vitals).transpose()?;
    let vitals = vitals.filter(|metrics| !metrics.is_empty()).map(|metrics| VitalsSample {
        time,
        metrics,
        location,
        upload_method: Some("rest".into()),
        ..VitalsSample::default()
    });
    let event = EventReport {
        event_type,
        value: item.value.map(read_value).transpose()?,
        time: time.map_or(ReportedTime::Missing, ReportedTime::At),
        client_event_id: item
            .event_id
            .or(fallback_id)
            .map(|id| text("event_id", id, TEXT_CHARS_MAX))
            .transpose()?,
        level: item.level.map(|level| text("level", level.to_uppercase(), TEXT_CHARS_MAX)).transpose()?,
        description: item
            .description
            .map(|description| text("description", description, LONG_TEXT_CHARS_MAX))
            .transpose()?,
        location,
        vitals: vitals.into_iter().collect(),
    };
    Ok(DeviceReport {
        device_sn,
        claims: Claims::default(),
        body: ReportBody::Event(event),
        extra: None,
        warnings: Vec::new(),
        body_hash: sha256(raw.get().as_bytes()),
    })
}

fn text(field: &str, text: String, chars_max: usize) -> Result<Box<str>, String> {
    if text.chars().count() > chars_max {
        return Err(format!("{field} has more than {chars_max} characters"));
    }
    if text.contains('\0') {
        return Err(format!("{field} contains a NUL character"));
    }
    Ok(text.into())
}

/// A text as it is, a number or a truth value as its JSON text.
fn read_value(raw: &RawValue) -> Result<Box<str>, String> {
    let json = raw.get();
    let value = match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map_err(|err| format!("value: {err}"))?,
        Some(b'{' | b'[') => return Err("value must be a text, a number or a truth value".into()),
        _ => json.to_owned(),
    };
    text("value", value, LONG_TEXT_CHARS_MAX)
}

/// RFC 3339, or a wall clock without a zone, which is one of the configured zone.
fn read_time(text: &str, zone: Tz) -> Result<DeviceTime, String> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        let utc = UtcMillis(time.timestamp_millis());
        let wall = time.with_timezone(&zone).naive_local();
        return Ok(DeviceTime { wall: to_millis(wall), utc });
    }
    let wall = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .ok_or_else(|| {
            format!(
                "occurred_at {:?} is not a time such as 2026-01-31T08:00:00+08:00 or 2026-01-31 08:00:00",
                text.chars().take(40).collect::<String>()
            )
        })?;
    // A clock that was turned back: the earlier. One that skipped this hour: as if in UTC.
    let utc = zone.from_local_datetime(&wall).earliest().map(|time| time.timestamp_millis());
    let utc = utc.unwrap_or_else(|| wall.and_utc().timestamp_millis());
    Ok(DeviceTime { wall: to_millis(wall), utc: UtcMillis(utc) })
}

fn to_millis(wall: NaiveDateTime) -> NaiveDateTime {
    let millis = wall.and_utc().timestamp_millis();
    DateTime::from_timestamp_millis(millis).map_or(wall, |time| time.naive_utc())
}

fn read_location(body: LocationBody) -> Result<Location, String> {
    let LocationBody { latitude, longitude, altitude } = body;
    if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
        return Err("location: latitude must be -90 to 90 and longitude -180 to 180".into());
    }
    if latitude == 0.0 && longitude == 0.0 {
        return Err("location: 0,0 means that there is none; leave it out".into());
    }
    Ok(Location { latitude, longitude, altitude })
}

fn read_vitals(body: BTreeMap<String, f64>) -> Result<Metrics, String> {
    let mut metrics = Metrics::default();
    for (name, value) in body {
        let metric = Metric::from_name(&name).ok_or_else(|| {
            let known: Vec<&str> = Metric::ALL.into_iter().map(Metric::name).collect();
            format!("vitals: {name:?} is not one of {}", known.join(", "))
        })?;
        metrics.set(metric, value);
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: Tz = chrono_tz::Asia::Shanghai;

    fn read(json: &str) -> Result<EventReport, String> {
        let raw = RawValue::from_string(json.into()).expect("JSON");
        parse(&raw, None, ZONE).map(|report| match report.body {
            ReportBody::Event(event) => event,
            other => unreachable!("{other:?}"),
        })
    }

    #[test]
    fn a_time_with_an_offset_and_the_same_wall_clock_are_the_same_time() {
        let texts = ["2026-01-31T08:00:00+08:00", "2026-01-31T00:00:00Z", "2026-01-31 08:00:00"];
        let times: Vec<_> = texts.into_iter().map(|text| read_time(text, ZONE).expect("a time")).collect();
        assert!(times.windows(2).all(|pair| pair[0] == pair[1]), "{times:?}");
    }

    #[test]
    fn values_are_texts_or_the_json_of_numbers() {
        let value = |json: &str| {
            read(&format!(r#"{{"device_sn":"A","event_type":"SOS","value":{json}}}"#))
                .map(|event| event.value)
        };
        assert_eq!(value(r#""a b""#).expect("a text").as_deref(), Some("a b"));
        assert_eq!(value("1.50").expect("a number").as_deref(), Some("1.50"));
        assert_eq!(value("null").expect("nothing"), None);
        assert!(value("{}").is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_name() {
        for (member, named) in [
            (r#""eventType":1"#, "eventType"),
            (r#""occurred_at":"soon""#, "occurred_at"),
            (r#""location":{"latitude":0,"longitude":0}"#, "location"),
            (r#""location":{"latitude":91,"longitude":0}"#, "location"),
            (r#""vitals":{"pulse":70}"#, "pulse"),
            (r#""value":"\u0000""#, "value"),
        ] {
            let error = read(&format!(r#"{{"device_sn":"A","event_type":"SOS",{member}}}"#)).unwrap_err();
            assert!(error.contains(named), "{member}: {error}");
        }
    }
}
