//! Operators: they acknowledge and resolve, repeat a command that was not answered, and race each other;
//! and they change bindings and rules.

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use watchpost::device::messages::{Act, BindingChanged};
use watchpost::domain::alert::{ActError, ActionKind, Alert, Cause, OperatorAction, Outcome, Transition};
use watchpost::domain::ids::{CustomerId, DeviceSn, RuleId};
use watchpost::domain::owner::Scope;
use watchpost::domain::rule::Severity;
use watchpost::rules::set::RuleSet;
use watchpost::storage::command::{Command, CommandError, CommandReply, NewBinding};
use watchpost::storage::{alerts, rules};
use watchpost::writer::messages::Administer;

use super::chance::trace;
use super::shards::shard_of;
use super::watches::{DEVICES, sn};
use super::world::World;

const ACTIONS_MAX: usize = 25;

type ActAnswer = oneshot::Receiver<Result<Alert, ActError>>;
type CommandAnswer = oneshot::Receiver<Result<CommandReply, CommandError>>;

pub struct Action {
    device: DeviceSn,
    pub action: OperatorAction,
    waiting: Vec<ActAnswer>,
    /// Answered with 200.
    pub done: bool,
    /// Answered with 409: somebody was first.
    refused: bool,
}

impl Action {
    pub fn transition(&self) -> Transition {
        self.action.kind.transition()
    }

    fn cause(&self) -> Cause {
        Cause::Action(self.action.command_id.clone())
    }
}

enum Change {
    Binding(DeviceSn),
    Rule,
}

#[derive(Default)]
pub struct Operators {
    pub actions: Vec<Action>,
    commands: Vec<(Change, CommandAnswer)>,
}

impl Operators {
    pub fn may_act(&self) -> bool {
        self.actions.len() < ACTIONS_MAX
    }

    pub fn is_quiet(&self) -> bool {
        let quiet = |action: &Action| action.waiting.is_empty() && (action.done || action.refused);
        self.commands.is_empty() && self.actions.iter().all(quiet)
    }
}

impl World {
    /// On an alert that is open, or was a moment ago.
    pub fn act(&mut self) {
        if self.log.is_empty() {
            return;
        }
        let change = &self.log[self.log.len() - 1 - self.chance.below(self.log.len().min(12))];
        let (alert_id, device) = (change.alert.alert_id, change.alert.device_sn.clone());
        let kind = self.chance.of(&[ActionKind::Acknowledge, ActionKind::Resolve, ActionKind::Comment]);
        let outcome = (kind == ActionKind::Resolve && self.chance.percent(50)).then_some(Outcome::Helped);
        let number = self.operators.actions.len();
        let action = OperatorAction {
            alert_id,
            kind,
            command_id: format!("command-{number}").into(),
            actor: self.chance.of(&["ann", "bob"]).into(),
            note: None,
            outcome,
            said_at: None,
        };
        trace::note(format!("  action {number}: {kind:?} {alert_id} of {device}"));
        let action = Action { device, action, waiting: Vec::new(), done: false, refused: false };
        self.operators.actions.push(action);
        self.send_action(number);
    }

    pub fn repeat_action(&mut self) {
        if !self.operators.actions.is_empty() {
            let index = self.chance.below(self.operators.actions.len());
            self.send_action(index);
        }
    }

    fn send_action(&mut self, index: usize) {
        let action = &mut self.operators.actions[index];
        let (reply, answer) = oneshot::channel();
        action.waiting.push(answer);
        let (device_sn, action) = (action.device.clone(), action.action.clone());
        trace::note(format!("  action {index} is sent"));
        // As `api::alerts` does it.
        let stored = alerts::get(&mut self.conn, &Scope::All, action.alert_id).expect("a readable file");
        let resolved = stored.filter(|alert| !alert.state.is_open()).map(Box::new);
        let act = Act { device_sn: device_sn.clone(), action, resolved, reply };
        self.server.shards[shard_of(&device_sn)].acts.push_back(act);
    }

