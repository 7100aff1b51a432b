//! The writing half of a session: one task per socket, so that a client that does not read holds
//! up nothing but itself.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{Sink, SinkExt};
use tokio::sync::{mpsc, oneshot};

use super::delivery::{Farewell, PendingUpdate, Snapshot};
use super::frames::{ServerFrame, pending_text};
use super::messages::VitalsUpdate;
use super::ring::Frame;
use crate::domain::ids::Offset;
use crate::telemetry::Metrics;

/// Things that wait for the writer: a hand-over, vitals, and replies to the client. A client that
/// asks for more replies than it reads is closed.
pub const OUTGOING_MAX: usize = 64;

/// What goes onto the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketFrame {
    Text(ByteString),
    /// A text after which a client resumes from this offset.
    Upto(Offset, ByteString),
    /// With the offset up to which everything has been sent; 0 before the first answer.
    Ping(Offset),
    Pong(Bytes),
}

/// What the session wants written.
#[derive(Debug)]
pub enum Outgoing {
    Text(ByteString),
    Ping(Offset),
    Pong(Bytes),
    Due {
        subscription: u64,
        frames: Vec<Arc<Frame>>,
        cursor: Offset,
    },
    /// Written out here, where it is needed, so that waiting ones cost only pointers.
    Snapshot {
        subscription: u64,
        id: Arc<str>,
        snapshot: Snapshot,
    },
    Vitals(Vec<Arc<VitalsUpdate>>),
    Pending(PendingUpdate),
    /// After everything before it.
    Close(Farewell),
}

/// What the writer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A hand-over: everything up to `cursor` is on its way.
    HandOver {
        subscription: u64,
        cursor: Offset,
    },
    Vitals,
}

/// Vital signs that leave in one write. Between two of these an alert overtakes the rest.
pub const VITALS_AT_ONCE: usize = 32;

/// Says why it ends, behind everything that the sink has taken, in a place that is kept for it: whenever
/// a client that was too slow has read what came before, it learns why it was closed.
pub type Goodbye = Box<dyn FnOnce(Farewell)>;

/// Writes until told to close, or until the socket takes nothing for `stall`.
pub struct Writer<S> {
    pub sink: S,
    pub goodbye: Goodbye,
    pub stall: Duration,
    pub metrics: Arc<Metrics>,
}

impl<S: Sink<SocketFrame> + Unpin> Writer<S> {
    /// `now` overtakes what is waiting, and everything else overtakes vital signs. The ends of both channels mean that the session has died.
    /// Answers why it ended, after the close frame; if nothing more is taken, `stall` after it.
    pub async fn run(
        mut self,
        mut outgoing: mpsc::Receiver<Outgoing>,
        mut now: oneshot::Receiver<Farewell>,
        written: impl Fn(Written),
    ) -> Farewell {
        let mut vitals = VecDeque::new();
        let farewell = loop {
            let next = tokio::select! {
                biased;
                farewell = &mut now => break farewell.unwrap_or(Farewell::RESTART),
                next = outgoing.recv() => next,
                () = ready(()), if !vitals.is_empty() => Some(Outgoing::Vitals(Vec::new())),
            };
            let Some(next) = next else { break Farewell::RESTART };
            if let Outgoing::Close(farewell) = next {
                break farewell;
            }
            tokio::select! {
                biased;
                farewell = &mut now => break farewell.unwrap_or(Farewell::RESTART),
                outcome = self.write(next, &mut vitals) => match outcome {
                    Ok(report) => report.into_iter().for_each(&written),
                    Err(farewell) => break farewell,
                }
            }
        };
        Metrics::count(&self.metrics.sessions_closed, farewell.kind);
        if farewell != Farewell::GONE {
            (self.goodbye)(farewell);
            // A socket that still takes nothing is given up.
            let room = poll_fn(|context| self.sink.poll_ready_unpin(context));
            let _ = tokio::time::timeout(self.stall, room).await;
        }
        farewell
    }

    /// `vitals`: those that are to be written when there is nothing else.
    async fn write(
        &mut self,
        item: Outgoing,
        vitals: &mut VecDeque<Arc<VitalsUpdate>>,
    ) -> Result<Option<Written>, Farewell> {
        crate::fail_point!("session::write", |_| Err(Farewell::GONE));
        let mut report = None;
        match item {
            Outgoing::Text(text) => self.feed(SocketFrame::Text(text)).await?,
            Outgoing::Ping(offset) => self.feed(SocketFrame::Ping(offset)).await?,
            Outgoing::Pong(payload) => self.feed(SocketFrame::Pong(payload)).await?,
            Outgoing::Close(farewell) => return Err(farewell),
            Outgoing::Due { subscription, frames, cursor } => {
                for frame in frames {
                    self.feed(SocketFrame::Upto(frame.offset, frame.text.clone())).await?;
                    if let Some(taken) = frame.first_written(Instant::now()) {
                        self.metrics.socket_seconds.observe(taken.as_secs_f64());
                    }
                }
                report = Some(Written::HandOver { subscription, cursor });
            }
            Outgoing::Snapshot { subscription, id, snapshot } => {
                if let Some(gap) = snapshot.gap {
                    self.feed(SocketFrame::Text(ServerFrame::Gap { from: gap.from, to: gap.to }.text()))
                        .await?;
                }
                let Snapshot { alerts, offset, truncated, .. } = snapshot;
                let text = ServerFrame::Snapshot { id: &id, offset, truncated, alerts: &alerts }.text();
                self.feed(SocketFrame::Upto(offset, text)).await?;
                report = Some(Written::HandOver { subscription, cursor: offset });
            }
            Outgoing::Pending(PendingUpdate { subscription, pending, cursor }) => {
                self.feed(SocketFrame::Text(pending_text(&pending))).await?;
                report = cursor.map(|cursor| Written::HandOver { subscription, cursor });
            }
            Outgoing::Vitals(updates) => {
                vitals.extend(updates);
                for update in vitals.drain(..vitals.len().min(VITALS_AT_ONCE)) {
                    self.feed(SocketFrame::Text(ServerFrame::from(&*update).text())).await?;
                }
                report = vitals.is_empty().then_some(Written::Vitals);
            }
        }
        self.within(|sink| sink.flush()).await?;
        Ok(report)
    }

    /// Without a flush: frames that are due together leave together.
    async fn feed(&mut self, frame: SocketFrame) -> Result<(), Farewell> {
        if let SocketFrame::Text(text) = &frame {
            self.metrics.sent_bytes.inc_by(text.len() as u64);
        }
        self.within(|sink| sink.feed(frame)).await
    }

    async fn within<'a, F>(&'a mut self, step: impl FnOnce(&'a mut S) -> F) -> Result<(), Farewell>
    where
        F: Future<Output = Result<(), S::Error>> + 'a,
    {
        match tokio::time::timeout(self.stall, step(&mut self.sink)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Farewell::GONE),
            Err(_) => Err(Farewell::STALLED),
        }
    }
}
