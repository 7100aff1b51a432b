//! A dashboard that survives: whenever its socket ends it comes back and resumes by offset.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use awc::ws::{Frame, Message};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use testkit::TestApp;
use tokio::sync::Notify;

const RECONNECT_PAUSE: Duration = Duration::from_millis(10);
/// Frames between two looks at how far it has been served.
const PING_EVERY: usize = 4;

/// One `alert` frame.
pub struct Pushed {
    pub offset: i64,
    pub transition: String,
    pub alert: Value,
}

#[derive(Default)]
struct Shared {
    pushed: RefCell<Vec<Pushed>>,
    /// Offsets of snapshots that came with a gap: what is before need not come one by one.
    gaps: RefCell<Vec<i64>>,
    connections: Cell<usize>,
    hang_up: Notify,
}

pub struct Dashboard {
    shared: Rc<Shared>,
    task: actix_web::rt::task::JoinHandle<()>,
}

struct Client {
    url: String,
    token: String,
    shared: Rc<Shared>,
    epoch: Option<String>,
    /// The largest offset that it has had.
    seen: i64,
}

impl Dashboard {
    pub fn start(app: &TestApp) -> Self {
        let shared = Rc::new(Shared::default());
        let client = Client {
            url: app.url("/api/v1/stream"),
            token: app.admin.clone(),
            shared: shared.clone(),
            epoch: None,
            seen: 0,
        };
        Self { task: actix_web::rt::spawn(client.run()), shared }
    }

    pub fn pushed(&self) -> std::cell::Ref<'_, Vec<Pushed>> {
        self.shared.pushed.borrow()
    }

    /// Everything up to here was covered by snapshots.
    pub fn snapshot_after_gap(&self) -> i64 {
        self.shared.gaps.borrow().iter().copied().max().unwrap_or(0)
    }

    pub fn gaps(&self) -> usize {
        self.shared.gaps.borrow().len()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.get()
    }

    /// Hangs up, and comes back.
    pub fn hang_up(&self) {
        self.shared.hang_up.notify_one();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    async fn run(mut self) {
        loop {
            self.connection().await;
            actix_web::rt::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// One connection, to its end; how it ends does not matter.
    async fn connection(&mut self) -> Option<()> {
        let request = awc::Client::new().ws(&self.url);
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let (_, mut socket) = request.max_frame_size(64 << 20).connect().await.ok()?;
        let (shared, mut frames, mut after_gap) = (self.shared.clone(), 0, false);
        loop {
            let frame = tokio::select! {
                frame = socket.next() => frame?.ok()?,
                () = shared.hang_up.notified() => return None,
            };
            let reply = match frame {
                Frame::Text(text) => {
                    let frame: Value = serde_json::from_slice(&text).expect("JSON");
                    frames += 1;
                    self.take(&frame, frames, &mut after_gap)
                }
                Frame::Ping(payload) => Some(Message::Pong(payload)),
                Frame::Close(_) => return None,
                _ => None,
            };
            if let Some(reply) = reply {
                socket.send(reply).await.ok()?;
            }
        }
    }

    fn take(&mut self, frame: &Value, number: usize, after_gap: &mut bool) -> Option<Message> {
        let offset = frame["offset"].as_i64();
        let text = |reply: Value| Some(Message::Text(reply.to_string().into()));
        match frame["type"].as_str().expect("a type") {
            "hello" => {
                self.shared.connections.set(self.shared.connections.get() + 1);
                let mut subscribe = json!({"type": "subscribe", "id": "wall", "filter": {}});
                if let Some(epoch) = &self.epoch {
                    subscribe["since"] = json!({"epoch": epoch, "offset": self.seen});
                }
                self.epoch = Some(frame["epoch"].as_str().expect("an epoch").to_owned());
                return text(subscribe);
            }
            "gap" => *after_gap = true,
            "snapshot" => {
                let offset = offset.expect("an offset");
                if std::mem::take(after_gap) {
                    self.shared.gaps.borrow_mut().push(offset);
                }
                self.seen = self.seen.max(offset);
            }
            "alert" => {
                let offset = offset.expect("an offset");
                assert!(offset > self.seen, "{offset} comes after {}: twice, or out of order", self.seen);
                self.seen = offset;
                let transition = frame["change"]["transition"].as_str().expect("a transition").to_owned();
                let pushed = Pushed { offset, transition, alert: frame["alert"].clone() };
                self.shared.pushed.borrow_mut().push(pushed);
            }
            "pong" => return text(json!({"type": "shown", "offset": offset.filter(|at| *at > 0)?})),
            other => panic!("unexpected {other} frame: {frame}"),
        }
        number.is_multiple_of(PING_EVERY).then(|| text(json!({"type": "ping"})))?
    }
}
