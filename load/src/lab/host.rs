//! What is measured: a server of the lab's own, in a fresh data directory, or somebody's.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::scenario::Scenario;
use super::screens::Door;
use super::socket;
use crate::child::ServerProcess;
use crate::server;

/// The server's own limit of connections is higher; the kernel's is often not.
const FILES_WANTED: u64 = 65_536;

pub struct Host {
    pub door: Door,
    own: Option<Own>,
}

struct Own {
    process: Option<ServerProcess>,
    binary: PathBuf,
    settings: Vec<String>,
    dir: TempDir,
}

impl Host {
    /// Starts a server with the scenario's settings and room for its devices.
    pub async fn start(binary: &Path, work_dir: &Path, scenario: &Scenario) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("watchpost-lab-")
            .tempdir_in(work_dir)
            .with_context(|| format!("make a data directory in {}", work_dir.display()))?;
        let mut settings =
            server::room_for(u64::from(scenario.watches + scenario.simulated_watches()) + 1_000);
        settings.extend(scenario.server.iter().map(|(key, value)| match value {
            toml::Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        }));
        let binary = binary.to_owned();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let process = server::start_process(&binary, dir.path(), listen, &settings).await?;
        let door = Door { server: process.addr, token: server::admin_token(dir.path())? };
        Ok(Self { door, own: Some(Own { process: Some(process), binary, settings, dir }) })
    }

    /// One that runs already. `url`: `http://HOST:PORT`. Refuses another machine unless `remote`.
    pub fn at(url: &str, token: Option<String>, remote: bool) -> anyhow::Result<Self> {
        let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let host = host.with_context(|| format!("--target {url} is not http://HOST:PORT"))?;
        let server = host
            .to_socket_addrs()
            .ok()
            .and_then(|mut addrs| addrs.next())
            .with_context(|| format!("--target {url} leads nowhere; it takes http://HOST:PORT"))?;
        ensure!(
            remote || server.ip().is_loopback(),
            "{server} is another machine: --allow-remote says that you may load it"
        );
        let token =
            token.context("--target needs --token (or WATCHPOST_TOKEN): the results are checked by REST")?;
        Ok(Self { door: Door { server, token }, own: None })
    }

    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref()?.process.as_ref().map(|process| process.pid)
    }

    pub fn data_dir(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.dir.path())
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let process = self.own.as_mut().and_then(|own| own.process.take());
        process.context("only a server that the lab started can be killed")?.kill().await
    }

    /// On the same address and data.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("only a server that the lab started can be started again")?;
        let dir = own.dir.path();
        own.process = Some(server::start_process(&own.binary, dir, self.door.server, &own.settings).await?);
        Ok(())
    }

    /// SIGTERM, if it is the lab's. Its files stay until this is dropped.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        match self.own.as_mut().and_then(|own| own.process.take()) {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// The newest offset once it has stopped moving.
    pub async fn newest_offset(&self) -> anyhow::Result<u64> {
        socket::settled_offset(&self.door).await
    }
}

/// As many open files as this process may have: a connection is one, here and in the server, which
/// inherits it. An error if `connections` cannot be enough.
pub fn raise_file_limit(connections: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(FILES_WANTED).min(FILES_WANTED);
    if limit.current.is_some_and(|current| current < most) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })
            .context("raise the limit of open files")?;
    }
    let have = limit.current.unwrap_or(u64::MAX).max(most);
    ensure!(
        connections + 200 <= have,
        "{connections} connections need more than the {have} open files allowed here (ulimit -n)"
    );
    Ok(())
}
