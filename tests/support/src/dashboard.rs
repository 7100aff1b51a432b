//! A dashboard on a thread of its own that survives its server: it comes back, resumes where it
//! stopped, and keeps everything that it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use crate::DEADLINE;
use crate::truth::File;

/// How long it listens before it looks around and asks how far the server has got.
const LISTEN: Duration = Duration::from_millis(10);
/// A snapshot of all open alerts is one frame.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// An `alert` frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertFrame {
    pub offset: i64,
    pub transition: String,
    pub alert_id: String,
}

/// What one frame said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Alert(AlertFrame),
    /// Changes that are not sent one by one.
    Gap {
        from: i64,
        to: i64,
    },
    Snapshot {
        offset: i64,
        alert_ids: BTreeSet<String>,
    },
    /// Nothing more passes the filter up to here.
    UpTo(i64),
}

/// One connection, from its subscription on.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Of the log that it was told.
    pub epoch: String,
    /// Where it wanted to go on; `None` for a first one.
    pub since: Option<i64>,
    pub seen: Vec<Seen>,
    /// The close code, if the server said goodbye.
    pub closed: Option<u16>,
}

impl Connection {
    /// Whether what it was told, with what came before it, is everything up to where it stands.
    fn is_covered(&self) -> bool {
        let last = self.seen.iter().rev().find_map(|seen| match seen {
            Seen::Gap { .. } => Some(false),
            Seen::Snapshot { .. } => Some(true),
            _ => None,
        });
        last.unwrap_or(self.since.is_some())
    }
}

#[derive(Default)]
struct Desk {
    addr: Option<SocketAddr>,
    stop: bool,
    connections: Vec<Connection>,
    /// The largest offset that it has had, of this epoch.
    cursor: Option<(String, i64)>,
    /// Alerts of all that was seen, which may be hundreds of thousands of frames.
    shown: BTreeSet<String>,
}

