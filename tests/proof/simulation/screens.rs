//! Screens: each follows the stream with a filter of its own, goes away and resumes by offset. What one
//! has been shown is compared with the log at every frame.

use std::collections::{BTreeMap, VecDeque};

use watchpost::domain::alert::Alert;
use watchpost::domain::ids::{AlertId, CustomerId, Offset};
use watchpost::domain::owner::Scope;
use watchpost::domain::rule::Severity;
use watchpost::session::delivery::{Passed, SessionId, Subscription};
use watchpost::session::filter::{Filter, View};
use watchpost::session::frames::Since;

use super::chance::trace;
use super::promises::{expected_after, open_at};
use super::sessions::{FromSession, Session};
use super::world::World;

/// What arrives on a socket.
#[derive(Debug)]
pub enum Frame {
    Snapshot { gap: bool, offset: Offset, alerts: Vec<Alert> },
    Change { offset: Offset, text: String },
    Pong(Offset),
}

pub struct Screen {
    pub view: View,
    pub session: Option<Session>,
    /// Frames that have left the server.
    pub wire: VecDeque<Frame>,
    /// Where it would resume.
    pub cursor: Option<Offset>,
    /// It has asked to go on, and has had nothing yet.
    asked_since: bool,
    /// Open alerts as it shows them.
    pub picture: BTreeMap<AlertId, Alert>,
}

impl Screen {
    pub fn all() -> Vec<Self> {
        let customer = CustomerId::parse("c1").expect("an id");
        let severe = Filter { min_severity: Some(Severity::High), ..Filter::default() };
        let views = [
            View { scope: Scope::All, filter: Filter::default() },
            View { scope: Scope::All, filter: severe },
            View { scope: Scope::Customer(customer), filter: Filter::default() },
        ];
        views.into_iter().map(Self::of).collect()
    }

    fn of(view: View) -> Self {
        Self {
            view,
            session: None,
            wire: VecDeque::new(),
            cursor: None,
            asked_since: false,
            picture: BTreeMap::new(),
        }
    }

    /// What had not arrived is lost.
    pub fn disconnected(&mut self) -> Option<SessionId> {
        self.wire.clear();
        self.session.take().map(|session| session.id)
    }
}

impl World {
    pub fn connect(&mut self, index: usize) {
        let id = self.server.registry.new_id();
        let since =
            self.screens[index].cursor.map(|offset| Since { epoch: super::sessions::EPOCH.into(), offset });
        trace::note(format!("  screen {index} asks for {:?}", since.as_ref().map(|since| since.offset)));
        let screen = &mut self.screens[index];
        screen.asked_since = since.is_some();
        let mut session = Session::new(id);
        let (serial, passed): (u64, Passed) =
            session.client.subscribe("screen", since.as_ref().map(|since| since.offset));
        let subscription = Subscription { serial, filter: screen.view.filter.clone(), since, passed };
        let scope = screen.view.scope.clone();
        screen.session = Some(session);
        let mailbox = self.server.registry.mailbox(id);
        mailbox.push_back(FromSession::Join);
        mailbox.push_back(FromSession::Enter(scope));
        mailbox.push_back(FromSession::Subscribe(subscription));
    }

    pub fn disconnect(&mut self, index: usize) {
        if let Some(id) = self.screens[index].disconnected() {
            self.server.registry.mailbox(id).push_back(FromSession::Leave);
        }
    }

    pub fn screens_ping(&mut self) {
        for index in 0..self.screens.len() {
            self.ping(index);
        }
    }

    pub fn read_frame(&mut self, index: usize) {
        let screen = &mut self.screens[index];
        let Some(frame) = screen.wire.pop_front() else { return };
        match frame {
            Frame::Snapshot { gap, offset, alerts } => {
                trace::note(format!("  screen {index}: snapshot at {offset}, {} open", alerts.len()));
                assert_eq!(
                    gap,
                    std::mem::take(&mut screen.asked_since),
                    "a gap where a resume was asked for"
                );
                assert!(screen.cursor.is_none_or(|cursor| offset >= cursor), "a snapshot of the past");
                let open = open_at(&self.log, &screen.view, offset);
                screen.picture = alerts.into_iter().map(|alert| (alert.alert_id, alert)).collect();
                assert_eq!(screen.picture, open, "screen {index}: the snapshot is what is open");
                screen.cursor = Some(offset);
            }
            Frame::Change { offset, text } => {
                trace::note(format!("  screen {index}: change {offset}"));
                screen.asked_since = false;
                let cursor = screen.cursor.expect("a snapshot comes first");
                let next = expected_after(&self.log, &screen.view, cursor);
                let next = next.expect("what is shown is in the file");
                assert_eq!(next.offset, offset, "screen {index}: each change once and in order");
                let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                let alert: Alert = serde_json::from_value(frame["alert"].clone()).expect("an alert");
                assert_eq!(alert, next.alert, "screen {index}: change {offset} as it is stored");
                if alert.state.is_open() {
                    screen.picture.insert(alert.alert_id, alert);
                } else {
                    screen.picture.remove(&alert.alert_id);
                }
                screen.cursor = Some(offset);
            }
            Frame::Pong(offset) => {
                let Some(cursor) = screen.cursor else { return };
                let missed = expected_after(&self.log, &screen.view, cursor);
                let missed = missed.map(|change| change.offset).filter(|missed| *missed <= offset);
                assert_eq!(missed, None, "screen {index}: everything up to {offset} was sent");
                screen.cursor = Some(cursor.max(offset));
            }
        }
    }
}
