//! The registry and the sessions between it and the sockets: what `session::registry_actor` and
//! `session::actor` do round their cores.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use diesel::Connection;
use watchpost::domain::alert::LoggedChange;
use watchpost::domain::ids::Offset;
use watchpost::domain::owner::Scope;
use watchpost::session::audience::ReplayRead;
use watchpost::session::client::Client;
use watchpost::session::delivery::{SessionId, Snapshot, Subscription, ToSession};
use watchpost::session::live_log::{LogRead, ReadFailure};
use watchpost::session::messages::{Publish, Watermark};
use watchpost::session::registry::{Effect, Limits, Registry};
use watchpost::storage::alert_log::{self, OpenSnapshot};

use super::chance::trace;
use super::screens::Frame;
use super::world::{Queue, World, pop};

pub const EPOCH: &str = "epoch";

/// Small, so that screens fall out of the ring and reads come in slices.
const LIMITS: Limits = Limits {
    ring_changes: 8,
    ring_bytes: usize::MAX,
    snapshot_alerts_max: 1_000,
    resume_changes_max: 14,
    slice_frames: 3,
    slice_bytes: usize::MAX,
    read_changes: 4,
    early_changes: 5,
};

pub enum FromSession {
    Join,
    Enter(Scope),
    Subscribe(Subscription),
    Pull(u64),
    Leave,
}

/// What a session has to write, in order.
enum Outgoing {
    Frame(Frame),
    /// A hand-over ends here.
    Written {
        serial: u64,
        cursor: Offset,
    },
}

pub struct Session {
    pub id: SessionId,
    pub client: Client,
    from_registry: VecDeque<ToSession>,
    outgoing: VecDeque<Outgoing>,
    /// The registry has dropped its end: after what is in the channel, the session closes.
    channel_ended: bool,
    closing: bool,
}

impl Session {
    pub fn new(id: SessionId) -> Self {
        Self {
            id,
            client: Client::default(),
            from_registry: VecDeque::new(),
            outgoing: VecDeque::new(),
            channel_ended: false,
            closing: false,
        }
    }

    pub fn can_hear(&self) -> bool {
        !self.from_registry.is_empty() || self.channel_ended
    }

