//! `run`: a scenario against a server, what came of it, and whether the promises were kept.

mod check;
mod compare;
mod engine;
mod figures;
mod host;
mod lane;
mod ledger;
mod live;
mod monitor;
mod pacer;
mod page;
mod request;
mod result;
mod scenario;
mod screens;
mod shipped;
mod shown;
mod simulated;
mod slo;
mod socket;
mod stored;
mod table;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use chrono::Utc;
use serde_json::Value;

use crate::server;
use scenario::Scenario;
use shipped::SHIPPED;

/// The server broke a promise, or the run could not be made.
const BROKEN: u8 = 1;
/// A figure missed its limit.
const MISSED: u8 = 2;

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// A shipped scenario (see `load list`) or a file
    scenario: String,
    /// All phases together take this many seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// Watches, connections, rates and dashboards times this
    #[arg(long)]
    scale: Option<f64>,
    /// A running server, http://HOST:PORT [default: one that is started, in a fresh directory]
    #[arg(long, value_name = "URL", conflicts_with_all = ["server", "work_dir"])]
    target: Option<String>,
    /// Token of the running server [default: WATCHPOST_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The running server may be on another machine
    #[arg(long)]
    allow_remote: bool,
    /// The server to start [default: the one of this workspace, built if need be]
    #[arg(long, value_name = "BINARY")]
    server: Option<PathBuf>,
    /// Where the temporary data directory is made; commits go to this disk [default: where this
    /// program is]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Where the JSON and the page go, without their endings [default:
    /// load/results/SCENARIO-TIME in the checkout]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// The JSON of an earlier run; the table then shows ratios
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// No progress line
    #[arg(long)]
    quiet: bool,
}

/// Prints the shipped scenarios.
pub fn list() -> anyhow::Result<ExitCode> {
    for (name, text) in SHIPPED {
        let scenario = Scenario::parse(text).with_context(|| format!("scenario {name}"))?;
        println!("{name:<12} {:>5.0} s  {}", scenario.seconds(), scenario.about);
    }
    Ok(ExitCode::SUCCESS)
}

pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut scenario = Scenario::load(&args.scenario)?;
    if let Some(seconds) = args.seconds {
        ensure!(seconds > 0.0, "--seconds {seconds} is not above 0");
        scenario.last(seconds);
    }
    if let Some(scale) = args.scale {
        ensure!(scale > 0.0, "--scale {scale} is not above 0");
        scenario.scale(scale);
    }
    scenario.validate()?;
    let old = args.compare.as_deref().map(compare::read).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(measure(args, &scenario))?;

    print!("{}", table::table(&result, old.as_ref()));
    let base = match &args.out {
        Some(base) => base.clone(),
        None => default_base(&scenario.name),
    };
    for (ending, text) in [("json", format!("{result:#}\n")), ("html", page::page(&result, old.as_ref()))] {
        let path = PathBuf::from(format!("{}.{ending}", base.display()));
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(exit_code(&result))
}

async fn measure(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<Value> {
    let connections = scenario.connections() + scenario.screens() + scenario.simulated_watches();
    host::raise_file_limit(u64::from(connections))?;
    let work_dir = match &args.work_dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("this program is in a folder")?.to_owned(),
    };
    let host = match &args.target {
        Some(url) => {
            let token = args.token.clone().or_else(|| std::env::var("WATCHPOST_TOKEN").ok());
            host::Host::at(url, token, args.allow_remote)?
        }
        None => {
            let binary = match &args.server {
                Some(binary) => binary.clone(),
                None => server::build().await?,
            };
            host::Host::start(&binary, &work_dir, scenario).await?
        }
    };
    ensure!(
        host.is_own() || !scenario.phase.iter().any(|phase| phase.kill_server),
        "this scenario kills the server: run it without --target"
    );
    let started = Utc::now();
    let outcome = trial::run(scenario, host, started.timestamp_millis(), args.quiet).await?;
    Ok(result::result(scenario, &outcome, &started, &work_dir))
}

fn exit_code(result: &Value) -> ExitCode {
    match result["verdict"].as_str() {
        Some("passed") => ExitCode::SUCCESS,
        Some("slo missed") => ExitCode::from(MISSED),
        _ => ExitCode::from(BROKEN),
    }
}

/// In the checkout, so that runs can be compared; else here.
fn default_base(name: &str) -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = if checkout.exists() { checkout.join("results") } else { PathBuf::from("results") };
    dir.join(format!("{name}-{}", Utc::now().format("%Y%m%d-%H%M%S")))
}
