//! The load lab of Watchpost. `run` runs a scenario and checks the server's promises; `bench`
//! measures the server against a bare ceiling.

mod bench;
mod body;
mod ceiling;
mod child;
mod connection;
mod fleet;
mod generator;
mod instructions;
mod lab;
mod machine;
mod packages;
mod peers;
mod prototype;
mod server;
mod stats;
mod stored;
mod turns;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// As the server has it, so that ceiling and prototype are not measured with a slower one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Watchpost
#[derive(Debug, Parser)]
#[command(name = "load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Requests per second and latency of the server beside a bare ceiling, and event to socket when idle
    Bench(bench::BenchArgs),
    /// The bare ceiling: reads, decodes, answers, stores nothing. Started by `bench`
    #[command(hide = true, name = "bare-ceiling")]
    Ceiling(ceiling::CeilingArgs),
    /// The bare prototype: the smallest durable server of this kind. Started by `peers`
    #[command(hide = true)]
    Prototype(prototype::PrototypeArgs),
    /// The server beside other designs, in turns on the same bodies and connections
    Peers(peers::PeersArgs),
    /// Inserts into a database of ten million events beside an empty one, and the first pages of lists
    Stored(stored::StoredArgs),
    /// Instructions per event, counted by callgrind, and the functions that they are in
    Instructions(instructions::InstructionsArgs),
    /// Runs a scenario against a server: figures, plots, and whether every promise was kept. `run`
    /// may be left out
    Run(lab::RunArgs),
    /// The scenarios that come with the lab
    List,
    #[command(external_subcommand)]
    Scenario(Vec<OsString>),
}

fn main() -> ExitCode {
    let command = match Cli::parse().command {
        Command::Scenario(words) => {
            let words = ["load".into(), "run".into()].into_iter().chain(words);
            Cli::parse_from(words).command
        }
        command => command,
    };
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    let result = match command {
        Command::Bench(args) => done(bench::run(&args)),
        Command::Ceiling(args) => done(ceiling::run(&args)),
        Command::Prototype(args) => done(prototype::run(&args)),
        Command::Peers(args) => done(peers::run(&args)),
        Command::Stored(args) => stored::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Run(args) => lab::run(&args),
        Command::List => lab::list(),
        // Parsed as `run` below, so it is none of the commands.
        Command::Scenario(_) => Err(anyhow::anyhow!("there is no such command")),
    };
    match result {
        Ok(code) => code,
        Err(err) => {
            eprintln!("load: {err:#}");
            ExitCode::FAILURE
        }
    }
}
