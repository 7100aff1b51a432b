//! The rule set as shards read it: compiled once per change, never changed in place.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::event::EventReport;
use crate::domain::ids::CustomerId;
use crate::domain::rule::{Condition, Rule, Severity};
use crate::domain::rule_seeds;

/// Published by RuleCache; every shard and the admission gate load it without a message.
pub type Published = Arc<ArcSwap<RuleSet>>;

/// A pattern for event types, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TypePattern {
    /// The whole dotted type.
    Full(String),
    /// The last segment.
    Short(String),
    /// Literal parts between `*`; of the full type if the pattern has a dot.
    Wildcard { parts: Vec<String>, full: bool },
}

/// How exactly a rule names its events; of two that match with equal severity the greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    has_value: bool,
    kind: u8,
    literal_chars: usize,
}

/// A rule about events, ready to be matched.
#[derive(Debug)]
pub struct EventRule {
    pub rule: Arc<Rule>,
    pattern: TypePattern,
    pub value: Option<String>,
    pub resolved_by_value: Option<String>,
    pub specificity: Specificity,
}

/// Rules by kind.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Grows with each publication; 0 is the built-in set.
    pub version: u64,
    pub events: Vec<EventRule>,
    pub claimed_levels: Vec<Arc<Rule>>,
    pub metrics: Vec<Arc<Rule>>,
}

impl RuleSet {
    /// Compiles the enabled rules. The built-in emergencies are always part of it, whatever
    /// `rules` says.
    pub fn compile(rules: &[Rule], version: u64) -> Self {
        let mut set = RuleSet { version, ..RuleSet::default() };
        let missing = rule_seeds::emergencies()
            .into_iter()
            .filter(|built_in| !rules.iter().any(|rule| rule.rule_id == built_in.rule_id && rule.enabled));
        for rule in rules.iter().filter(|rule| rule.enabled).cloned().chain(missing) {
            let rule = Arc::new(rule);
            match &rule.condition {
                Condition::Event { event_type, value, resolved_by_value } => {
                    let pattern = TypePattern::parse(event_type);
                    set.events.push(EventRule {
                        specificity: pattern.specificity(value.is_some()),
                        pattern,
                        value: value.clone(),
                        resolved_by_value: resolved_by_value.clone(),
                        rule: rule.clone(),
                    });
                }
                Condition::ClaimedLevel { .. } => set.claimed_levels.push(rule),
                Condition::Metric { .. } => set.metrics.push(rule),
            }
        }
        set
    }

    /// Only the built-in emergencies: what applies when nothing is loaded or evaluation fails.
    pub fn built_in() -> Self {
        Self::compile(&[], 0)
    }

    /// Rules in force.
    pub fn count(&self) -> usize {
        self.events.len() + self.claimed_levels.len() + self.metrics.len()
    }

    /// The one event rule that raises for `event`: highest severity, then most specific, then the
    /// smallest id.
    pub fn raising(&self, event: &EventReport, customer: &CustomerId) -> Option<&Arc<Rule>> {
        let type_ = LowerType::of(event);
        let matching = self.events.iter().filter(|candidate| {
            candidate.pattern.matches(&type_)
                && candidate.rule.applies_to(customer)
                && candidate.value.as_deref().is_none_or(|value| event.value.as_deref() == Some(value))
        });
        let best = matching.max_by(|a, b| {
            (a.rule.severity, a.specificity)
                .cmp(&(b.rule.severity, b.specificity))
                .then_with(|| b.rule.rule_id.cmp(&a.rule.rule_id))
        });
        match best {
            Some(best) => Some(&best.rule),
            None => self.by_claimed_level(event, customer),
        }
    }

    /// Rules whose alerts `event` resolves.
    pub fn resolved_by<'a>(&'a self, event: &'a EventReport) -> impl Iterator<Item = &'a Arc<Rule>> {
        let resolving = self.events.iter().filter(|candidate| {
            candidate.resolved_by_value.is_some()
                && candidate.resolved_by_value.as_deref() == event.value.as_deref()
        });
        let matching = resolving.filter(|candidate| candidate.pattern.matches(&LowerType::of(event)));
        matching.map(|candidate| &candidate.rule)
    }

    fn by_claimed_level(&self, event: &EventReport, customer: &CustomerId) -> Option<&Arc<Rule>> {
        let level = event.level.as_deref()?;
        let claims = |rule: &&Arc<Rule>| match &rule.condition {
            Condition::ClaimedLevel { levels } => {
                levels.iter().any(|known| known.eq_ignore_ascii_case(level))
            }
            _ => false,
        };
        self.claimed_levels
            .iter()
            .filter(|rule| rule.applies_to(customer))
            .filter(claims)
            .max_by_key(|rule| rule.severity)
    }

    /// Whether `event` is critical, as the admission gate asks before anything else is known of
    /// it. `customer` as far as known.
    pub fn is_critical(&self, event: &EventReport, customer: &CustomerId) -> bool {
        self.raising(event, customer).is_some_and(|rule| rule.severity == Severity::Critical)
    }
}

/// The type of an event in lower case, made once for all rules.
struct LowerType<'a> {
    full: Cow<'a, str>,
}

