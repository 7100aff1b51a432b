//! The sessions: who sees what, and how far each has got.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::delivery::{Farewell, Gap, Passed, PendingUpdate, SessionId, Snapshot, Subscription, ToSession};
use super::filter::View;
use super::frames::Since;
use super::interest::Interest;
use super::live_log::{LiveLog, ReadFailure};
use super::messages::VitalsUpdate;
use super::pending::{Pending, PendingList};
use super::registry::Limits;
use super::ring::{Frame, LeftRing, Slice};
use crate::domain::alert::LoggedChange;
use crate::domain::ids::Offset;
use crate::domain::owner::Scope;

/// Changes for one session that the ring no longer holds. At most one is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRead {
    pub session: SessionId,
    pub serial: u64,
    pub after: Offset,
    pub until: Offset,
    pub limit: usize,
}

/// Subscriptions of one session that are answered between two calls of [`Audience::take_up`]. An answer
/// may hold thousands of alerts, and a client that asks for one after the other must not cost the
/// others theirs.
pub const SUBSCRIPTIONS_AT_ONCE: u32 = 8;

#[derive(Debug)]
struct Subscribed {
    serial: u64,
    view: View,
    cursor: Offset,
    /// Up to here everything has been written.
    written: Offset,
    passed: Passed,
    /// Nothing is handed over: the next change goes out at once.
    parked: bool,
    /// Has not reached the ring yet; what it misses is read from storage.
    replaying: bool,
    /// Waits for such a read.
    queued: bool,
    /// What is pending has changed since it was told.
    pending_due: bool,
}

#[derive(Debug)]
struct Member {
    scope: Scope,
    greeted: bool,
    /// Came before the log was loaded, or too soon after others. Only the newest is answered.
    waiting: Option<Subscription>,
    /// Subscriptions answered since the last [`Audience::take_up`].
    answered: u32,
    subscribed: Option<Subscribed>,
    /// What its client was told to be pending is not nothing.
    knows_pending: bool,
}

#[derive(Debug)]
pub struct Audience {
    limits: Limits,
    epoch: Arc<str>,
    members: BTreeMap<SessionId, Member>,
    replays: VecDeque<SessionId>,
    replay_under_way: bool,
    /// Those that have subscribed since the last [`Audience::take_up`].
    lately: BTreeSet<SessionId>,
    wanted: Option<ReplayRead>,
    pub(super) interest: Interest,
    pending: PendingList,
    messages: Vec<(SessionId, ToSession)>,
}

impl Audience {
    pub fn new(limits: Limits, epoch: Arc<str>) -> Self {
        Self {
            limits,
            epoch,
            members: BTreeMap::new(),
            replays: VecDeque::new(),
            replay_under_way: false,
            lately: BTreeSet::new(),
            wanted: None,
            interest: Interest::default(),
            pending: PendingList::default(),
            messages: Vec::new(),
        }
    }

    pub fn take_messages(&mut self) -> Vec<(SessionId, ToSession)> {
        std::mem::take(&mut self.messages)
    }

    /// The read to begin now, if any. Its end must be reported.
    pub fn take_read(&mut self) -> Option<ReplayRead> {
        self.wanted.take()
    }

    fn tell(&mut self, session: SessionId, message: ToSession) {
        self.messages.push((session, message));
    }

    fn subscribed(&mut self, session: SessionId) -> Option<&mut Subscribed> {
        self.members.get_mut(&session)?.subscribed.as_mut()
    }

    pub fn enter(&mut self, log: &LiveLog, session: SessionId, scope: Scope) {
        let member = Member {
            scope,
            greeted: false,
            waiting: None,
            answered: 0,
            subscribed: None,
            knows_pending: false,
        };
        self.members.insert(session, member);
        if log.is_loaded() {
            self.greet(log, session);
        }
    }

    fn greet(&mut self, log: &LiveLog, session: SessionId) {
        let Some(member) = self.members.get_mut(&session) else { return };
        if !std::mem::replace(&mut member.greeted, true) {
            let joined = ToSession::Joined { epoch: self.epoch.clone(), offset: log.last() };
            self.tell(session, joined);
        }
    }

    /// The log has been loaded: serves those who waited, and tells who cannot go on.
    pub fn loaded(&mut self, log: &LiveLog) {
        let ids: Vec<SessionId> = self.members.keys().copied().collect();
        for id in ids {
            self.greet(log, id);
            match self.members.get_mut(&id).and_then(|member| member.waiting.take()) {
                Some(subscription) => self.subscribe(log, id, subscription),
                None => self.deliver(log, id),
            }
        }
    }

