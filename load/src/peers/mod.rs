//! `peers`: this server, two yardsticks and other designs, in turns on the same bodies and
//! connections.

mod flask;
mod influx;
mod processes;
mod report;
mod target;

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::Utc;
use clap::ValueEnum;

use crate::body::Workload;
use crate::fleet::{self, Lane};
use crate::generator;
use crate::machine;
use crate::turns::{Signals, Turns};
use flask::Workers;
use report::{Measured, Report, RoundReport};
use target::{Name, Settings, Stored, Target};

/// A target whose processes use less than this share of a core is idle.
const IDLE_SHARE: f64 = 0.1;
/// A target that has not come to rest by then is left as it is, and the report says so.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct PeersArgs {
    #[command(flatten)]
    turns: Turns,
    /// Which to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Name>,
    /// What is posted: with sos, each is an alert, and the prototype writes the rows of one
    #[arg(long, value_enum, default_value_t = Body::Event)]
    body: Body,
    /// Processes of gunicorn for the Flask designs
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    flask_processes: u64,
    /// Threads of each of them
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    flask_threads: u64,
    /// Install no packages: what is missing is reported absent
    #[arg(long)]
    no_install: bool,
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
    args.turns.validate()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(peers(args))
}

async fn peers(args: &PeersArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let settings = Settings {
        work_dir: args.turns.work_dir()?,
        server: args.turns.server.clone(),
        workers: Workers { processes: args.flask_processes, threads: args.flask_threads },
        devices: args.turns.devices,
        body: args.body.into(),
        install: !args.no_install,
    };
    let mut contestants: Vec<Contestant> = Vec::new();
    let measured = signals.or(measure(args, &settings, &mut contestants)).await;
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
    args.turns.write_json(&report.to_json(args))?;
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
        let lanes = fleet::lanes(args.turns.connections, args.turns.devices, settings.body, now_s);
        contestants.push(Contestant { target, lanes, stored: Stored::default(), measured });
    }
    for round in 1..=args.turns.rounds {
        for contestant in contestants.iter_mut() {
            let Some(target) = &contestant.target else { continue };
            eprintln!("round {round} of {}: {}", args.turns.rounds, target.name.text());
            let lanes = std::mem::take(&mut contestant.lanes);
            match one_round(&args.turns, target, lanes, contestant.stored).await {
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
    turns: &Turns,
    target: &Target,
    lanes: Vec<Lane>,
    before: Stored,
) -> anyhow::Result<(RoundReport, Vec<Lane>, Stored)> {
    let load = turns.load(target.addr());
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
        ran: Duration::from_secs(turns.warm_up) + round.elapsed,
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
