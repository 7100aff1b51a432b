//! What operators do about alerts, and why it may be refused.

use serde::{Deserialize, Serialize};

use super::alert::{Alert, AlertChange, Transition};
use super::ids::AlertId;
use super::time::UtcMillis;

/// What an alert turned out to be, by whoever resolved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Helped,
    FalseAlarm,
    Test,
    Other,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Helped => "helped",
            Outcome::FalseAlarm => "false_alarm",
            Outcome::Test => "test",
            Outcome::Other => "other",
        }
    }
}

/// An action that the alert's present state does not allow.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the alert is already {}", .present.state.name())]
pub struct IllegalTransition {
    /// The alert as it stands, with who was first.
    pub present: Box<Alert>,
}

/// Why an operator's action changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ActError {
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// No open alert with that id on that device.
    #[error("the alert is not open")]
    NotOpen,
    /// The state of the device could not be loaded, or the write was given up.
    #[error("the action was not stored; try again")]
    NotStored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    Acknowledge,
    Comment,
    Resolve,
}

impl ActionKind {
    /// The change that it makes.
    pub fn transition(self) -> Transition {
        match self {
            ActionKind::Acknowledge => Transition::Acknowledged,
            ActionKind::Comment => Transition::Commented,
            ActionKind::Resolve => Transition::Resolved,
        }
    }
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorAction {
    pub alert_id: AlertId,
    pub kind: ActionKind,
    /// Chosen by the caller (or made for it): the same id again is the same command.
    pub command_id: Box<str>,
    pub actor: Box<str>,
    pub note: Option<Box<str>>,
    /// Only where it resolves.
    pub outcome: Option<Outcome>,
    /// When it was said, if it could not be stored at once: the time at which the alert was acknowledged.
    pub said_at: Option<UtcMillis>,
}

impl Alert {
    /// As [`Alert::act`]; but what was said before it happened again is not said of that.
    pub fn carry_out(
        &mut self,
        action: &OperatorAction,
        now: UtcMillis,
    ) -> Result<AlertChange, IllegalTransition> {
        match action.said_at {
            Some(said) if self.last_at > said => Err(IllegalTransition { present: Box::new(self.clone()) }),
            _ => self.act(action, now),
        }
    }
}
