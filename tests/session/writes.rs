//! How often a session writes: what is due together leaves together.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::sink;
use tokio::sync::{mpsc, oneshot};
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;
use watchpost::domain::vitals::Metrics as Vitals;
use watchpost::session::delivery::Farewell;
use watchpost::session::messages::VitalsUpdate;
use watchpost::session::outbound::{Outgoing, SocketFrame, VITALS_AT_ONCE, Writer, Written};
use watchpost::session::ring::Frame;
use watchpost::telemetry::Metrics;

use super::history::{History, customer, device};

/// What a sink was asked to do.
#[derive(Default)]
struct Asked {
    frames: usize,
    flushes: usize,
    /// Frames before the first that a client resumes behind.
    before_alert: Option<usize>,
    /// Why the writer said that it ends.
    farewell: Option<Farewell>,
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

    fn start_send(self: std::pin::Pin<&mut Self>, frame: SocketFrame) -> Result<(), ()> {
        let mut asked = self.0.borrow_mut();
        if matches!(frame, SocketFrame::Upto(..)) {
            asked.before_alert = asked.before_alert.or(Some(asked.frames));
        }
        asked.frames += 1;
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

/// A writer, and what its sink is asked to do.
fn counting() -> (Writer<Counting>, Rc<RefCell<Asked>>) {
    let asked = Rc::new(RefCell::new(Asked::default()));
    let goodbye = asked.clone();
    let writer = Writer {
        sink: Counting(asked.clone()),
        goodbye: Box::new(move |farewell| goodbye.borrow_mut().farewell = Some(farewell)),
        stall: Duration::from_secs(10),
        metrics: Arc::new(Metrics::register().0),
    };
    (writer, asked)
}

#[actix_web::test]
async fn a_hand_over_of_many_frames_leaves_in_one_write() {
    let mut history = History::default();
    let frames: Vec<Arc<Frame>> =
        (0..256).map(|_| Arc::new(Frame::new(&history.raise("w1", "c1", Severity::High)))).collect();
    let (writer, asked) = counting();
    let (outgoing, to_write) = mpsc::channel(4);
    let (_close_now, closing) = oneshot::channel();
    let reports = RefCell::new(Vec::new());
    outgoing.try_send(Outgoing::Due { subscription: 1, frames, cursor: 256 }).unwrap();
    outgoing.try_send(Outgoing::Close(Farewell::SHUTDOWN)).unwrap();
    let writing = writer.run(to_write, closing, |written| {
        let Asked { frames, flushes, .. } = *asked.borrow();
        reports.borrow_mut().push((written, frames, flushes));
    });
    assert_eq!(writing.await, Farewell::SHUTDOWN);
    assert_eq!(asked.borrow().farewell, Some(Farewell::SHUTDOWN));
    assert_eq!(*reports.borrow(), [(Written::HandOver { subscription: 1, cursor: 256 }, 256, 1)]);
}

#[actix_web::test]
async fn an_alert_overtakes_the_vital_signs_that_are_being_written() {
    let vitals = |number| VitalsUpdate {
        device_sn: device(&format!("w{number}")),
        customer_id: customer("c1"),
        measured_at: UtcMillis(1),
        metrics: Vitals::default(),
        worn: true,
    };
    let frame = Arc::new(Frame::new(&History::default().raise("w1", "c1", Severity::Critical)));
    let (writer, asked) = counting();
    let (outgoing, to_write) = mpsc::channel(4);
    let (close_now, closing) = oneshot::channel();
    outgoing.try_send(Outgoing::Vitals((0..1_000).map(|number| Arc::new(vitals(number))).collect())).unwrap();
    outgoing.try_send(Outgoing::Due { subscription: 1, frames: vec![frame], cursor: 1 }).unwrap();
    let close_now = RefCell::new(Some(close_now));
    let reports = RefCell::new(Vec::new());
    let writing = writer.run(to_write, closing, |written| {
        reports.borrow_mut().push(written);
        if written == Written::Vitals {
            close_now.take().expect("once").send(Farewell::SHUTDOWN).expect("it listens");
        }
    });
    assert_eq!(writing.await, Farewell::SHUTDOWN);
    assert_eq!(asked.borrow().before_alert, Some(VITALS_AT_ONCE));
    assert_eq!(*reports.borrow(), [Written::HandOver { subscription: 1, cursor: 1 }, Written::Vitals]);
    assert_eq!((asked.borrow().frames, asked.borrow().farewell), (1_001, Some(Farewell::SHUTDOWN)));
}
