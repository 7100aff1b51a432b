//! The one timer thread of a watch: a tick every 5 s, its jobs one after the other, each waiting for
//! the server.

use std::collections::VecDeque;

use crate::exchange::{Answer, Purpose, RequestId};
use crate::messages;
use crate::record::{Kind, Left};
use crate::ring::Waiting;
use crate::watch::{UPLOAD_TIMEOUT_MS, Watch, seconds};

/// From the start of one tick to the start of the next, unless its jobs take longer, in milliseconds.
pub const TICK_MS: i64 = 5_000;
/// What waits in the rings is sent again every 24 ticks: 120 s.
pub const REPLAY_TICKS: u64 = 24;
/// A day; then the counter begins anew.
const TICKS_MAX: u64 = 17_280;
/// For a poll, in milliseconds.
const POLL_TIMEOUT_MS: i64 = 5_000;

#[derive(Debug, Clone)]
enum Job {
    Upload(Kind),
    Poll,
    Reply(String),
    ReplayHealth,
    /// Of device reports or events: what waited when the job began.
    Replay(Kind),
}

/// Health records that are sent together, and how often that was tried.
#[derive(Debug, Clone)]
struct Batch {
    json: String,
    items: Vec<usize>,
    attempts: u32,
}

#[derive(Debug, Clone)]
enum State {
    Idle,
    Upload(RequestId, Kind, usize),
    Poll(RequestId),
    Reply(RequestId),
    Batch(RequestId, Batch),
    BatchPause(i64, Batch),
    Replay(RequestId, Kind, usize, VecDeque<Waiting>),
}

#[derive(Debug, Clone)]
pub(crate) struct Timer {
    tick: u64,
    next_tick_ms: i64,
    jobs: VecDeque<Job>,
    state: State,
}

impl Timer {
    pub(crate) fn new(start_ms: i64) -> Self {
        Self { tick: 0, next_tick_ms: start_ms, jobs: VecDeque::new(), state: State::Idle }
    }

    /// `None` while it waits for an answer.
    pub(crate) fn wakes_at(&self) -> Option<i64> {
        match self.state {
            State::Idle if self.jobs.is_empty() => Some(self.next_tick_ms),
            State::Idle => Some(i64::MIN),
            State::BatchPause(until_ms, _) => Some(until_ms),
            _ => None,
        }
    }

    fn waits_for(&self) -> Option<RequestId> {
        match &self.state {
            State::Idle | State::BatchPause(..) => None,
            State::Upload(id, ..)
            | State::Poll(id)
            | State::Reply(id)
            | State::Batch(id, _)
            | State::Replay(id, ..) => Some(*id),
        }
    }
}

impl Watch {
    /// Goes on until it has to wait for time or an answer.
    pub(crate) fn run_timer(&mut self) {
        while self.is_running && self.timer.wakes_at().is_some_and(|at_ms| at_ms <= self.now_ms) {
            match std::mem::replace(&mut self.timer.state, State::Idle) {
                State::BatchPause(_, batch) => self.send_batch(batch),
                _ => match self.timer.jobs.pop_front() {
                    Some(job) => self.begin(job),
                    None => self.tick(),
                },
            }
        }
    }

    fn tick(&mut self) {
        let tick = self.timer.tick;
        self.timer.tick = (tick + 1) % TICKS_MAX;
        self.timer.next_tick_ms = self.now_ms + TICK_MS;
        // An interval below a tick never comes.
        let is_due = |interval_s: u64| {
            let ticks = seconds(interval_s) / TICK_MS;
            u64::try_from(ticks).is_ok_and(|ticks| ticks > 0 && tick.is_multiple_of(ticks))
        };
        let settings = &self.settings;
        let due = [
            (is_due(settings.health_interval_s), Job::Upload(Kind::Health)),
            (is_due(settings.device_interval_s), Job::Upload(Kind::Device)),
            (is_due(settings.message_interval_s), Job::Poll),
            (tick.is_multiple_of(REPLAY_TICKS), Job::ReplayHealth),
            (tick.is_multiple_of(REPLAY_TICKS), Job::Replay(Kind::Device)),
            (tick.is_multiple_of(REPLAY_TICKS), Job::Replay(Kind::Event)),
        ];
        self.timer.jobs.extend(due.into_iter().filter(|(is_due, _)| *is_due).map(|(_, job)| job));
    }

