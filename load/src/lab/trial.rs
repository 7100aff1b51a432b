//! One run from the first connection to the last check.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::check::{Check, Counts, Told, check};
use super::engine::{Plan, run_plan};
use super::host::Host;
use super::ledger::Ledger;
use super::live::Live;
use super::monitor::{Cpu, Monitor, Sample};
use super::request::{CorpusBody, Fleet, Kind, Requests};
use super::scenario::Scenario;
use super::screens::{ScreensPlan, Watched, run_screens};
use super::stored;
use crate::machine;

/// For connections and first snapshots.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between "go" and the first request.
const LEAD: Duration = Duration::from_millis(200);
/// After the last answer, for what dashboards still have to get.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);

/// A killed server is started this long before the outage ends, or after half of it: the rings
/// are to meet a server that is there.
const BACK_BEFORE_S: f64 = 2.0;

/// What a run came to.
pub struct Outcome {
    pub own_server: bool,
    pub ledger: Ledger,
    pub watched: Watched,
    pub samples: Vec<Sample>,
    pub checks: Vec<Check>,
    pub counts: Counts,
    /// Peak and end, MiB; `None` if the server is not ours.
    pub rss_mib: Option<(f64, f64)>,
    /// Of the whole run, CPU seconds.
    pub cpu: Cpu,
    pub seconds: f64,
    pub prefix: String,
}

/// `now_ms`: since 1970; names the run's watches.
pub async fn run(scenario: &Scenario, mut host: Host, now_ms: i64, quiet: bool) -> anyhow::Result<Outcome> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let outcome = tokio::select! {
        outcome = run_on(scenario, &mut host, now_ms, quiet) => outcome,
        _ = terminate.recv() => Err(anyhow!("told to stop")),
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
    };
    // Stopped whatever came before, and the first error is the one to tell.
    let stopped = host.stop().await;
    let (mut outcome, told, fleet) = outcome?;
    stopped?;
    let stored = match host.data_dir() {
        Some(dir) => stored::read_file(dir, &fleet)?,
        None => stored::read_rest(&host.door, &fleet, &outcome.watched).await?,
    };
    (outcome.checks, outcome.counts) = check(&told, &stored, &outcome.watched, &fleet);
    Ok(outcome)
}

