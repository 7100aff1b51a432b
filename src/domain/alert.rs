//! Alerts and their state machine.
//!
//! ```text
//!            raise                acknowledge             resolve
//!   (none) ---------> raised --------------> acknowledged --------> resolved
//!                       |  ^                      |
//!                       |  +-- repeat, if critical+
//!                       +------------ resolve ------------------->
//! ```
//!
//! A comment is possible in every state and leaves it as it is.
//!
//! Each transition is an [`AlertChange`] with the alert as it is afterwards, in absolute values:
//! applying one twice is harmless.

use serde::{Deserialize, Serialize};

pub use super::action::{ActError, ActionKind, IllegalTransition, OperatorAction, Outcome};
use super::event::Location;
use super::identity;
use super::ids::{AlertId, BindingId, CustomerId, DeviceSn, EventId, OrgId, PersonId, RuleId};
use super::owner::Owner;
use super::rule::{Rule, Severity};
use super::shortened::shortened;
use super::time::UtcMillis;
use super::vitals::Metrics;

/// Longest value and type of an event in an alert, characters. The event itself has them whole.
pub const TEXT_CHARS_MAX: usize = 1_000;

/// A repeat of a non-critical alert within this of the last pushed one is stored, not pushed.
pub const QUIET_MS: i64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    Raised,
    Acknowledged,
    Resolved,
}

impl AlertState {
    pub const ALL: [AlertState; 3] = [AlertState::Raised, AlertState::Acknowledged, AlertState::Resolved];

    pub fn name(self) -> &'static str {
        match self {
            AlertState::Raised => "raised",
            AlertState::Acknowledged => "acknowledged",
            AlertState::Resolved => "resolved",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub fn is_open(self) -> bool {
        self != AlertState::Resolved
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    Raised,
    /// It happened again while the alert was open: the count grows.
    Repeated,
    Acknowledged,
    /// Somebody wrote a note. The state stays.
    Commented,
    Resolved,
    /// The metric is within its bounds again. People close the alert.
    BackToNormal,
}

impl Transition {
    pub const ALL: [Transition; 6] = [
        Transition::Raised,
        Transition::Repeated,
        Transition::Acknowledged,
        Transition::Commented,
        Transition::Resolved,
        Transition::BackToNormal,
    ];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|transition| transition.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Transition::Raised => "raised",
            Transition::Repeated => "repeated",
            Transition::Acknowledged => "acknowledged",
            Transition::Commented => "commented",
            Transition::Resolved => "resolved",
            Transition::BackToNormal => "back_to_normal",
        }
    }
}

/// What a change was made by. A change is applied only if its cause is new for that alert.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    Event(EventId),
    Vitals(DeviceSn, UtcMillis),
    /// An operator's command, by its own id: the same command again is the same change.
    Action(Box<str>),
}

impl Cause {
    /// Text form, unique over all causes; what is stored.
    pub fn key(&self) -> String {
        match self {
            Cause::Event(id) => format!("event:{id}"),
            Cause::Vitals(sn, at) => format!("vitals:{}:{sn}", at.0),
            Cause::Action(id) => format!("action:{id}"),
        }
    }

    /// From [`Cause::key`].
    pub fn from_key(key: &str) -> Option<Self> {
        let (kind, rest) = key.split_once(':')?;
        match kind {
            "event" => rest.parse().ok().map(Cause::Event),
            "vitals" => {
                let (at, sn) = rest.split_once(':')?;
                Some(Cause::Vitals(DeviceSn::parse(sn).ok()?, UtcMillis(at.parse().ok()?)))
            }
            "action" => Some(Cause::Action(rest.into())),
            _ => None,
        }
    }
}

