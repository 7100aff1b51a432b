//! The simulated watches of a run: each on kept connections of its own, by its own timers.
//!
//! The simulator's own driver gives every watch a task and tokio's timers, which are good to a
//! millisecond; here one clock wakes all of them within some 50 µs, and every request is entered in
//! the ledger with the time at which its watch wanted to send it.

mod carried;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Notify;
use watch_simulator::{Answer, Item, Left, Profile, Purpose, Rates, Request, Watch};

use super::engine::{Engine, start_up};
use super::lane::{contains, event_id};
use super::ledger::{Failure, Made, Promised};
use super::pacer::{Clock, Random};
use super::request::{Fleet, Key, Kind};
use super::scenario::Simulated;
use crate::connection::{self, Connection};
use carried::Carried;

/// Connections that are being made at the same time.
const CONNECTING_MAX: usize = 64;
/// Connections that a watch keeps without using them, as its HTTP library does.
const IDLE_CONNECTIONS_MAX: usize = 5;

/// All simulated watches of a run.
pub struct Watches {
    engine: Rc<Engine>,
    fleet: Fleet,
    /// Their clock when the run begins, milliseconds since 1970.
    base_ms: i64,
    speed: f64,
    nodes: Vec<RefCell<Node>>,
    /// When which wakes next, by their clock. Entries that no longer count are skipped.
    wakes: RefCell<BinaryHeap<Reverse<(i64, usize)>>>,
    changed: Notify,
    stopped: Cell<bool>,
    in_flight: Cell<usize>,
    landed: Notify,
    /// Events that have left.
    sent: RefCell<HashMap<Key, Sent>>,
}

#[derive(Clone, Copy)]
struct Sent {
    /// When the first request with it was due.
    due_ns: u64,
    /// Requests with it so far.
    times: u32,
    answered_200: bool,
}

struct Node {
    device: u32,
    watch: Watch,
    idle: Vec<Connection>,
    wakes_ms: i64,
    /// Items that it made before the run, which the server never saw.
    made_before: usize,
}

impl Watches {
    /// Connects all of them and brings each to where it is when the run begins.
    pub async fn start(
        settings: &Simulated,
        seed: u64,
        engine: &Rc<Engine>,
        fleet: Fleet,
    ) -> anyhow::Result<Rc<Self>> {
        let on_since_ms = (settings.switched_on_over_s * 1_000.0) as u64;
        let base_ms = fleet.at_s(0) * 1_000 + on_since_ms as i64;
        let rates = Rates {
            sos_s: settings.sos_s,
            one_key_s: settings.one_key_s,
            fall_s: settings.fall_s,
            wear_s: settings.wear_s,
            ordinary_s: settings.ordinary_s,
        };
        let mut random = Random::new(seed);
        let planned: Vec<(u32, u64, i64)> = (0..settings.watches)
            .map(|watch| {
                let on_for_ms = random.below(on_since_ms.saturating_add(1)) as i64;
                (fleet.simulated_from + watch, random.next(), base_ms - on_for_ms)
            })
            .collect();
        let nodes: Vec<RefCell<Node>> = stream::iter(planned)
            .map(async |(device, seed, on_ms)| {
                let (connection, body) = start_up(engine.server, &engine.requests, device).await?;
                let serial = String::from_utf8_lossy(&fleet.serial(device)).into_owned();
                let profile = Profile { rates, ..Profile::new(serial) };
                let mut watch = Watch::new(profile, seed, on_ms);
                live_until(&mut watch, base_ms, &body);
                let made_before = watch.record().items().len();
                std::io::Result::Ok(RefCell::new(Node {
                    device,
                    watch,
                    idle: vec![connection],
                    wakes_ms: 0,
                    made_before,
                }))
            })
            .buffered(CONNECTING_MAX)
            .try_collect()
            .await
            .with_context(|| format!("switch {} watches on", settings.watches))?;
        let watches = Self {
            engine: engine.clone(),
            fleet,
            base_ms,
            speed: settings.speed,
            nodes,
            wakes: RefCell::default(),
            changed: Notify::new(),
            stopped: Cell::new(false),
            in_flight: Cell::new(0),
            landed: Notify::new(),
            sent: RefCell::default(),
        };
        (0..watches.nodes.len()).for_each(|index| watches.schedule(index));
        Ok(Rc::new(watches))
    }

