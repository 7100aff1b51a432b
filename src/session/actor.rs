//! One actor per WebSocket. The only file that knows the socket library.
//!
//! It is an ordinary actor beside the response, not inside its body: when a client stops reading,
//! the HTTP dispatcher stops polling the body, and an actor that lives there would stop with its
//! mailbox and its heartbeat. Here only the writer task waits, and only for so long.
//!
//! actix-ws 0.4 takes one frame per call, but its `Session` is a `Sink` into a channel of 32 frames,
//! and the response body writes out all that is in the channel as one buffer. So frames that are
//! due together are fed one after the other and leave in one write.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, ContextFutureSpawner, Handler, Message,
    StreamHandler, WrapFuture,
};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, CloseCode, CloseReason, ProtocolError};
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, stream};
use tokio::sync::{mpsc, oneshot};

use super::client::Client;
use super::delivery::{
    Enter, Farewell, Join, Leave, Pull, RegistryLinks, SessionId, Subscribe, Subscription, ToSession,
};
use super::frames::{ClientFrame, ServerFrame};
use super::messages::AlertShown;
use super::outbound::{OUTGOING_MAX, Outgoing, SocketFrame, Writer, Written};
use super::slots::{SessionSlot, SessionSlots};
use crate::config::SessionConfig;
use crate::domain::owner::Caller;
use crate::supervision::clock::Clock;
use crate::supervision::link::Link;
use crate::telemetry::{KindLabels, Metrics};

/// Says whose a token is; `None` if nobody's.
pub type Authenticate = Arc<dyn Fn(String) -> BoxFuture<'static, Option<Caller>> + Send + Sync>;

/// What all sessions of a server work with.
#[derive(Clone)]
pub struct SessionDeps {
    pub config: SessionConfig,
    pub registry: RegistryLinks,
    pub shown: Link<AlertShown>,
    pub authenticate: Authenticate,
    pub slots: SessionSlots,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

/// Shown ranges and vitals leave at most so often.
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
    caller: Option<Caller>,
    client: Client,
    unanswered_pings: u32,
    outgoing: mpsc::Sender<Outgoing>,
    /// Overtakes what is being written. Taken when the end has begun.
    close_now: Option<oneshot::Sender<Farewell>>,
}

/// The HTTP answer that opens a session. The slot is held until its socket has been closed. Without
/// a caller the first frame must be `auth`.
pub fn upgrade(
    request: &HttpRequest,
    payload: web::Payload,
    deps: &Arc<SessionDeps>,
    slot: SessionSlot,
    caller: Option<Caller>,
) -> Result<HttpResponse, actix_web::Error> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(actix_web::error::ErrorServiceUnavailable)?;
    let session = uuid::Builder::from_random_bytes(random).into_uuid();
    let (response, socket, frames) = actix_ws::handle(request, payload)?;
    let bytes_max = deps.config.client_frame_bytes_max;
    let frames = frames.max_frame_size(bytes_max).aggregate_continuations().max_continuation_size(bytes_max);

    let (outgoing, to_write) = mpsc::channel(OUTGOING_MAX);
    let (close_now, closing) = oneshot::channel();
    let actor = SessionActor {
        session,
        session_name: session.to_string(),
        deps: deps.clone(),
        caller,
        client: Client::default(),
        unanswered_pings: 0,
        outgoing,
        close_now: Some(close_now),
    };
    let addr = SessionActor::create(move |ctx| {
        ctx.add_stream(frames);
        actor
    });
    let writer = Writer {
        sink: Box::pin(socket.with(|frame| ready(Ok::<_, actix_ws::Closed>(to_message(frame))))),
        stall: Duration::from_millis(deps.config.write_stall_ms),
        metrics: deps.metrics.clone(),
    };
    actix_web::rt::spawn(async move {
        let _slot = slot;
        let end = TellEnd(addr);
        writer.run(to_write, closing, |written| end.0.do_send(Report(written))).await;
    });
    Ok(response)
}