    pub fn repeat_unanswered_actions(&mut self) {
        for index in 0..self.operators.actions.len() {
            let action = &self.operators.actions[index];
            if !action.done && !action.refused && action.waiting.is_empty() {
                self.send_action(index);
            }
        }
    }

    pub fn change_binding(&mut self) {
        let device = sn(self.chance.of(&DEVICES));
        let customer = format!("c{}", self.chance.below(2));
        let command = if self.chance.percent(25) {
            Command::EndBinding { device_sn: device.clone(), scope: Scope::All, actor: "ann".into() }
        } else {
            let binding = NewBinding {
                device_sn: device.clone(),
                customer_id: CustomerId::parse(&customer).expect("an id"),
                customer_name: None,
                org_id: None,
                org_name: None,
                person_id: None,
                person_name: None,
            };
            Command::PutBinding { binding, scope: Scope::All, actor: "ann".into() }
        };
        self.administer(Change::Binding(device), command);
    }

    /// What leaving the area is worth, and whether it is looked at.
    pub fn change_rule(&mut self) {
        let (stored, _) = rules::load_all(&mut self.conn).expect("the rules");
        let geofence = RuleId::parse("geofence-exit").expect("an id");
        let mut rule = stored.into_iter().find(|rule| rule.rule_id == geofence).expect("a seed");
        rule.severity = self.chance.of(&[Severity::Low, Severity::High, Severity::Critical]);
        rule.enabled = self.chance.percent(80);
        self.administer(Change::Rule, Command::PutRule { rule, replace: true, actor: "ann".into() });
    }

    fn administer(&mut self, change: Change, command: Command) {
        let (reply, answer) = oneshot::channel();
        self.operators.commands.push((change, answer));
        self.server.writer.commands.push_back(Administer { command, reply });
    }

    pub fn hear_operators(&mut self) {
        for (change, mut answer) in std::mem::take(&mut self.operators.commands) {
            let result = match answer.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.operators.commands.push((change, answer));
                    continue;
                }
                Err(TryRecvError::Closed) => Err(CommandError::WriterAway),
                Ok(result) => result,
            };
            trace::note(format!("  a command was answered, carried out {}", result.is_ok()));
            match change {
                // Whatever the outcome, as the REST API does: it may be stored all the same.
                Change::Binding(device) => {
                    let changed = BindingChanged { devices: vec![device.clone()] };
                    self.server.shards[shard_of(&device)].bindings.push_back(changed);
                }
                Change::Rule => {
                    let (stored, _) = rules::load_all(&mut self.conn).expect("the rules");
                    let version = self.server.rules.load().version + 1;
                    self.server.rules.store(RuleSet::compile(&stored, version).into());
                }
            }
        }
        for index in 0..self.operators.actions.len() {
            let mut waiting = std::mem::take(&mut self.operators.actions[index].waiting);
            waiting.retain_mut(|answer| match answer.try_recv() {
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Closed) => false,
                Ok(answer) => {
                    self.acted(index, answer);
                    false
                }
            });
            self.operators.actions[index].waiting = waiting;
        }
    }

    /// As `api::alerts` does it: a refusal of what has been done is an answer of 200.
    fn acted(&mut self, index: usize, answer: Result<Alert, ActError>) {
        let action = &self.operators.actions[index];
        let (id, cause, transition) = (action.action.alert_id, action.cause(), action.transition());
        let stored = alerts::has_change(&mut self.conn, id, &cause, transition).expect("a readable file");
        trace::note(format!("  action {index}: accepted {}, stored {stored}", answer.is_ok()));
        assert!(stored || answer.is_err(), "action {index} was answered 200 and is not stored");
        if answer == Err(ActError::NotStored) {
            return;
        }
        assert!(stored || !action.done, "action {index} was done, and its repetition is told otherwise");
        let action = &mut self.operators.actions[index];
        action.done |= stored;
        action.refused |= !stored;
    }
}
