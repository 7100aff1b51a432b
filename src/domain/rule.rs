//! Alert rules: what makes a report an alert.

use serde::{Deserialize, Serialize};

use super::ids::{CustomerId, RuleId};
use super::vitals::Metric;

/// How bad an alert is. Ordered: `Info < Low < Medium < High < Critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 5] =
        [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    pub fn from_name(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

/// Most consecutive samples that a metric rule may ask for: what a device's state remembers.
pub const CONSECUTIVE_SAMPLES_MAX: u8 = 12;

/// What a rule looks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// An event by its type and, if given, its value.
    Event {
        /// Compared without case. With a dot: the full type; else its last segment. `*` stands
        /// for any run of characters.
        event_type: String,
        /// The value that it must have, compared as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        /// An event of the same type with this value resolves the alert.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolved_by_value: Option<String>,
    },
    /// An event whose claimed level is in the list and that no event rule matches.
    ClaimedLevel { levels: Vec<String> },
    /// A metric outside `[min, max]` for so many measured samples in a row, by device time, while
    /// the watch is worn.
    Metric {
        metric: Metric,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
        /// 1 to [`CONSECUTIVE_SAMPLES_MAX`].
        consecutive_samples: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub rule_id: RuleId,
    /// Whose devices it applies to; `None` for everybody's.
    pub customer_id: Option<CustomerId>,
    pub name: String,
    pub severity: Severity,
    pub enabled: bool,
    /// One of the three emergency rules: cannot be disabled or deleted.
    pub built_in: bool,
    /// Grows by one with each change.
    pub version: i64,
    pub condition: Condition,
}

/// Why a rule is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("event_type is empty")]
    EmptyType,
    #[error("a metric rule needs min, max or both")]
    NoBound,
    #[error("min must be less than max, and both finite")]
    BadBounds,
    #[error("consecutive_samples must be 1 to {CONSECUTIVE_SAMPLES_MAX}")]
    BadSampleCount,
    #[error("levels is empty")]
    NoLevels,
    #[error("the name must have 1 to 200 characters")]
    BadName,
}

impl Rule {
    /// Checks what the types do not. A rule that fails is skipped and reported, never the set.
    pub fn validate(&self) -> Result<(), RuleError> {
        if self.name.trim().is_empty() || self.name.chars().count() > 200 {
            return Err(RuleError::BadName);
        }
        match &self.condition {
            Condition::Event { event_type, .. } if event_type.trim().is_empty() => Err(RuleError::EmptyType),
            Condition::Event { .. } => Ok(()),
            Condition::ClaimedLevel { levels } if levels.is_empty() => Err(RuleError::NoLevels),
            Condition::ClaimedLevel { .. } => Ok(()),
            Condition::Metric { min, max, consecutive_samples, .. } => {
                let finite = [min, max].into_iter().flatten().all(|bound| bound.is_finite());
                match (min, max) {
                    (None, None) => Err(RuleError::NoBound),
                    (Some(min), Some(max)) if min >= max => Err(RuleError::BadBounds),
                    _ if !finite => Err(RuleError::BadBounds),
                    _ if !(1..=CONSECUTIVE_SAMPLES_MAX).contains(consecutive_samples) => {
                        Err(RuleError::BadSampleCount)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// True if the rule may be applied to devices of `customer`.
    pub fn applies_to(&self, customer: &CustomerId) -> bool {
        self.enabled && self.customer_id.as_ref().is_none_or(|own| own == customer)
    }
}