    fn begin(&mut self, job: Job) {
        match job {
            Job::Upload(kind) => {
                let (json, time) = self.measure(kind);
                let item = self.record.add(kind, self.now_ms, time, None);
                let id = self.upload_live(kind, &Waiting { item, json });
                self.timer.state = State::Upload(id, kind, item);
            }
            Job::Poll => {
                let target = format!("{}/receive?deviceSn={}", self.settings.message_path, self.serial());
                let id = self.send(Purpose::Poll, target, None, POLL_TIMEOUT_MS, Vec::new());
                self.timer.state = State::Poll(id);
            }
            Job::Reply(json) => {
                let id = self.post(Purpose::Reply, json, Vec::new());
                self.timer.state = State::Reply(id);
            }
            Job::ReplayHealth => {
                let waiting = self.rings[Kind::Health.index()].snapshot();
                let records: Vec<&str> = waiting.iter().map(|waiting| waiting.json.as_str()).collect();
                let json = match records.as_slice() {
                    [] => return,
                    [one] => format!("{{\"data\":{one}}}"),
                    several => format!("{{\"data\":[{}]}}", several.join(",")),
                };
                let items = waiting.iter().map(|waiting| waiting.item).collect();
                self.send_batch(Batch { json, items, attempts: 0 });
            }
            Job::Replay(kind) => {
                let waiting = self.rings[kind.index()].snapshot();
                if !waiting.is_empty() {
                    self.replay_next(kind, waiting);
                }
            }
        }
    }

    fn measure(&mut self, kind: Kind) -> (String, String) {
        let clock_ms = self.clock_ms();
        match kind {
            Kind::Health => {
                let (record, time) = self.body.record(clock_ms, &self.settings, &mut self.rng);
                (record.to_string(), time)
            }
            Kind::Device | Kind::Event => {
                let json = self.body.device(clock_ms, &self.settings, false);
                (json, crate::body::wall_clock(clock_ms))
            }
        }
    }

    fn send_batch(&mut self, mut batch: Batch) {
        batch.attempts += 1;
        let id = self.post(Purpose::HealthBatch, batch.json.clone(), batch.items.clone());
        self.timer.state = State::Batch(id, batch);
    }

    /// Sends the oldest; when all have been answered 200, the ring is cleared of everything.
    fn replay_next(&mut self, kind: Kind, mut waiting: VecDeque<Waiting>) {
        let Some(next) = waiting.pop_front() else {
            return self.clear(kind, Left::ClearedByReplay);
        };
        let purpose = if kind == Kind::Event { Purpose::EventReplay } else { Purpose::DeviceReplay };
        let id = self.post(purpose, next.json, vec![next.item]);
        self.timer.state = State::Replay(id, kind, next.item, waiting);
    }

    /// An answer that may be for the timer thread.
    pub(crate) fn timer_answer(&mut self, id: RequestId, answer: &Answer) {
        if self.timer.waits_for() != Some(id) {
            return;
        }
        let is_ok = answer.is_ok();
        match std::mem::replace(&mut self.timer.state, State::Idle) {
            State::Upload(_, kind, item) if is_ok => {
                self.record.confirmed(&[item], self.now_ms);
                self.clear(kind, Left::ClearedByLive);
            }
            State::Poll(_) => {
                if let Answer::Status { status: 200, body } = answer {
                    let replies = messages::replies(body, &self.profile.serial, self.clock_ms());
                    for reply in replies.into_iter().rev() {
                        self.timer.jobs.push_front(Job::Reply(reply));
                    }
                }
            }
            State::Batch(_, batch) if is_ok => {
                self.record.confirmed(&batch.items, self.now_ms);
                self.clear(Kind::Health, Left::ClearedByReplay);
            }
            // Pauses of 1 s, 2 s, 3 s and so on.
            State::Batch(_, batch) if batch.attempts < self.settings.upload_retry_count => {
                let until_ms = self.now_ms + i64::from(batch.attempts) * 1_000;
                self.timer.state = State::BatchPause(until_ms, batch);
            }
            State::Replay(_, kind, item, rest) if is_ok => {
                self.record.confirmed(&[item], self.now_ms);
                self.replay_next(kind, rest);
            }
            _ => {}
        }
    }
}

const _: () = assert!(POLL_TIMEOUT_MS < UPLOAD_TIMEOUT_MS);
