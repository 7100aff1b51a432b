//! Vital signs: one sample is what a watch measured at one time.

use serde::{Deserialize, Serialize};

use super::event::Location;
use super::time::DeviceTime;

/// What can be measured and compared with a threshold. The discriminant indexes [`Metrics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Beats per minute.
    HeartRate,
    /// SpO2 in percent.
    BloodOxygen,
    /// Degrees Celsius.
    BodyTemperature,
    /// mmHg. Computed from the heart rate by current watches, so no seeded rule looks at it.
    BloodPressureSystolic,
    /// mmHg, computed likewise.
    BloodPressureDiastolic,
    /// 0 to 100.
    Stress,
    /// Steps of the day.
    Step,
    /// Metres of the day.
    Distance,
    /// Small calories of the day, the unit that watches send.
    Calorie,
}

impl Metric {
    pub const COUNT: usize = 9;
    pub const ALL: [Metric; Metric::COUNT] = [
        Metric::HeartRate,
        Metric::BloodOxygen,
        Metric::BodyTemperature,
        Metric::BloodPressureSystolic,
        Metric::BloodPressureDiastolic,
        Metric::Stress,
        Metric::Step,
        Metric::Distance,
        Metric::Calorie,
    ];

    /// A sensor says 0 when it has measured nothing. Counters of the day really start at 0.
    pub fn zero_means_not_measured(self) -> bool {
        !matches!(self, Metric::Step | Metric::Distance | Metric::Calorie)
    }

    /// The name on the wire, in the database and in rules.
    pub fn name(self) -> &'static str {
        match self {
            Metric::HeartRate => "heart_rate",
            Metric::BloodOxygen => "blood_oxygen",
            Metric::BodyTemperature => "body_temperature",
            Metric::BloodPressureSystolic => "blood_pressure_systolic",
            Metric::BloodPressureDiastolic => "blood_pressure_diastolic",
            Metric::Stress => "stress",
            Metric::Step => "step",
            Metric::Distance => "distance",
            Metric::Calorie => "calorie",
        }
    }

    pub fn from_name(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// One value per [`Metric`], `None` where it was not measured. Values are finite.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics([Option<f64>; Metric::COUNT]);

impl Metrics {
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0[metric as usize]
    }

    /// Stores a measured value; a value that means "not measured" (or is not finite) is dropped.
    pub fn set(&mut self, metric: Metric, value: f64) {
        if value.is_finite() && !(value == 0.0 && metric.zero_means_not_measured()) {
            self.0[metric as usize] = Some(value);
        }
    }

    /// Fills what is empty here from `other`; what was measured stays. True if anything was filled.
    pub fn fill_from(&mut self, other: &Metrics) -> bool {
        let mut filled = false;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            if mine.is_none() && theirs.is_some() {
                *mine = *theirs;
                filled = true;
            }
        }
        filled
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        Metric::ALL.into_iter().filter_map(|metric| Some((metric, self.get(metric)?)))
    }
}

impl Serialize for Metrics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(metric, value)| (metric.name(), value)))
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<String, f64>::deserialize(deserializer)?;
        let mut metrics = Metrics::default();
        for (name, value) in map {
            if let Some(metric) = Metric::from_name(&name) {
                metrics.set(metric, value);
            }
        }
        Ok(metrics)
    }
}

/// History blocks, kept as the JSON text that the watch sent; `None` for absent, empty or the
/// text `null`. Nothing is computed from them here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HistoryBlocks {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exercise_daily: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exercise_week: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scientific_sleep: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workout: Option<Box<str>>,
}

/// One health record. Keyed (device, time) in storage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VitalsSample {
    /// When it was measured; `None` if the record does not say, or says it unreadably.
    pub time: Option<DeviceTime>,
    pub metrics: Metrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// `wifi`, `bluetooth`, `common_event`, `esim`, ... as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_method: Option<Box<str>>,
    #[serde(flatten)]
    pub history: HistoryBlocks,
}
