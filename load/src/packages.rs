//! What a command needs beside Rust: looked for, and installed as Debian packages if it is missing.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

/// The interpreter that Debian's modules are for, whatever `python3` of the path is.
pub const PYTHON: &str = "/usr/bin/python3";
pub const MARIADB_SERVER: &str = "/usr/sbin/mariadbd";
pub const MARIADB_INSTALL: &str = "/usr/bin/mariadb-install-db";
pub const INFLUXDB: &str = "/usr/bin/influxd";

/// How to see whether something is there, and what brings it.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    Program(&'static str, &'static str),
    PythonModule(&'static str, &'static str),
}

pub const FLASK: [Need; 7] = [
    Need::Program(PYTHON, "python3"),
    Need::Program(MARIADB_SERVER, "mariadb-server-core"),
    // The tables of a new data directory are made with the client's help.
    Need::Program(MARIADB_INSTALL, "mariadb-server-core"),
    Need::PythonModule("flask", "python3-flask"),
    Need::PythonModule("sqlalchemy", "python3-sqlalchemy"),
    Need::PythonModule("MySQLdb", "python3-mysqldb"),
    Need::PythonModule("gunicorn", "python3-gunicorn"),
];
pub const VALGRIND: [Need; 2] = [
    Need::Program("/usr/bin/valgrind", "valgrind"),
    Need::Program("/usr/bin/callgrind_annotate", "valgrind"),
];
pub const INFLUX: [Need; 1] = [Need::Program(INFLUXDB, "influxdb")];

impl Need {
    async fn is_met(self) -> bool {
        match self {
            Need::Program(path, _) => Path::new(path).exists(),
            Need::PythonModule(module, _) => {
                let mut command = Command::new(PYTHON);
                command.args(["-c", &format!("import {module}")]).stdin(Stdio::null());
                command.stdout(Stdio::null()).stderr(Stdio::null());
                command.status().await.is_ok_and(|status| status.success())
            }
        }
    }

    fn package(self) -> &'static str {
        match self {
            Need::Program(_, package) | Need::PythonModule(_, package) => package,
        }
    }
}

/// Installs what is missing, if `install`. An error says what could not be had, and why.
pub async fn ensure_installed(needs: &[Need], install: bool) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for need in needs {
        if !need.is_met().await && !missing.contains(&need.package()) {
            missing.push(need.package());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    ensure!(install, "not installed: {names}");
    ensure!(Path::new("/usr/bin/apt-get").exists(), "not installed, and there is no apt-get: {names}");
    eprintln!("installing {names}");
    // The package lists may be there, and good enough, so they are fetched only after a failure.
    let packages = ["install", "-y", "-qq", "--no-install-recommends"];
    let packages: Vec<&str> = packages.into_iter().chain(missing).collect();
    if apt_get(&packages).await.is_err() {
        apt_get(&["update", "-qq"]).await.with_context(|| format!("install {names}"))?;
        apt_get(&packages).await.with_context(|| format!("install {names}"))?;
    }
    for need in needs {
        ensure!(need.is_met().await, "{} was installed and brought no {need:?}", need.package());
    }
    Ok(())
}

/// As root, or with a sudo that asks nothing. Not killed when this program is told to stop: that
/// would leave half a package.
async fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    let output =
        command.stderr(Stdio::piped()).output().await.context("run apt-get (as root, or with sudo)")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("apt-get {}: {}", args[0], stderr.lines().last().unwrap_or("no message"));
    }
    Ok(())
}
