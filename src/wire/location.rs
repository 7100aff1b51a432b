//! Where a record is from, as far as it can be believed.

use super::alias::{ALTITUDE, LATITUDE, LOCATION, LONGITUDE};
use super::json::{Kind, Raw};
use super::object::{RawObject, Reading, read_number};
use crate::domain::event::Location;

/// The position in the record's own keys, else in a `location` object.
///
/// (0,0), absent and the text `null` are no position. A latitude without longitude, or out of
/// range, is none either; it is kept in `extra`.
pub(super) fn read(object: &mut RawObject<'_>) -> Option<Location> {
    if let Some(location) = flat(object) {
        return Some(location);
    }
    let raw = object.get(LOCATION).filter(|raw| raw.kind() == Kind::Object)?;
    let mut inner = RawObject::new(raw);
    let location = flat(&mut inner);
    // More than a position in it: keep it whole.
    if inner.leftover().is_empty() {
        object.take(LOCATION);
    }
    object.warnings.append(&mut inner.warnings);
    location
}

/// The position that JSON data of an event holds under `location`; the data itself stays as it is.
pub(super) fn inside(data: Raw<'_>) -> Option<Location> {
    let text;
    let data = match data.kind() {
        Kind::Text => {
            text = data.embedded()?;
            Raw::parse(text.as_bytes()).ok()?
        }
        _ => data,
    };
    let location = RawObject::new(data).get(LOCATION).filter(|raw| raw.kind() == Kind::Object)?;
    flat(&mut RawObject::new(location))
}

fn flat(object: &mut RawObject<'_>) -> Option<Location> {
    if !object.has_any(LATITUDE) && !object.has_any(LONGITUDE) {
        return None;
    }
    let latitude = object.number(LATITUDE);
    let longitude = object.number(LONGITUDE);
    match (latitude, longitude) {
        (Some(0.0) | None, Some(0.0) | None) => {
            no_altitude(object);
            None
        }
        (Some(latitude), Some(longitude)) if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 => {
            Some(Location { latitude, longitude, altitude: object.number(ALTITUDE) })
        }
        _ => {
            object.restore(LATITUDE);
            object.restore(LONGITUDE);
            object.warn("unusable_location", "latitude and longitude are not a position on earth");
            no_altitude(object);
            None
        }
    }
}

/// Without a position, an altitude of 0 says nothing; any other is kept.
fn no_altitude(object: &mut RawObject<'_>) {
    let zero = |raw| match read_number(raw) {
        Reading::Value(0.0) => Reading::Value(()),
        Reading::Blank => Reading::Blank,
        _ => Reading::Unusable("altitude_without_position"),
    };
    object.pick(ALTITUDE, zero);
}
