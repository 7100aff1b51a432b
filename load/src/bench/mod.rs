//! `bench`: the server beside a bare ceiling, in turns, then event to socket when idle.

mod idle;
mod report;
pub mod verify;

use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use tokio::process::Command;

use crate::body::Workload;
use crate::child::ServerProcess;
use crate::fleet::{self, Lane};
use crate::generator;
use crate::machine;
use crate::server::Server;
use crate::stats::{Answers, Latencies};
use crate::turns::{Signals, Turns};
use report::{Cpu, Report, RoundReport};

#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    turns: Turns,
    /// What is posted
    #[arg(long, value_enum, default_value_t = Workload::Event)]
    body: Workload,
    /// SOS events that are sent one by one to the idle server; 0 leaves that part out
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    idle_events: u64,
    /// From the start of one of those to the start of the next, milliseconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    idle_pause_ms: u64,
}

pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    args.turns.validate()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bench(args))
}

async fn bench(args: &BenchArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let work_dir = args.turns.work_dir()?;
    let binary = args.turns.binary().await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare-ceiling", "--listen", "127.0.0.1:0"]);
    let ceiling = ServerProcess::start("ceiling", command).await?;
    let server = Server::start(&binary, &work_dir, args.turns.devices + args.idle_events).await?;

    let measured = signals.or(measure(args, &ceiling, &server)).await;
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
    args.turns.write_json(&measured.report.to_json(args))?;
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
    let lanes = || fleet::lanes(args.turns.connections, args.turns.devices, args.body, now_s);
    let mut targets = [
        Target { name: "ceiling", process: ceiling, lanes: lanes(), total: Total::new() },
        Target { name: "server", process: &server.process, lanes: lanes(), total: Total::new() },
    ];
    let mut rounds = Vec::new();
    for round in 1..=args.turns.rounds {
        for target in &mut targets {
            eprintln!("round {round} of {}: {}", args.turns.rounds, target.name);
            rounds.push(target.round(&args.turns).await?);
        }
    }
    let [ceiling_total, server_total] = targets.map(|target| target.total);
    let mut answers = server_total.answers.clone();
    let idle = match args.idle_events {
        0 => None,
        events => {
            eprintln!("idle: {events} events one by one");
            let pause = Duration::from_millis(args.idle_pause_ms);
            Some(idle::measure(server, args.turns.devices, events, pause, &mut answers).await?)
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
    async fn round(&mut self, turns: &Turns) -> anyhow::Result<RoundReport> {
        let load = turns.load(self.process.addr);
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
