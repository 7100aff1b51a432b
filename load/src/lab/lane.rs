//! One connection and the watches that share it: one request at a time, the rest waits in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Notify;

use super::engine::Engine;
use super::ledger::{Failure, Ledger, Promised, since};
use super::request::{Key, Kind, uuid};
use super::scenario::Scenario;
use crate::connection::{Answer, Connection};

/// A watch gives an answer up after this.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// After a broken connection, before the next attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// One request to send.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub key: Key,
    pub due_ns: u64,
    pub phase: u8,
    /// How often it has been sent already.
    pub tries: u32,
    /// An outage held it back.
    pub held: bool,
}

pub struct Lane {
    index: u32,
    stride: u32,
    devices: u32,
    turn: Cell<u32>,
    queue: RefCell<VecDeque<Job>>,
    /// Sent, not answered.
    in_flight: Cell<Option<Job>>,
    pub wake: Notify,
    /// It is among [`Engine::idle`], and has not been given anything since.
    pub is_idle: Cell<bool>,
}

impl Lane {
    pub fn new(index: u32, scenario: &Scenario) -> Self {
        let stride = scenario.connections();
        Self {
            index,
            stride,
            devices: (scenario.watches - index).div_ceil(stride).max(1),
            turn: Cell::new(0),
            queue: RefCell::default(),
            in_flight: Cell::new(None),
            wake: Notify::new(),
            is_idle: Cell::new(false),
        }
    }

    /// The watches of a connection take turns.
    pub fn next_device(&self) -> u32 {
        let turn = self.turn.get();
        self.turn.set((turn + 1) % self.devices);
        self.index + turn * self.stride
    }

    /// Into the queue; while nothing gets through, into the ring, whose oldest goes.
    pub fn push(&self, engine: &Engine, mut job: Job) {
        let mut queue = self.queue.borrow_mut();
        if !engine.gate_open.get() {
            job.held = true;
            if queue.len() >= engine.ring * self.devices as usize {
                queue.pop_front();
                engine.waiting.set(engine.waiting.get() - 1);
                engine.ledger.borrow_mut().dropped += 1;
            }
        }
        queue.push_back(job);
        engine.waiting.set(engine.waiting.get() + 1);
        self.wake.notify_one();
    }

    /// The outage is over: what it held back is due now, and counts for this phase.
    pub fn release(&self, now_ns: u64, phase: u8) {
        for job in self.queue.borrow_mut().iter_mut() {
            (job.due_ns, job.phase, job.held) = (now_ns, phase, true);
        }
    }

    /// Enters what is left when the run ends.
    pub fn leave(&self, ledger: &mut Ledger) {
        for job in self.queue.borrow_mut().drain(..) {
            match job.tries {
                0 => ledger.unsent += 1,
                _ => ledger.unsure.push(job.key),
            }
        }
        ledger.unsure.extend(self.in_flight.take().map(|job| job.key));
    }

    /// The oldest that its watch still wants to send: it has given up what found no free connection.
    fn take(&self, engine: &Engine) -> Option<Job> {
        loop {
            let job = self.queue.borrow_mut().pop_front()?;
            engine.waiting.set(engine.waiting.get() - 1);
            let now_ns = engine.now_ns();
            if job.tries > 0 || job.held || since(job.due_ns, now_ns) <= engine.give_up {
                return Some(job);
            }
            engine.ledger.borrow_mut().failure(job.phase, Failure::NeverSent, now_ns, now_ns);
            engine.live.failed.fetch_add(1, Relaxed);
        }
    }

    /// `None` at the end.
    async fn next(&self, engine: &Engine) -> Option<Job> {
        loop {
            if engine.gate_open.get() {
                if let Some(job) = self.take(engine) {
                    return Some(job);
                }
                if let Some(closed) = engine.closed.get().filter(|closed| self.index < closed.connections) {
                    let due_ns = engine.now_ns();
                    if due_ns < closed.end_ns {
                        let key = engine.key(engine.draw(), self.next_device());
                        return Some(Job { key, due_ns, phase: closed.phase, tries: 0, held: false });
                    }
                }
                if engine.ending.get() {
                    return None;
                }
            }
            if !self.is_idle.replace(true) {
                engine.idle.borrow_mut().push_back(self.index);
            }
            self.wake.notified().await;
        }
    }
}

