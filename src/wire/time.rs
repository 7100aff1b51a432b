//! Every form in which a device writes a time.

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone,
};
use chrono_tz::Tz;

use super::json::{Kind, Raw};
use super::object::{RawObject, Reading, read_text};
use crate::domain::event::ReportedTime;
use crate::domain::time::{DeviceTime, UtcMillis};

/// Years that a watch can mean. Anything else is a clock that was never set, or a number of
/// something else; it is kept as text, not taken for a time.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2099;
/// The same in seconds since 1970. In milliseconds the range does not overlap with this one, so a
/// number tells its own unit.
const EPOCH_SECONDS: std::ops::Range<i64> = 946_684_800..4_102_444_800;

/// The time under the first readable alias. `Unreadable` holds the first text that is no time.
pub(super) fn pick(object: &mut RawObject<'_>, aliases: &[&str], zone: Tz) -> ReportedTime {
    let mut unreadable = None;
    let found = object.pick(aliases, |raw| {
        let reading = read(raw, zone);
        if let Reading::Unusable(_) = reading
            && unreadable.is_none()
        {
            unreadable = Some(raw);
        }
        reading
    });
    match (found, unreadable) {
        (Some(time), _) => ReportedTime::At(time),
        (None, Some(raw)) => ReportedTime::Unreadable(match read_text(raw) {
            Reading::Value(text) | Reading::Repaired(text) => super::json::shorten(&text).into(),
            _ => raw.shortened().into(),
        }),
        (None, None) => ReportedTime::Missing,
    }
}

fn read(raw: Raw<'_>, zone: Tz) -> Reading<DeviceTime> {
    if raw.is_blank() {
        return Reading::Blank;
    }
    let time = match raw.kind() {
        Kind::Number => from_number(raw.as_str(), zone),
        Kind::Text => raw.unescape().and_then(|text| from_text(text.trim(), zone)),
        _ => None,
    };
    time.map_or(Reading::Unusable("unreadable_time"), Reading::Value)
}

fn from_text(text: &str, zone: Tz) -> Option<DeviceTime> {
    if !matches!(text.as_bytes().get(4), Some(b'-' | b'/')) {
        return from_number(text, zone);
    }
    let (wall, offset) = parse(text.as_bytes())?;
    if !YEARS.contains(&wall.year()) {
        return None;
    }
    match offset {
        None => Some(DeviceTime { wall, utc: UtcMillis(to_utc(wall, zone).and_utc().timestamp_millis()) }),
        Some(offset) => {
            let utc = wall.checked_sub_signed(TimeDelta::minutes(offset))?;
            from_millis(utc.and_utc().timestamp_millis(), zone)
        }
    }
}

/// Seconds or milliseconds since 1970, whichever is a plausible time.
fn from_number(text: &str, zone: Tz) -> Option<DeviceTime> {
    let millis = EPOCH_SECONDS.start * 1000..EPOCH_SECONDS.end * 1000;
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            seconds if EPOCH_SECONDS.contains(&seconds) => from_millis(seconds * 1000, zone),
            number if millis.contains(&number) => from_millis(number, zone),
            _ => None,
        };
    }
    // A fraction, or an exponent as Java writes large doubles. Exact to the millisecond here.
    let number = text.parse::<f64>().ok().filter(|number| (0.0..millis.end as f64).contains(number))?;
    let scaled = if EPOCH_SECONDS.contains(&(number as i64)) { number * 1000.0 } else { number };
    Some(scaled.round() as i64).filter(|number| millis.contains(number)).and_then(|ms| from_millis(ms, zone))
}

fn from_millis(millis: i64, zone: Tz) -> Option<DeviceTime> {
    let utc = DateTime::from_timestamp_millis(millis)?;
    Some(DeviceTime { wall: utc.with_timezone(&zone).naive_local(), utc: UtcMillis(millis) })
}

/// A wall clock as UTC. An hour that comes twice is the first one; one that is skipped when clocks
/// go forward is read with the offset before it.
fn to_utc(wall: NaiveDateTime, zone: Tz) -> NaiveDateTime {
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => time.naive_utc(),
        MappedLocalTime::None => {
            let day_before = wall.checked_sub_days(Days::new(1)).unwrap_or(wall);
            let offset = zone.offset_from_utc_datetime(&day_before).fix().local_minus_utc();
            wall.checked_sub_signed(TimeDelta::seconds(offset.into())).unwrap_or(wall)
        }
    }
}

