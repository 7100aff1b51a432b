//! A server as a child process: started on a free port, stopped by its process id.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What every server prints once it is ready, before its address.
const READY: &str = "listening on http://";
const READY_WITHIN: Duration = Duration::from_secs(40);
/// Whether one that does not say so is ready.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Longer than a server takes to drain at most.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// A running server. Dropped without [`ServerProcess::stop`], it is killed.
pub struct ServerProcess {
    name: &'static str,
    child: Child,
    pub pid: u32,
    pub addr: SocketAddr,
    /// Open as long as the server may print; `None` for one that prints into the void.
    _stdout: Option<Lines<BufReader<ChildStdout>>>,
}

impl ServerProcess {
    /// Starts the command and waits until it says where it listens.
    pub async fn start(name: &'static str, mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name} ({:?})", command.as_std().get_program()))?;
        let pid = child.id().context("a process that has just started has an id")?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let line = tokio::time::timeout(READY_WITHIN, stdout.next_line())
            .await
            .with_context(|| format!("{name} was not ready within {READY_WITHIN:?}"))??;
        let Some(line) = line else {
            bail!("{name} ended before it was ready: {}", child.wait().await?);
        };
        let addr = ready_address(&line).with_context(|| format!("{name} printed {line:?}"))?;
        Ok(Self { name, child, pid, addr, _stdout: Some(stdout) })
    }

    /// Starts a command that does not say when it is ready, and waits until `ready` says so.
    /// `addr` is where it was told to listen.
    pub async fn start_quiet(
        name: &'static str,
        mut command: Command,
        addr: SocketAddr,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name} ({:?})", command.as_std().get_program()))?;
        let pid = child.id().context("a process that has just started has an id")?;
        let until = Instant::now() + READY_WITHIN;
        while !ready().await {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended before it was ready: {status}");
            }
            ensure!(Instant::now() < until, "{name} was not ready within {READY_WITHIN:?}");
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(Self { name, child, pid, addr, _stdout: None })
    }

    /// SIGTERM, and the end that it leads to.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended by itself: {status}", self.name);
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("stop {}", self.name))?;
        let status: ExitStatus = match tokio::time::timeout(STOPPED_WITHIN, self.child.wait()).await {
            Ok(status) => status?,
            Err(_) => {
                self.child.kill().await?;
                bail!("{} did not stop within {STOPPED_WITHIN:?} and was killed", self.name);
            }
        };
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }

    /// SIGKILL, and its end.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))
    }
}

fn ready_address(line: &str) -> Option<SocketAddr> {
    line.split_once(READY)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_server_is_started_and_stopped_by_its_id() {
        let script =
            "trap 'exit 0' TERM; echo test listening on http://127.0.0.1:9; while :; do sleep 0.02; done";
        let server = ServerProcess::start("test", shell(script)).await.expect("a server");
        assert_eq!(server.addr, SocketAddr::from(([127, 0, 0, 1], 9)));
        server.stop().await.expect("an end");
    }

    #[tokio::test]
    async fn one_that_ends_too_early_is_an_error() {
        let start = |script| ServerProcess::start("test", shell(script));
        assert!(start("exit 3").await.is_err());
        assert!(start("echo hello; exec sleep 5").await.is_err());
    }
}