impl<'a> LowerType<'a> {
    fn of(event: &'a EventReport) -> Self {
        let lower = !event.event_type.chars().any(|char| char.is_ascii_uppercase() || !char.is_ascii());
        let full = match lower {
            true => Cow::Borrowed(event.event_type.as_ref()),
            false => Cow::Owned(event.event_type.to_lowercase()),
        };
        Self { full }
    }

    fn short(&self) -> &str {
        self.full.rsplit('.').next().unwrap_or(&self.full)
    }
}

impl TypePattern {
    fn matches(&self, type_: &LowerType<'_>) -> bool {
        match self {
            TypePattern::Full(full) => *type_.full == **full,
            TypePattern::Short(short) => type_.short() == short,
            TypePattern::Wildcard { parts, full: true } => wildcard(&type_.full, parts),
            TypePattern::Wildcard { parts, full: false } => wildcard(type_.short(), parts),
        }
    }

    fn parse(text: &str) -> Self {
        let lower = text.trim().to_lowercase();
        if lower.contains('*') {
            let full = lower.contains('.');
            TypePattern::Wildcard { parts: lower.split('*').map(str::to_string).collect(), full }
        } else if lower.contains('.') {
            TypePattern::Full(lower)
        } else {
            TypePattern::Short(lower)
        }
    }

    fn specificity(&self, has_value: bool) -> Specificity {
        let (kind, literal_chars) = match self {
            TypePattern::Full(text) => (2, text.len()),
            TypePattern::Short(text) => (1, text.len()),
            TypePattern::Wildcard { parts, .. } => (0, parts.iter().map(String::len).sum()),
        };
        Specificity { has_value, kind, literal_chars }
    }
}

/// `parts` are the literals between the `*`: first and last are anchored, the others are found
/// from left to right.
fn wildcard(text: &str, parts: &[String]) -> bool {
    let (Some((first, rest)), Some(last)) = (parts.split_first(), parts.last()) else { return false };
    let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
    let middle = &rest[..rest.len().saturating_sub(1)];
    for part in middle {
        match left.find(part.as_str()) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.len() >= last.len() && left.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::ReportedTime;

    fn event(event_type: &str, value: Option<&str>, level: Option<&str>) -> EventReport {
        EventReport {
            event_type: event_type.into(),
            value: value.map(Into::into),
            time: ReportedTime::Missing,
            client_event_id: None,
            level: level.map(Into::into),
            description: None,
            location: None,
            vitals: vec![],
        }
    }

    fn raised_by(set: &RuleSet, event: &EventReport) -> Option<String> {
        set.raising(event, &CustomerId::default_customer()).map(|rule| rule.rule_id.to_string())
    }

    #[test]
    fn seeds_match_what_watches_send() {
        let set = RuleSet::compile(&rule_seeds::seeds(), 1);
        let cases = [
            ("com.tdtech.ohos.health.action.SOS_EVENT", None, None, Some("sos")),
            ("sos", None, None, Some("sos")),
            ("FALLDOWN_EVENT", None, None, Some("fall")),
            ("com.tdtech.ohos.action.ONE_KEY_ALARM", None, None, Some("one-key")),
            ("HEARTRATE_HIGH_ALERT", None, None, Some("high")),
            ("SPO2_LOW_ALERT", None, None, Some("low")),
            ("HEART_RATE_ABNORMAL", None, None, Some("abnormal")),
            ("ABNORMAL_HEART_RATE", None, None, None),
            ("GEOFENCE_EXIT", None, None, Some("geofence-exit")),
            ("WEAR_STATUS_CHANGED", Some("0"), None, Some("not-worn")),
            ("WEAR_STATUS_CHANGED", Some("1"), None, None),
            ("CALL_STATE", None, None, None),
            ("CALL_STATE", None, Some("EMERGENCY"), Some("as-claimed")),
            ("SOS", None, Some("INFO"), Some("sos")),
            ("LOW_BATTERY", None, None, None),
        ];
        for (event_type, value, level, rule) in cases {
            let found = raised_by(&set, &event(event_type, value, level));
            assert_eq!(found.as_deref(), rule, "{event_type} {value:?} {level:?}");
        }
    }

    #[test]
    fn the_built_in_set_knows_the_emergencies_even_if_rules_disable_them() {
        let disabled: Vec<Rule> =
            rule_seeds::emergencies().into_iter().map(|rule| Rule { enabled: false, ..rule }).collect();
        for set in [RuleSet::built_in(), RuleSet::compile(&disabled, 7)] {
            assert_eq!(raised_by(&set, &event("SOS_EVENT", None, None)).as_deref(), Some("sos"));
            assert_eq!(raised_by(&set, &event("FALL", None, None)).as_deref(), Some("fall"));
        }
    }

    #[test]
    fn a_wildcard_is_anchored_at_both_ends() {
        let parts = |text: &str| text.split('*').map(str::to_string).collect::<Vec<_>>();
        for (text, pattern, expected) in [
            ("abc", "a*c", true),
            ("ac", "a*c", true),
            ("abcd", "a*c", false),
            ("aba", "ab*ba", false),
            ("x_high_y", "*_high*", true),
            ("high", "*_high*", false),
            ("anything", "*", true),
            ("a1b2c", "a*b*c", true),
        ] {
            assert_eq!(wildcard(text, &parts(pattern)), expected, "{text} {pattern}");
        }
    }
}
