//! The rules that a new database starts with, and the three that always apply.

use super::ids::RuleId;
use super::rule::{Condition, Rule, Severity};
use super::vitals::Metric;

/// All seeded rules, the emergencies first.
pub fn seeds() -> Vec<Rule> {
    let mut rules = emergencies();
    for (id, pattern) in [("high", "*_HIGH*"), ("low", "*_LOW*"), ("abnormal", "*_ABNORMAL*")] {
        rules.push(event(id, &format!("{pattern} event"), Severity::High, pattern));
    }
    rules.push(event("geofence-exit", "Left the allowed area", Severity::High, "GEOFENCE_EXIT"));
    rules.push(Rule {
        condition: Condition::Event {
            event_type: "WEAR_STATUS_CHANGED".into(),
            value: Some("0".into()),
            resolved_by_value: Some("1".into()),
        },
        ..event("not-worn", "Watch taken off", Severity::Medium, "WEAR_STATUS_CHANGED")
    });
    rules.push(Rule {
        condition: Condition::ClaimedLevel { levels: vec!["CRITICAL".into(), "EMERGENCY".into()] },
        ..event("as-claimed", "Severe, as claimed by the sender", Severity::High, "*")
    });
    rules.push(metric(
        "heart-rate",
        "Heart rate out of range",
        Metric::HeartRate,
        Some(40.0),
        Some(150.0),
        5,
    ));
    rules.push(metric("blood-oxygen", "Blood oxygen low", Metric::BloodOxygen, Some(90.0), None, 3));
    let temperature = Metric::BodyTemperature;
    rules.push(metric(
        "temperature",
        "Body temperature out of range",
        temperature,
        Some(35.0),
        Some(38.0),
        3,
    ));
    rules
}

/// SOS, fall and one-key alarm: built in, applied also when no rule set is loaded or evaluation
/// fails, and impossible to disable.
pub fn emergencies() -> Vec<Rule> {
    [("sos", "SOS", "SOS*"), ("fall", "Fall detected", "FALL*"), ("one-key", "One-key alarm", "ONE_KEY*")]
        .into_iter()
        .map(|(id, name, pattern)| Rule { built_in: true, ..event(id, name, Severity::Critical, pattern) })
        .collect()
}

fn event(id: &str, name: &str, severity: Severity, event_type: &str) -> Rule {
    Rule {
        rule_id: RuleId::parse(id).expect("seed ids are short and printable"),
        customer_id: None,
        name: name.into(),
        severity,
        enabled: true,
        built_in: false,
        version: 1,
        condition: Condition::Event { event_type: event_type.into(), value: None, resolved_by_value: None },
    }
}

fn metric(
    id: &str,
    name: &str,
    metric: Metric,
    min: Option<f64>,
    max: Option<f64>,
    consecutive_samples: u8,
) -> Rule {
    Rule {
        condition: Condition::Metric { metric, min, max, consecutive_samples },
        ..event(id, name, Severity::High, "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_valid_rule_and_ids_are_unique() {
        let seeds = seeds();
        let mut ids: Vec<_> = seeds.iter().map(|rule| rule.rule_id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), seeds.len());
        assert!(seeds.iter().all(|rule| rule.validate().is_ok()));
    }
}
