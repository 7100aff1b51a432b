//! Many watches in simulated time, in one thread, against whatever answers their requests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;

use futures_util::future::join_all;

use crate::exchange::{Answer, Request, RequestId};
use crate::network::{LATENCY_MIN_MS, Network, WayOut};
use crate::watch::Watch;

/// A request that has reached the server.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Index of the watch.
    pub watch: usize,
    /// True time, milliseconds since 1970. Never earlier than that of the arrival before.
    pub at_ms: i64,
    pub request: Request,
}

#[derive(Debug)]
enum Step {
    Wake,
    Arrive { sent_ms: i64, request: Box<Request> },
    Answer(RequestId, Answer),
}

/// Runs watches over simulated time. What they do follows from their seeds, that of the network, and
/// the answers.
///
/// Requests that arrive within 50 ms of each other are handed to the server together, so it sees them
/// overlap; the order in which it answers those makes no difference to the watches.
#[derive(Debug)]
pub struct VirtualClock {
    pub watches: Vec<Watch>,
    pub network: Network,
    now_ms: i64,
    /// Time, order of making, watch.
    queue: BinaryHeap<Reverse<(i64, u64, usize)>>,
    steps: BTreeMap<u64, Step>,
    made: u64,
    /// The wake-up that counts, per watch.
    wakes: Vec<Option<(i64, u64)>>,
}

impl VirtualClock {
    pub fn new(watches: Vec<Watch>, network: Network, start_ms: i64) -> Self {
        let mut clock = Self {
            wakes: vec![None; watches.len()],
            watches,
            network,
            now_ms: start_ms,
            queue: BinaryHeap::new(),
            steps: BTreeMap::new(),
            made: 0,
        };
        (0..clock.watches.len()).for_each(|watch| clock.schedule_wake(watch));
        clock
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Runs until `end_ms`; what comes then or later waits for the next call. Every request that
    /// reaches the server is given to `server`, in order of arrival.
    pub async fn run_until<F, A>(&mut self, end_ms: i64, mut server: F)
    where
        F: FnMut(Arrival) -> A,
        A: Future<Output = Answer>,
    {
        while let Some(begin_ms) = self.next_ms().filter(|at_ms| *at_ms < end_ms) {
            // Nothing that is sent or answered in this step has an effect elsewhere before its end.
            let step_end_ms = (begin_ms + LATENCY_MIN_MS).min(end_ms);
            let (mut asked, mut arrived) = (Vec::new(), Vec::new());
            while self.next_ms().is_some_and(|at_ms| at_ms < step_end_ms) {
                let Some(Reverse((at_ms, order, watch))) = self.queue.pop() else { break };
                let Some(step) = self.steps.remove(&order) else { continue };
                self.now_ms = self.now_ms.max(at_ms);
                match step {
                    Step::Wake if self.wakes[watch] != Some((at_ms, order)) => continue,
                    Step::Wake => {
                        self.wakes[watch] = None;
                        self.watches[watch].advance(at_ms);
                    }
                    Step::Answer(id, answer) => self.watches[watch].answer(at_ms, id, &answer),
                    Step::Arrive { sent_ms, request } => {
                        arrived.push((watch, sent_ms, at_ms, request.id, request.timeout_ms));
                        asked.push(server(Arrival { watch, at_ms, request: *request }));
                        continue;
                    }
                }
                self.send_all(watch, at_ms);
            }
            let answers = join_all(asked).await;
            for ((watch, sent_ms, at_ms, id, timeout_ms), answer) in arrived.into_iter().zip(answers) {
                let (back_ms, got_it) = self.network.way_back(watch, (sent_ms, at_ms), timeout_ms);
                let answer = if got_it { answer } else { Answer::Failed };
                self.push(back_ms, watch, Step::Answer(id, answer));
            }
        }
        self.now_ms = self.now_ms.max(end_ms);
    }

    /// Makes something happen to a watch now.
    pub fn happen(&mut self, watch: usize, occurrence: crate::Occurrence) {
        self.watches[watch].happen(self.now_ms, occurrence);
        self.send_all(watch, self.now_ms);
    }

    fn next_ms(&self) -> Option<i64> {
        self.queue.peek().map(|Reverse((at_ms, ..))| *at_ms)
    }

    fn push(&mut self, at_ms: i64, watch: usize, step: Step) -> u64 {
        let order = self.made;
        self.made += 1;
        self.steps.insert(order, step);
        self.queue.push(Reverse((at_ms, order, watch)));
        order
    }

    /// Puts what a watch wants to send onto the network, and its next wake-up into the queue.
    fn send_all(&mut self, watch: usize, at_ms: i64) {
        while let Some(request) = self.watches[watch].next_request() {
            let failed = Step::Answer(request.id, Answer::Failed);
            match self.network.way_out(watch, at_ms, request.timeout_ms) {
                WayOut::Arrives(arrives_ms) => {
                    let step = Step::Arrive { sent_ms: at_ms, request: Box::new(request) };
                    self.push(arrives_ms, watch, step);
                }
                WayOut::Fails(fails_ms) => {
                    self.push(fails_ms, watch, failed);
                }
                WayOut::Refused503(answered_ms) => {
                    let step = Step::Answer(request.id, Answer::status(503));
                    self.push(answered_ms, watch, step);
                }
            }
        }
        self.schedule_wake(watch);
    }

    fn schedule_wake(&mut self, watch: usize) {
        let at_ms = self.watches[watch].wakes_at();
        if at_ms < i64::MAX && self.wakes[watch].is_none_or(|(known_ms, _)| known_ms != at_ms) {
            let order = self.push(at_ms, watch, Step::Wake);
            self.wakes[watch] = Some((at_ms, order));
        }
    }
}
