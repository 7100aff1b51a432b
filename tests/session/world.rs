//! The registry's core with a history, made-up storage and made-up clients, and all that can go
//! wrong between them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use watchpost::domain::alert::{LoggedChange, Transition};
use watchpost::domain::ids::Offset;
use watchpost::domain::owner::Scope;
use watchpost::domain::rule::Severity;
use watchpost::session::audience::ReplayRead;
use watchpost::session::delivery::{Farewell, Passed, SessionId, Snapshot, Subscription, ToSession};
use watchpost::session::filter::{Filter, View};
use watchpost::session::frames::Since;
use watchpost::session::live_log::{LogRead, ReadFailure};
use watchpost::session::registry::{Effect, Limits, Registry};
use watchpost::storage::alert_log::OpenSnapshot;

use super::history::{History, customer};

pub const LIMITS: Limits = Limits {
    ring_changes: 8,
    ring_bytes: usize::MAX,
    snapshot_alerts_max: 1_000,
    resume_changes_max: 14,
    slice_frames: 3,
    slice_bytes: usize::MAX,
    read_changes: 4,
    early_changes: 5,
};

#[derive(Debug, Clone)]
pub enum Change {
    Raise { device: u8, customer: u8, severity: usize },
    Touch { pick: usize, transition: usize, quiet: bool },
}

#[derive(Debug, Clone)]
pub enum Hint {
    Sent,
    Lost,
    OnlyWatermark,
    /// Arrives behind the next one.
    Late,
}

#[derive(Debug, Clone)]
pub enum Op {
    Commit(Vec<Change>, Hint),
    Reconcile,
    Pass(u64),
    LogRead { fails: bool },
    Replay { fails: bool },
    Subscribe { client: u8, since: Option<i64>, other_epoch: bool, view: u8 },
    Resume { client: u8 },
    Pull(u8),
    Leave(u8),
    RegistryRestart,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..4u8, 0..2u8, 0..5usize).prop_map(|(device, customer, severity)| Change::Raise {
            device,
            customer,
            severity
        }),
        (any::<usize>(), 0..5usize, any::<bool>()).prop_map(|(pick, transition, quiet)| Change::Touch {
            pick,
            transition,
            quiet
        }),
    ]
}

pub fn op() -> impl Strategy<Value = Op> {
    let hint = prop_oneof![
        5 => Just(Hint::Sent),
        2 => Just(Hint::Lost),
        1 => Just(Hint::OnlyWatermark),
        2 => Just(Hint::Late),
    ];
    prop_oneof![
        10 => (prop::collection::vec(change(), 1..4), hint).prop_map(|(changes, hint)| Op::Commit(changes, hint)),
        3 => Just(Op::Reconcile),
        1 => (0..40u64).prop_map(Op::Pass),
        6 => prop::bool::weighted(0.1).prop_map(|fails| Op::LogRead { fails }),
        6 => prop::bool::weighted(0.1).prop_map(|fails| Op::Replay { fails }),
        3 => (0..4u8, prop::option::of(-1..40i64), prop::bool::weighted(0.1), 0..4u8)
            .prop_map(|(client, since, other_epoch, view)| Op::Subscribe { client, since, other_epoch, view }),
        4 => (0..4u8).prop_map(|client| Op::Resume { client }),
        10 => (0..4u8).prop_map(Op::Pull),
        1 => (0..4u8).prop_map(Op::Leave),
        1 => Just(Op::RegistryRestart),
    ]
}

pub fn view(kind: u8) -> View {
    let (scope, filter) = match kind {
        0 => (Scope::All, Filter::default()),
        1 => (Scope::Customer(customer("c1")), Filter::default()),
        2 => (Scope::All, Filter { min_severity: Some(Severity::High), ..Filter::default() }),
        _ => (
            Scope::Customer(customer("c0")),
            Filter { customer_id: Some(customer("c1")), ..Filter::default() },
        ),
    };
    View { scope, filter }
}

pub struct Client {
    pub view: View,
    pub serial: u64,
    /// Everything up to here has been seen, or stood in for by a snapshot.
    pub seen: Offset,
    pub asked_since: bool,
    pub outstanding: bool,
    pub joined: bool,
    pub passed: Passed,
}

