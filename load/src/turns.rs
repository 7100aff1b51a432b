//! What the commands that measure servers in turns share: their options, the head of their reports,
//! and what ends them early.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::generator::Load;
use crate::server;

#[derive(Debug, clap::Args)]
pub struct Turns {
    /// Keep-alive connections, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub connections: u64,
    /// Measured seconds of a round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Seconds before those that are not measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub warm_up: u64,
    /// Rounds of each, in turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub rounds: u64,
    /// Watches, shared out over the connections
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub devices: u64,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub generator_threads: u64,
    /// Also write the result to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The watchpost to measure [default: the one of this workspace, built if need be]
    #[arg(long, value_name = "BINARY")]
    pub server: Option<PathBuf>,
    /// Where the temporary data directories are made; commits go to this disk [default: where this
    /// program is]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
}

impl Turns {
    /// An error names the option.
    pub fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            self.devices >= self.connections,
            "every connection needs a watch: --devices {} is less",
            self.devices
        );
        Ok(())
    }

    pub fn work_dir(&self) -> anyhow::Result<PathBuf> {
        match &self.work_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(std::env::current_exe()?.parent().context("this program is in a folder")?.to_owned()),
        }
    }

    pub async fn binary(&self) -> anyhow::Result<PathBuf> {
        match &self.server {
            Some(binary) => Ok(binary.clone()),
            None => server::build().await,
        }
    }

    /// One round against a server.
    pub fn load(&self, server: SocketAddr) -> Load {
        Load {
            server,
            threads: self.generator_threads as usize,
            warm_up: Duration::from_secs(self.warm_up),
            measured: Duration::from_secs(self.seconds),
        }
    }

    /// Commit, machine and load, each in a line.
    pub fn head(&self, commit: &str, machine: &Value, body: &str) -> String {
        let of = |key: &str| machine[key].to_string().trim_matches('"').to_owned();
        format!(
            "commit   {commit} ({})\nmachine  {} cores, {}, {}\nload     {body} bodies, {} connections, {} devices, \
             {} rounds of {} s after {} s, in turns; {} generator threads\n\n",
            profile(),
            of("cores"),
            of("cpu"),
            of("file_system"),
            self.connections,
            self.devices,
            self.rounds,
            self.seconds,
            self.warm_up,
            self.generator_threads,
        )
    }

    /// What every report begins with. `more`: the command's own arguments.
    pub fn to_json(&self, commit: &str, machine: &Value, body: &str, more: &Value) -> Value {
        let mut arguments = json!({
            "body": body,
            "connections": self.connections,
            "devices": self.devices,
            "seconds": self.seconds,
            "warm_up_s": self.warm_up,
            "rounds": self.rounds,
            "generator_threads": self.generator_threads,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            arguments[name] = value.clone();
        }
        json!({ "machine": machine, "commit": commit, "profile": profile(), "arguments": arguments })
    }

    /// Into the file that was asked for, if one was.
    pub fn write_json(&self, result: &Value) -> anyhow::Result<()> {
        match &self.json {
            Some(path) => std::fs::write(path, format!("{result:#}\n"))
                .with_context(|| format!("write {}", path.display())),
            None => Ok(()),
        }
    }
}

pub fn profile() -> &'static str {
    if cfg!(debug_assertions) { "debug: says nothing about speed" } else { "release" }
}

/// Signals that end a command. Taken before anything is started, so that nothing is left running.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn new() -> anyhow::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    /// The work's result, or an error if a signal comes first; what the work had begun is dropped.
    pub async fn or<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            result = work => result,
            _ = self.terminate.recv() => Err(anyhow!("told to stop")),
            _ = self.interrupt.recv() => Err(anyhow!("interrupted")),
        }
    }
}
