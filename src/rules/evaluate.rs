//! Which rules a report fires: a pure function of (rules, device state, report).
//!
//! Metric rules look at the newest worn samples by device time, not at a counter, so the result
//! does not depend on the order of arrival.

use std::sync::Arc;

use super::set::RuleSet;
use crate::domain::device::DeviceState;
use crate::domain::event::EventReport;
use crate::domain::ids::CustomerId;
use crate::domain::rule::{Condition, Rule};
use crate::domain::time::UtcMillis;
use crate::domain::vitals::Metrics;

/// What a rule says about a report.
#[derive(Debug, Clone)]
pub enum Finding {
    /// Raise, or repeat what is open.
    Fires(Arc<Rule>),
    /// The device itself says that it is over.
    Resolves(Arc<Rule>),
    /// A metric is within its bounds again.
    BackToNormal(Arc<Rule>),
}

/// Findings of an event that happened at `at`. The state has not taken the event yet.
pub fn event(
    rules: &RuleSet,
    state: &DeviceState,
    event: &EventReport,
    at: UtcMillis,
    customer: &CustomerId,
) -> Vec<Finding> {
    if is_wear_report(event) && state.wear.contradicts(worn_by_value(event), at) {
        // A stale wear report never overrides a newer one. One that a newer report confirms is not
        // stale: watches post about the device beside the event, and those posts may come first.
        return Vec::new();
    }
    let resolved = rules.resolved_by(event).cloned().map(Finding::Resolves);
    resolved.chain(rules.raising(event, customer).cloned().map(Finding::Fires)).collect()
}

/// True for the event by which watches say that they were put on or taken off.
pub fn is_wear_report(event: &EventReport) -> bool {
    event.short_type().eq_ignore_ascii_case("WEAR_STATUS_CHANGED")
}

/// What a wear report says; `None` if nobody can tell.
pub fn worn_by_value(event: &EventReport) -> Option<bool> {
    match event.value.as_deref()? {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

/// Findings of a sample that the state has taken already; `fresh` are the metrics that it was the
/// first to measure at its time.
pub fn sample(rules: &RuleSet, state: &DeviceState, fresh: &Metrics, customer: &CustomerId) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in rules.metrics.iter().filter(|rule| rule.applies_to(customer)) {
        let Condition::Metric { metric, min, max, consecutive_samples } = &rule.condition else { continue };
        if fresh.get(*metric).is_none() {
            continue;
        }
        let outside = |value: f64| min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max);
        let wanted = usize::from(*consecutive_samples);
        let newest = || state.samples.worn_values(*metric).take(wanted).map(|(_, value)| value);
        if newest().count() == wanted && newest().all(outside) {
            findings.push(Finding::Fires(rule.clone()));
        } else if newest().next().is_some_and(|value| !outside(value)) {
            findings.push(Finding::BackToNormal(rule.clone()));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::recent::Sample;
    use crate::domain::rule_seeds;
    use crate::domain::vitals::Metric;

    fn fires(samples: &[(i64, f64, bool)]) -> bool {
        let rules = RuleSet::compile(&rule_seeds::seeds(), 1);
        let mut state = DeviceState::default();
        let mut fired = false;
        for (at, heart_rate, worn) in samples {
            let mut metrics = Metrics::default();
            metrics.set(Metric::HeartRate, *heart_rate);
            let fresh = state.samples.merge(UtcMillis(*at), Sample { metrics, worn: *worn });
            let found = fresh.map(|fresh| sample(&rules, &state, &fresh, &CustomerId::default_customer()));
            fired = found.into_iter().flatten().any(|finding| matches!(finding, Finding::Fires(_)));
        }
        fired
    }

    #[test]
    fn five_samples_in_a_row_outside_the_bounds_fire() {
        assert!(!fires(&[(1, 160.0, true), (2, 160.0, true), (3, 160.0, true), (4, 160.0, true)]));
        assert!(fires(&[
            (1, 160.0, true),
            (2, 161.0, true),
            (3, 30.0, true),
            (4, 160.0, true),
            (5, 151.0, true)
        ]));
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        assert!(fires(&[
            (5, 160.0, true),
            (1, 160.0, true),
            (4, 160.0, true),
            (2, 160.0, true),
            (3, 160.0, true)
        ]));
    }

    #[test]
    fn the_same_time_again_zeros_and_samples_off_the_wrist_do_not_count() {
        let four = [(1, 160.0, true), (2, 160.0, true), (3, 160.0, true), (4, 160.0, true)];
        for extra in [(4, 170.0, true), (5, 0.0, true), (5, 170.0, false)] {
            assert!(!fires(&[four.as_slice(), &[extra]].concat()), "{extra:?}");
        }
    }

    #[test]
    fn a_normal_sample_in_between_breaks_the_streak() {
        assert!(!fires(&[
            (1, 160.0, true),
            (2, 160.0, true),
            (3, 80.0, true),
            (4, 160.0, true),
            (5, 160.0, true)
        ]));
    }
}