/// `yyyy-MM-dd HH:mm[:ss[.fraction]]` with a blank or `T`, `-` or `/`, and perhaps `Z` or an offset,
/// which is returned in minutes. Fractions are cut to milliseconds.
fn parse(text: &[u8]) -> Option<(NaiveDateTime, Option<i64>)> {
    let mut cursor = Cursor(text);
    let year = cursor.digits(4)?;
    let separator = cursor.one_of(b"-/")?;
    let month = cursor.digits(2)?;
    cursor.one_of(&[separator])?;
    let day = cursor.digits(2)?;
    cursor.one_of(b" Tt")?;
    let hour = cursor.digits(2)?;
    cursor.one_of(b":")?;
    let minute = cursor.digits(2)?;
    let second = if cursor.one_of(b":").is_some() { cursor.digits(2)? } else { 0 };
    let milli = if cursor.one_of(b".").is_some() { cursor.fraction()? } else { 0 };
    while cursor.one_of(b" ").is_some() {}
    let offset = cursor.offset()?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    Some((date.and_hms_milli_opt(hour, minute, second, milli)?, offset))
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        wanted.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let mut number = 0;
        for _ in 0..count {
            number = number * 10 + u32::from(self.one_of(b"0123456789")? - b'0');
        }
        Some(number)
    }

    /// Digits behind the point as milliseconds; at least one.
    fn fraction(&mut self) -> Option<u32> {
        let (mut millis, mut scale) = (self.digits(1)? * 100, 10);
        while let Some(digit) = self.one_of(b"0123456789") {
            millis += u32::from(digit - b'0') * scale;
            scale /= 10;
        }
        Some(millis)
    }

    /// `Some(None)` at the end of the text, `Some(Some(minutes))` for `Z`, `+08`, `+0800`, `+08:00`.
    fn offset(&mut self) -> Option<Option<i64>> {
        let sign = match self.one_of(b"Zz+-") {
            None => return self.0.is_empty().then_some(None),
            Some(b'Z' | b'z') => return self.0.is_empty().then_some(Some(0)),
            Some(b'-') => -1,
            Some(_) => 1,
        };
        let hours = self.digits(2)?;
        self.one_of(b":");
        let minutes = if self.0.is_empty() { 0 } else { self.digits(2)? };
        let valid = self.0.is_empty() && hours <= 14 && minutes < 60;
        valid.then(|| Some(sign * i64::from(hours * 60 + minutes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::{America::New_York, Asia::Shanghai, Pacific::Apia};

    fn text(text: &str, zone: Tz) -> Option<(String, String)> {
        from_text(text, zone).map(|time| (time.wall.to_string(), time.utc.to_string()))
    }

    #[test]
    fn every_form_of_the_same_instant_agrees() {
        let expected = Some(("2025-09-10 13:05:24".to_owned(), "2025-09-10T05:05:24.000Z".to_owned()));
        for form in [
            "2025-09-10 13:05:24",
            "2025-09-10T13:05:24",
            "2025/09/10 13:05:24",
            "2025-09-10T05:05:24Z",
            "2025-09-10T05:05:24.000000Z",
            "2025-09-10T13:05:24+08:00",
            "2025-09-10 13:05:24 +0800",
            "2025-09-10T01:05:24-04",
            "1757480724",
            "1757480724000",
            "1757480724.0",
            "1.757480724E12",
        ] {
            assert_eq!(text(form, Shanghai), expected, "{form}");
        }
    }

    #[test]
    fn fractions_are_cut_to_milliseconds() {
        let wall = |form| text(form, Shanghai).map(|(wall, _)| wall);
        assert_eq!(wall("2025-09-10T13:05:24.9999999"), Some("2025-09-10 13:05:24.999".to_owned()));
        assert_eq!(wall("2025-09-10 13:05"), Some("2025-09-10 13:05:00".to_owned()));
        assert_eq!(wall("1757480724.123"), Some("2025-09-10 13:05:24.123".to_owned()));
    }

    #[test]
    fn what_is_no_time_is_unreadable() {
        for form in [
            "0",
            "-1",
            "2025",
            "20250910",
            "20250910130524",
            "99999999999999999999",
            "1e308",
            "NaN",
            "1970-01-01 08:00:00",
            "9999-12-31 23:59:59",
            "2025-02-30 00:00:00",
            "2025-09-10",
            "2025-09-10 25:00:00",
            "2025-09-10 13:05:24x",
            "2025-09-10 13:05:24+99:00",
            "2025-09-10T13:05:24.",
            "now",
            "２０２５",
        ] {
            assert_eq!(text(form, Shanghai), None, "{form}");
        }
    }

    #[test]
    fn clock_changes_take_the_first_or_the_nearest_time() {
        let utc = |form, zone| text(form, zone).map(|(_, utc)| utc);
        assert_eq!(utc("2025-11-02 01:30:00", New_York), Some("2025-11-02T05:30:00.000Z".to_owned()));
        assert_eq!(utc("2025-03-09 02:30:00", New_York), Some("2025-03-09T07:30:00.000Z".to_owned()));
        assert_eq!(utc("2011-12-30 12:00:00", Apia), Some("2011-12-30T22:00:00.000Z".to_owned()));
    }
}
