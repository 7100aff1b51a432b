//! Metrics that may be unknown: what the system does not tell is absent, never zero.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A value as last read. Cheap to clone; all clones hold the same.
#[derive(Debug, Clone)]
pub struct Reading(Arc<AtomicU64>);

impl Default for Reading {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(f64::NAN.to_bits())))
    }
}

impl Reading {
    /// `None` if it could not be read.
    pub fn set(&self, value: Option<f64>) {
        self.0.store(value.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    pub fn get(&self) -> Option<f64> {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }
}

impl TypedMetric for Reading {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        self.get().map_or(Ok(()), |value| encoder.encode_gauge(&value))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    fn is_empty(&self) -> bool {
        self.get().is_none()
    }
}

/// The same for a value that only grows.
#[derive(Debug, Clone, Default)]
pub struct Total(Reading);

impl Total {
    pub fn set(&self, value: Option<f64>) {
        self.0.set(value);
    }

    pub fn get(&self) -> Option<f64> {
        self.0.get()
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        self.get().map_or(Ok(()), |value| encoder.encode_counter::<NoLabelSet, _, f64>(&value, None))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }

    fn is_empty(&self) -> bool {
        self.get().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::{Registry, Unit};

    #[test]
    fn what_is_not_known_is_absent() {
        let mut registry = Registry::default();
        let (reading, total) = (Reading::default(), Total::default());
        registry.register_with_unit("disk_free", "Free", Unit::Bytes, reading.clone());
        registry.register_with_unit("cpu", "Used", Unit::Seconds, total.clone());
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).expect("a text");
            text
        };
        assert_eq!(text(), "# EOF\n");
        reading.set(Some(0.0));
        total.set(Some(1.5));
        assert!(text().contains("disk_free_bytes 0.0\n") && text().contains("cpu_seconds_total 1.5\n"));
        reading.set(None);
        assert!(!text().contains("disk_free"), "{}", text());
    }
}