/// Sends what the lane has until the run ends.
pub async fn run(engine: Rc<Engine>, lane: Rc<Lane>, mut connection: Option<Connection>) {
    let mut request = Vec::new();
    while let Some(mut job) = lane.next(&engine).await {
        engine.requests.write(job.key, &mut request);
        let sent_ns = engine.now_ns();
        if job.tries == 0 {
            engine.ledger.borrow_mut().lag.record(since(job.due_ns, sent_ns));
        }
        engine.live.sent.fetch_add(1, Relaxed);
        lane.in_flight.set(Some(job));
        let failed = exchange(&engine, &mut connection, &request, job, sent_ns).await;
        lane.in_flight.set(None);
        let Some(failure) = failed else { continue };
        job.tries += 1;
        engine.live.failed.fetch_add(1, Relaxed);
        let retry = !engine.retry.is_zero() && failure != Failure::RefusedAgain;
        if retry {
            lane.queue.borrow_mut().push_front(job);
            engine.waiting.set(engine.waiting.get() + 1);
            tokio::time::sleep(engine.retry).await;
        } else {
            engine.ledger.borrow_mut().unsure.push(job.key);
        }
        if connection.is_none() && !retry {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

/// Sends one request and enters its answer. What went wrong, if it was no success; the connection
/// is gone if it is of no more use.
async fn exchange(
    engine: &Engine,
    connection: &mut Option<Connection>,
    request: &[u8],
    job: Job,
    sent_ns: u64,
) -> Option<Failure> {
    let attempt = async {
        // As every HTTP client does: a connection that the server closed while it was idle is no
        // failure of this request.
        if connection.as_ref().is_none_or(Connection::is_stale) {
            *connection = None;
            *connection = Connection::open(engine.server).await.ok();
        }
        let open = connection.as_mut().ok_or(Failure::Broken)?;
        let answer = open.exchange(request).await.map_err(|_| Failure::Broken)?;
        enter(engine, job, sent_ns, &answer)
    };
    let outcome = tokio::time::timeout(ANSWER_WITHIN, attempt).await.unwrap_or(Err(Failure::TimedOut));
    let failure = outcome.err()?;
    if matches!(failure, Failure::Broken | Failure::TimedOut) {
        *connection = None;
    }
    engine.ledger.borrow_mut().failure(job.phase, failure, sent_ns, engine.now_ns());
    Some(failure)
}

/// Enters a success, or says why it is none.
fn enter(engine: &Engine, job: Job, sent_ns: u64, answer: &Answer<'_>) -> Result<(), Failure> {
    let now_ns = engine.now_ns();
    let mut ledger = engine.ledger.borrow_mut();
    let kind = job.key.kind();
    let accepted = match answer.status {
        200 if matches!(kind, Kind::Messages | Kind::Config) => true,
        200 => answer.is_success(),
        400 if kind == Kind::Corpus => {
            if !ledger.is_first_400(job.key.nth(), sent_ns, now_ns) {
                return Err(Failure::RefusedAgain);
            }
            true
        }
        503 => return Err(Failure::Refused),
        status => return Err(Failure::Status(status)),
    };
    if !accepted {
        return Err(Failure::NotSuccess);
    }
    ledger.success(job.phase, job.key, job.due_ns, sent_ns, now_ns);
    engine.live.succeeded.fetch_add(1, Relaxed);
    engine.live.record(now_ns.saturating_sub(job.due_ns));
    if job.held {
        ledger.replayed_ns = ledger.replayed_ns.max(Some(now_ns));
    }
    if kind == Kind::Corpus {
        ledger.corpus_events.extend(event_id(answer.body));
        return Ok(());
    }
    if !kind.is_stored() {
        return Ok(());
    }
    if contains(answer.body, br#""duplicate":true"#) {
        ledger.repeated += 1;
        // Sent once, and taken for something that was there before.
        if job.tries == 0 {
            ledger.false_duplicates.push(job.key);
        }
    }
    ledger.promised.push(job.key);
    if kind == Kind::Sos {
        let event_id = event_id(answer.body).unwrap_or_default();
        let promised = Promised { key: job.key, event_id, due_ns: job.due_ns, phase: job.phase };
        ledger.critical.push(promised);
    }
    Ok(())
}

pub fn event_id(body: &[u8]) -> Option<u128> {
    const NAME: &[u8] = br#""event_id":""#;
    let at = body.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    uuid(body.get(at..at + 36)?)
}

pub fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watches_of_a_connection_take_turns_and_no_two_share_one() {
        let text = "name = 'x'\nabout = 'x'\nwatches = 10\nconnections = 4\nmix = { sos = 1 }\n\
                    [[phase]]\nname = 'a'\nseconds = 1\nrate = 1\n";
        let scenario = Scenario::parse(text).expect("a scenario");
        let mut all: Vec<u32> = Vec::new();
        for index in 0..4 {
            let lane = Lane::new(index, &scenario);
            let turn: Vec<u32> = (0..lane.devices).map(|_| lane.next_device()).collect();
            assert_eq!(lane.next_device(), turn[0]);
            all.extend(turn);
        }
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_event_is_read_from_an_answer() {
        let body = br#"{"alert_id":"9","event_id":"01a206b7-c2e0-8438-9321-4a9e5a7a95ed"}"#;
        assert_eq!(event_id(body), Some(0x01a206b7c2e0843893214a9e5a7a95ed));
        assert_eq!(event_id(br#"{"event_id":null}"#), None);
    }
}