    /// Wakes each when it is time, until they are stopped.
    pub async fn run(self: Rc<Self>) -> anyhow::Result<()> {
        let clock = Clock::new()?;
        while !self.stopped.get() {
            let next = self.wakes.borrow().peek().map(|Reverse(entry)| *entry);
            let Some((at_ms, index)) = next else {
                self.changed.notified().await;
                continue;
            };
            let due_ns = self.due_ns(at_ms);
            if due_ns > self.engine.now_ns() {
                let due = self.engine.start.get() + Duration::from_nanos(due_ns);
                tokio::select! {
                    woken = clock.until(due) => woken?,
                    () = self.changed.notified() => {}
                }
                continue;
            }
            self.wakes.borrow_mut().pop();
            if self.wake(index, at_ms) {
                self.send_all(index, due_ns);
                self.schedule(index);
            }
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    /// False for an entry that no longer counts.
    fn wake(&self, index: usize, at_ms: i64) -> bool {
        let mut node = self.nodes[index].borrow_mut();
        let counts = node.wakes_ms == at_ms;
        if counts {
            node.wakes_ms = i64::MIN;
            node.watch.advance(at_ms);
        }
        counts
    }

    /// Nothing is begun any more.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.changed.notify_one();
    }

    /// Waits for what is under way, and enters what became of everything.
    pub async fn finish(&self, within: Duration) {
        let landed = async {
            while self.in_flight.get() > 0 {
                self.landed.notified().await;
            }
        };
        // What has no answer by then has been entered as unsure when it was sent.
        let _ = tokio::time::timeout(within, landed).await;
        let mut made = Made::default();
        for node in &self.nodes {
            let node = node.borrow();
            node.watch.record().items().iter().skip(node.made_before).for_each(|item| made.add(item));
        }
        self.engine.ledger.borrow_mut().simulated = Some(made);
    }

    /// When that time of the watches' clock comes, nanoseconds since the start of the run.
    fn due_ns(&self, at_ms: i64) -> u64 {
        let ms = at_ms.saturating_sub(self.base_ms).max(0) as f64 / self.speed;
        (ms * 1e6) as u64
    }

    fn now_ms(&self) -> i64 {
        self.base_ms + (self.engine.now_ns() as f64 / 1e6 * self.speed) as i64
    }

    fn schedule(&self, index: usize) {
        let mut node = self.nodes[index].borrow_mut();
        let wakes_ms = node.watch.wakes_at();
        if node.wakes_ms != wakes_ms {
            node.wakes_ms = wakes_ms;
            self.wakes.borrow_mut().push(Reverse((wakes_ms, index)));
            self.changed.notify_one();
        }
    }

    fn send_all(self: &Rc<Self>, index: usize, due_ns: u64) {
        if self.stopped.get() {
            return;
        }
        while let Some(request) = self.nodes[index].borrow_mut().watch.next_request() {
            self.in_flight.set(self.in_flight.get() + 1);
            tokio::task::spawn_local(self.clone().carry(index, request, due_ns));
        }
    }

    /// Sends one request, enters how it ended, and tells the watch.
    async fn carry(self: Rc<Self>, index: usize, request: Request, due_ns: u64) {
        let device = self.nodes[index].borrow().device;
        let carried = Carried::read(&request, device, &self.fleet);
        let answer = match self.engine.gate_open.get() {
            true => self.exchange(index, &request, &carried, due_ns).await,
            // Nothing gets through.
            false => Answer::Failed,
        };
        let now_ms = self.now_ms();
        if answer.is_ok() {
            self.note_replayed(index, &request);
        }
        self.nodes[index].borrow_mut().watch.answer(now_ms, request.id, &answer);
        self.in_flight.set(self.in_flight.get() - 1);
        self.landed.notify_one();
        self.send_all(index, self.engine.now_ns());
        self.schedule(index);
    }

    async fn exchange(&self, index: usize, request: &Request, carried: &Carried, due_ns: u64) -> Answer {
        let engine = &self.engine;
        let bytes = request.to_http(&engine.server.to_string());
        let (sent_ns, phase) = (engine.now_ns(), engine.phase());
        engine.ledger.borrow_mut().lag.record(super::ledger::since(due_ns, sent_ns));
        engine.live.sent.fetch_add(1, Relaxed);
        self.leaves(carried, due_ns);
        let kept = {
            let mut node = self.nodes[index].borrow_mut();
            node.idle.retain(|connection| !connection.is_stale());
            node.idle.pop()
        };
        let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
        let attempt = tokio::time::timeout(patience, async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(engine.server).await?,
            };
            let answer = connection.exchange(&bytes).await?;
            let (status, body) = (answer.status, answer.body.to_vec());
            std::io::Result::Ok((status, body, connection))
        });
        let outcome = attempt.await;
        let now_ns = engine.now_ns();
        let failed = |failure| {
            engine.ledger.borrow_mut().failure(phase, failure, sent_ns, now_ns);
            engine.live.failed.fetch_add(1, Relaxed);
        };
        let (status, body) = match outcome {
            Ok(Ok((status, body, connection))) => {
                let mut node = self.nodes[index].borrow_mut();
                if node.idle.len() < IDLE_CONNECTIONS_MAX {
                    node.idle.push(connection);
                }
                (status, body)
            }
            Ok(Err(_)) => {
                failed(Failure::Broken);
                return Answer::Failed;
            }
            Err(_) => {
                failed(Failure::TimedOut);
                return Answer::Failed;
            }
        };
        let asks = matches!(carried.first.kind(), Kind::Messages | Kind::Config);
        match status {
            200 if asks || (connection::Answer { status, body: &body }).is_success() => {
                engine.ledger.borrow_mut().success(phase, carried.first, due_ns, sent_ns, now_ns);
                engine.live.succeeded.fetch_add(1, Relaxed);
                engine.live.record(now_ns.saturating_sub(due_ns));
                self.promised(carried, &body, phase);
            }
            200 => failed(Failure::NotSuccess),
            503 => failed(Failure::Refused),
            status => failed(Failure::Status(status)),
        }
        // The watch looks at the status alone.
        Answer::Status { status, body }
    }

    /// From now on the server may have it.
    fn leaves(&self, carried: &Carried, due_ns: u64) {
        self.engine.ledger.borrow_mut().unsure.extend(&carried.rows);
        if let Some(event) = carried.event {
            let mut sent = self.sent.borrow_mut();
            sent.entry(event).or_insert(Sent { due_ns, times: 0, answered_200: false }).times += 1;
        }
    }

    fn promised(&self, carried: &Carried, body: &[u8], phase: u8) {
        let mut ledger = self.engine.ledger.borrow_mut();
        ledger.promised.extend(&carried.rows);
        let Some(event) = carried.event else { return };
        let mut events = self.sent.borrow_mut();
        let Some(sent) = events.get_mut(&event) else { return };
        if contains(body, br#""duplicate":true"#) {
            ledger.repeated += 1;
            // A ring may be replayed while the event itself is still under way.
            if sent.times == 1 {
                ledger.false_duplicates.push(event);
            }
        }
        if event.kind() == Kind::Sos && !std::mem::replace(&mut sent.answered_200, true) {
            let event_id = event_id(body).unwrap_or_default();
            ledger.critical.push(Promised { key: event, event_id, due_ns: sent.due_ns, phase });
        }
    }

    /// What an outage had held back has reached the server.
    fn note_replayed(&self, index: usize, request: &Request) {
        use Purpose::{DeviceReplay, EventReplay, HealthBatch};
        let Some(reopened_ns) = self.engine.reopened_ns.get() else { return };
        let reopened_ms = self.base_ms + (reopened_ns as f64 / 1e6 * self.speed) as i64;
        let node = self.nodes[index].borrow();
        let items = node.watch.record().items();
        let held = request.items.iter().any(|item| items[*item].made_ms < reopened_ms);
        if held && matches!(request.purpose, HealthBatch | DeviceReplay | EventReplay) {
            let mut ledger = self.engine.ledger.borrow_mut();
            ledger.replayed_ns = ledger.replayed_ns.max(Some(self.engine.now_ns()));
        }
    }
}

