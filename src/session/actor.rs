//! One actor per client, whichever way its frames go: `socket` and `sse` are the doors.
//!
//! It is an ordinary actor beside the response, not inside its body: when a client stops reading,
//! the HTTP dispatcher stops polling the body, and an actor that lives there would stop with its
//! mailbox and its heartbeat. Here only the writer task waits, and only for so long.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, ContextFutureSpawner, Handler, Message,
    StreamHandler, WrapFuture,
};
use futures_util::{Sink, Stream, stream};
use tokio::sync::{mpsc, oneshot};

use super::client::Client;
use super::delivery::{
    Enter, Farewell, Join, Leave, Pull, RegistryLinks, SessionId, Subscribe, Subscription, ToSession,
};
use super::deps::SessionDeps;
use super::frames::{ClientFrame, ServerFrame};
use super::inbound::{Opening, Received, SignedIn};
use super::messages::AlertShown;
use super::outbound::{Goodbye, OUTGOING_MAX, Outgoing, SocketFrame, Writer, Written};
use super::seen;
use super::slots::SessionSlot;
use crate::domain::owner::{Caller, Scope};
use crate::storage::database::StorageError;
use crate::supervision::link::Link;
use crate::telemetry::KindLabels;

/// What was shown, and vitals, leave at most so often.
const TICK: Duration = Duration::from_secs(1);
/// Pings without an answer.
const SILENT_PINGS_MAX: u32 = 2;

/// One client.
///
/// Receives: frames from the socket, `ToSession` from the registry, reports of its writer task.
/// Sends: `Join`, `Enter`, `Subscribe`, `Pull`, `Leave` to the registry, `AlertShown` to the writer
/// of the database. Bound: one hand-over outstanding, [`OUTGOING_MAX`] replies, newest vitals per
/// device. Not supervised: its client comes back and resumes by offset.
struct SessionActor {
    session: SessionId,
    session_name: String,
    deps: Arc<SessionDeps>,
    slot: Arc<SessionSlot>,
    signed_in: Option<SignedIn>,
    /// Taken when it begins.
    opening: Option<Opening>,
    answers_pings: bool,
    wants_stats: bool,
    client: Client,
    unanswered_pings: u32,
    outgoing: mpsc::Sender<Outgoing>,
    /// Overtakes what is being written. Taken when the end has begun.
    close_now: Option<oneshot::Sender<Farewell>>,
}

/// Begins a session between what comes from a client and what goes to it. The slot is held until the
/// sink has been written to for the last time. Without `signed_in` the first frame must be `auth`.
pub(super) fn start(
    deps: &Arc<SessionDeps>,
    slot: Arc<SessionSlot>,
    signed_in: Option<SignedIn>,
    opening: Option<Opening>,
    received: impl Stream<Item = Received> + 'static,
    sink: impl Sink<SocketFrame> + Unpin + 'static,
    goodbye: Goodbye,
) -> Result<(), getrandom::Error> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)?;
    let session = uuid::Builder::from_random_bytes(random).into_uuid();
    let (outgoing, to_write) = mpsc::channel(OUTGOING_MAX);
    let (close_now, closing) = oneshot::channel();
    let actor = SessionActor {
        session,
        session_name: session.to_string(),
        deps: deps.clone(),
        signed_in,
        slot: slot.clone(),
        answers_pings: opening.is_none(),
        opening,
        wants_stats: false,
        client: Client::default(),
        unanswered_pings: 0,
        outgoing,
        close_now: Some(close_now),
    };
    let addr = SessionActor::create(move |ctx| {
        ctx.add_stream(received);
        actor
    });
    let stall = Duration::from_millis(deps.config.write_stall_ms);
    let writer = Writer { sink, goodbye, stall, metrics: deps.metrics.clone() };
    actix_web::rt::spawn(async move {
        let _slot = slot;
        let end = TellEnd(addr);
        writer.run(to_write, closing, |written| end.0.do_send(Report(written))).await;
    });
    Ok(())
}

#[derive(Message)]
#[rtype(result = "()")]
struct Report(Written);

/// The writer task has ended, and the socket with it.
#[derive(Message)]
#[rtype(result = "()")]
struct Ended;

/// Tells it however the task ends.
struct TellEnd(Addr<SessionActor>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        self.0.do_send(Ended);
    }
}

impl SessionActor {
    fn is_closing(&self) -> bool {
        self.close_now.is_none()
    }

    /// Ends the session; what waits to be written is dropped. The client finds it by its offset.
    fn close(&mut self, farewell: Farewell) {
        if let Some(close_now) = self.close_now.take() {
            // An error says that the writer task has ended already.
            let _ = close_now.send(farewell);
        }
    }

    fn write(&mut self, item: Outgoing) {
        if !self.is_closing() && self.outgoing.try_send(item).is_err() {
            self.close(Farewell::STALLED);
        }
    }

    fn error(&mut self, code: &str, message: &str) {
        self.write(Outgoing::Text(ServerFrame::Error { code, message }.text()));
    }