/// An alert as it stands. This is also the `alert` object of the stream and the REST API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub alert_id: AlertId,
    pub rule_id: RuleId,
    pub rule_name: Box<str>,
    pub device_sn: DeviceSn,
    pub severity: Severity,
    pub state: AlertState,
    /// How often it happened while open, the first time included.
    pub count: u32,
    /// When it first happened, by the device's clock where that can be believed.
    pub occurred_at: UtcMillis,
    /// When that happened, by the same clock, which was told last: value, position and vitals are of it.
    /// `None` in an alert that was stored before this was kept.
    #[serde(default)]
    pub last_occurred_at: Option<UtcMillis>,
    /// When the server took in the first report of it.
    pub raised_at: UtcMillis,
    /// When the server took in the last report of it.
    pub last_at: UtcMillis,
    /// Of the event that raised it; `None` for a metric alert.
    pub event_id: Option<EventId>,
    pub event_type: Option<Box<str>>,
    pub value: Option<Box<str>>,
    pub location: Option<Location>,
    /// What was measured at that moment.
    pub vitals: Option<Metrics>,
    pub binding_id: BindingId,
    pub customer_id: CustomerId,
    pub org_id: Option<OrgId>,
    pub org_name: Option<Box<str>>,
    pub person_id: Option<PersonId>,
    pub person_name: Option<Box<str>>,
    /// False if nobody vouches for the device: it is bound to no one.
    pub verified: bool,
    pub acknowledged_at: Option<UtcMillis>,
    pub acknowledged_by: Option<Box<str>>,
    pub resolved_at: Option<UtcMillis>,
    pub resolved_by: Option<Box<str>>,
    /// Null until it is resolved, and if whoever resolved it did not say.
    pub outcome: Option<Outcome>,
    pub back_to_normal_at: Option<UtcMillis>,
    /// When a change of it was last pushed, by the server's clock.
    pub pushed_at: UtcMillis,
}

/// One transition of one alert: a row of `alert_change`, and a frame of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertChange {
    /// As it is after the transition.
    pub alert: Alert,
    pub transition: Transition,
    pub cause: Cause,
    pub at: UtcMillis,
    /// Who did it: a viewer's name, or `None` for the device itself.
    pub actor: Option<Box<str>>,
    pub note: Option<Box<str>>,
    /// Stored, but not pushed, live or on resume.
    pub quiet: bool,
}

/// What made an alert, for [`Alert::raise`] and [`Alert::repeat`].
#[derive(Debug, Clone)]
pub struct Occurrence {
    pub cause: Cause,
    pub occurred_at: UtcMillis,
    pub received_at: UtcMillis,
    pub event_id: Option<EventId>,
    pub event_type: Option<Box<str>>,
    pub value: Option<Box<str>>,
    pub location: Option<Location>,
    pub vitals: Option<Metrics>,
    pub verified: bool,
}

impl AlertChange {
    /// Null unless this change resolved the alert.
    pub fn outcome(&self) -> Option<Outcome> {
        outcome_of(self.transition, &self.alert)
    }
}

fn outcome_of(transition: Transition, alert: &Alert) -> Option<Outcome> {
    alert.outcome.filter(|_| transition == Transition::Resolved)
}

impl Alert {
    pub fn raise(rule: &Rule, device_sn: &DeviceSn, owner: &Owner, what: Occurrence) -> AlertChange {
        let alert = Alert {
            alert_id: identity::alert_id(&what.cause.key(), &rule.rule_id),
            rule_id: rule.rule_id.clone(),
            rule_name: rule.name.as_str().into(),
            device_sn: device_sn.clone(),
            severity: rule.severity,
            state: AlertState::Raised,
            count: 1,
            occurred_at: what.occurred_at,
            last_occurred_at: Some(what.occurred_at),
            raised_at: what.received_at,
            last_at: what.received_at,
            event_id: what.event_id,
            event_type: what.event_type.map(|text| shortened(text, TEXT_CHARS_MAX)),
            value: what.value.map(|text| shortened(text, TEXT_CHARS_MAX)),
            location: what.location,
            vitals: what.vitals,
            binding_id: owner.binding_id,
            customer_id: owner.customer_id.clone(),
            org_id: owner.org_id.clone(),
            org_name: owner.org_name.clone(),
            person_id: owner.person_id.clone(),
            person_name: owner.person_name.clone(),
            verified: what.verified,
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
            resolved_by: None,
            outcome: None,
            back_to_normal_at: None,
            pushed_at: what.received_at,
        };
        AlertChange {
            alert,
            transition: Transition::Raised,
            cause: what.cause,
            at: what.received_at,
            actor: None,
            note: None,
            quiet: false,
        }
    }

    /// When what it shows happened, by the device's clock.
    pub fn happened_at(&self) -> UtcMillis {
        self.last_occurred_at.unwrap_or(self.occurred_at)
    }

    /// How long after it had happened the last report of it came, milliseconds; of an alert that does not
    /// know when that was, the first.
    pub fn lateness_ms(&self) -> i64 {
        match self.last_occurred_at {
            Some(at) => self.last_at.ms_since(at),
            None => self.raised_at.ms_since(self.occurred_at),
        }
    }

