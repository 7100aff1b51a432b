//! Sends what a scenario says: one thread, one task per connection, one that says what is due.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::oneshot;

use super::lane::{Job, Lane, run};
use super::ledger::Ledger;
use super::live::Live;
use super::pacer::{Clock, Mix, Random, Timetable, nanos};
use super::request::{Fleet, Key, Kind, Requests};
use super::scenario::{Phase, RATE_MAX, Scenario};
use super::simulated::Watches;
use crate::connection::Connection;

/// Connections that are being made at the same time.
const CONNECTING_MAX: usize = 64;
/// After the last phase, for what is still in flight or in rings.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// What may wait for its connection, in all; beyond it arrivals are dropped and counted.
const WAITING_MAX: u64 = 1_000_000;

/// What the tasks of the engine share.
pub struct Engine {
    pub server: SocketAddr,
    pub requests: Requests,
    pub retry: Duration,
    /// Of what finds no free connection.
    pub give_up: Duration,
    pub ring: usize,
    pub ledger: RefCell<Ledger>,
    pub live: Arc<Live>,
    pub start: Cell<Instant>,
    /// Nothing gets through while it is closed.
    pub gate_open: Cell<bool>,
    pub closed: Cell<Option<ClosedLoop>>,
    /// Lanes end when they have nothing left to send.
    pub ending: Cell<bool>,
    pub waiting: Cell<u64>,
    /// Lanes without a request, the longest idle first: an arrival takes the next of them, as a
    /// watch that waits for an answer does not send.
    pub idle: RefCell<VecDeque<u32>>,
    /// When the last outage ended.
    pub reopened_ns: Cell<Option<u64>>,
    pub next_nth: RefCell<Vec<u32>>,
    pub random: RefCell<Random>,
    pub mix: Mix,
    pub corpus_bodies: u64,
    pub corpus_sent: Cell<u64>,
}

#[derive(Debug, Clone, Copy)]
pub struct ClosedLoop {
    pub connections: u32,
    pub phase: u8,
    pub end_ns: u64,
}

impl Engine {
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.start.get().elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The next upload of a device; none of a device's has the time of another.
    pub fn key(&self, kind: Kind, device: u32) -> Key {
        if kind == Kind::Corpus {
            let nth = self.corpus_sent.get();
            self.corpus_sent.set(nth + 1);
            return Key::new(kind, device, (nth % self.corpus_bodies.max(1)) as u32);
        }
        let nth = &mut self.next_nth.borrow_mut()[device as usize];
        *nth += 1;
        Key::new(kind, device, *nth)
    }

    pub fn phase(&self) -> u8 {
        self.live.phase.load(Relaxed) as u8
    }

    pub fn draw(&self) -> Kind {
        self.mix.draw(&mut self.random.borrow_mut())
    }
}

/// What a thread of the engine is given.
pub struct Plan {
    pub scenario: Scenario,
    pub server: SocketAddr,
    pub requests: Requests,
    pub corpus_bodies: u64,
    pub live: Arc<Live>,
    pub fleet: Fleet,
    /// Told once every connection is there.
    pub ready: oneshot::Sender<()>,
    /// When the first phase begins.
    pub start: oneshot::Receiver<Instant>,
}

/// Runs to the end. An error only if the run could not be made at all.
pub fn run_plan(plan: Plan) -> anyhow::Result<Ledger> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, run_phases(plan))
}

