//! `stored`: what many stored events cost. A database is filled through the server itself, over HTTP;
//! then it and an empty one take inserts in turns, and the first pages of lists are timed.

mod pages;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::Utc;

use crate::bench::verify;
use crate::body::{Kind, Workload};
use crate::fleet::{self, Lane};
use crate::generator::{self, Load};
use crate::machine;
use crate::server::Server;
use crate::stats::Answers;
use crate::turns::{Signals, Turns};
use report::{Filled, Report};

/// A figure missed its limit.
const MISSED: u8 = 2;
/// What an event with its health record, their indexes and the log take at most.
const BYTES_PER_EVENT: u64 = 2_400;
/// Left for everybody else, beside the file.
const SPARE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The fill is a closed loop in pieces of this length, so that it can tell how far it is.
const PIECE: Duration = Duration::from_secs(5);
/// A piece in which less than this is stored per second is the end: something is wrong.
const FILL_PER_S_MIN: f64 = 10.0;

#[derive(Debug, clap::Args)]
pub struct StoredArgs {
    #[command(flatten)]
    turns: Turns,
    /// Events that the full database holds before anything is measured
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    rows: u64,
    /// Requests per list
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pages: u64,
}

pub fn run(args: &StoredArgs) -> anyhow::Result<ExitCode> {
    args.turns.validate()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(stored(args))
}

async fn stored(args: &StoredArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let work_dir = args.turns.work_dir()?;
    let (needed, free) = (args.rows * BYTES_PER_EVENT + SPARE_BYTES, free_bytes(&work_dir)?);
    eprintln!("disk: {} needed at most, {} free in {}", gib(needed), gib(free), work_dir.display());
    ensure!(needed <= free, "{} rows need {}, and {} are free", args.rows, gib(needed), gib(free));
    let binary = args.turns.binary().await?;
    let mut full = Target::start("full", &binary, &work_dir, &args.turns).await?;
    let mut empty = Target::start("empty", &binary, &work_dir, &args.turns).await?;
    let measured = signals.or(measure(args, &mut full, &mut empty)).await;
    // Stopped whatever came before, and the first error is the one to tell.
    let rss_kib = machine::resident_max_kib(full.server.process.pid);
    let Server { process, dir } = full.server;
    let stopped = tokio::join!(process.stop(), empty.server.process.stop());
    let (mut report, counters) = measured?;
    stopped.0.and(stopped.1)?;
    report.rss_kib = rss_kib?;
    report.machine = machine::describe(&work_dir);
    report.commit = machine::commit();
    let rows = verify::Rows::count(dir.path())?;
    let verdict = verify::verdict(&full.answers, &counters, &rows);
    report.verified = verify::to_json(&full.answers, &counters, &rows, &verdict);
    print!("{}", report.table(args));
    args.turns.write_json(&report.to_json(args))?;
    verdict.context("what was answered 200 is not what was stored")?;
    Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}

/// One of the two databases.
struct Target {
    name: &'static str,
    server: Server,
    lanes: Vec<Lane>,
    /// Since it was started.
    answers: Answers,
}

impl Target {
    async fn start(
        name: &'static str,
        binary: &Path,
        work_dir: &Path,
        turns: &Turns,
    ) -> anyhow::Result<Self> {
        let server = Server::start(binary, work_dir, turns.devices).await?;
        let now_s = Utc::now().timestamp();
        let lanes = fleet::lanes(turns.connections, turns.devices, Workload::Event, now_s);
        Ok(Self { name, server, lanes, answers: Answers::default() })
    }

    /// Successes per second of a closed loop.
    async fn run(&mut self, load: &Load) -> anyhow::Result<f64> {
        let running = generator::start(load, std::mem::take(&mut self.lanes))?;
        let round = running.finish().await?;
        self.lanes = round.lanes;
        self.answers.merge(&round.answers);
        Ok(round.latencies.summary(round.elapsed).per_s)
    }

    /// Sends for as long as it takes until `kinds` of answers are `count`.
    async fn fill(&mut self, turns: &Turns, kind: Kind, count: u64) -> anyhow::Result<Filled> {
        let workload = if kind == Kind::Sos { Workload::Sos } else { Workload::Event };
        self.lanes.iter_mut().for_each(|lane| lane.change_to(workload));
        let load = Load { warm_up: Duration::ZERO, measured: PIECE, ..turns.load(self.server.process.addr) };
        let begun = Instant::now();
        let mut per_s = Vec::new();
        while self.answers.stored(&[kind]) < count {
            let left = count - self.answers.stored(&[kind]);
            // The last piece is not longer than it must be.
            let last = per_s.last().map_or(1.0, |rate: &f64| (left as f64 / rate).clamp(0.5, 5.0));
            let rate = self.run(&Load { measured: Duration::from_secs_f64(last), ..load }).await?;
            ensure!(rate >= FILL_PER_S_MIN, "only {rate:.0}/s are stored: the fill would not end");
            per_s.push(rate);
            let stored = self.answers.stored(&[kind]);
            eprintln!("{}: {stored} of {count} {} stored, {rate:.0}/s", self.name, kind.name());
        }
        Ok(Filled { per_s, took: begun.elapsed() })
    }
}

async fn measure(
    args: &StoredArgs,
    full: &mut Target,
    empty: &mut Target,
) -> anyhow::Result<(Report, verify::Counters)> {
    let turns = &args.turns;
    // An open alert of every device, for the list of alerts.
    full.fill(turns, Kind::Sos, turns.devices).await?;
    let filled = full.fill(turns, Kind::Event, args.rows).await?;
    let mut report =
        Report { filled, rows: full.answers.stored(&[Kind::Event, Kind::Sos]), ..Report::default() };
    for round in 1..=turns.rounds {
        for (target, rates) in [(&mut *empty, &mut report.empty_per_s), (&mut *full, &mut report.full_per_s)]
        {
            let rate = target.run(&turns.load(target.server.process.addr)).await?;
            eprintln!("round {round} of {}: {} {rate:.0}/s", turns.rounds, target.name);
            rates.push(rate);
        }
    }
    report.empty_rows = empty.answers.stored(&Kind::ALL);
    report.pages = pages::measure(&full.server, turns.devices, args.pages).await?;
    report.database_bytes = database_bytes(full.server.dir.path())?;
    let counters = verify::Counters::read(full.server.process.addr).await?;
    Ok((report, counters))
}

/// Of the database and its log.
fn database_bytes(data_dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(data_dir).with_context(|| format!("read {}", data_dir.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("watchpost.db") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn free_bytes(dir: &Path) -> anyhow::Result<u64> {
    let stat = rustix::fs::statvfs(dir).with_context(|| format!("look at the disk of {}", dir.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
