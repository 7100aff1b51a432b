//! The closed loop: every connection sends its next request when it has the last answer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;

use crate::body::{Kind, Template};
use crate::connection::{Answer, Connection};
use crate::fleet::Lane;
use crate::stats::{Answers, Failure, Latencies};

/// Between the call and the first request, for connecting.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);
/// A server that has not answered everything this long after the end has failed: it promises an
/// answer within 5 s.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// After a broken connection, before the next attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub server: SocketAddr,
    pub threads: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// How a target is spoken to.
#[derive(Clone, Copy)]
pub struct Dialect {
    pub template: fn(Kind, SocketAddr) -> Template,
    pub success: fn(&Answer<'_>) -> bool,
}

impl Dialect {
    /// That of watches.
    pub const WATCH: Self = Self { template: Template::new, success: |answer| answer.is_success() };
}

/// A dialect for one server.
struct Speech {
    templates: [Template; Kind::ALL.len()],
    success: fn(&Answer<'_>) -> bool,
}

/// A run on its way.
pub struct Running {
    /// What is sent from here on is measured.
    pub measured_from: Instant,
    threads: Vec<oneshot::Receiver<anyhow::Result<Share>>>,
}

/// What a run has come to.
pub struct Round {
    /// Of successes that were sent after the warm-up.
    pub latencies: Latencies,
    /// Warm-up included.
    pub answers: Answers,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// As they were left, for the next run.
    pub lanes: Vec<Lane>,
}

#[derive(Clone, Copy)]
struct Schedule {
    begin: Instant,
    measured_from: Instant,
    end: Instant,
}

struct Share {
    tally: Tally,
    lanes: Vec<Lane>,
}

struct Tally {
    latencies: Latencies,
    answers: Answers,
    last_answer: Instant,
}

/// Starts the generator's threads; one connection per lane.
pub fn start(load: &Load, lanes: Vec<Lane>) -> anyhow::Result<Running> {
    start_in(Dialect::WATCH, load, lanes)
}

/// The same for a target that is not spoken to as watches do.
pub fn start_in(dialect: Dialect, load: &Load, lanes: Vec<Lane>) -> anyhow::Result<Running> {
    let begin = Instant::now() + CONNECT_WITHIN;
    let measured_from = begin + load.warm_up;
    let schedule = Schedule { begin, measured_from, end: measured_from + load.measured };
    let mut shares: Vec<Vec<Lane>> = vec![Vec::new(); load.threads.max(1)];
    for (index, lane) in lanes.into_iter().enumerate() {
        let share = index % shares.len();
        shares[share].push(lane);
    }
    let server = load.server;
    let threads = shares.into_iter().map(|lanes| {
        let (done, result) = oneshot::channel();
        std::thread::Builder::new().name("generator".into()).spawn(move || {
            // Nobody waits any more if the run was interrupted.
            let _ = done.send(run_share(server, dialect, schedule, lanes));
        })?;
        Ok(result)
    });
    Ok(Running { measured_from, threads: threads.collect::<anyhow::Result<_>>()? })
}

impl Running {
    pub async fn finish(self) -> anyhow::Result<Round> {
        let mut round = Round {
            latencies: Latencies::new(),
            answers: Answers::default(),
            elapsed: Duration::ZERO,
            lanes: Vec::new(),
        };
        for thread in self.threads {
            let share = thread.await.context("a generator thread died")??;
            round.latencies.merge(&share.tally.latencies);
            round.answers.merge(&share.tally.answers);
            let elapsed = share.tally.last_answer.saturating_duration_since(self.measured_from);
            round.elapsed = round.elapsed.max(elapsed);
            round.lanes.extend(share.lanes);
        }
        Ok(round)
    }
}

fn run_share(
    server: SocketAddr,
    dialect: Dialect,
    schedule: Schedule,
    lanes: Vec<Lane>,
) -> anyhow::Result<Share> {
    let templates = Kind::ALL.map(|kind| (dialect.template)(kind, server));
    let speech = Rc::new(Speech { templates, success: dialect.success });
    let tally = Rc::new(RefCell::new(Tally {
        latencies: Latencies::new(),
        answers: Answers::default(),
        last_answer: schedule.measured_from,
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    let lanes = tasks.block_on(&runtime, async {
        let loops: Vec<_> = lanes
            .into_iter()
            .map(|lane| {
                tokio::task::spawn_local(run_lane(server, schedule, lane, speech.clone(), tally.clone()))
            })
            .collect();
        let patience = schedule.end + ANSWERS_WITHIN - Instant::now();
        tokio::time::timeout(patience, futures_util::future::try_join_all(loops))
            .await
            .with_context(|| format!("not every request was answered within {ANSWERS_WITHIN:?} of the end"))?
            .context("a connection's loop")
    })?;
    drop(tasks);
    let lanes = lanes.into_iter().collect::<anyhow::Result<Vec<Lane>>>()?;
    let tally = Rc::into_inner(tally).context("a connection's loop is still running")?.into_inner();
    Ok(Share { tally, lanes })
}

async fn run_lane(
    server: SocketAddr,
    schedule: Schedule,
    mut lane: Lane,
    speech: Rc<Speech>,
    tally: Rc<RefCell<Tally>>,
) -> anyhow::Result<Lane> {
    let mut connection = Connection::open(server).await.with_context(|| format!("connect to {server}"))?;
    let mut request = Vec::new();
    tokio::time::sleep_until(schedule.begin.into()).await;
    loop {
        let upload = lane.next();
        speech.templates[upload.kind as usize].write(upload.device, upload.at_s, &mut request);
        let sent = Instant::now();
        if sent >= schedule.end {
            return Ok(lane);
        }
        let outcome = match connection.exchange(&request).await {
            Ok(answer) if (speech.success)(&answer) => Ok(answer.body.len()),
            Ok(answer) if answer.status == 200 => Err(Failure::NotSuccess),
            Ok(answer) => Err(Failure::Status(answer.status)),
            Err(_) => Err(Failure::Broken),
        };
        let answered = Instant::now();
        {
            let mut tally = tally.borrow_mut();
            tally.last_answer = tally.last_answer.max(answered);
            match outcome {
                Ok(body_bytes) => {
                    tally.answers.success(upload.kind, body_bytes);
                    if sent >= schedule.measured_from {
                        tally.latencies.record(answered - sent);
                    }
                }
                Err(failure) => tally.answers.failure(failure),
            }
        }
        if outcome == Err(Failure::Broken) {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            connection =
                Connection::open(server).await.with_context(|| format!("connect to {server} again"))?;
        }
    }
}
