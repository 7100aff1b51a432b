//! The synchronous Flask design and its queued variant: gunicorn and a MariaDB server of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::child::ServerProcess;
use crate::packages::{MARIADB_INSTALL, MARIADB_SERVER, PYTHON};

/// Connections that MariaDB takes.
const CONNECTIONS_MAX: u64 = 1_000;
const BUFFER_POOL_MIB: u32 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Synchronous,
    Queued,
}

/// Of gunicorn.
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    pub processes: u64,
    /// Of each process.
    pub threads: u64,
}

pub struct Flask {
    pub web: ServerProcess,
    pub database: Database,
}

/// Rows of a database, and connections to it.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub alerts: u64,
    pub health: u64,
    pub connections: u64,
}

impl Flask {
    /// With the watches of the run worn by somebody each.
    pub async fn start(variant: Variant, dir: &Path, workers: Workers, devices: u64) -> anyhow::Result<Self> {
        let database = Database::start(dir).await?;
        database.python(&["database.py", "create", &devices.to_string()]).output_or_error().await?;
        let (name, word) = match variant {
            Variant::Synchronous => ("flask-sync", "sync"),
            Variant::Queued => ("flask-queued", "queued"),
        };
        let mut command = database.python(&[
            "serve.py",
            word,
            &workers.processes.to_string(),
            &workers.threads.to_string(),
        ]);
        command.0.process_group(0).stderr(std::fs::File::create(dir.join("gunicorn.log"))?);
        let web = ServerProcess::start(name, command.0).await?;
        Ok(Self { web, database })
    }
}

/// A MariaDB server that is reached over a socket in a folder of its own.
pub struct Database {
    pub process: ServerProcess,
    /// Beside the data: the path of a socket must be short.
    folder: TempDir,
    user: String,
}

struct Script(Command);

impl Database {
    async fn start(dir: &Path) -> anyhow::Result<Self> {
        let user = user_name()?;
        let folder = tempfile::Builder::new().prefix("lab-").tempdir()?;
        let data = dir.join("mariadb");
        let mut install = Command::new(MARIADB_INSTALL);
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--user={user}")).arg(format!("--datadir={}", data.display()));
        install.stdin(Stdio::null()).kill_on_drop(true);
        Script(install).output_or_error().await?;

        let mut command = Command::new(MARIADB_SERVER);
        command.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=1"]);
        command.arg(format!("--innodb-buffer-pool-size={BUFFER_POOL_MIB}M"));
        command.arg(format!("--max-connections={}", CONNECTIONS_MAX + 10));
        command.arg(format!("--user={user}")).arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", folder.path().join("s").display())).process_group(0);
        command.stderr(std::fs::File::create(dir.join("mariadb.log"))?);
        let socket = folder.path().join("s");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let ready = async || tokio::net::UnixStream::connect(&socket).await.is_ok();
        let process = ServerProcess::start_quiet("mariadb", command, nowhere, ready).await?;
        Ok(Self { process, folder, user: "root".into() })
    }

    /// One of the programs in `load/peers`.
    fn python(&self, args: &[&str]) -> Script {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut command = Command::new(PYTHON);
        command.arg(folder.join(args[0])).args(&args[1..]).current_dir(folder).stdin(Stdio::null());
        command.env("LAB_MARIADB_SOCKET", self.folder.path().join("s")).env("LAB_MARIADB_USER", &self.user);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("SQLALCHEMY_SILENCE_UBER_WARNING", "1");
        command.kill_on_drop(true);
        Script(command)
    }

    pub async fn count(&self) -> anyhow::Result<Counted> {
        let text = self.python(&["database.py", "count"]).output_or_error().await?;
        let value: Value = serde_json::from_str(&text).context("read what is stored")?;
        let number = |key: &str| value[key].as_u64().with_context(|| format!("no {key} in {text}"));
        Ok(Counted {
            alerts: number("alerts")?,
            health: number("health")?,
            connections: number("connections")?,
        })
    }
}

impl Script {
    /// What it printed; an error says what it complained about. Given up half-way, it ends with
    /// all that it has started.
    async fn output_or_error(mut self) -> anyhow::Result<String> {
        let program = format!("{:?}", self.0.as_std().get_program());
        let command = self.0.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("run {program}"))?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let output = child.wait_with_output().await.with_context(|| format!("run {program}"))?;
        // The number may be another's from now on.
        group.0 = None;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let complaint = stderr.lines().last().unwrap_or("no message");
        ensure!(output.status.success(), "{program}: {complaint}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A process group that is killed unless it has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may just have ended: then there is nobody to kill.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Of this process: MariaDB does not run as root unless it is told so by name.
fn user_name() -> anyhow::Result<String> {
    let id = rustix::process::geteuid().as_raw().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    name.with_context(|| format!("no account has the id {id}"))
}
