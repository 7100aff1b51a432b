//! Events by type and outcome. Watches choose their types, so only the known ones have a label of
//! their own.

use std::sync::OnceLock;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Last segments of the types that watches, phones and scripts are known to send.
pub const TYPES: [&str; 32] = [
    "SOS_EVENT",
    "CALL_STATE",
    "WEAR_STATUS_CHANGED",
    "ONE_KEY_ALARM",
    "FALLDOWN_EVENT",
    "STRESS_HIGH_ALERT",
    "SPO2_LOW_ALERT",
    "HEARTRATE_HIGH_ALERT",
    "HEARTRATE_LOW_ALERT",
    "TEMPERATURE_HIGH_ALERT",
    "TEMPERATURE_LOW_ALERT",
    "PRESSURE_HIGH_ALERT",
    "PRESSURE_LOW_ALERT",
    "BOOT_COMPLETED",
    "UI_SETTINGS_CHANGED",
    "FUN_DOUBLE_CLICK",
    "SOS",
    "SOS_TRIGGERED",
    "FALL",
    "FALL_DETECTED",
    "GEOFENCE_EXIT",
    "HEART_RATE_ABNORMAL",
    "ABNORMAL_HEART_RATE",
    "BLOOD_PRESSURE_ABNORMAL",
    "LOW_BATTERY",
    "LOW_BATTERY_WARNING",
    "DEVICE_OFFLINE",
    "EXERCISE_START",
    "SLEEP_DETECTED",
    "HEALTH_METRIC",
    "SYSTEM",
    "CUSTOM",
];
const OTHER: usize = TYPES.len();

/// A type as it is counted: a known one or "other".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventType(usize);

impl EventType {
    /// Of the last segment of a type, as sent.
    pub fn of(short_type: &str) -> Self {
        Self(TYPES.iter().position(|known| *known == short_type).unwrap_or(OTHER))
    }

    pub fn name(self) -> &'static str {
        TYPES.get(self.0).copied().unwrap_or("other")
    }
}

/// How it ended for whoever sent the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    Stored,
    Duplicate,
    Quarantined,
    NotPromised,
    TimedOut,
    Refused,
}

impl EventOutcome {
    const ALL: [Self; 6] =
        [Self::Stored, Self::Duplicate, Self::Quarantined, Self::NotPromised, Self::TimedOut, Self::Refused];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Quarantined => "quarantined",
            Self::NotPromised => "not_promised",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: &'static str,
    outcome: &'static str,
}

/// A counter for each type and outcome that has occurred.
#[derive(Debug, Clone)]
pub struct EventCounts {
    family: Family<EventLabels, Counter>,
    /// By type, then outcome: one addition, no look-up.
    cells: Vec<[OnceLock<Counter>; EventOutcome::ALL.len()]>,
}

impl Default for EventCounts {
    fn default() -> Self {
        Self { family: Family::default(), cells: (0..=OTHER).map(|_| Default::default()).collect() }
    }
}

impl EventCounts {
    pub fn count(&self, event_type: EventType, outcome: EventOutcome) {
        let counter = self.cells[event_type.0][outcome as usize].get_or_init(|| {
            let labels = EventLabels { r#type: event_type.name(), outcome: outcome.name() };
            self.family.get_or_create_owned(&labels)
        });
        counter.inc();
    }
}

impl TypedMetric for EventCounts {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for EventCounts {
    fn encode(&self, encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        self.family.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    fn is_empty(&self) -> bool {
        self.family.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn types_that_nobody_knows_are_counted_together() {
        let mut registry = Registry::default();
        let events = EventCounts::default();
        registry.register("events", "Events", events.clone());
        for made_up in 0..1_000 {
            events.count(EventType::of(&format!("TYPE_{made_up}")), EventOutcome::Stored);
        }
        for (at, name) in TYPES.into_iter().enumerate() {
            assert_eq!((EventType::of(name).0, EventType::of(name).name()), (at, name));
        }
        events.count(EventType::of("SOS_EVENT"), EventOutcome::Refused);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a text");
        assert!(text.contains(r#"events_total{type="other",outcome="stored"} 1000"#), "{text}");
        assert!(text.contains(r#"events_total{type="SOS_EVENT",outcome="refused"} 1"#), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("events_total")).count(), 2);
    }

    #[test]
    fn outcomes_are_in_the_order_of_their_numbers() {
        assert!(EventOutcome::ALL.iter().enumerate().all(|(at, outcome)| *outcome as usize == at));
    }
}