    pub fn can_write(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

type Read<T> = Option<Result<T, ReadFailure>>;

enum LogResult {
    Open(Result<OpenSnapshot, ReadFailure>),
    Changes(Result<Vec<LoggedChange>, ReadFailure>),
}

pub struct RegistrySide {
    pub core: Registry,
    pub hints: Queue<Publish>,
    watermark: Watermark,
    mailboxes: BTreeMap<SessionId, VecDeque<FromSession>>,
    joined: BTreeSet<SessionId>,
    /// Asked for, and what it has read.
    log_read: Option<(LogRead, Option<LogResult>)>,
    replay: Option<(ReplayRead, Read<Vec<LoggedChange>>)>,
    ids: u128,
}

impl RegistrySide {
    pub fn new(hints: Queue<Publish>, watermark: Watermark) -> Self {
        Self {
            core: Registry::new(LIMITS, EPOCH.into()),
            hints,
            watermark,
            mailboxes: BTreeMap::new(),
            joined: BTreeSet::new(),
            log_read: None,
            replay: None,
            ids: 0,
        }
    }

    pub fn new_id(&mut self) -> SessionId {
        self.ids += 1;
        SessionId::from_u128(self.ids)
    }

    pub fn mailbox(&mut self, id: SessionId) -> &mut VecDeque<FromSession> {
        self.mailboxes.entry(id).or_default()
    }

    pub fn with_mail(&self) -> Vec<SessionId> {
        self.mailboxes.iter().filter(|(_, mail)| !mail.is_empty()).map(|(id, _)| *id).collect()
    }

    /// A read that has not looked at the file yet; one that has, and was not heard of.
    pub fn log_read_stage(&self) -> Option<bool> {
        self.log_read.as_ref().map(|(_, read)| read.is_some())
    }

    pub fn replay_stage(&self) -> Option<bool> {
        self.replay.as_ref().map(|(_, read)| read.is_some())
    }
}

impl World {
    fn registry_step(&mut self, step: impl FnOnce(&mut Registry, Offset)) {
        let registry = &mut self.server.registry;
        let committed = registry.watermark.get();
        step(&mut registry.core, committed);
        registry.core.observe(committed, self.now);
        self.collect_registry();
    }

    pub fn collect_registry(&mut self) {
        let registry = &mut self.server.registry;
        for effect in registry.core.take_effects() {
            match effect {
                Effect::ReadLog(read) => {
                    trace::note(format!("  the registry wants {read:?}"));
                    assert!(registry.log_read.replace((read, None)).is_none(), "two reads of the log");
                }
                Effect::ReadReplay(read) => {
                    trace::note(format!("  the registry wants a replay from {}", read.after));
                    assert!(registry.replay.replace((read, None)).is_none(), "two replays at a time");
                }
                Effect::Tell(id, message) => {
                    let here = self.screens.iter_mut().filter_map(|screen| screen.session.as_mut());
                    let session = here.into_iter().find(|session| session.id == id);
                    let last = matches!(message, ToSession::Close(_));
                    let taken = match session.filter(|_| registry.joined.contains(&id)) {
                        Some(session) => {
                            session.from_registry.push_back(message);
                            session.channel_ended |= last;
                            true
                        }
                        None => false,
                    };
                    if !taken || last {
                        registry.joined.remove(&id);
                        registry.core.leave(id);
                    }
                }
            }
        }
    }

    pub fn deliver_hint(&mut self) {
        let Some(Publish { changes, in_flight, .. }) = pop(&self.server.registry.hints) else { return };
        drop(in_flight);
        let offsets: Vec<Offset> = changes.iter().map(|change| change.offset).collect();
        trace::note(format!("  the registry is told {offsets:?}"));
        let now = self.now;
        self.registry_step(|core, committed| core.publish(changes, committed, now));
    }

    pub fn lose_hint(&mut self) {
        pop(&self.server.registry.hints);
    }

    pub fn look_at_the_watermark(&mut self) {
        self.registry_step(|core, committed| core.reconcile(committed));
    }

    pub fn deliver_from_session(&mut self, id: SessionId) {
        let Some(message) = self.server.registry.mailbox(id).pop_front() else { return };
        let joined = self.server.registry.joined.contains(&id);
        match message {
            FromSession::Join => {
                self.server.registry.joined.insert(id);
            }
            FromSession::Enter(scope) if joined => self.registry_step(|core, _| core.enter(id, scope)),
            FromSession::Enter(_) => {}
            FromSession::Subscribe(wanted) => self.registry_step(|core, _| core.subscribe(id, wanted)),
            FromSession::Pull(serial) => self.registry_step(|core, _| core.pull(id, serial)),
            FromSession::Leave => {
                self.server.registry.joined.remove(&id);
                self.registry_step(|core, _| core.leave(id));
            }
        }
    }

    /// Looks at the file as it is now.
    pub fn log_reads(&mut self, fails: bool) {
        let Some((read, result)) = &mut self.server.registry.log_read else { return };
        let failure = ReadFailure::Unavailable;
        *result = Some(match *read {
            LogRead::Load { limit } | LogRead::Refill { limit } => {
                let found = self.conn.transaction(|conn| alert_log::snapshot(conn, limit));
                LogResult::Open(if fails { Err(failure) } else { Ok(found.expect("a readable file")) })
            }
            LogRead::CatchUp { after, until, limit } => {
                let found = alert_log::changes_after(&mut self.conn, after, until, limit);
                LogResult::Changes(if fails { Err(failure) } else { Ok(found.expect("a readable file")) })
            }
        });
    }

    pub fn log_read_arrives(&mut self) {
        match self.server.registry.log_read.take() {
            Some((read, Some(LogResult::Open(found)))) => {
                self.registry_step(|core, _| core.open_read(read, found));
            }
            Some((_, Some(LogResult::Changes(found)))) => self.registry_step(|core, _| core.caught_up(found)),
            _ => {}
        }
    }

    pub fn replay_reads(&mut self, fails: bool) {
        let Some((read, result)) = &mut self.server.registry.replay else { return };
        let found = alert_log::changes_after(&mut self.conn, read.after, read.until, read.limit);
        let found = found.expect("a readable file");
        *result = Some(if fails { Err(ReadFailure::Unavailable) } else { Ok(found) });
    }

    pub fn replay_arrives(&mut self) {
        if let Some((read, Some(found))) = self.server.registry.replay.take() {
            self.registry_step(|core, _| core.replayed(read, found));
        }
    }

    /// The channels end; the sessions find it out.
    pub fn registry_dies(&mut self, guarded: bool) {
        let registry = &mut self.server.registry;
        if !guarded {
            registry.mailboxes.clear();
            registry.hints.lock().expect("no panic").clear();
        }
        for screen in &mut self.screens {
            if let Some(session) = &mut screen.session
                // One that has not joined yet has its end of the channel still in the mailbox.
                && (registry.joined.contains(&session.id) || !guarded)
            {
                session.channel_ended = true;
            }
        }
        registry.joined.clear();
        registry.core = Registry::new(LIMITS, EPOCH.into());
        (registry.log_read, registry.replay) = (None, None);
        self.collect_registry();
    }

    pub fn session_hears(&mut self, index: usize) {
        let Some(session) = &mut self.screens[index].session else { return };
        match session.from_registry.pop_front() {
            None => session.closing = true,
            Some(ToSession::Close(farewell)) => {
                trace::note(format!("  screen {index} is told {}", farewell.text));
                session.closing = true;
            }
            Some(ToSession::Joined { offset, .. }) => session.client.greeted(offset),
            Some(ToSession::Snapshot { subscription: serial, snapshot }) => {
                let Snapshot { gap, alerts, offset, truncated } = snapshot;
                assert!(!truncated, "all open alerts have room");
                let alerts = alerts.iter().map(|alert| (**alert).clone()).collect();
                let frame = Frame::Snapshot { gap: gap.is_some(), offset, alerts };
                session.outgoing.push_back(Outgoing::Frame(frame));
                session.outgoing.push_back(Outgoing::Written { serial, cursor: offset });
            }
            Some(ToSession::Due { subscription: serial, frames, cursor }) => {
                for frame in frames {
                    let change = Frame::Change { offset: frame.offset, text: frame.text.to_string() };
                    session.outgoing.push_back(Outgoing::Frame(change));
                }
                session.outgoing.push_back(Outgoing::Written { serial, cursor });
            }
            Some(ToSession::Vitals(_) | ToSession::Pending(_)) => {}
        }
        if session.closing {
            self.disconnect(index);
        }
    }

    /// One frame onto the socket, or the report that a hand-over is there.
    pub fn session_writes(&mut self, index: usize) {
        let screen = &mut self.screens[index];
        let Some(session) = &mut screen.session else { return };
        match session.outgoing.pop_front() {
            Some(Outgoing::Frame(frame)) => screen.wire.push_back(frame),
            Some(Outgoing::Written { serial, cursor }) => {
                session.client.written(serial, cursor);
                let id = session.id;
                self.server.registry.mailbox(id).push_back(FromSession::Pull(serial));
            }
            None => {}
        }
    }

    pub fn ping(&mut self, index: usize) {
        if let Some(session) = &mut self.screens[index].session {
            let pong = Frame::Pong(session.client.served());
            session.outgoing.push_back(Outgoing::Frame(pong));
        }
    }
}
