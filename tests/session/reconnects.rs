//! 10,000 connections that break anywhere: registry and session logic, a played line, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use watchpost::domain::alert::{LoggedChange, Transition};
use watchpost::domain::ids::Offset;
use watchpost::domain::owner::Scope;
use watchpost::domain::rule::Severity;
use watchpost::session::client::Client;
use watchpost::session::delivery::{SessionId, Snapshot, Subscription, ToSession};
use watchpost::session::filter::{Filter, View};
use watchpost::session::frames::Since;
use watchpost::session::live_log::LogRead;
use watchpost::session::registry::{Effect, Limits, Registry};
use watchpost::session::ring::Frame;
use watchpost::storage::alert_log::OpenSnapshot;

use super::history::History;

const BREAKS: usize = 10_000;
const SCREENS: usize = 12;
const LIMITS: Limits = Limits {
    ring_changes: 60,
    ring_bytes: usize::MAX,
    snapshot_alerts_max: 100_000,
    resume_changes_max: 150,
    slice_frames: 5,
    slice_bytes: usize::MAX,
    read_changes: 7,
    early_changes: 100,
};

/// What is on its way to a screen, and what the session does when it has left.
enum OnTheWay {
    Snapshot(Snapshot),
    Frame(Arc<Frame>),
    Written { serial: u64, cursor: Offset },
}

struct Screen {
    session: SessionId,
    client: Client,
    line: VecDeque<OnTheWay>,
    view: View,
    /// As its client keeps it through lost connections.
    cursor: Option<Offset>,
    asked_since: bool,
    connected: bool,
}

struct Line {
    registry: Registry,
    history: History,
    screens: Vec<Screen>,
    sessions: u128,
    random: fastrand::Rng,
    replays: usize,
    gaps: usize,
    frames: usize,
}

fn view(index: usize) -> View {
    let min_severity = [None, Some(Severity::Medium), Some(Severity::Critical)][index % 3];
    View { scope: Scope::All, filter: Filter { min_severity, ..Filter::default() } }
}

/// The next change that a view shows.
fn next_shown<'a>(log: &'a [LoggedChange], view: &View, after: Offset) -> Option<&'a LoggedChange> {
    log[after as usize..].iter().find(|change| !change.quiet && view.shows(&*change.alert))
}

impl Line {
    fn new() -> Self {
        let screen = |index| Screen {
            session: SessionId::nil(),
            client: Client::default(),
            line: VecDeque::new(),
            view: view(index),
            cursor: None,
            asked_since: false,
            connected: false,
        };
        Self {
            registry: Registry::new(LIMITS, "e".into()),
            history: History::default(),
            screens: (0..SCREENS).map(screen).collect(),
            sessions: 0,
            random: fastrand::Rng::with_seed(7),
            replays: 0,
            gaps: 0,
            frames: 0,
        }
    }