fn to_message(frame: SocketFrame) -> actix_ws::Message {
    match frame {
        SocketFrame::Text(text) => actix_ws::Message::Text(text),
        SocketFrame::Ping => actix_ws::Message::Ping(web::Bytes::new()),
        SocketFrame::Pong(payload) => actix_ws::Message::Pong(payload),
        SocketFrame::Close(Farewell { code, text, .. }) => {
            let description = (!text.is_empty()).then(|| text.to_string());
            actix_ws::Message::Close(Some(CloseReason { code: CloseCode::from(code), description }))
        }
    }
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
        match (frame, &self.caller) {
            (ClientFrame::Auth { .. }, Some(_)) => self.bad_frame("this session is signed in already"),
            (ClientFrame::Auth { token }, None) => self.authenticate(token, ctx),
            (_, None) => self.error("unauthenticated", "send an auth frame first"),
            (ClientFrame::Ping, Some(_)) => {
                let pong = ServerFrame::Pong { offset: self.client.sent_up_to() };
                self.write(Outgoing::Text(pong.text()));
            }
            (ClientFrame::Shown { offset }, Some(_)) => {
                if !self.client.show(offset) {
                    self.bad_frame("shown: nothing with that offset has been sent");
                }
            }
            (ClientFrame::Subscribe { id, filter, since }, Some(_)) => {
                if let Err(err) = filter.check(self.deps.config.vitals_devices_max) {
                    return self.error("bad_filter", &err.to_string());
                }
                let resumes_from = since.as_ref().map(|since| since.offset);
                let (serial, passed) = self.client.subscribe(&id, resumes_from);
                let subscription = Subscription { serial, filter, since, passed };
                let session = self.session;
                self.send_registry(|links| &links.subscribe, Subscribe { session, subscription });
            }
        }
    }

    /// Holds back what the client has sent behind its token, so that it need not wait for `hello`.
    fn authenticate(&mut self, token: String, ctx: &mut Context<Self>) {
        let limit = Duration::from_millis(self.deps.config.auth_timeout_ms);
        let known = tokio::time::timeout(limit, (self.deps.authenticate)(token));
        async move { known.await.ok().flatten() }
            .into_actor(self)
            .map(|caller, actor, _| actor.authenticated(caller))
            .wait(ctx);
    }

    fn authenticated(&mut self, caller: Option<Caller>) {
        match caller {
            Some(caller) => {
                self.caller = Some(caller);
                self.enter();
            }
            None => {
                self.error("unauthenticated", "the token is not valid");
                self.write(Outgoing::Close(Farewell::UNAUTHENTICATED));
            }
        }
    }

    fn enter(&mut self) {
        if let Some(scope) = self.caller.as_ref().map(|caller| caller.scope.clone()) {
            let session = self.session;
            self.send_registry(|links| &links.enter, Enter { session, scope });
        }
    }

    fn tick(&mut self) {
        crate::fail_point!("session::timer");
        if let Some((from, to)) = self.client.take_shown() {
            let viewer = self.caller.as_ref().map(|caller| caller.name.clone()).unwrap_or_default();
            let shown = AlertShown { session_id: self.session_name.clone(), viewer, from, to };
            if let Err(err) = self.deps.shown.send(shown) {
                tracing::debug!("what a viewer was shown is not recorded: {err}");
            }
        }
        if let Some(vitals) = self.client.take_vitals() {
            self.write(Outgoing::Vitals(vitals));
        }
    }

    fn heartbeat(&mut self) {
        if self.unanswered_pings >= SILENT_PINGS_MAX {
            return self.close(Farewell::SILENT);
        }
        self.unanswered_pings += 1;
        self.write(Outgoing::Ping);
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
        let session = self.session;
        self.send_registry(|links| &links.join, Join { session, to });
        self.enter();
        ctx.run_interval(TICK, |actor, _| actor.tick());
        let heartbeat = Duration::from_millis(self.deps.config.heartbeat_ms);
        ctx.run_interval(heartbeat, |actor, _| actor.heartbeat());
        ctx.run_later(Duration::from_millis(self.deps.config.auth_timeout_ms), |actor, _| {
            if actor.caller.is_none() {
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

impl StreamHandler<Result<AggregatedMessage, ProtocolError>> for SessionActor {
    fn handle(&mut self, message: Result<AggregatedMessage, ProtocolError>, ctx: &mut Self::Context) {
        crate::fail_point!("session::frame");
        if self.is_closing() {
            return;
        }
        self.unanswered_pings = 0;
        match message {
            Ok(AggregatedMessage::Text(text)) => self.on_text(&text, ctx),
            Ok(AggregatedMessage::Ping(payload)) => self.write(Outgoing::Pong(payload)),
            Ok(AggregatedMessage::Pong(_)) => {}
            Ok(AggregatedMessage::Close(_)) => self.close(Farewell::BY_CLIENT),
            Ok(AggregatedMessage::Binary(_)) => {
                self.error("bad_frame", "frames are JSON text, not binary");
                if self.client.binary_frame() {
                    self.write(Outgoing::Close(Farewell::BINARY));
                }
            }
            Err(ProtocolError::Overflow) => self.close(Farewell::OVERSIZE),
            // actix-ws 0.4 has no variant for it.
            Err(ProtocolError::Io(err)) if err.to_string() == "Exceeded maximum continuation size" => {
                self.close(Farewell::OVERSIZE);
            }
            Err(ProtocolError::Io(err)) if err.kind() != std::io::ErrorKind::InvalidData => {
                self.close(Farewell::GONE);
            }
            Err(_) => self.close(Farewell::PROTOCOL),
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
                    self.write(Outgoing::Snapshot { subscription, id, snapshot });
                }
            }
            ToSession::Due { subscription, frames, cursor } => {
                if self.client.id_of(subscription).is_some() {
                    self.write(Outgoing::Due { subscription, frames, cursor });
                }
            }
            ToSession::Vitals(update) => self.client.keep_vitals(update),
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
                let session = self.session;
                self.send_registry(|links| &links.pull, Pull { session, subscription });
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
