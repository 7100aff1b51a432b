//! An alert as one line of a terminal.

use crate::domain::alert::{Alert, AlertState, Outcome};
use crate::domain::rule::Severity;
use crate::domain::time::UtcMillis;

const BOLD_RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Later than this is worth a word, milliseconds.
const LATE_MS: i64 = 60_000;

/// What a change says beside the alert.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// The transition, or the state for an alert of a snapshot.
    pub what: &'a str,
    pub actor: Option<&'a str>,
    pub note: Option<&'a str>,
    pub outcome: Option<Outcome>,
}

/// Critical ones that nobody has taken up are loud: bold red, and with `color` a bell.
///
/// The time is that of the last report; where that came late it says how late.
pub fn line(alert: &Alert, said: Said<'_>, color: bool) -> String {
    let kind = alert.event_type.as_deref().unwrap_or(&alert.rule_name);
    let kind = kind.rsplit('.').next().unwrap_or(kind);
    let mut text = format!(
        "{} {:<8} {:<14} {kind} {}",
        clock(alert.last_at),
        alert.severity.name().to_uppercase(),
        said.what,
        alert.device_sn,
    );
    let person = [&alert.person_name, &alert.org_name].into_iter().flatten();
    let person = person.map(|name| &**name).collect::<Vec<_>>().join(", ");
    if !person.is_empty() {
        text += &format!(" ({person})");
    }
    if let Some(place) = alert.location {
        text += &format!(" at {:.5},{:.5}", place.latitude, place.longitude);
    }
    if alert.count > 1 {
        text += &format!(" x{}, first {}", alert.count, clock(alert.occurred_at));
    }
    if alert.lateness_ms() > LATE_MS {
        text += &format!(" {} min late", alert.lateness_ms() / 60_000);
    }
    if !alert.verified {
        text += " unverified";
    }
    if let Some(actor) = said.actor {
        text += &format!(" by {actor}");
    }
    if let Some(outcome) = said.outcome {
        text += &format!(", outcome {}", outcome.name().replace('_', " "));
    }
    text += &format!(" [{}]", alert.alert_id);
    if let Some(note) = said.note {
        text += &format!(": {note}");
    }
    let text = printable(&text);
    let loud = alert.severity == Severity::Critical && alert.state == AlertState::Raised;
    match (color, alert.severity) {
        (false, _) => text,
        (true, _) if loud => format!("\x07{BOLD_RED}{text}{PLAIN}"),
        (true, _) if alert.state == AlertState::Resolved => format!("{DIM}{text}{PLAIN}"),
        (true, Severity::High | Severity::Critical) => format!("{YELLOW}{text}{PLAIN}"),
        (true, _) => text,
    }
}

/// A moment in UTC, without the year.
fn clock(at: UtcMillis) -> String {
    at.to_datetime().map(|time| time.format("%m-%d %H:%M:%SZ").to_string()).unwrap_or_default()
}

/// What a watch sent must not steer the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity;
    use crate::domain::owner::Owner;
    use crate::domain::{alert, ids, rule};

    fn occurrence(at: i64, received: i64, value: &str) -> alert::Occurrence {
        alert::Occurrence {
            cause: alert::Cause::Action("a".into()),
            occurred_at: UtcMillis(at),
            received_at: UtcMillis(received),
            event_id: None,
            event_type: Some(value.into()),
            value: None,
            location: None,
            vitals: None,
            verified: false,
        }
    }

    fn sos(value: &str) -> Alert {
        let rule = rule::Rule {
            rule_id: ids::RuleId::parse("sos").unwrap(),
            customer_id: None,
            name: "SOS".into(),
            severity: Severity::Critical,
            enabled: true,
            built_in: true,
            version: 1,
            condition: rule::Condition::ClaimedLevel { levels: vec!["CRITICAL".into()] },
        };
        let what = occurrence(0, 0, value);
        let alert = Alert::raise(&rule, &ids::DeviceSn::parse("w1").unwrap(), &Owner::unbound(), what).alert;
        assert_eq!(alert.alert_id, identity::alert_id("action:a", &rule.rule_id));
        alert
    }

    #[test]
    fn a_critical_alert_is_loud_until_somebody_has_taken_it_up() {
        let mut alert = sos("com.watch.SOS");
        let raised = line(&alert, Said { what: "raised", ..Said::default() }, true);
        assert!(raised.starts_with("\x07\x1b[1;31m01-01 00:00:00Z CRITICAL raised"), "{raised:?}");
        assert!(raised.contains(" SOS w1 unverified ["), "{raised:?}");
        alert.state = AlertState::Acknowledged;
        let said = Said { what: "acknowledged", actor: Some("Ann"), ..Said::default() };
        assert!(!line(&alert, said, true).contains('\x07'));
        assert!(line(&alert, said, false).contains("by Ann"));
    }

    #[test]
    fn what_happened_again_and_came_late_says_since_when_and_how_late() {
        let mut alert = sos("SOS");
        alert.repeat(occurrence(3_600_000, 3_660_000, "SOS"));
        let on_time = line(&alert, Said { what: "repeated", ..Said::default() }, false);
        assert!(on_time.starts_with("01-01 01:01:00Z "), "{on_time}");
        assert!(on_time.contains(" x2, first 01-01 00:00:00Z unverified"), "{on_time}");
        alert.repeat(occurrence(3_600_000, 7_200_000, "SOS"));
        let late = line(&alert, Said { what: "repeated", ..Said::default() }, false);
        assert!(late.contains(" x3, first 01-01 00:00:00Z 60 min late unverified"), "{late}");
    }

    #[test]
    fn a_note_and_an_outcome_are_shown_and_a_note_steers_nothing() {
        let (outcome, note) = (Some(Outcome::FalseAlarm), Some("pressed by mistake\x1b[2J"));
        let said = Said { what: "resolved", actor: Some("Ann"), note, outcome };
        let text = line(&sos("SOS"), said, false);
        assert!(text.contains(" by Ann, outcome false alarm ["), "{text}");
        assert!(text.ends_with("]: pressed by mistake\u{fffd}[2J"), "{text}");
    }

    #[test]
    fn what_a_watch_sent_does_not_steer_the_terminal() {
        let text = line(&sos("SOS\x1b[2J\n"), Said { what: "raised", ..Said::default() }, false);
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}