    fn bad_frame(&mut self, message: &str) {
        self.error("bad_frame", message);
        if self.client.bad_frame() {
            self.write(Outgoing::Close(Farewell::BAD_FRAMES));
        }
    }

    /// To the registry; where it is not running, the client shall come back.
    fn send_registry<M: Send + 'static>(&mut self, link: impl Fn(&RegistryLinks) -> &Link<M>, message: M) {
        if link(&self.deps.registry).send(message).is_err() {
            self.close(Farewell::RESTART);
        }
    }

    fn on_text(&mut self, text: &str, ctx: &mut Context<Self>) {
        self.deps.metrics.received_bytes.inc_by(text.len() as u64);
        let frame = match ClientFrame::parse(text) {
            Ok(frame) => frame,
            Err(message) => return self.bad_frame(&message),
        };
        match (frame, &self.signed_in) {
            (ClientFrame::Auth { .. }, Some(_)) => self.bad_frame("this session is signed in already"),
            (ClientFrame::Auth { token }, None) => self.authenticate(token, ctx),
            (_, None) => self.error("unauthenticated", "send an auth frame first"),
            (ClientFrame::Ping, Some(_)) => {
                let pong = ServerFrame::Pong { offset: self.client.sent_up_to() };
                self.write(Outgoing::Text(pong.text()));
            }
            (ClientFrame::Shown { offset }, Some(_)) => {
                if !self.client.show(offset, self.deps.clock.now()) {
                    self.bad_frame("shown: nothing with that offset has been sent");
                }
            }
            (ClientFrame::Subscribe { id, filter, since, stats }, Some(_)) => {
                self.subscribe(&id, Opening { filter, since, stats });
            }
        }
    }

    fn subscribe(&mut self, id: &str, Opening { filter, since, stats }: Opening) {
        if let Err(err) = filter.check(self.deps.config.vitals_devices_max) {
            return self.error("bad_filter", &err.to_string());
        }
        let is_admin = self.signed_in.as_ref().is_some_and(|signed_in| signed_in.caller.scope == Scope::All);
        if stats && !is_admin {
            self.error("forbidden", "stats are for an administrator's token");
        }
        self.wants_stats = stats && is_admin;
        let resumes_from = since.as_ref().map(|since| since.offset);
        let (serial, passed) = self.client.subscribe(id, resumes_from);
        let subscription = Subscription { serial, filter, since, passed };
        self.send_registry(|links| &links.subscribe, Subscribe { session: self.session, subscription });
    }

    /// Holds back what the client has sent behind its token, so that it need not wait for `hello`.
    fn authenticate(&mut self, token: String, ctx: &mut Context<Self>) {
        let limit = Duration::from_millis(self.deps.config.auth_timeout_ms);
        let revocations = self.deps.revocations.count();
        let known = tokio::time::timeout(limit, (self.deps.authenticate)(token));
        async move { known.await.unwrap_or(Err(StorageError::Busy)) }
            .into_actor(self)
            .map(move |known, actor, _| actor.authenticated(known, revocations))
            .wait(ctx);
    }

    fn authenticated(&mut self, known: Result<Option<Caller>, StorageError>, revocations: u64) {
        match known {
            Ok(Some(_)) if self.slot.sign_in().is_err() => self.close(Farewell::FULL),
            Ok(Some(caller)) => {
                self.signed_in = Some(SignedIn { caller, revocations });
                self.enter();
            }
            Ok(None) => {
                self.error("unauthenticated", "the token is not valid");
                self.write(Outgoing::Close(Farewell::UNAUTHENTICATED));
            }
            // No fault of the client's: it shall not take its token for a bad one.
            Err(err) => {
                tracing::warn!("a token could not be checked: {err}");
                self.close(Farewell::UNAVAILABLE);
            }
        }
    }

    /// Ends a session whose token has ended.
    fn check_token(&mut self) {
        let now = self.deps.clock.now();
        let stands = self.signed_in.as_mut().map(|signed_in| signed_in.check(&self.deps.revocations, now));
        if let Some(Err(farewell)) = stands {
            self.close(farewell);
        }
    }

    fn enter(&mut self) {
        if let Some(signed_in) = &self.signed_in {
            let (session, scope) = (self.session, signed_in.caller.scope.clone());
            self.send_registry(|links| &links.enter, Enter { session, scope });
        }
        if let Some(opening) = self.opening.take() {
            self.subscribe("", opening);
        }
    }

    fn tick(&mut self) {
        crate::fail_point!("session::timer");
        self.check_token();
        if let Some(alerts) = self.client.take_shown() {
            let viewer = self.signed_in.as_ref().map(|signed_in| signed_in.caller.name.clone());
            let shown = AlertShown { viewer: viewer.unwrap_or_default(), alerts };
            if let Err(err) = self.deps.shown.send(shown) {
                tracing::debug!("what a viewer was shown is not recorded: {err}");
            }
        }
        if let Some(vitals) = self.client.take_vitals() {
            self.write(Outgoing::Vitals(vitals));
        }
        if self.wants_stats && !self.is_closing() {
            let pipeline = (self.deps.stats)();
            let stats = ServerFrame::Stats { at: self.deps.clock.now(), pipeline: &pipeline };
            self.write(Outgoing::Text(stats.text()));
        }
    }

    fn heartbeat(&mut self) {
        if self.unanswered_pings >= SILENT_PINGS_MAX {
            return self.close(Farewell::SILENT);
        }
        if self.answers_pings {
            self.unanswered_pings += 1;
        }
        self.write(Outgoing::Ping(self.client.sent_up_to()));
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (to, from_registry) = mpsc::unbounded_channel();
        ctx.add_stream(stream::unfold(from_registry, |mut from_registry| async {
            let message: Option<ToSession> = from_registry.recv().await;
            message.map(|message| (message, from_registry))
        }));
        self.send_registry(|links| &links.join, Join { session: self.session, to });
        self.enter();
        ctx.run_interval(TICK, |actor, _| actor.tick());
        let heartbeat = Duration::from_millis(self.deps.config.heartbeat_ms);
        ctx.run_interval(heartbeat, |actor, _| actor.heartbeat());
        ctx.run_later(Duration::from_millis(self.deps.config.auth_timeout_ms), |actor, _| {
            if actor.signed_in.is_none() {
                actor.error("unauthenticated", "no auth frame came in time");
                actor.write(Outgoing::Close(Farewell::UNAUTHENTICATED));
            }
        });
    }
}

