//! Days and hours of a time zone, as the two kinds of keys count them: instants, and the wall
//! clocks that event ids begin with.

use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};

use super::time::UtcMillis;

pub const HOUR_MS: i64 = 3_600_000;
/// Hours that [`Days::hours`] goes back, the present one included.
pub const HOURS: usize = 24;

/// From a time up to another, which is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: UtcMillis,
    pub to: UtcMillis,
    /// The same as wall clocks read as UTC, in milliseconds: what event ids begin with.
    pub wall_from_ms: i64,
    pub wall_to_ms: i64,
}

/// The days around an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days {
    pub now: UtcMillis,
    pub today: Span,
    pub yesterday: Span,
    /// Yesterday up to the time of day that it is now.
    pub yesterday_until_now: Span,
    /// Begins of the last [`HOURS`] hours, oldest first; the present one is the last.
    pub hours: [UtcMillis; HOURS],
}

impl Days {
    pub fn at(now: UtcMillis, zone: &impl TimeZone) -> Self {
        let utc = now.to_datetime().unwrap_or_default().naive_utc();
        let wall = zone.from_utc_datetime(&utc).naive_local();
        let today = wall.date();
        let day = |offset: i64| {
            let date = today.checked_add_signed(TimeDelta::days(offset)).unwrap_or(today);
            NaiveDateTime::new(date, NaiveTime::MIN)
        };
        let span = |from: NaiveDateTime, to: NaiveDateTime| Span {
            from: instant(zone, from),
            to: instant(zone, to),
            wall_from_ms: wall_ms(from),
            wall_to_ms: wall_ms(to),
        };
        let this_hour = now.0.saturating_sub(wall_ms(wall).rem_euclid(HOUR_MS));
        let back = |index: usize| (HOURS - 1 - index) as i64 * HOUR_MS;
        Self {
            now,
            today: span(day(0), day(1)),
            yesterday: span(day(-1), day(0)),
            yesterday_until_now: span(day(-1), wall.checked_sub_signed(TimeDelta::days(1)).unwrap_or(wall)),
            hours: std::array::from_fn(|index| UtcMillis(this_hour.saturating_sub(back(index)))),
        }
    }
}

fn wall_ms(wall: NaiveDateTime) -> i64 {
    wall.and_utc().timestamp_millis()
}

/// When a clock in `zone` shows `wall`; of a time that is skipped in spring, when it would be over.
fn instant(zone: &impl TimeZone, wall: NaiveDateTime) -> UtcMillis {
    let after_a_gap = || zone.from_local_datetime(&(wall + TimeDelta::hours(1))).earliest();
    let found = zone.from_local_datetime(&wall).earliest().or_else(after_a_gap);
    UtcMillis(found.map_or_else(|| wall_ms(wall), |time: DateTime<_>| time.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    fn utc(text: &str) -> UtcMillis {
        UtcMillis(DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis())
    }

    fn midnight(year: i32, month: u32, day: u32) -> i64 {
        wall_ms(NaiveDate::from_ymd_opt(year, month, day).expect("a date").and_time(NaiveTime::MIN))
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_zone() {
        // 06:30 on the 11th in Shanghai.
        let days = Days::at(utc("2025-09-10T22:30:00Z"), &chrono_tz::Asia::Shanghai);
        assert_eq!(days.today.from, utc("2025-09-10T16:00:00Z"));
        assert_eq!(days.today.to, utc("2025-09-11T16:00:00Z"));
        assert_eq!(days.today.wall_from_ms, midnight(2025, 9, 11));
        assert_eq!(days.yesterday.from, utc("2025-09-09T16:00:00Z"));
        assert_eq!(days.yesterday.to, days.today.from);
        assert_eq!(days.yesterday_until_now.to, utc("2025-09-09T22:30:00Z"));
        assert_eq!(days.yesterday_until_now.wall_to_ms, midnight(2025, 9, 10) + 6 * HOUR_MS + HOUR_MS / 2);
        assert_eq!(days.hours[HOURS - 1], utc("2025-09-10T22:00:00Z"));
        assert_eq!(days.hours[0], utc("2025-09-09T23:00:00Z"));
    }

    #[test]
    fn hours_begin_where_the_wall_clock_says_so() {
        let days = Days::at(utc("2025-09-10T22:20:00Z"), &chrono_tz::Asia::Kolkata);
        assert_eq!(days.hours[HOURS - 1], utc("2025-09-10T21:30:00Z"));
    }

    #[test]
    fn days_when_clocks_change_have_23_and_25_hours() {
        let length = |now: &str| {
            let today = Days::at(utc(now), &chrono_tz::Europe::Berlin).today;
            today.to.ms_since(today.from) / HOUR_MS
        };
        assert_eq!(length("2025-03-30T12:00:00Z"), 23);
        assert_eq!(length("2025-10-26T12:00:00Z"), 25);
        // Midnight itself is skipped in Santiago.
        let days = Days::at(utc("2025-09-07T12:00:00Z"), &chrono_tz::America::Santiago);
        assert_eq!(days.today.from, utc("2025-09-07T04:00:00Z"));
    }
}