async fn run_on(
    scenario: &Scenario,
    host: &mut Host,
    now_ms: i64,
    quiet: bool,
) -> anyhow::Result<(Outcome, Told, Fleet)> {
    let mut fleet = Fleet::new(now_ms);
    fleet.simulated_from = scenario.watches;
    let corpus = match scenario.mix.contains_key(&Kind::Corpus) {
        true => CorpusBody::read_all()?,
        false => Vec::new(),
    };
    let server = host.door.server;
    let live = Arc::new(Live::new());
    let (finish, finish_rx) = watch::channel(None);
    let (screens_ready, screens_ready_rx) = oneshot::channel();
    let (screens_start, screens_start_rx) = oneshot::channel();
    let mut watched = on_thread("dashboards", {
        let plan = ScreensPlan {
            door: host.door.clone(),
            groups: scenario.dashboards.clone(),
            live: live.clone(),
            ready: screens_ready,
            start: screens_start_rx,
            finish: finish_rx,
        };
        move || run_screens(plan)
    })?;
    let (engine_ready, engine_ready_rx) = oneshot::channel();
    let (engine_start, engine_start_rx) = oneshot::channel();
    let mut ledger = on_thread("watches", {
        let plan = Plan {
            scenario: scenario.clone(),
            server,
            requests: Requests::new(fleet.clone(), server, &corpus),
            corpus_bodies: corpus.len() as u64,
            fleet: fleet.clone(),
            live: live.clone(),
            ready: engine_ready,
            start: engine_start_rx,
        };
        move || run_plan(plan)
    })?;
    let ready = async {
        tokio::select! {
            Ok(()) = screens_ready_rx => {}
            failed = &mut watched => bail!(cause(failed)),
        }
        tokio::select! {
            Ok(()) = engine_ready_rx => {}
            failed = &mut ledger => bail!(cause(failed)),
        }
        Ok(())
    };
    tokio::time::timeout(READY_WITHIN, ready)
        .await
        .context("not all connections could be made in time")??;
    let start = Instant::now() + LEAD;
    screens_start.send(start).map_err(|_| anyhow!("the dashboards have ended"))?;
    engine_start.send(start).map_err(|_| anyhow!("the watches have ended"))?;

    let phases = scenario.phase.iter().map(|phase| phase.name.clone()).collect();
    let mut monitor = Monitor::new(&live, phases, start, scenario.seconds(), quiet);
    let cpu_before = Cpu::now(host.pid());
    let pid = RefCell::new(host.pid());
    let ledger = {
        let watching = monitor.watch(|| *pid.borrow());
        let outages = outages(scenario, host, start, &pid);
        tokio::select! {
            ledger = async { tokio::try_join!(async { flatten(ledger.await) }, outages) } => ledger?.0,
            () = watching => bail!("the monitor ended"),
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    monitor.end_line();
    if !watched_is_empty(scenario) {
        let newest = host.newest_offset().await.context("ask the server for its newest offset")?;
        finish.send(Some(newest)).map_err(|_| anyhow!("the dashboards have ended"))?;
    }
    let watched = match tokio::time::timeout(CAUGHT_UP_WITHIN, &mut watched).await {
        Ok(watched) => flatten(watched)?,
        Err(_) => {
            // They end as they are; the check says what is missing.
            drop(finish);
            flatten(watched.await)?
        }
    };
    let after = Cpu::now(host.pid());
    let cpu = Cpu {
        server_s: (after.server_s - cpu_before.server_s).max(0.0),
        generator_s: after.generator_s - cpu_before.generator_s,
    };
    let told = Told {
        promised: ledger.promised.clone(),
        critical: ledger.critical.clone(),
        unsure: ledger.unsure.clone(),
        false_duplicates: ledger.false_duplicates.clone(),
        corpus_events: ledger.corpus_events.clone(),
    };
    let mib = |kib: u64| kib as f64 / 1_024.0;
    let rss_mib = match host.pid() {
        Some(pid) => {
            let sampled = monitor.samples.iter().map(|sample| sample.server_rss_mib).fold(0.0, f64::max);
            let peak = mib(machine::resident_max_kib(pid)?).max(sampled);
            Some((peak, mib(machine::resident_kib(pid)?)))
        }
        None => None,
    };
    let samples = std::mem::take(&mut monitor.samples);
    let outcome = Outcome {
        own_server: host.is_own(),
        ledger,
        watched,
        samples,
        checks: Vec::new(),
        counts: Counts::default(),
        rss_mib,
        cpu,
        seconds,
        prefix: fleet.prefix().to_owned(),
    };
    Ok((outcome, told, fleet))
}

fn watched_is_empty(scenario: &Scenario) -> bool {
    scenario.screens() == 0
}

/// Kills the server when such a phase begins, and has it back before the phase ends.
async fn outages(
    scenario: &Scenario,
    host: &mut Host,
    start: Instant,
    pid: &RefCell<Option<u32>>,
) -> anyhow::Result<()> {
    let mut at_s = 0.0;
    for phase in &scenario.phase {
        let begin = start + Duration::from_secs_f64(at_s);
        at_s += phase.seconds;
        if phase.kill_server {
            tokio::time::sleep_until(begin.into()).await;
            pid.replace(None);
            host.kill().await?;
            let back =
                begin + Duration::from_secs_f64((phase.seconds - BACK_BEFORE_S).max(phase.seconds / 2.0));
            tokio::time::sleep_until(back.into()).await;
            host.start_again().await?;
            pid.replace(host.pid());
        }
    }
    Ok(())
}

type OnThread<T> = oneshot::Receiver<anyhow::Result<T>>;

fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<OnThread<T>> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        // Nobody waits any more if the run was interrupted.
        let _ = done.send(work());
    })?;
    Ok(result)
}

fn flatten<T>(result: Result<anyhow::Result<T>, oneshot::error::RecvError>) -> anyhow::Result<T> {
    result.context("a thread of the generator died")?
}

/// Why a thread ended before it should.
fn cause<T>(result: Result<anyhow::Result<T>, oneshot::error::RecvError>) -> anyhow::Error {
    match flatten(result) {
        Ok(_) => anyhow!("a thread of the generator ended too early"),
        Err(err) => err,
    }
}