pub struct World {
    pub registry: Registry,
    pub history: History,
    pub clients: HashMap<SessionId, Client>,
    /// Where a client stopped that was closed or left.
    pub stopped: HashMap<SessionId, (Offset, View)>,
    pub log_read: Option<LogRead>,
    pub replay: Option<ReplayRead>,
    pub late: Option<Vec<LoggedChange>>,
    pub now: Instant,
    pub serial: u64,
}

pub fn id(client: u8) -> SessionId {
    SessionId::from_u128(u128::from(client) + 1)
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            registry: Registry::new(LIMITS, "epoch".into()),
            history: History::default(),
            clients: HashMap::new(),
            stopped: HashMap::new(),
            log_read: None,
            replay: None,
            late: None,
            now: Instant::now(),
            serial: 0,
        };
        world.settle();
        world
    }

    pub fn settle(&mut self) {
        self.registry.observe(self.history.last(), self.now);
        let effects = self.registry.take_effects();
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::ReadLog(read) => {
                    assert!(self.log_read.replace(read).is_none(), "two reads of the log at a time");
                }
                Effect::ReadReplay(read) => {
                    assert!(self.replay.replace(read).is_none(), "two replays at a time");
                }
                Effect::Tell(session, message) => self.told(session, message),
            }
        }
    }

    fn told(&mut self, session: SessionId, message: ToSession) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        match message {
            ToSession::Joined { .. } => {
                assert!(!std::mem::replace(&mut client.joined, true), "greeted twice")
            }
            ToSession::Snapshot { subscription, snapshot } if subscription == client.serial => {
                assert!(!client.outstanding, "two hand-overs");
                let Snapshot { gap, alerts, offset, truncated } = snapshot;
                assert_eq!(gap.is_some(), client.asked_since, "a gap is said where a resume was asked for");
                let shown = |alert: &&watchpost::domain::alert::Alert| client.view.shows(&**alert);
                let open = self.history.open_at(offset);
                let expected: Vec<_> = open.iter().filter(shown).collect();
                assert_eq!(alerts.iter().map(|alert| &**alert).collect::<Vec<_>>(), expected);
                assert!(!truncated);
                client.seen = offset;
                client.outstanding = true;
            }
            ToSession::Due { subscription, frames, cursor } if subscription == client.serial => {
                assert!(!client.outstanding, "two hand-overs");
                assert!(frames.len() <= LIMITS.slice_frames.max(LIMITS.read_changes));
                let due: Vec<Offset> = frames.iter().map(|frame| frame.offset).collect();
                assert_eq!(due, expected(&self.history, &client.view, client.seen, cursor));
                client.seen = cursor;
                client.outstanding = true;
            }
            ToSession::Close(farewell) => {
                assert_eq!(farewell, Farewell::LAGGED);
                self.stop(session);
            }
            _ => {}
        }
    }

    fn stop(&mut self, session: SessionId) {
        if let Some(client) = self.clients.remove(&session) {
            let served = if client.outstanding { client.seen } else { client.seen.max(client.passed.get()) };
            self.stopped.insert(session, (served, client.view));
        }
    }

    pub fn subscribe(&mut self, session: SessionId, since: Option<Since>, view: View) {
        self.registry.leave(session);
        self.serial += 1;
        let passed = Passed::default();
        let client = Client {
            view: view.clone(),
            serial: self.serial,
            seen: since.as_ref().map_or(0, |since| since.offset),
            asked_since: since.is_some(),
            outstanding: false,
            joined: false,
            passed: passed.clone(),
        };
        self.clients.insert(session, client);
        self.registry.enter(session, view.scope);
        let subscription = Subscription { serial: self.serial, filter: view.filter, since, passed };
        self.registry.subscribe(session, subscription);
    }

    pub fn pull(&mut self, session: SessionId) {
        if let Some(client) = self.clients.get_mut(&session)
            && std::mem::take(&mut client.outstanding)
        {
            let serial = client.serial;
            self.settle();
            let wanted = self.registry.wants_pulls();
            self.registry.pull(session, serial);
            let effects = self.registry.take_effects();
            assert!(
                wanted || effects.is_empty(),
                "it waits for what nobody wakes the registry for: {effects:?}"
            );
            self.carry_out(effects);
        }
    }

    pub fn end_log_read(&mut self, fails: bool) {
        let Some(read) = self.log_read.take() else { return };
        let failure = ReadFailure::Unavailable;
        match read {
            LogRead::CatchUp { after, until, limit } => {
                let changes = self.history.after(after, until, limit);
                self.registry.caught_up(if fails { Err(failure) } else { Ok(changes) });
            }
            LogRead::Load { .. } | LogRead::Refill { .. } => {
                let last_offset = self.history.last();
                let alerts = self.history.open_at(last_offset);
                let snapshot = OpenSnapshot { alerts, truncated: false, last_offset };
                self.registry.open_read(read, if fails { Err(failure) } else { Ok(snapshot) });
            }
        }
    }

    fn end_replay(&mut self, fails: bool) {
        let Some(read) = self.replay.take() else { return };
        let changes = self.history.after(read.after, read.until, read.limit);
        self.registry.replayed(read, if fails { Err(ReadFailure::Unavailable) } else { Ok(changes) });
        // A failed replay is a gap, although the client asked for a place that could be had.
    }

    fn commit(&mut self, changes: &[Change], hint: &Hint) {
        let mut logged = Vec::new();
        for change in changes {
            logged.push(match *change {
                Change::Raise { device, customer, severity } => {
                    let (device, customer) = (format!("w{device}"), format!("c{customer}"));
                    self.history.raise(&device, &customer, Severity::ALL[severity])
                }
                Change::Touch { pick, transition, quiet } => {
                    self.history.touch(pick, Transition::ALL[transition], quiet)
                }
            });
        }
        let (committed, now) = (self.history.last(), self.now);
        match hint {
            Hint::Sent => self.registry.publish(logged, committed, now),
            Hint::Lost => {}
            Hint::OnlyWatermark => self.registry.publish(Vec::new(), committed, now),
            Hint::Late => {
                if let Some(earlier) = self.late.replace(logged) {
                    self.registry.publish(earlier, committed, now);
                }
            }
        }
    }

    pub fn run(&mut self, op: &Op) {
        match op {
            Op::Commit(changes, hint) => self.commit(changes, hint),
            Op::Reconcile => self.registry.reconcile(self.history.last()),
            Op::Pass(ms) => self.now += Duration::from_millis(*ms),
            Op::LogRead { fails } => self.end_log_read(*fails),
            Op::Replay { fails } => self.end_replay(*fails),
            Op::Pull(client) => self.pull(id(*client)),
            Op::Leave(client) => {
                self.registry.leave(id(*client));
                self.stop(id(*client));
            }
            Op::Subscribe { client, since, other_epoch, view: kind } => {
                let epoch = if *other_epoch { "other" } else { "epoch" }.to_string();
                let since = since.map(|offset| Since { epoch, offset });
                self.subscribe(id(*client), since, view(*kind));
            }
            Op::Resume { client } => {
                if let Some((offset, view)) = self.stopped.remove(&id(*client)) {
                    let since = Since { epoch: "epoch".into(), offset };
                    self.subscribe(id(*client), Some(since), view);
                }
            }
            Op::RegistryRestart => {
                self.registry = Registry::new(LIMITS, "epoch".into());
                (self.log_read, self.replay) = (None, None);
                let sessions: Vec<SessionId> = self.clients.keys().copied().collect();
                sessions.into_iter().for_each(|session| self.stop(session));
            }
        }
        self.settle();
    }

    /// Nothing fails any more and everybody reads.
    pub fn finish(&mut self) {
        for _ in 0..400 {
            self.registry.reconcile(self.history.last());
            self.settle();
            self.end_log_read(false);
            self.settle();
            self.end_replay(false);
            self.settle();
            let sessions: Vec<SessionId> = self.clients.keys().copied().collect();
            for session in sessions {
                self.pull(session);
                self.settle();
            }
        }
        let last = self.history.last();
        assert_eq!(self.registry.last(), last, "the registry has caught up");
        for client in self.clients.values() {
            assert!(client.joined && !client.outstanding);
            assert_eq!(client.seen.max(client.passed.get()), last);
            assert_eq!(expected(&self.history, &client.view, client.seen, last), Vec::<Offset>::new());
        }
    }
}

fn expected(history: &History, view: &View, after: Offset, until: Offset) -> Vec<Offset> {
    let changes = history.log.iter().filter(|change| change.offset > after && change.offset <= until);
    let passing = changes.filter(|change| {
        let alert = &change.alert;
        !change.quiet && view.shows(&**alert)
    });
    passing.map(|change| change.offset).collect()
}
