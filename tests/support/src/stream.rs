//! A client of the stream: what a dashboard does, one method each.

use std::pin::Pin;

use awc::error::WsProtocolError;
use awc::ws::{Frame, Message};
use futures_util::stream::LocalBoxStream;
use futures_util::{Sink, SinkExt, StreamExt};
use serde_json::{Value, json};

use crate::{DEADLINE, TestApp};

pub struct StreamClient {
    sink: Pin<Box<dyn Sink<Message, Error = WsProtocolError>>>,
    stream: LocalBoxStream<'static, Result<Frame, WsProtocolError>>,
    pub epoch: String,
}

impl StreamClient {
    /// Signed in, after `hello`.
    pub async fn connect(app: &TestApp, token: &str) -> Self {
        let request = awc::Client::new().ws(app.url("/api/v1/stream"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let (_, framed) = request.max_frame_size(64 << 20).connect().await.expect("an upgrade");
        let (sink, stream) = framed.split();
        let mut client = Self { sink: Box::pin(sink), stream: stream.boxed_local(), epoch: String::new() };
        let hello = client.next().await;
        assert_eq!(hello["type"], "hello");
        client.epoch = hello["epoch"].as_str().expect("an epoch").to_owned();
        client
    }

    /// Signed in and subscribed to everything that the token may see, after the snapshot.
    pub async fn open(app: &TestApp, token: &str) -> Self {
        let mut client = Self::connect(app, token).await;
        client.subscribe(json!({}), None).await;
        let snapshot = client.next().await;
        assert_eq!(snapshot["type"], "snapshot");
        client
    }

    /// Subscribes; `since` is an offset of this epoch.
    pub async fn subscribe(&mut self, filter: Value, since: Option<i64>) {
        let mut frame = json!({"type": "subscribe", "id": "test", "filter": filter});
        if let Some(offset) = since {
            frame["since"] = json!({"epoch": self.epoch, "offset": offset});
        }
        self.send(&frame).await;
    }

    /// Says that everything up to `offset` has been on the screen.
    pub async fn shown(&mut self, offset: i64) {
        self.send(&json!({"type": "shown", "offset": offset})).await;
    }

    async fn send(&mut self, frame: &Value) {
        self.sink.send(Message::Text(frame.to_string().into())).await.expect("an open socket");
    }

    /// The next frame, whatever it is.
    pub async fn next(&mut self) -> Value {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a frame in time");
            match next {
                Some(Ok(Frame::Text(text))) => {
                    let frame = serde_json::from_slice(&text).expect("JSON");
                    crate::schema::assert_frame(&frame);
                    return frame;
                }
                Some(Ok(Frame::Ping(payload))) => {
                    self.sink.send(Message::Pong(payload)).await.expect("an open socket");
                }
                Some(Ok(Frame::Close(reason))) => panic!("closed: {reason:?}"),
                Some(Ok(_)) => {}
                Some(Err(err)) => panic!("the socket broke: {err}"),
                None => panic!("the socket ended"),
            }
        }
    }

    /// The offset of the next frame, which must be an `alert`; for many, without looking further.
    pub async fn next_alert_offset(&mut self) -> i64 {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a frame in time");
            match next.expect("an open socket").expect("a whole frame") {
                Frame::Text(text) => {
                    let text = std::str::from_utf8(&text).expect("text");
                    let offset = text
                        .strip_prefix(r#"{"type":"alert","offset":"#)
                        .and_then(|rest| rest.split_once(','));
                    return offset.and_then(|(offset, _)| offset.parse().ok()).expect("an alert frame");
                }
                Frame::Ping(payload) => {
                    self.sink.send(Message::Pong(payload)).await.expect("an open socket");
                }
                Frame::Close(reason) => panic!("closed: {reason:?}"),
                _ => {}
            }
        }
    }

    /// The next `alert` frame; others are passed over.
    pub async fn next_alert(&mut self) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == "alert" {
                return frame;
            }
        }
    }

    /// All `alert` frames up to the last change that is stored now: nothing is missing after it,
    /// because the server says how far it has got.
    pub async fn alerts_so_far(&mut self, app: &TestApp) -> Vec<Value> {
        let last = app.count("SELECT COALESCE(MAX(change_offset), 0) FROM alert_change");
        let begun = std::time::Instant::now();
        let mut alerts = Vec::new();
        loop {
            self.send(&json!({"type": "ping"})).await;
            let served = loop {
                let frame = self.next().await;
                match frame["type"].as_str() {
                    Some("alert") => alerts.push(frame),
                    Some("pong") => break frame["offset"].as_i64().expect("an offset"),
                    other => panic!("unexpected {other:?} frame: {frame}"),
                }
            };
            if served >= last {
                return alerts;
            }
            assert!(begun.elapsed() < DEADLINE, "the stream stands at {served}, not at {last}");
            tokio::task::yield_now().await;
        }
    }
}

/// Transitions of `alert` frames, in order.
pub fn transitions(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["change"]["transition"].as_str().expect("a transition")).collect()
}
