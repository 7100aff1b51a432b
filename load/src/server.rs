//! The server that is measured: the real binary, in a fresh data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use watchpost::api::credentials::ADMIN_TOKEN_FILE;
use watchpost::config::{DeviceConfig, ENV_PREFIX};

use crate::child::ServerProcess;

/// The binary next to this one. Cargo decides whether it is missing or older than its sources;
/// if it is neither, that costs a moment.
pub async fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program is in a folder")?;
    let target = folder.parent().context("this program is in cargo's target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "watchpost", "--bin", "watchpost"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let status = command.kill_on_drop(true).status().await;
    let hint = "build the server; or name a binary with --server";
    ensure!(status.context(hint)?.success(), "failed to {hint}");
    let binary = folder.join("watchpost");
    ensure!(binary.exists(), "cargo put no binary at {}; name it with --server", binary.display());
    Ok(binary)
}

/// A running server and its files. Fields are dropped in this order.
pub struct Server {
    pub process: ServerProcess,
    pub dir: TempDir,
}

impl Server {
    /// With default settings, but for logs, and for room for the run's devices, which nobody is
    /// bound to.
    pub async fn start(binary: &Path, work_dir: &Path, devices: u64) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("watchpost-bench-")
            .tempdir_in(work_dir)
            .with_context(|| format!("make a data directory in {}", work_dir.display()))?;
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self { process: start_process(binary, dir.path(), listen, &room_for(devices)).await?, dir })
    }

    pub fn admin_token(&self) -> anyhow::Result<String> {
        admin_token(self.dir.path())
    }
}

/// The settings, as `--set` takes them, for this many devices that nobody is bound to.
pub fn room_for(devices: u64) -> Vec<String> {
    match devices > DeviceConfig::default().devices_unbound_max as u64 {
        true => vec![format!("device.devices_unbound_max={devices}")],
        false => Vec::new(),
    }
}

/// With default settings, but for logs and `settings`.
pub async fn start_process(
    binary: &Path,
    data_dir: &Path,
    listen: SocketAddr,
    settings: &[String],
) -> anyhow::Result<ServerProcess> {
    start_under(Command::new(binary), data_dir, listen, settings).await
}

/// The same for a program that starts the server; its arguments so far are its own, the binary the
/// last of them.
pub async fn start_under(
    mut command: Command,
    data_dir: &Path,
    listen: SocketAddr,
    settings: &[String],
) -> anyhow::Result<ServerProcess> {
    // The settings of whoever runs this are not those that are to be measured.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    command.args(["serve", "--listen", &listen.to_string(), "--set", "telemetry.log=warn", "--data-dir"]);
    command.arg(data_dir);
    for setting in settings {
        command.args(["--set", setting]);
    }
    ServerProcess::start("watchpost", command).await
}

/// Of the server that has this data directory.
pub fn admin_token(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join(ADMIN_TOKEN_FILE);
    let token = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(token.trim().to_owned())
}

fn is_setting(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(ENV_PREFIX))
}