impl Made {
    fn add(&mut self, item: &Item) {
        self.made += 1;
        let count = match (item.confirmed_ms, item.left) {
            (Some(_), _) => &mut self.answered_200,
            (None, None) => &mut self.waiting,
            (None, Some((_, Left::DroppedOldest))) => &mut self.dropped,
            (None, Some(_)) => &mut self.cleared,
        };
        *count += 1;
    }
}

/// Lets a watch live with a server that answers everything 200, of which the real one sees nothing.
fn live_until(watch: &mut Watch, until_ms: i64, settings: &[u8]) {
    while watch.wakes_at() < until_ms {
        let now_ms = watch.wakes_at();
        watch.advance(now_ms);
        while let Some(request) = watch.next_request() {
            let answer = match request.purpose {
                Purpose::Settings => Answer::Status { status: 200, body: settings.to_vec() },
                _ => Answer::status(200),
            };
            watch.answer(now_ms, request.id, &answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use watch_simulator::Kind as Ring;

    use super::*;

    const START_MS: i64 = 1_790_000_000_000;

    #[test]
    fn a_watch_that_has_been_on_for_a_while_has_nothing_left_to_send() {
        let profile = Profile { rates: Rates { ordinary_s: 60, ..Rates::NEVER }, ..Profile::new("X1") };
        let mut watch = Watch::new(profile, 5, START_MS);
        live_until(&mut watch, START_MS + 600_000, b"not settings, so those built in are used");
        assert!(watch.wakes_at() >= START_MS + 600_000);
        assert!(watch.next_request().is_none());
        let mut made = Made::default();
        watch.record().items().iter().for_each(|item| made.add(item));
        assert!(made.made > 5, "{made:?}");
        assert_eq!((made.answered_200, made.waiting), (made.made, 0), "{made:?}");
        assert_eq!(watch.waiting(Ring::Event), 0);
    }
}