impl Drop for SessionActor {
    fn drop(&mut self) {
        // The writer task sees its channels end, and closes with 1012.
        if std::thread::panicking() {
            tracing::error!(session = %self.session, "a session panicked; its client reconnects");
            self.deps.metrics.panics.get_or_create(&KindLabels { kind: "session" }).inc();
        }
        // A registry that is not running has forgotten it already.
        let _ = self.deps.registry.leave.send(Leave { session: self.session });
    }
}

impl StreamHandler<Received> for SessionActor {
    fn handle(&mut self, received: Received, ctx: &mut Self::Context) {
        crate::fail_point!("session::frame");
        if self.is_closing() {
            return;
        }
        self.unanswered_pings = 0;
        match received {
            Received::Text(text) => self.on_text(&text, ctx),
            Received::Ping(payload) => self.write(Outgoing::Pong(payload)),
            Received::Pong => {}
            Received::Binary => {
                self.error("bad_frame", "frames are JSON text, not binary");
                if self.client.binary_frame() {
                    self.write(Outgoing::Close(Farewell::BINARY));
                }
            }
            Received::End(farewell) => self.close(farewell),
        }
    }

    /// The client has gone without a close frame.
    fn finished(&mut self, _: &mut Self::Context) {
        self.close(Farewell::GONE);
    }
}

impl StreamHandler<ToSession> for SessionActor {
    fn handle(&mut self, message: ToSession, _: &mut Self::Context) {
        crate::fail_point!("session::message");
        match message {
            ToSession::Joined { epoch, offset } => {
                self.client.greeted(offset);
                let (session, server_time) = (&self.session_name, self.deps.clock.now());
                let hello = ServerFrame::Hello { session, epoch: &epoch, offset, server_time }.text();
                self.write(Outgoing::Text(hello));
            }
            ToSession::Snapshot { subscription, snapshot } => {
                if let Some(id) = self.client.id_of(subscription).cloned() {
                    let offset = snapshot.offset;
                    // The most severe come first in a snapshot, and must not be forgotten first.
                    let alerts = snapshot.alerts.iter().take(seen::ALERTS_MAX);
                    self.client.sending(alerts.map(|alert| (offset, alert.alert_id)));
                    self.write(Outgoing::Snapshot { subscription, id, snapshot });
                }
            }
            ToSession::Due { subscription, frames, cursor } => {
                if self.client.id_of(subscription).is_some() {
                    self.client.sending(frames.iter().map(|frame| (frame.offset, frame.alert_id)));
                    self.write(Outgoing::Due { subscription, frames, cursor });
                }
            }
            ToSession::Vitals(update) => self.client.keep_vitals(update),
            ToSession::Pending(update) => self.write(Outgoing::Pending(update)),
            ToSession::Close(farewell) => self.close(farewell),
        }
    }

    /// The registry has restarted.
    fn finished(&mut self, _: &mut Self::Context) {
        self.close(Farewell::RESTART);
    }
}

impl Handler<Report> for SessionActor {
    type Result = ();

    fn handle(&mut self, Report(written): Report, _: &mut Self::Context) {
        crate::fail_point!("session::written");
        match written {
            Written::Vitals => self.client.vitals_written(),
            Written::HandOver { subscription, cursor } => {
                self.client.written(subscription, cursor);
                self.deps.registry.pulls.push(Pull { session: self.session, subscription });
            }
        }
    }
}

impl Handler<Ended> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Ended, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
