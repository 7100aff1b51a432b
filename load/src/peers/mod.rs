//! `peers`: this server, two yardsticks and other designs, in turns on the same bodies and
//! connections.

mod flask;
mod influx;
mod packages;
mod processes;
mod report;
mod target;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::Utc;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::body::Workload;
use crate::fleet::{self, Lane};
use crate::generator::{self, Load};
use crate::machine;
use flask::Workers;
use report::{Measured, Report, RoundReport};
use target::{Name, Settings, Stored, Target};

/// A target whose processes use less than this share of a core is idle.
const IDLE_SHARE: f64 = 0.1;
/// A target that has not come to rest by then is left as it is, and the report says so.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct PeersArgs {
    /// Which to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Name>,
    /// Keep-alive connections, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    connections: u64,
    /// Measured seconds of a round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Seconds before those that are not measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warm_up: u64,
    /// Rounds of each, in turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// What is posted: with sos, each is an alert, and the prototype writes the rows of one
    #[arg(long, value_enum, default_value_t = Body::Event)]
    body: Body,
    /// Watches, shared out over the connections
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    devices: u64,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    generator_threads: u64,
    /// Processes of gunicorn for the Flask designs
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    flask_processes: u64,
    /// Threads of each of them
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    flask_threads: u64,
    /// Install no packages: what is missing is reported absent
    #[arg(long)]
    no_install: bool,
    /// Also write the result to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The watchpost to measure [default: the one of this workspace, built if need be]
    #[arg(long, value_name = "BINARY")]
    server: Option<PathBuf>,
    /// Where the temporary data directories are made; commits go to this disk [default: where this
    /// program is]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

/// Every target understands these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Body {
    /// Events with a health record that raise no alert here
    Event,
    /// SOS events with a health record
    Sos,
}

impl From<Body> for Workload {
    fn from(body: Body) -> Self {
        match body {
            Body::Event => Workload::Event,
            Body::Sos => Workload::Sos,
        }
    }
}

pub fn run(args: &PeersArgs) -> anyhow::Result<()> {
    ensure!(
        args.devices >= args.connections,
        "every connection needs a watch: --devices {} is less",
        args.devices
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(peers(args))
}

async fn peers(args: &PeersArgs) -> anyhow::Result<()> {
    // Before anything is started, so that nothing is left running.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let work_dir = match &args.work_dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("this program is in a folder")?.to_owned(),
    };
    let settings = Settings {
        work_dir,
        server: args.server.clone(),
        workers: Workers { processes: args.flask_processes, threads: args.flask_threads },
        devices: args.devices,
        body: args.body.into(),
        install: !args.no_install,
    };
    let mut contestants: Vec<Contestant> = Vec::new();
    let measured = tokio::select! {
        measured = measure(args, &settings, &mut contestants) => measured,
        _ = terminate.recv() => Err(anyhow::anyhow!("told to stop")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    let mut report = Report { machine: machine::describe(&settings.work_dir), ..Report::default() };
    for contestant in contestants {
        let mut measured = contestant.measured;
        if let Some(target) = contestant.target
            && let Err(err) = target.stop().await
        {
            measured.failed.get_or_insert(format!("{err:#}"));
        }
        report.measured.push(measured);
    }
    measured?;
    report.commit = machine::commit();
    print!("{}", report.table(args));
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report.to_json(args));
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    report.verdict()
}

/// A target, and what is known of it so far.
struct Contestant {
    /// `None` if it is not there, or has failed.
    target: Option<Target>,
    lanes: Vec<Lane>,
    stored: Stored,
    measured: Measured,
}

async fn measure(
    args: &PeersArgs,
    settings: &Settings,
    contestants: &mut Vec<Contestant>,
) -> anyhow::Result<()> {
    let now_s = Utc::now().timestamp();
    for name in Name::value_variants() {
        if !args.only.is_empty() && !args.only.contains(name) {
            continue;
        }
        eprintln!("start: {}", name.text());
        let mut measured = Measured::new(*name);
        let target = match Target::start(*name, settings).await {
            Ok(target) => Some(target),
            Err(err) => {
                eprintln!("{} is absent: {err:#}", name.text());
                measured.failed = Some(format!("absent: {err:#}"));
                None
            }
        };
        let lanes = fleet::lanes(args.connections, args.devices, settings.body, now_s);
        contestants.push(Contestant { target, lanes, stored: Stored::default(), measured });
    }
    for round in 1..=args.rounds {
        for contestant in contestants.iter_mut() {
            let Some(target) = &contestant.target else { continue };
            eprintln!("round {round} of {}: {}", args.rounds, target.name.text());
            let lanes = std::mem::take(&mut contestant.lanes);
            match one_round(args, target, lanes, contestant.stored).await {
                Ok((report, lanes, stored)) => {
                    contestant.lanes = lanes;
                    contestant.stored = stored;
                    contestant.measured.add(report);
                }
                Err(err) => {
                    eprintln!("{} failed: {err:#}", target.name.text());
                    contestant.measured.failed = Some(format!("failed in round {round}: {err:#}"));
                    // Dropped, it is killed; nothing more is to be learnt from it.
                    contestant.target = None;
                }
            }
        }
    }
    Ok(())
}

async fn one_round(
    args: &PeersArgs,
    target: &Target,
    lanes: Vec<Lane>,
    before: Stored,
) -> anyhow::Result<(RoundReport, Vec<Lane>, Stored)> {
    let load = Load {
        server: target.addr(),
        threads: args.generator_threads as usize,
        warm_up: Duration::from_secs(args.warm_up),
        measured: Duration::from_secs(args.seconds),
    };
    let running = generator::start_in(target.dialect(), &load, lanes)?;
    tokio::time::sleep_until(running.measured_from.into()).await;
    // By then all that it forks is there.
    let pids = target.pids();
    let (cpu, own_cpu) = (processes::cpu_seconds(&pids)?, machine::cpu_seconds(std::process::id())?);
    let round = running.finish().await?;
    let cpu_s = processes::cpu_seconds(&pids)? - cpu;
    let generator_cpu_s = machine::cpu_seconds(std::process::id())? - own_cpu;
    let resident_kib = processes::resident_kib(&pids)?;
    let (at_once, connections) = target.stored().await.context("count what is stored")?;
    let rested = rest(&pids, target.idle_for()).await?;
    let (stored, _) = target.stored().await.context("count what is stored")?;
    let since = |stored: Stored| Stored {
        events: stored.events.saturating_sub(before.events),
        vitals: stored.vitals.saturating_sub(before.vitals),
    };
    let report = RoundReport {
        summary: round.latencies.summary(round.elapsed),
        latencies: round.latencies,
        elapsed: round.elapsed,
        answers: round.answers,
        cpu_s,
        generator_cpu_s,
        resident_kib,
        database_connections: connections,
        stored_at_once: at_once.map(since),
        stored: stored.map(since),
        rested,
    };
    Ok((report, round.lanes, stored.unwrap_or_default()))
}

/// Waits until the target does nothing any more, so that what it does later is not taken from the
/// next one. False if it did not come to rest.
async fn rest(pids: &[u32], idle_for: Duration) -> anyhow::Result<bool> {
    let until = Instant::now() + IDLE_WITHIN;
    while Instant::now() < until {
        let before = processes::cpu_seconds(pids)?;
        tokio::time::sleep(idle_for).await;
        if processes::cpu_seconds(pids)? - before < IDLE_SHARE * idle_for.as_secs_f64() {
            return Ok(true);
        }
    }
    Ok(false)
}
