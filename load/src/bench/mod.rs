//! `bench`: the server beside a bare ceiling, in turns, then event to socket when idle.

mod idle;
mod report;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::Utc;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::body::Workload;
use crate::child::ServerProcess;
use crate::fleet::{self, Lane};
use crate::generator::{self, Load};
use crate::machine;
use crate::server::{self, Server};
use crate::stats::{Answers, Latencies};
use report::{Cpu, Report, RoundReport};

#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Keep-alive connections, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    connections: u64,
    /// Measured seconds of a round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Seconds before those that are not measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warm_up: u64,
    /// Rounds of ceiling and server each, in turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// What is posted
    #[arg(long, value_enum, default_value_t = Workload::Event)]
    body: Workload,
    /// Watches, shared out over the connections
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    devices: u64,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    generator_threads: u64,
    /// SOS events that are sent one by one to the idle server; 0 leaves that part out
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    idle_events: u64,
    /// From the start of one of those to the start of the next, milliseconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    idle_pause_ms: u64,
    /// Also write the result to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The server to measure [default: the one of this workspace, built if need be]
    #[arg(long, value_name = "BINARY")]
    server: Option<PathBuf>,
    /// Where the temporary data directory is made; commits go to this disk [default: where this
    /// program is]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    ensure!(
        args.devices >= args.connections,
        "every connection needs a watch: --devices {} is less",
        args.devices
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bench(args))
}

async fn bench(args: &BenchArgs) -> anyhow::Result<()> {
    // Before anything is started, so that nothing is left running.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let own = std::env::current_exe()?;
    let work_dir = match &args.work_dir {
        Some(dir) => dir.clone(),
        None => own.parent().context("this program is in a folder")?.to_owned(),
    };
    let binary = match &args.server {
        Some(binary) => binary.clone(),
        None => server::build().await?,
    };
    let mut command = Command::new(&own);
    command.args(["bare-ceiling", "--listen", "127.0.0.1:0"]);
    let ceiling = ServerProcess::start("ceiling", command).await?;
    let server = Server::start(&binary, &work_dir, args.devices + args.idle_events).await?;

    let measured = tokio::select! {
        measured = measure(args, &ceiling, &server) => measured,
        _ = terminate.recv() => Err(anyhow::anyhow!("told to stop")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    // Stopped whatever came before, and the first error is the one to tell.
    let memory = machine::resident_max_kib(server.process.pid)
        .and_then(|server| Ok((machine::resident_max_kib(ceiling.pid)?, server)));
    let Server { process, dir } = server;
    let stopped = tokio::join!(ceiling.stop(), process.stop());
    let mut measured = measured?;
    stopped.0.and(stopped.1)?;
    (measured.report.ceiling_rss_kib, measured.report.server_rss_kib) = memory?;

    let rows = verify::Rows::count(dir.path())?;
    let verdict = verify::verdict(&measured.answers, &measured.counters, &rows);
    measured.report.verified = verify::to_json(&measured.answers, &measured.counters, &rows, &verdict);
    measured.report.machine = machine::describe(&work_dir);
    measured.report.commit = machine::commit();
    print!("{}", measured.report.table(args));
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", measured.report.to_json(args));
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    verdict.context("what was answered 200 is not what was stored")
}

struct Measured {
    report: Report,
    /// Of the server, idle part included.
    answers: Answers,
    counters: verify::Counters,
}

async fn measure(args: &BenchArgs, ceiling: &ServerProcess, server: &Server) -> anyhow::Result<Measured> {
    let now_s = Utc::now().timestamp();
    let lanes = || fleet::lanes(args.connections, args.devices, args.body, now_s);
    let mut targets = [
        Target { name: "ceiling", process: ceiling, lanes: lanes(), total: Total::new() },
        Target { name: "server", process: &server.process, lanes: lanes(), total: Total::new() },
    ];
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        for target in &mut targets {
            eprintln!("round {round} of {}: {}", args.rounds, target.name);
            rounds.push(target.round(args).await?);
        }
    }
    let [ceiling_total, server_total] = targets.map(|target| target.total);
    let mut answers = server_total.answers.clone();
    let idle = match args.idle_events {
        0 => None,
        events => {
            eprintln!("idle: {events} events one by one");
            let pause = Duration::from_millis(args.idle_pause_ms);
            Some(idle::measure(server, args.devices, events, pause, &mut answers).await?)
        }
    };
    let counters = verify::Counters::read(server.process.addr).await?;
    let report = Report {
        rounds,
        ceiling: ceiling_total.report("ceiling"),
        server: server_total.report("server"),
        idle: idle.map(|idle| (idle.to_answer.summary(idle.took), idle.to_socket.summary(idle.took))),
        ..Report::default()
    };
    Ok(Measured { report, answers, counters })
}

/// One of the two that are measured.
struct Target<'a> {
    name: &'static str,
    process: &'a ServerProcess,
    lanes: Vec<Lane>,
    total: Total,
}

/// Of all rounds of a target.
struct Total {
    latencies: Latencies,
    answers: Answers,
    elapsed: Duration,
    cpu: Cpu,
}

impl Target<'_> {
    async fn round(&mut self, args: &BenchArgs) -> anyhow::Result<RoundReport> {
        let load = Load {
            server: self.process.addr,
            threads: args.generator_threads as usize,
            warm_up: Duration::from_secs(args.warm_up),
            measured: Duration::from_secs(args.seconds),
        };
        let running = generator::start(&load, std::mem::take(&mut self.lanes))?;
        tokio::time::sleep_until(running.measured_from.into()).await;
        let before = Cpu::used(self.process.pid)?;
        let round = running.finish().await?;
        let cpu = Cpu::used(self.process.pid)?.since(before);
        self.lanes = round.lanes;
        self.total.latencies.merge(&round.latencies);
        self.total.answers.merge(&round.answers);
        self.total.elapsed += round.elapsed;
        self.total.cpu = self.total.cpu.plus(cpu);
        let summary = round.latencies.summary(round.elapsed);
        Ok(RoundReport { target: self.name, summary, cpu, answers: round.answers })
    }
}

impl Total {
    fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            answers: Answers::default(),
            elapsed: Duration::ZERO,
            cpu: Cpu::default(),
        }
    }

    fn report(self, target: &'static str) -> RoundReport {
        let summary = self.latencies.summary(self.elapsed);
        RoundReport { target, summary, cpu: self.cpu, answers: self.answers }
    }
}
