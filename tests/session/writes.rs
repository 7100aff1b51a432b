//! How often a session writes: what is due together leaves together.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::sink;
use tokio::sync::{mpsc, oneshot};
use watchpost::domain::rule::Severity;
use watchpost::session::delivery::Farewell;
use watchpost::session::outbound::{Outgoing, SocketFrame, Writer, Written};
use watchpost::session::ring::Frame;
use watchpost::telemetry::Metrics;

use super::history::History;

/// What a sink was asked to do.
#[derive(Default)]
struct Asked {
    frames: usize,
    flushes: usize,
}

/// Counts what is fed and how often it is flushed.
struct Counting(Rc<RefCell<Asked>>);

impl sink::Sink<SocketFrame> for Counting {
    type Error = ();

    fn poll_ready(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), ()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn start_send(self: std::pin::Pin<&mut Self>, _: SocketFrame) -> Result<(), ()> {
        self.0.borrow_mut().frames += 1;
        Ok(())
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), ()>> {
        self.0.borrow_mut().flushes += 1;
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_close(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), ()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[actix_web::test]
async fn a_hand_over_of_many_frames_leaves_in_one_write() {
    let mut history = History::default();
    let frames: Vec<Arc<Frame>> =
        (0..256).map(|_| Arc::new(Frame::new(&history.raise("w1", "c1", Severity::High)))).collect();
    let asked = Rc::new(RefCell::new(Asked::default()));
    let metrics = Arc::new(Metrics::register().0);
    let said = Rc::new(RefCell::new(None));
    let goodbye = said.clone();
    let writer = Writer {
        sink: Counting(asked.clone()),
        goodbye: Box::new(move |farewell| *goodbye.borrow_mut() = Some(farewell)),
        stall: Duration::from_secs(10),
        metrics,
    };
    let (outgoing, to_write) = mpsc::channel(4);
    let (_close_now, closing) = oneshot::channel();
    let reports = RefCell::new(Vec::new());
    outgoing.try_send(Outgoing::Due { subscription: 1, frames, cursor: 256 }).unwrap();
    outgoing.try_send(Outgoing::Close(Farewell::SHUTDOWN)).unwrap();
    let writing = writer.run(to_write, closing, |written| {
        let Asked { frames, flushes } = *asked.borrow();
        reports.borrow_mut().push((written, frames, flushes));
    });
    assert_eq!(writing.await, Farewell::SHUTDOWN);
    assert_eq!(*said.borrow(), Some(Farewell::SHUTDOWN));
    assert_eq!(*reports.borrow(), [(Written::HandOver { subscription: 1, cursor: 256 }, 256, 1)]);
}
