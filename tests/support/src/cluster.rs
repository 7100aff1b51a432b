//! A PostgreSQL server of the test's own, that it may stop and start again.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use watchpost::storage::database::Conn;

use crate::DEADLINE;

/// Where Debian has the server's programs.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// The server refuses to run as root; Debian has this user for it. Also its superuser.
const USER: &str = "postgres";
/// Below those that the kernel gives to connections, so that nobody takes it while the server is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// A new start after one that failed.
const RETRY: Duration = Duration::from_millis(20);

/// A cluster in a temporary directory, on a free port of the loopback. Ended when dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    settings: Vec<String>,
    server: Option<Child>,
}

impl Cluster {
    /// Makes it and starts it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With settings such as `max_connections=8`, which win over those of every cluster.
    pub fn start_with(settings: &[&str]) -> Self {
        let mut cluster = Self::make();
        cluster.settings.extend(settings.iter().map(|&setting| setting.to_owned()));
        cluster.go_on();
        cluster
    }

    /// One more setting, from its next start on.
    pub fn set(&mut self, setting: String) {
        self.settings.push(setting);
    }

    /// Makes it without starting it.
    pub fn make() -> Self {
        let dir = tempfile::Builder::new().prefix("watchpost-postgres").tempdir().expect("a directory");
        let mut versions: Vec<PathBuf> = std::fs::read_dir(PROGRAMS)
            .unwrap_or_else(|err| panic!("{PROGRAMS}: {err}; install PostgreSQL, as tests/run does"))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        versions.sort();
        let version = versions.pop().expect("a version of PostgreSQL");
        let port = free_port(&dir.path().to_string_lossy());
        let programs = version.join("bin");
        let cluster = Self { dir, programs, port, settings: Vec::new(), server: None };
        let template = cluster.template(&version.file_name().expect("a version").to_string_lossy());
        run(Command::new("cp").arg("-r").arg(template).arg(cluster.data()));
        cluster.give(cluster.dir.path());
        cluster
    }

    /// An empty cluster, made once per target folder: each test has a copy.
    fn template(&self, version: &str) -> PathBuf {
        let test = std::env::current_exe().expect("the path of the test");
        let folder = test.ancestors().nth(2).expect("a target folder");
        let made = folder.join(format!("postgres-{version}-trust-utf8-c"));
        let lock = File::create(folder.join("postgres.lock")).expect("a lock");
        lock.lock().expect("the turn to look");
        if !made.exists() {
            self.give(self.dir.path());
            let new = self.dir.path().join("new");
            run(self
                .command("initdb")
                .args(["-U", USER, "--auth=trust", "-E", "UTF8", "--locale=C", "-N", "-D"])
                .arg(&new));
            let unready = folder.join(format!("postgres-{version}-unready"));
            let _ = std::fs::remove_dir_all(&unready);
            run(Command::new("cp").arg("-r").arg(&new).arg(&unready));
            std::fs::rename(unready, &made).expect("the template");
            std::fs::remove_dir_all(new).expect("a directory");
        }
        made
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Makes a file or folder in its directory the server's.
    fn give(&self, path: &Path) {
        if is_root() {
            run(Command::new("chown").args(["-R", USER]).arg(path));
        }
    }

    /// Puts a file beside the data that only the server reads; its path.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        run(Command::new("chmod").arg("600").arg(&path));
        self.give(&path);
        path
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

    /// Where it listens, on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database in it, for its superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// A new session of its superuser.
    pub fn connect(&self) -> Conn {
        Conn::establish(&self.url("postgres")).expect("a session")
    }

    /// Statements of its superuser, each on its own.
    pub fn execute(&self, statements: &[&str]) {
        let mut conn = self.connect();
        for statement in statements {
            let done = diesel::sql_query(*statement).execute(&mut conn);
            done.unwrap_or_else(|err| panic!("{statement}: {err}"));
        }
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data());
        let socket_dir = format!("unix_socket_directories={}", self.dir.path().display());
        let port = format!("port={}", self.port);
        let always = ["listen_addresses=127.0.0.1", &port, &socket_dir];
        // No test cuts the power, and what a process has written outlives it.
        let usual = ["max_connections=50", "shared_buffers=32MB", "fsync=off"];
        let own = self.settings.iter().map(String::as_str);
        for setting in always.into_iter().chain(usual).chain(own) {
            server.args(["-c", setting]);
        }
        server.stdout(Stdio::null()).stderr(log).spawn().expect("the server starts")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Starts it after [`Cluster::stop`], and waits until it takes connections. Until the last process
    /// of a server that was killed has gone a new one refuses to start.
    pub fn go_on(&mut self) {
        let mut server = self.spawn();
        let begun = Instant::now();
        loop {
            let mut ready = self.command("pg_isready");
            ready.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).stdout(Stdio::null());
            if ready.status().expect("pg_isready runs").success() {
                break;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "PostgreSQL takes connections within {DEADLINE:?}: {}",
                self.said()
            );
            if server.try_wait().expect("a child").is_some() {
                server = self.spawn();
            }
            std::thread::park_timeout(RETRY);
        }
        self.server = Some(server);
    }

    /// Ends it by a signal (`-INT` ends sessions and stops in order, `-QUIT` ends all at once, `-KILL`
    /// leaves its other processes to find out) and waits until nobody listens.
    pub fn stop(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        run(Command::new("kill").args([signal, &server.id().to_string()]));
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

/// Runs it to its end, which must be a good one.
fn run(command: &mut Command) {
    let done = command.stdout(Stdio::null()).output().expect("a program of the system");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A port of the loopback that nobody listens on and that the kernel gives to nobody. The search begins
/// elsewhere for each name: choose one that is of nobody else, such as that of a temporary directory.
pub fn free_port(name: &str) -> u16 {
    let begin = name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let count = usize::from(PORTS.end - PORTS.start);
    let mut ports = PORTS.cycle().skip(begin % count).take(count);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}
