//! One health record in any dialect.

use super::DecodeOptions;
use super::alias::{
    EXERCISE_DAILY, EXERCISE_WEEK, METRICS, Names, SCIENTIFIC_SLEEP, SLEEP, TIME, UPLOAD_METHOD, WORKOUT,
};
use super::object::{RawObject, Reading, read_any};
use super::{location, time};
use crate::domain::event::ReportedTime;
use crate::domain::vitals::{HistoryBlocks, Metrics, VitalsSample};

/// True if the object has a key that only health records have.
pub(super) fn is_health_record(object: &RawObject<'_>) -> bool {
    METRICS.iter().any(|(_, names)| object.has_any(names))
        || [SLEEP, EXERCISE_DAILY, EXERCISE_WEEK, SCIENTIFIC_SLEEP, WORKOUT]
            .iter()
            .any(|names| object.has_any(names))
}

/// Takes everything that a health record says but device and claims. The time is returned apart,
/// since "none" and "unreadable" matter to an event that takes its own from here.
pub(super) fn read(object: &mut RawObject<'_>, options: &DecodeOptions) -> (VitalsSample, ReportedTime) {
    let mut metrics = Metrics::default();
    for (metric, names) in &METRICS {
        if let Some(value) = object.number(names) {
            metrics.set(*metric, value);
        }
    }
    let time = time::pick(object, TIME, options.zone);
    let sample = VitalsSample {
        time: time.at(),
        metrics,
        location: location::read(object),
        upload_method: object.text(UPLOAD_METHOD),
        history: HistoryBlocks {
            sleep: history(object, SLEEP),
            exercise_daily: history(object, EXERCISE_DAILY),
            exercise_week: history(object, EXERCISE_WEEK),
            scientific_sleep: history(object, SCIENTIFIC_SLEEP),
            workout: history(object, WORKOUT),
        },
    };
    (sample, time)
}

/// A history block as text, whether or not it is the JSON that it should be: some watches lose a
/// comma in it, and somebody may want to repair that one day.
fn history(object: &mut RawObject<'_>, names: Names) -> Option<Box<str>> {
    object.pick(names, |raw| if raw.is_blank() { Reading::Blank } else { read_any(raw) }).map(Box::from)
}