    fn carry_out(&mut self) {
        loop {
            let effects = self.registry.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Tell(session, message) => self.tell(session, message),
                    Effect::ReadLog(LogRead::CatchUp { after, until, limit }) => {
                        self.registry.caught_up(Ok(self.history.after(after, until, limit)));
                    }
                    Effect::ReadLog(read) => {
                        let (last_offset, truncated) = (self.history.last(), false);
                        let alerts = self.history.open_at(last_offset);
                        self.registry.open_read(read, Ok(OpenSnapshot { alerts, truncated, last_offset }));
                    }
                    Effect::ReadReplay(read) => {
                        self.replays += 1;
                        let changes = self.history.after(read.after, read.until, read.limit);
                        self.registry.replayed(read, Ok(changes));
                    }
                }
            }
        }
    }

    /// What the session does with what the registry hands over.
    fn tell(&mut self, session: SessionId, message: ToSession) {
        let Some(screen) = self.screens.iter_mut().find(|screen| screen.session == session) else { return };
        match message {
            ToSession::Joined { offset, .. } => screen.client.greeted(offset),
            ToSession::Snapshot { subscription, snapshot } => {
                let cursor = snapshot.offset;
                screen.line.push_back(OnTheWay::Snapshot(snapshot));
                screen.line.push_back(OnTheWay::Written { serial: subscription, cursor });
            }
            ToSession::Due { subscription, frames, cursor } => {
                screen.line.extend(frames.into_iter().map(OnTheWay::Frame));
                screen.line.push_back(OnTheWay::Written { serial: subscription, cursor });
            }
            ToSession::Close(_) => self.hang_up_session(session),
            ToSession::Vitals(_) | ToSession::Pending(_) => unreachable!("nobody asked"),
        }
    }

    fn hang_up_session(&mut self, session: SessionId) {
        let index = self.screens.iter().position(|screen| screen.session == session).expect("a screen");
        self.hang_up(index);
    }

    /// The line breaks: what was on its way is lost.
    fn hang_up(&mut self, index: usize) {
        let screen = &mut self.screens[index];
        screen.connected = false;
        screen.line.clear();
        self.registry.leave(screen.session);
    }

    fn connect(&mut self, index: usize) {
        self.sessions += 1;
        let screen = &mut self.screens[index];
        screen.session = SessionId::from_u128(self.sessions);
        screen.client = Client::default();
        screen.connected = true;
        self.registry.enter(screen.session, Scope::All);
        let since = screen.cursor.map(|offset| Since { epoch: "e".into(), offset });
        screen.asked_since = since.is_some();
        let (serial, passed) = screen.client.subscribe("a", screen.cursor);
        let filter = screen.view.filter.clone();
        let subscription = Subscription { serial, filter, since, passed };
        self.registry.subscribe(screen.session, subscription);
    }

    /// One thing arrives.
    fn arrive(&mut self, index: usize) {
        let screen = &mut self.screens[index];
        match screen.line.pop_front() {
            None => {
                // What was passed over need not be asked for again.
                let served = screen.client.sent_up_to();
                if screen.connected && served > 0 && screen.cursor.is_some_and(|cursor| served > cursor) {
                    let cursor = screen.cursor.expect("it has one");
                    let missed = next_shown(&self.history.log, &screen.view, cursor);
                    assert!(
                        missed.is_none_or(|change| change.offset > served),
                        "the pong passes over a change"
                    );
                    screen.cursor = Some(served);
                }
            }
            Some(OnTheWay::Frame(frame)) => {
                let cursor = screen.cursor.expect("a snapshot comes first");
                let next = next_shown(&self.history.log, &screen.view, cursor).expect("a change");
                assert_eq!(frame.offset, next.offset, "the next one, neither again nor later");
                screen.cursor = Some(frame.offset);
                self.frames += 1;
            }
            Some(OnTheWay::Snapshot(snapshot)) => {
                assert_eq!(snapshot.gap.is_some(), screen.asked_since);
                self.gaps += usize::from(snapshot.gap.is_some());
                let mut open = self.history.open_at(snapshot.offset);
                open.retain(|alert| screen.view.shows(alert));
                assert_eq!(
                    snapshot.alerts.iter().map(|alert| &**alert).collect::<Vec<_>>(),
                    open.iter().collect::<Vec<_>>()
                );
                screen.cursor = Some(snapshot.offset);
            }
            Some(OnTheWay::Written { serial, cursor }) => {
                screen.client.written(serial, cursor);
                self.registry.pull(screen.session, serial);
            }
        }
    }

    fn happen(&mut self) {
        let (pick, quiet) = (self.random.usize(..), self.random.u8(..10) == 0);
        let change = match self.random.u8(..3) {
            0 => {
                let severity = Severity::ALL[self.random.usize(..Severity::ALL.len())];
                self.history.raise("w1", "c1", severity)
            }
            // Most of it is over soon, or what is open would only grow.
            1 => self.history.touch(pick, Transition::Resolved, false),
            _ => self.history.touch(pick, Transition::Repeated, quiet),
        };
        let last = self.history.last();
        match self.random.u8(..10) {
            // The hint is lost.
            0 => self.registry.reconcile(last),
            _ => self.registry.publish(vec![change], last, Instant::now()),
        }
    }
}

#[test]
fn ten_thousand_broken_connections_lose_nothing_and_give_nothing_twice() {
    let mut line = Line::new();
    line.carry_out();
    let mut breaks = 0;
    while breaks < BREAKS {
        let index = line.random.usize(..SCREENS);
        let is_connected = line.screens[index].connected;
        match line.random.u8(..16) {
            0 if line.history.last() < 4_000 => line.happen(),
            1..=3 if is_connected => {
                line.hang_up(index);
                breaks += 1;
            }
            // Some stay away for long.
            4..=6 if !is_connected && (index > 2 || line.random.u8(..60) == 0) => line.connect(index),
            7.. if is_connected => line.arrive(index),
            _ => {}
        }
        line.carry_out();
    }
    for index in 0..SCREENS {
        if !line.screens[index].connected {
            line.connect(index);
        }
    }
    line.carry_out();
    while line.screens.iter().any(|screen| !screen.line.is_empty()) {
        (0..SCREENS).for_each(|index| line.arrive(index));
        line.carry_out();
    }
    for screen in &line.screens {
        let cursor = screen.cursor.expect("a snapshot");
        assert!(next_shown(&line.history.log, &screen.view, cursor).is_none(), "something is missing");
    }
    // It took all the ways that there are.
    assert!(
        line.replays > 0 && line.gaps > 0 && line.frames > 1_000,
        "{} {} {}",
        line.replays,
        line.gaps,
        line.frames
    );
}

#[test]
fn until_the_snapshot_has_left_nothing_counts_as_sent() {
    let mut line = Line::new();
    line.carry_out();
    for _ in 0..3 {
        let change = line.history.raise("w1", "c1", Severity::Critical);
        line.registry.publish(vec![change], line.history.last(), Instant::now());
    }
    // From a place that this server never had: it gets a gap and a snapshot.
    line.screens[0].cursor = Some(99);
    line.connect(0);
    line.carry_out();
    assert_eq!(line.screens[0].client.sent_up_to(), 0);
    line.arrive(0);
    assert_eq!(line.screens[0].client.sent_up_to(), 0);
    line.arrive(0);
    assert_eq!(line.screens[0].client.sent_up_to(), 3);
}