    /// Answers those who have subscribed more often than is answered at once. Called several times a
    /// second.
    pub fn take_up(&mut self, log: &LiveLog) {
        for session in std::mem::take(&mut self.lately) {
            let Some(member) = self.members.get_mut(&session) else { continue };
            member.answered = 0;
            if log.is_loaded()
                && let Some(subscription) = member.waiting.take()
            {
                self.subscribe(log, session, subscription);
            }
        }
    }

    /// The first answer to a subscription and its cursor come from this one call, so no change
    /// falls between them.
    pub fn subscribe(&mut self, log: &LiveLog, session: SessionId, subscription: Subscription) {
        let Some(member) = self.members.get_mut(&session) else { return };
        if !log.is_loaded() || member.answered >= SUBSCRIPTIONS_AT_ONCE {
            member.subscribed = None;
            member.waiting = Some(subscription);
            return;
        }
        member.waiting = None;
        member.answered += 1;
        self.lately.insert(session);
        let Subscription { serial, filter, since, passed } = subscription;
        self.interest.set(session, filter.vitals_devices());
        let view = View { scope: member.scope.clone(), filter };
        let last = log.last();
        // Any number may stand there: nothing is counted from one that is not in the log.
        let in_log = |since: &&Since| since.epoch == *self.epoch && (0..=last).contains(&since.offset);
        let resumed = since.as_ref().filter(in_log).filter(|since| {
            let behind = usize::try_from(last - since.offset).unwrap_or(usize::MAX);
            log.ring.holds(since.offset) || behind <= self.limits.resume_changes_max
        });
        let cursor = resumed.map_or(last, |since| since.offset);
        let replaying = resumed.is_some();
        if replaying {
            passed.set(cursor);
        }
        let gap = since.as_ref().map(|since| {
            let from = Some(since).filter(in_log).map_or(1, |since| since.offset + 1);
            Gap { from, to: last }
        });
        let written = cursor;
        member.subscribed = Some(Subscribed {
            serial,
            view,
            cursor,
            written,
            passed,
            parked: true,
            replaying,
            queued: false,
            pending_due: false,
        });
        // First: what is shown as taken does not wait for somebody in between.
        self.tell_pending(session, None);
        if replaying {
            return self.deliver(log, session);
        }
        self.send_snapshot(log, session, gap);
    }

    fn send_snapshot(&mut self, log: &LiveLog, session: SessionId, gap: Option<Gap>) {
        let Some(subscribed) = self.subscribed(session) else { return };
        let offset = log.last();
        subscribed.cursor = offset;
        subscribed.parked = false;
        subscribed.replaying = false;
        let alerts = log.open.select(&subscribed.view);
        let snapshot = Snapshot { gap, alerts, offset, truncated: log.open.is_truncated() };
        let message = ToSession::Snapshot { subscription: subscribed.serial, snapshot };
        self.tell(session, message);
    }

    /// What is acknowledged and not stored, as it is now. Each session is told behind all changes so far, and
    /// once however often it has changed meanwhile.
    pub fn pending(&mut self, log: &LiveLog, list: PendingList) {
        if Arc::ptr_eq(&self.pending, &list) {
            return;
        }
        self.pending = list;
        for member in self.members.values_mut() {
            if let Some(subscribed) = &mut member.subscribed {
                subscribed.pending_due = true;
            }
        }
        self.deliver_all(log);
    }

    /// Tells it, if there is something that it does not know; as a hand-over, if there is a `cursor`.
    fn tell_pending(&mut self, session: SessionId, cursor: Option<Offset>) {
        let Some(member) = self.members.get_mut(&session) else { return };
        let Some(subscribed) = &mut member.subscribed else { return };
        let shown = |pending: &&Arc<Pending>| subscribed.view.shows(&pending.alert);
        let pending: Vec<Arc<Pending>> = self.pending.values().filter(shown).cloned().collect();
        subscribed.pending_due = false;
        if !std::mem::replace(&mut member.knows_pending, !pending.is_empty()) && pending.is_empty() {
            return;
        }
        subscribed.parked &= cursor.is_none();
        let update = PendingUpdate { subscription: subscribed.serial, pending, cursor };
        self.tell(session, ToSession::Pending(update));
    }

    /// The session has written everything that it was given.
    pub fn pull(&mut self, log: &LiveLog, session: SessionId, serial: u64) {
        if let Some(subscribed) = self.subscribed(session)
            && subscribed.serial == serial
        {
            subscribed.parked = true;
            subscribed.written = subscribed.cursor;
            self.deliver(log, session);
        }
    }

    /// True if there is more for a session as soon as it has written what it has.
    pub fn wants_pulls(&self, last: Offset) -> bool {
        let mut handed_over = self.members.values().filter_map(|member| member.subscribed.as_ref());
        handed_over
            .any(|subscribed| !subscribed.parked && (subscribed.cursor < last || subscribed.pending_due))
    }

