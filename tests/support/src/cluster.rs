//! A PostgreSQL server of the test's own, that it may stop and start again.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::DEADLINE;

/// Where Debian has the server's programs.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// The server refuses to run as root; Debian has this user for it.
const USER: &str = "postgres";

/// A cluster in a temporary directory, on a free port of the loopback. Ended when dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Cluster {
    /// Makes it and starts it.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("watchpost-postgres").tempdir().expect("a directory");
        let mut versions: Vec<PathBuf> = std::fs::read_dir(PROGRAMS)
            .unwrap_or_else(|err| panic!("{PROGRAMS}: {err}; install PostgreSQL, as tests/run does"))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        versions.sort();
        let programs = versions.pop().expect("a version of PostgreSQL").join("bin");
        let port = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("a port").port();
        let mut cluster = Self { dir, programs, port, server: None };
        if is_root() {
            let owned = Command::new("chown").arg(USER).arg(cluster.dir.path()).status().expect("chown runs");
            assert!(owned.success(), "chown");
        }
        let made = cluster
            .command("initdb")
            .args(["-U", USER, "--auth=trust", "-E", "UTF8", "--locale=C", "-N", "-D"])
            .arg(cluster.data())
            .stdout(Stdio::null())
            .status()
            .expect("initdb runs");
        assert!(made.success(), "initdb");
        cluster.go_on();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of the server, as a user that it accepts.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.dir.path());
        command
    }

    /// The URL of a database in it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Starts it after [`Cluster::stop`], and waits until it takes connections.
    pub fn go_on(&mut self) {
        let socket_dir = format!("unix_socket_directories={}", self.dir.path().display());
        let port = format!("port={}", self.port);
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log");
        let server = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &port, "-c", &socket_dir])
            .args(["-c", "max_connections=50", "-c", "shared_buffers=32MB"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.server = Some(server);
        let begun = Instant::now();
        loop {
            let mut ready = self.command("pg_isready");
            ready.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if ready.stdout(Stdio::null()).status().expect("pg_isready runs").success() {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "PostgreSQL takes connections within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Ends it by a signal (`-INT` ends sessions and stops in order, `-QUIT` at once, as a crash does)
    /// and waits until it is gone.
    pub fn stop(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        let sent = Command::new("kill").args([signal, &server.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "kill {signal}");
        let begun = Instant::now();
        while server.try_wait().expect("a child").is_none() {
            assert!(begun.elapsed() < DEADLINE, "PostgreSQL ends within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        assert!(TcpStream::connect(("127.0.0.1", self.port)).is_err(), "nobody listens any more");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // In order: its other processes end with it.
            let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
            let _ = server.wait();
        }
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}