    /// It happened again. On an acknowledged critical alert this makes it raised again: somebody
    /// pressed SOS once more. Value, position and vitals are those of the latest time.
    pub fn repeat(&mut self, what: Occurrence) -> AlertChange {
        let critical = self.severity == Severity::Critical;
        self.count = self.count.saturating_add(1);
        self.last_at = self.last_at.max(what.received_at);
        self.last_occurred_at = Some(what.occurred_at);
        self.back_to_normal_at = None;
        if let Some(value) = what.value {
            self.value = Some(shortened(value, TEXT_CHARS_MAX));
        }
        if what.location.is_some() {
            self.location = what.location;
        }
        if what.vitals.is_some() {
            self.vitals = what.vitals;
        }
        if critical && self.state == AlertState::Acknowledged {
            self.state = AlertState::Raised;
            self.acknowledged_at = None;
            self.acknowledged_by = None;
        }
        let quiet = !critical && what.received_at.ms_since(self.pushed_at).abs() < QUIET_MS;
        if !quiet {
            self.pushed_at = what.received_at;
        }
        self.change(Transition::Repeated, what.cause, what.received_at, quiet)
    }

    pub fn back_to_normal(&mut self, cause: Cause, at: UtcMillis) -> AlertChange {
        self.back_to_normal_at = Some(at);
        self.pushed_at = at;
        self.change(Transition::BackToNormal, cause, at, false)
    }

    /// Resolved by the device itself, for example put on again.
    pub fn resolve_by_device(&mut self, cause: Cause, at: UtcMillis) -> AlertChange {
        self.state = AlertState::Resolved;
        self.resolved_at = Some(at);
        self.pushed_at = at;
        self.change(Transition::Resolved, cause, at, false)
    }

    /// Applies what an operator did. Of several who try the same, the first one wins; a comment is
    /// always possible.
    pub fn act(&mut self, action: &OperatorAction, at: UtcMillis) -> Result<AlertChange, IllegalTransition> {
        let transition = match (self.state, action.kind) {
            (AlertState::Raised, ActionKind::Acknowledge) => {
                self.state = AlertState::Acknowledged;
                self.acknowledged_at = Some(action.said_at.unwrap_or(at));
                self.acknowledged_by = Some(action.actor.clone());
                Transition::Acknowledged
            }
            (AlertState::Raised | AlertState::Acknowledged, ActionKind::Resolve) => {
                self.state = AlertState::Resolved;
                self.resolved_at = Some(at);
                self.resolved_by = Some(action.actor.clone());
                self.outcome = action.outcome;
                Transition::Resolved
            }
            (_, ActionKind::Comment) => Transition::Commented,
            (AlertState::Acknowledged | AlertState::Resolved, _) => {
                return Err(IllegalTransition { present: Box::new(self.clone()) });
            }
        };
        // A comment leaves the alert as it is, so one that comes twice, or late, changes nothing.
        if transition != Transition::Commented {
            self.pushed_at = at;
        }
        let cause = Cause::Action(action.command_id.clone());
        let change = self.change(transition, cause, at, false);
        Ok(AlertChange { actor: Some(action.actor.clone()), note: action.note.clone(), ..change })
    }

    fn change(&self, transition: Transition, cause: Cause, at: UtcMillis, quiet: bool) -> AlertChange {
        AlertChange { alert: self.clone(), transition, cause, at, actor: None, note: None, quiet }
    }
}

/// A change as it stands in the log.
#[derive(Debug, Clone)]
pub struct LoggedChange {
    pub offset: super::ids::Offset,
    pub transition: Transition,
    /// [`Cause::key`].
    pub cause: Box<str>,
    pub at: UtcMillis,
    pub actor: Option<Box<str>>,
    pub note: Option<Box<str>>,
    pub quiet: bool,
    /// As it was after the change.
    pub alert: std::sync::Arc<Alert>,
    /// When its report arrived in this process; `None` for one read back from storage.
    pub arrived: Option<std::time::Instant>,
}

impl LoggedChange {
    /// Null unless this change resolved the alert.
    pub fn outcome(&self) -> Option<Outcome> {
        outcome_of(self.transition, &self.alert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_comes_back_from_its_text() {
        let sn = DeviceSn::parse("W:1 a").expect("a serial");
        let causes =
            [Cause::Event(EventId([7; 16])), Cause::Vitals(sn, UtcMillis(-5)), Cause::Action("a:b".into())];
        for cause in causes {
            assert_eq!(Cause::from_key(&cause.key()), Some(cause));
        }
        assert_eq!(Cause::from_key("event:x"), None);
    }
}
