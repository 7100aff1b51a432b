//! One of the servers that are measured beside each other: how it is started, spoken to, counted
//! and stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tokio::process::Command;

use super::flask::{Flask, Variant, Workers};
use super::{influx, processes};
use crate::body::Workload;
use crate::child::ServerProcess;
use crate::generator::Dialect;
use crate::packages;
use crate::server::{self, Server};

/// In the order of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// This server: the release binary with its default settings
    Watchpost,
    /// Decodes and answers; stores nothing
    Ceiling,
    /// Decodes, writes the same rows in one thread, answers
    Prototype,
    /// The same without any index but the primary keys
    PrototypeBare,
    /// Flask and SQLAlchemy: everything inside the request
    FlaskSync,
    /// Flask and SQLAlchemy: queue, answer, store later
    FlaskQueued,
    /// InfluxDB 1.6, each write synced
    Influxdb,
}

impl Name {
    pub fn text(self) -> &'static str {
        match self {
            Name::Watchpost => "watchpost",
            Name::Ceiling => "ceiling",
            Name::Prototype => "prototype",
            Name::PrototypeBare => "prototype-bare",
            Name::FlaskSync => "flask-sync",
            Name::FlaskQueued => "flask-queued",
            Name::Influxdb => "influxdb",
        }
    }

    /// Whether 200 has to mean stored, or the run has failed.
    pub fn must_store(self) -> bool {
        matches!(self, Name::Watchpost | Name::Prototype | Name::PrototypeBare)
    }
}

/// What every target is started with.
pub struct Settings {
    pub work_dir: PathBuf,
    /// Of this server; built when it is first needed, if none was named.
    pub server: Option<PathBuf>,
    pub workers: Workers,
    pub devices: u64,
    pub body: Workload,
    /// May missing packages be installed?
    pub install: bool,
}

pub struct Target {
    pub name: Name,
    running: Running,
    // Dropped after the processes that use it.
    dir: TempDir,
}

enum Running {
    Watchpost(Server),
    /// The ceiling, the prototype and InfluxDB.
    Process(ServerProcess),
    Flask(Box<Flask>),
}

/// What a target has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    pub events: u64,
    pub vitals: u64,
}

impl Target {
    pub async fn start(name: Name, settings: &Settings) -> anyhow::Result<Self> {
        match name {
            Name::FlaskSync | Name::FlaskQueued => {
                packages::ensure_installed(&packages::FLASK, settings.install).await?;
            }
            Name::Influxdb => packages::ensure_installed(&packages::INFLUX, settings.install).await?,
            _ => {}
        }
        let dir = tempfile::Builder::new()
            .prefix("watchpost-peers-")
            .tempdir_in(&settings.work_dir)
            .with_context(|| format!("make a data directory in {}", settings.work_dir.display()))?;
        let flask = |variant| Flask::start(variant, dir.path(), settings.workers, settings.devices);
        let running = match name {
            Name::Watchpost => {
                let binary = match &settings.server {
                    Some(binary) => binary.clone(),
                    None => server::build().await?,
                };
                Running::Watchpost(Server::start(&binary, dir.path(), settings.devices).await?)
            }
            Name::Ceiling => Running::Process(own(name, &["bare-ceiling"]).await?),
            Name::Prototype | Name::PrototypeBare => {
                let database = prototype_file(dir.path()).to_string_lossy().into_owned();
                let mut args = vec!["prototype", "--database", &database];
                if settings.body == Workload::Sos {
                    args.push("--alerts");
                }
                if name == Name::PrototypeBare {
                    args.push("--bare-tables");
                }
                Running::Process(own(name, &args).await?)
            }
            Name::FlaskSync => Running::Flask(Box::new(flask(Variant::Synchronous).await?)),
            Name::FlaskQueued => Running::Flask(Box::new(flask(Variant::Queued).await?)),
            Name::Influxdb => Running::Process(influx::start(dir.path()).await?),
        };
        Ok(Self { name, running, dir })
    }

    pub fn addr(&self) -> SocketAddr {
        match &self.running {
            Running::Watchpost(server) => server.process.addr,
            Running::Process(process) => process.addr,
            Running::Flask(flask) => flask.web.addr,
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self.name {
            Name::Influxdb => influx::DIALECT,
            _ => Dialect::WATCH,
        }
    }

    /// Every process that works for it.
    pub fn pids(&self) -> Vec<u32> {
        match &self.running {
            Running::Watchpost(server) => processes::family(server.process.pid),
            Running::Process(process) => processes::family(process.pid),
            Running::Flask(flask) => {
                let mut pids = processes::family(flask.web.pid);
                pids.extend(processes::family(flask.database.process.pid));
                pids
            }
        }
    }

    /// How long it has to be idle until it has done all that it will do about what was sent.
    pub fn idle_for(&self) -> Duration {
        match self.name {
            // Its workers wait 2 s for a batch to fill.
            Name::FlaskQueued => Duration::from_millis(2_500),
            _ => Duration::from_millis(250),
        }
    }

    /// `None` for the ceiling. And the connections to its database, where it has one.
    pub async fn stored(&self) -> anyhow::Result<(Option<Stored>, Option<u64>)> {
        match &self.running {
            Running::Watchpost(server) => sqlite(&server.dir.path().join("watchpost.db"), server.process.pid),
            Running::Process(process) => match self.name {
                Name::Prototype | Name::PrototypeBare => {
                    sqlite(&prototype_file(self.dir.path()), process.pid)
                }
                Name::Influxdb => {
                    let (events, vitals) = influx::count(process.addr).await?;
                    Ok((Some(Stored { events, vitals }), None))
                }
                _ => Ok((None, None)),
            },
            Running::Flask(flask) => {
                let counted = flask.database.count().await?;
                let stored = Stored { events: counted.alerts, vitals: counted.health };
                Ok((Some(stored), Some(counted.connections)))
            }
        }
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        match self.running {
            Running::Watchpost(server) => server.process.stop().await,
            Running::Process(process) => process.stop().await,
            Running::Flask(flask) => {
                let web = flask.web.stop().await;
                web.and(flask.database.process.stop().await)
            }
        }
    }
}

/// This program in another role.
async fn own(name: Name, args: &[&str]) -> anyhow::Result<ServerProcess> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).args(["--listen", "127.0.0.1:0"]).process_group(0);
    ServerProcess::start(name.text(), command).await
}

fn prototype_file(dir: &Path) -> PathBuf {
    dir.join("prototype.db")
}

/// Counted beside the writer, which a reader does not disturb.
fn sqlite(path: &Path, pid: u32) -> anyhow::Result<(Option<Stored>, Option<u64>)> {
    // First, so that this connection is not counted; it is of another process anyway.
    let connections = processes::times_open(pid, path) as u64;
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let rows = |table: &str| -> anyhow::Result<u64> {
        let count: i64 = conn.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    };
    Ok((Some(Stored { events: rows("event")?, vitals: rows("vitals")? }), Some(connections)))
}
