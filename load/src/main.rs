//! The load lab of Watchpost. `bench` measures the server against a bare ceiling.

mod bench;
mod body;
mod ceiling;
mod child;
mod connection;
mod fleet;
mod generator;
mod machine;
mod peers;
mod prototype;
mod server;
mod stats;

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
    #[command(hide = true)]
    Ceiling(ceiling::CeilingArgs),
    /// The bare prototype: the smallest durable server of this kind. Started by `peers`
    #[command(hide = true)]
    Prototype(prototype::PrototypeArgs),
    /// The server beside other designs, in turns on the same bodies and connections
    Peers(peers::PeersArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Ceiling(args) => ceiling::run(&args),
        Command::Prototype(args) => prototype::run(&args),
        Command::Peers(args) => peers::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("load: {err:#}");
            ExitCode::FAILURE
        }
    }
}
