//! `instructions`: how many instructions an event costs. The server runs under callgrind with N, 2 N and
//! 4 N events, so that what the start costs cancels out, and it shows whether cost grows linearly.

mod callgrind;
mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::Utc;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::LocalSet;

use crate::body::{Kind, Template, Workload};
use crate::connection::Connection;
use crate::fleet::{self, Lane};
use crate::packages;
use crate::server;
use crate::turns::Signals;
use callgrind::Profile;
use report::{Report, Run};

/// Cost per event grew.
const MISSED: u8 = 2;
const VALGRIND: &str = "/usr/bin/valgrind";
/// What is slow is not refused: each event is to be counted once.
const PATIENCE: [&str; 2] = ["admission.wait_max_ms=300000", "watch.receipt_timeout_ms=300000"];
/// Under callgrind the server is some fifty times slower.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1_800);
/// The numbers of events, as multiples of the least.
const TIMES: [u64; 3] = [1, 2, 4];

#[derive(Debug, clap::Args)]
pub struct InstructionsArgs {
    /// N: events of the shortest run
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(64..=1_000_000))]
    events: u64,
    /// What is posted
    #[arg(long, value_enum, default_value_t = Workload::Event)]
    body: Workload,
    /// Keep-alive connections, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    connections: u64,
    /// Watches, shared out over the connections
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    devices: u64,
    /// Functions in the table
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    top: u64,
    /// Install no packages: without valgrind it says so
    #[arg(long)]
    no_install: bool,
    /// Also write the result to this file
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// The server to run [default: the one of this workspace, built if need be]
    #[arg(long, value_name = "BINARY")]
    server: Option<std::path::PathBuf>,
    /// Where the temporary data directories are made [default: where this program is]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<std::path::PathBuf>,
}

pub fn run(args: &InstructionsArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        args.devices >= args.connections,
        "every connection needs a watch: --devices {} is less",
        args.devices
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(instructions(args)))
}

async fn instructions(args: &InstructionsArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    packages::ensure_installed(&packages::VALGRIND, !args.no_install).await.context("valgrind is absent")?;
    let work_dir = match &args.work_dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("this program is in a folder")?.to_owned(),
    };
    let binary = match &args.server {
        Some(binary) => binary.clone(),
        None => server::build().await?,
    };
    let mut runs = Vec::new();
    for times in TIMES {
        let events = args.events * times;
        eprintln!("{events} events under callgrind");
        let begun = Instant::now();
        let dir = tempfile::Builder::new()
            .prefix("watchpost-instructions-")
            .tempdir_in(&work_dir)
            .with_context(|| format!("make a data directory in {}", work_dir.display()))?;
        let profile = signals.or(profile(args, &binary, &dir, events)).await?;
        eprintln!("{} instructions in {:.0} s", profile.total, begun.elapsed().as_secs_f64());
        runs.push(Run { events, profile });
    }
    let report =
        Report { runs, commit: crate::machine::commit(), machine: crate::machine::describe(&work_dir) };
    print!("{}", report.table(args));
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report.to_json(args));
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if report.is_linear() { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}

/// One run of the server, from its start to its end.
async fn profile(
    args: &InstructionsArgs,
    binary: &Path,
    dir: &TempDir,
    events: u64,
) -> anyhow::Result<Profile> {
    let out = dir.path().join("callgrind.out");
    let mut command = Command::new(VALGRIND);
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()));
    command.args(["--quiet", "--"]).arg(binary);
    let data_dir = dir.path().join("data");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = server::room_for(args.devices);
    settings.extend(PATIENCE.map(String::from));
    let process = server::start_under(command, &data_dir, listen, &settings).await?;
    let sent = tokio::time::timeout(ANSWERS_WITHIN, post(args, process.addr, events)).await;
    let stopped = process.stop().await;
    sent.with_context(|| format!("not all events were answered within {ANSWERS_WITHIN:?}"))??;
    stopped?;
    callgrind::read(&out).await
}

/// Sends exactly as many events, each connection its share; each must be a success.
async fn post(args: &InstructionsArgs, server: SocketAddr, events: u64) -> anyhow::Result<()> {
    let templates = Rc::new(Kind::ALL.map(|kind| Template::new(kind, server)));
    let lanes = fleet::lanes(args.connections, args.devices, args.body, Utc::now().timestamp());
    let shares = lanes.into_iter().enumerate().map(|(index, lane)| {
        let share = events.saturating_sub(index as u64).div_ceil(args.connections);
        tokio::task::spawn_local(post_share(server, lane, share, templates.clone()))
    });
    for done in futures_util::future::join_all(shares.collect::<Vec<_>>()).await {
        done.context("a connection's loop")??;
    }
    Ok(())
}

async fn post_share(
    server: SocketAddr,
    mut lane: Lane,
    count: u64,
    templates: Rc<[Template; Kind::ALL.len()]>,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(server).await?;
    let mut request = Vec::new();
    for _ in 0..count {
        let upload = lane.next();
        templates[upload.kind as usize].write(upload.device, upload.at_s, &mut request);
        let answer = connection.exchange(&request).await?;
        ensure!(answer.is_success(), "the server answered {}", answer.status);
    }
    Ok(())
}