/// Subscribed to everything that its token may see.
pub struct Dashboard {
    shared: Arc<(Mutex<Desk>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Connects as soon as it is told where.
    pub fn start(token: &str) -> Self {
        let shared = Arc::new((Mutex::default(), Condvar::new()));
        let (theirs, token) = (shared.clone(), token.to_owned());
        let thread = std::thread::spawn(move || run(&theirs, &token));
        Self { shared, thread: Some(thread) }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.shared.0.lock().expect("no panic")
    }

    /// Where the server is from now on; `None` while it is away.
    pub fn point_to(&self, addr: Option<SocketAddr>) {
        self.desk().addr = addr;
        self.shared.1.notify_all();
    }

    /// Waits until it knows of everything up to `offset`.
    pub fn until(&self, offset: i64) {
        self.until_it(&format!("stands at {offset}"), |desk| {
            desk.cursor.as_ref().filter(|(_, cursor)| *cursor >= offset).map(|_| ())
        });
    }

    /// Waits until a frame or a snapshot has shown it this alert.
    pub fn until_shown(&self, alert_id: &str) {
        let shown = |desk: &Desk| desk.shown.contains(alert_id).then_some(());
        self.until_it(&format!("has been shown {alert_id}"), shown);
    }

    /// Waits until the server has said goodbye on the newest connection; the close code.
    pub fn until_closed(&self) -> u16 {
        self.until_it("was told goodbye", |desk| desk.connections.last()?.closed)
    }

    fn until_it<T>(&self, what: &str, found: impl Fn(&Desk) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut desk = self.desk();
        loop {
            if let Some(found) = found(&desk) {
                return found;
            }
            let left = DEADLINE.saturating_sub(begun.elapsed());
            assert!(
                !left.is_zero(),
                "the dashboard {what} within {DEADLINE:?}; it stands at {:?}",
                desk.cursor
            );
            desk = self.shared.1.wait_timeout(desk, left).expect("no panic").0;
        }
    }

    /// Ends it; every connection that it had, in order.
    pub fn finish(mut self) -> Vec<Connection> {
        self.end();
        std::mem::take(&mut self.desk().connections)
    }

    fn end(&mut self) {
        if let Ok(mut desk) = self.shared.0.lock() {
            desk.stop = true;
        }
        self.shared.1.notify_all();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &(Mutex<Desk>, Condvar), token: &str) {
    loop {
        let desk = shared.0.lock().expect("no panic");
        if desk.stop {
            return;
        }
        let Some(addr) = desk.addr else {
            drop(shared.1.wait_timeout(desk, LISTEN).expect("no panic"));
            continue;
        };
        let since = desk.cursor.clone();
        drop(desk);
        if connect(addr, token).and_then(|socket| listen(socket, shared, since)).is_none() {
            // Not there yet, or no more; whoever knows where it is now will say so.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

fn connect(addr: SocketAddr, token: &str) -> Option<WebSocket<TcpStream>> {
    let stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let mut request = format!("ws://{addr}/api/v1/stream").into_client_request().ok()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().ok()?);
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let (socket, _) = tungstenite::client::client_with_config(request, stream, Some(config)).ok()?;
    socket.get_ref().set_read_timeout(Some(LISTEN)).ok()?;
    Some(socket)
}

/// Subscribes and keeps what comes until the connection ends or it is told to stop.
fn listen(
    mut socket: WebSocket<TcpStream>,
    shared: &(Mutex<Desk>, Condvar),
    since: Option<(String, i64)>,
) -> Option<()> {
    let mut subscribe = json!({"type": "subscribe", "id": "proof"});
    if let Some((epoch, offset)) = &since {
        subscribe["since"] = json!({"epoch": epoch, "offset": offset});
    }
    let mut epoch = String::new();
    loop {
        let frame = match socket.read() {
            Ok(Message::Text(text)) => serde_json::from_str::<Value>(&text).expect("JSON"),
            Ok(Message::Close(reason)) => {
                let mut desk = shared.0.lock().expect("no panic");
                if let Some(connection) = desk.connections.last_mut().filter(|_| !epoch.is_empty()) {
                    connection.closed = reason.map(|reason| reason.code.into());
                }
                drop(desk);
                shared.1.notify_all();
                let _ = socket.flush();
                return None;
            }
            Ok(_) => continue,
            Err(Error::Io(err)) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.0.lock().expect("no panic").stop {
                    return Some(());
                }
                // Before hello nothing is asked: a server that is busy may take a while to know who it is.
                if !epoch.is_empty() {
                    socket.send(Message::text(json!({"type": "ping"}).to_string())).ok()?;
                }
                continue;
            }
            Err(_) => return None,
        };
        if frame["type"] == "hello" {
            epoch = frame["epoch"].as_str().expect("an epoch").to_owned();
            let since = since.as_ref().map(|(_, offset)| *offset);
            let connection = Connection { epoch: epoch.clone(), since, ..Connection::default() };
            shared.0.lock().expect("no panic").connections.push(connection);
            socket.send(Message::text(subscribe.to_string())).ok()?;
            continue;
        }
        keep(&frame, &epoch, shared);
    }
}

fn keep(frame: &Value, epoch: &str, shared: &(Mutex<Desk>, Condvar)) {
    let number = |value: &Value| value.as_i64().expect("an offset");
    let id = |alert: &Value| alert["alert_id"].as_str().expect("an alert id").to_owned();
    let (seen, cursor) = match frame["type"].as_str() {
        Some("alert") => {
            let offset = number(&frame["offset"]);
            let transition = frame["change"]["transition"].as_str().expect("a transition").to_owned();
            let alert = AlertFrame { offset, transition, alert_id: id(&frame["alert"]) };
            (Seen::Alert(alert), Some(offset))
        }
        Some("gap") => (Seen::Gap { from: number(&frame["from"]), to: number(&frame["to"]) }, None),
        Some("snapshot") => {
            let offset = number(&frame["offset"]);
            let alert_ids = frame["alerts"].as_array().expect("alerts").iter().map(id).collect();
            (Seen::Snapshot { offset, alert_ids }, Some(offset))
        }
        Some("pong") => (Seen::UpTo(number(&frame["offset"])), Some(number(&frame["offset"]))),
        Some("pending") => return, // No part of the log.
        other => panic!("unexpected {other:?} frame: {frame}"),
    };
    let mut desk = shared.0.lock().expect("no panic");
    match &seen {
        Seen::Alert(alert) => desk.shown.extend([alert.alert_id.clone()]),
        Seen::Snapshot { alert_ids, .. } => desk.shown.extend(alert_ids.iter().cloned()),
        Seen::Gap { .. } | Seen::UpTo(_) => {}
    }
    let connection = desk.connections.last_mut().expect("after hello");
    connection.seen.push(seen);
    let covered = connection.is_covered();
    let same_log = desk.cursor.as_ref().filter(|(known, _)| known == epoch);
    let stands_at = same_log.map_or(0, |(_, offset)| *offset);
    if let Some(offset) = cursor.filter(|offset| covered && *offset >= stands_at) {
        desk.cursor = Some((epoch.to_owned(), offset));
    }
    drop(desk);
    shared.1.notify_all();
}

/// What a dashboard has been told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    pub alerts: usize,
    pub snapshots: usize,
    pub gaps: usize,
    /// Everything up to here has been told.
    pub up_to: i64,
}

/// Over all its connections it was told every change of the log that is not quiet once and in order,
/// or had a snapshot in its place, and nothing that is not in the log.
pub fn assert_told_the_log(connections: &[Connection], file: &mut File) -> Coverage {
    assert!(connections.windows(2).all(|pair| pair[0].epoch == pair[1].epoch), "the epoch changed");
    assert_told_the_logs(connections, file)
}

/// The same where the epoch may change: it was told so and began anew.
pub fn assert_told_the_logs(connections: &[Connection], file: &mut File) -> Coverage {
    let log = read_log(file);
    // Offsets of an earlier epoch may be others in the log that is stored now.
    let unknown = BTreeMap::new();
    let mut told = Coverage::default();
    let mut epoch = connections.first().map(|first| &first.epoch);
    for (number, connection) in connections.iter().enumerate() {
        let anew = epoch.replace(&connection.epoch) != Some(&connection.epoch);
        let present = connections.last().map(|last| &last.epoch) == Some(&connection.epoch);
        if let Some(since) = connection.since {
            assert_eq!(since, told.up_to, "connection {number} goes on where the last one stopped");
        }
        // A gap, or a first subscription, is followed by a snapshot.
        let mut covered = connection.since.is_some();
        for seen in &connection.seen {
            match seen {
                Seen::Gap { from, to } => {
                    told.up_to *= i64::from(!(anew && *from == 1));
                    assert!(*from == told.up_to + 1 && (to >= from || anew && *to == 0), "{seen:?} {told:?}");
                    (covered, told.gaps) = (false, told.gaps + 1);
                }
                Seen::Snapshot { offset, alert_ids } => {
                    assert!(!covered && *offset >= told.up_to, "a snapshot nobody asked for: {seen:?}");
                    if present {
                        assert_eq!(*alert_ids, open_at(&log, *offset), "what was open at {offset}");
                    }
                    (covered, told.snapshots, told.up_to) = (true, told.snapshots + 1, *offset);
                }
                Seen::Alert(alert) => {
                    assert!(covered, "a snapshot comes first: {seen:?}");
                    if present {
                        let stored = log.get(&alert.offset).map(|it| (&it.transition, &it.alert_id));
                        assert_eq!(stored, Some((&alert.transition, &alert.alert_id)), "{alert:?}");
                    }
                    assert!(alert.offset > told.up_to, "{alert:?} after {}", told.up_to);
                    told.skip_to(alert.offset - 1, if present { &log } else { &unknown });
                    (told.alerts, told.up_to) = (told.alerts + 1, alert.offset);
                }
                // Before the answer to its subscription it is told an offset of no use.
                Seen::UpTo(offset) if covered && *offset > told.up_to => {
                    told.skip_to(*offset, if present { &log } else { &unknown });
                }
                Seen::UpTo(_) => {}
            }
        }
    }
    told
}

impl Coverage {
    /// Nothing up to `offset` that it had to be told is missing.
    fn skip_to(&mut self, offset: i64, log: &BTreeMap<i64, Change>) {
        assert!(offset >= self.up_to, "told up to {offset} after {}", self.up_to);
        let missing: Vec<i64> = log
            .range((Bound::Excluded(self.up_to), Bound::Included(offset)))
            .filter(|(_, change)| !change.quiet)
            .map(|(offset, _)| *offset)
            .collect();
        assert!(missing.is_empty(), "changes {missing:?} were passed over on the way to {offset}");
        self.up_to = offset;
    }
}

struct Change {
    transition: String,
    alert_id: String,
    quiet: bool,
}

fn read_log(file: &mut File) -> BTreeMap<i64, Change> {
    let rows = file.texts(
        "SELECT change_offset || ' ' || transition || ' ' || alert_id || ' ' || \
         CASE WHEN quiet THEN 1 ELSE 0 END AS value FROM alert_change",
    );
    let read = |row: &String| {
        let words: Vec<&str> = row.split(' ').collect();
        let change =
            Change { transition: words[1].into(), alert_id: words[2].into(), quiet: words[3] == "1" };
        (words[0].parse().expect("an offset"), change)
    };
    rows.iter().map(read).collect()
}

fn open_at(log: &BTreeMap<i64, Change>, offset: i64) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for change in log.range(..=offset).map(|(_, change)| change) {
        if change.transition == "resolved" {
            open.remove(&change.alert_id);
        } else {
            open.insert(change.alert_id.clone());
        }
    }
    open
}