    /// How many changes behind `last` the session is that has written the fewest.
    pub fn slowest_behind(&self, last: Offset) -> Offset {
        let written = self.members.values().filter_map(|member| Some(member.subscribed.as_ref()?.written));
        written.min().map_or(0, |written| (last - written).max(0))
    }

    pub fn leave(&mut self, session: SessionId) {
        self.members.remove(&session);
        self.interest.set(session, std::iter::empty());
    }

    /// The log has grown.
    pub fn deliver_all(&mut self, log: &LiveLog) {
        let parked = |member: &Member| member.subscribed.as_ref().is_some_and(|subscribed| subscribed.parked);
        let ids: Vec<SessionId> =
            self.members.iter().filter(|(_, member)| parked(member)).map(|(id, _)| *id).collect();
        for id in ids {
            self.deliver(log, id);
        }
    }

    fn deliver(&mut self, log: &LiveLog, session: SessionId) {
        let Limits { slice_frames, slice_bytes, resume_changes_max, .. } = self.limits;
        let Some(subscribed) = self.subscribed(session) else { return };
        if !subscribed.parked || !log.is_loaded() {
            return;
        }
        match log.ring.from(subscribed.cursor, &subscribed.view, slice_frames, slice_bytes) {
            Ok(slice) => {
                subscribed.replaying = false;
                self.hand_over(session, slice);
            }
            Err(LeftRing) => {
                let behind = usize::try_from(log.last() - subscribed.cursor).unwrap_or(usize::MAX);
                if !subscribed.replaying || behind > resume_changes_max {
                    self.tell(session, ToSession::Close(Farewell::LAGGED));
                    self.leave(session);
                } else if !std::mem::replace(&mut subscribed.queued, true) {
                    self.replays.push_back(session);
                    self.replay_next(log);
                }
            }
        }
    }

    fn hand_over(&mut self, session: SessionId, Slice { frames, next_cursor: cursor }: Slice) {
        let Some(subscribed) = self.subscribed(session) else { return };
        subscribed.cursor = cursor;
        if frames.is_empty() {
            subscribed.written = cursor;
            subscribed.passed.set(cursor);
            if subscribed.pending_due {
                self.tell_pending(session, Some(cursor));
            }
            return;
        }
        subscribed.parked = false;
        let due = ToSession::Due { subscription: subscribed.serial, frames, cursor };
        self.tell(session, due);
    }

    fn replay_next(&mut self, log: &LiveLog) {
        let limit = self.limits.slice_frames;
        while !self.replay_under_way
            && let Some(session) = self.replays.pop_front()
        {
            if let Some(subscribed) = self.subscribed(session).filter(|subscribed| subscribed.queued) {
                let (serial, after) = (subscribed.serial, subscribed.cursor);
                self.wanted = Some(ReplayRead { session, serial, after, until: log.last(), limit });
                self.replay_under_way = true;
            }
        }
    }

    /// The end of a [`ReplayRead`].
    pub fn replayed(
        &mut self,
        log: &LiveLog,
        read: ReplayRead,
        result: Result<Vec<LoggedChange>, ReadFailure>,
    ) {
        self.replay_under_way = false;
        if let Some(subscribed) = self.subscribed(read.session)
            && subscribed.serial == read.serial
        {
            subscribed.queued = false;
            let changes = result.unwrap_or_default();
            let gapless = !changes.is_empty()
                && changes.iter().zip(read.after + 1..).all(|(change, offset)| change.offset == offset);
            if gapless {
                let next_cursor = read.after + changes.len() as Offset;
                let frames = changes.iter().map(|change| Arc::new(Frame::new(change)));
                let frames = frames.filter(|frame| frame.passes(&subscribed.view)).collect();
                self.hand_over(read.session, Slice { frames, next_cursor });
                self.deliver(log, read.session);
            } else {
                // Not to be had one by one: say so, and show what is open.
                let gap = Gap { from: read.after + 1, to: log.last() };
                self.send_snapshot(log, read.session, Some(gap));
            }
        }
        self.replay_next(log);
    }

    pub fn vitals(&mut self, update: VitalsUpdate) {
        let update = Arc::new(update);
        for session in self.interest.sessions(&update.device_sn) {
            let subscribed = self.members.get(session).and_then(|member| member.subscribed.as_ref());
            if subscribed.is_some_and(|subscribed| subscribed.view.shows_vitals(&update.customer_id)) {
                self.messages.push((*session, ToSession::Vitals(update.clone())));
            }
        }
    }
}