async fn run_phases(plan: Plan) -> anyhow::Result<Ledger> {
    let Plan { scenario, server, requests, corpus_bodies, live, fleet, ready, start } = plan;
    let connections: Vec<Connection> = stream::iter(0..scenario.connections())
        .map(async |device| Ok::<_, std::io::Error>(start_up(server, &requests, device).await?.0))
        .buffered(CONNECTING_MAX)
        .try_collect()
        .await
        .with_context(|| format!("open {} connections to {server}", scenario.connections()))?;
    let engine = Rc::new(Engine {
        server,
        requests,
        retry: Duration::from_secs_f64(scenario.retry_s),
        give_up: Duration::from_secs_f64(scenario.give_up_s),
        ring: scenario.ring as usize,
        ledger: RefCell::new(Ledger::new(scenario.phase.len())),
        live,
        start: Cell::new(Instant::now()),
        gate_open: Cell::new(true),
        closed: Cell::new(None),
        ending: Cell::new(false),
        waiting: Cell::new(0),
        idle: RefCell::default(),
        reopened_ns: Cell::new(None),
        next_nth: RefCell::new(vec![0; scenario.watches as usize]),
        random: RefCell::new(Random::new(scenario.seed)),
        mix: Mix::new(scenario.mix.iter().map(|(kind, share)| (*kind, *share))),
        corpus_bodies,
        corpus_sent: Cell::new(0),
    });
    let lanes: Vec<Rc<Lane>> =
        (0..scenario.connections()).map(|index| Rc::new(Lane::new(index, &scenario))).collect();
    let simulated = match &scenario.simulated {
        Some(simulated) => Some(Watches::start(simulated, scenario.seed, &engine, fleet).await?),
        None => None,
    };
    ready.send(()).map_err(|()| anyhow::anyhow!("nobody waits for the engine"))?;
    engine.start.set(start.await.context("the run was given up before it began")?);
    let clock = Clock::new()?;
    clock.until(engine.start.get()).await?;
    let mut loops: Vec<_> = lanes
        .iter()
        .zip(connections)
        .map(|(lane, connection)| {
            tokio::task::spawn_local(run(engine.clone(), lane.clone(), Some(connection)))
        })
        .collect();

    let on_their_own = simulated.clone().map(|watches| tokio::task::spawn_local(watches.run()));

    let mut begin_ns = 0;
    for (index, phase) in scenario.phase.iter().enumerate() {
        let end_ns = begin_ns + nanos(phase.seconds);
        engine.live.phase.store(index as u64, Relaxed);
        set_gate(&engine, &lanes, !phase.outage);
        let mut random = Random::new(scenario.seed + 1 + index as u64);
        let rate = offered(phase, &scenario.phase, &engine.ledger.borrow());
        engine.ledger.borrow_mut().phases[index].offered_per_s = rate;
        let timetable = rate.map(|rate| Timetable::new(phase, rate, begin_ns, scenario.arrivals));
        let at = |ns| engine.start.get() + Duration::from_nanos(ns);
        if let Some(connections) = phase.closed {
            engine.closed.set(Some(ClosedLoop { connections, phase: index as u8, end_ns }));
            lanes[..connections as usize].iter().for_each(|lane| lane.wake.notify_one());
        } else if let Some(mut timetable) = timetable {
            let mut turn = index;
            while let Some(due_ns) = timetable.next(&mut random) {
                clock.until(at(due_ns)).await?;
                turn += 1;
                let lane = idle(&engine, &lanes).unwrap_or(&lanes[turn % lanes.len()]);
                if engine.waiting.get() < WAITING_MAX {
                    let key = engine.key(engine.draw(), lane.next_device());
                    lane.push(&engine, Job { key, due_ns, phase: index as u8, tries: 0, held: false });
                } else {
                    engine.ledger.borrow_mut().unsent += 1;
                }
                tokio::task::consume_budget().await;
            }
        }
        clock.until(at(end_ns)).await?;
        begin_ns = end_ns;
    }
    engine.ending.set(true);
    lanes.iter().for_each(|lane| lane.wake.notify_one());
    if let (Some(watches), Some(task)) = (simulated, on_their_own) {
        watches.stop();
        task.await.context("the simulated watches died")??;
        watches.finish(DRAIN_WITHIN).await;
    }
    let drained =
        tokio::time::timeout(DRAIN_WITHIN, async { futures_util::future::join_all(&mut loops).await }).await;
    if drained.is_err() {
        loops.iter().for_each(|task| task.abort());
    }
    let mut ledger = engine.ledger.borrow_mut();
    for lane in &lanes {
        lane.leave(&mut ledger);
    }
    ledger.end_second();
    let phases = ledger.phases.len();
    Ok(std::mem::replace(&mut *ledger, Ledger::new(phases)))
}

/// Requests per second that an open loop offers when it begins.
fn offered(phase: &Phase, phases: &[Phase], ledger: &Ledger) -> Option<f64> {
    let times = phase.rate_times.zip(phase.rate_of.as_ref());
    let measured = times.and_then(|(times, of)| {
        let index = phases.iter().position(|phase| phase.name == *of)?;
        let per_s = ledger.phases[index].successes as f64 / phases[index].seconds.max(f64::EPSILON);
        Some((per_s * times).clamp(1.0, RATE_MAX))
    });
    phase.rate.or(measured)
}

/// The lane that has been idle for longest.
fn idle<'a>(engine: &Engine, lanes: &'a [Rc<Lane>]) -> Option<&'a Rc<Lane>> {
    let mut idle = engine.idle.borrow_mut();
    std::iter::from_fn(|| idle.pop_front())
        .map(|index| &lanes[index as usize])
        .find(|lane| lane.is_idle.replace(false))
}

/// A watch that starts fetches its settings; its connection is then kept as long as an idle one is.
pub async fn start_up(
    server: SocketAddr,
    requests: &Requests,
    device: u32,
) -> std::io::Result<(Connection, Vec<u8>)> {
    let mut connection = Connection::open(server).await?;
    let mut request = Vec::new();
    requests.write(Key::new(Kind::Config, device, 0), &mut request);
    let settings = connection.exchange(&request).await?.body.to_vec();
    Ok((connection, settings))
}

/// Opening it lets every ring go at once; what it held is due from then on.
fn set_gate(engine: &Rc<Engine>, lanes: &[Rc<Lane>], open: bool) {
    if open && !engine.gate_open.get() {
        let now_ns = engine.now_ns();
        engine.reopened_ns.set(Some(now_ns));
        lanes.iter().for_each(|lane| lane.release(now_ns, engine.phase()));
    }
    engine.gate_open.set(open);
    if open {
        lanes.iter().for_each(|lane| lane.wake.notify_one());
    }
}
