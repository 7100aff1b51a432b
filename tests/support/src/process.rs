//! The program as a process: started, asked, stopped, killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::DEADLINE;

/// The program under test, which cargo has built beside the tests.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let built = test.ancestors().nth(2).expect("a target folder").join("watchpost");
    assert!(built.exists(), "{} is built with the tests", built.display());
    built
}

/// `watchpost` with an environment of its own.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WATCHPOST_")) {
        command.env_remove(name);
    }
    command
}

/// Arguments of a quiet server on a free port.
pub fn server_args(data_dir: &Path) -> Vec<String> {
    server_args_at(data_dir, SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn server_args_at(data_dir: &Path, addr: SocketAddr) -> Vec<String> {
    let (data_dir, addr) = (data_dir.display().to_string(), addr.to_string());
    ["--listen", &addr, "--data-dir", &data_dir, "--set", "telemetry.log=error"].map(str::to_owned).to_vec()
}

/// Runs it to its end, which must come within [`DEADLINE`].
pub fn run(mut command: Command) -> Output {
    let mut child = command.spawn().expect("the program starts");
    let begun = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begun.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("it ends within {DEADLINE:?}");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    child.wait_with_output().expect("its output")
}

/// It must fail, with one line that begins with `watchpost: `; the line.
pub fn refusal(command: Command) -> String {
    let output = run(command);
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "it must not start; it said {stderr:?}");
    assert!(output.status.code().is_some(), "it ends by itself: {}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing on stdout");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {stderr:?}");
    assert!(lines[0].starts_with("watchpost: "), "{stderr:?}");
    lines[0].to_owned()
}

/// A server that has been started and has not said where it listens. Killed when dropped.
pub struct Starting {
    child: Child,
    begun: Instant,
}

impl Starting {
    /// To listen there.
    pub fn spawn_at(data_dir: &Path, addr: SocketAddr, more: &[&str]) -> Self {
        let args = server_args_at(data_dir, addr);
        Self::spawn_args(args.iter().map(String::as_str).chain(more.iter().copied()).collect(), |_| {})
    }

    /// `more` are further arguments.
    pub fn spawn(data_dir: &Path, more: &[&str]) -> Self {
        Self::spawn_adjusted(data_dir, more, |_| {})
    }

    fn spawn_adjusted(data_dir: &Path, more: &[&str], adjust: impl FnOnce(&mut Command)) -> Self {
        let args = server_args(data_dir);
        Self::spawn_args(args.iter().map(String::as_str).chain(more.iter().copied()).collect(), adjust)
    }

    fn spawn_args(args: Vec<&str>, adjust: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(&args);
        adjust(&mut command);
        let begun = Instant::now();
        Self { child: command.spawn().expect("the program starts"), begun }
    }

    /// Waits until it says where it listens.
    pub fn listening(mut self) -> Process {
        let mut first_line = String::new();
        let stdout = self.child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut first_line).expect("a line");
        let addr = first_line.trim_end().strip_prefix("watchpost listening on http://");
        let Some(addr) = addr.and_then(|addr| addr.parse().ok()) else {
            let mut stderr = String::new();
            let _ = self.child.stderr.take().expect("a pipe").read_to_string(&mut stderr);
            panic!("it did not start: {first_line:?} {stderr}");
        };
        let listening_after = self.begun.elapsed();
        Process { starting: self, addr, first_line, listening_after }
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("a child");
        let status = self.child.wait().expect("a child");
        assert_eq!(status.code(), None, "it did not end by itself: {status}");
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in a process of its own. Killed when dropped.
pub struct Process {
    starting: Starting,
    pub addr: SocketAddr,
    pub first_line: String,
    /// From the start of the process to its first line.
    pub listening_after: Duration,
}

impl Process {
    pub fn start(data_dir: &Path) -> Self {
        Starting::spawn(data_dir, &[]).listening()
    }

    /// Where another one has listened, for clients that come back.
    pub fn start_at(data_dir: &Path, addr: SocketAddr) -> Self {
        Starting::spawn_at(data_dir, addr, &[]).listening()
    }

    /// `adjust` changes the command before it runs.
    pub fn start_adjusted(data_dir: &Path, adjust: impl FnOnce(&mut Command)) -> Self {
        Starting::spawn_adjusted(data_dir, &[], adjust).listening()
    }

    /// With settings such as `writer.batch_rows=500`.
    pub fn start_with(data_dir: &Path, settings: &[&str]) -> Self {
        let more: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
        Starting::spawn(data_dir, &more).listening()
    }

    /// From the start of the process to now.
    pub fn age(&self) -> Duration {
        self.starting.begun.elapsed()
    }

    /// Waits for `/readyz` 200; how long that took from the start of the process.
    pub fn until_ready(&self) -> Duration {
        let begun = Instant::now();
        loop {
            let answer = connect(self.addr).and_then(|mut stream| request(&mut stream, "GET /readyz", ""));
            if answer.is_some_and(|(status, _)| status == 200) {
                return self.age();
            }
            assert!(begun.elapsed() < DEADLINE, "it is ready within {DEADLINE:?}");
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(self) {
        self.starting.kill();
    }

    /// A line of `/proc/PID/status` that gives KiB, for example `VmHWM`.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.starting.child.id());
        let status = std::fs::read_to_string(&path).expect("a running process");
        let found = status.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(':'));
        let number = found.and_then(|text| text.trim().strip_suffix(" kB")).map(str::trim);
        number.and_then(|number| number.parse().ok()).expect("a size")
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.starting.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "kill {signal} {pid}");
    }

    /// Waits for its end: code (`None` after a signal) and what it said on stderr.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.starting.child.try_wait().expect("a child") {
                break status;
            }
            assert!(begun.elapsed() < DEADLINE, "it ends within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let mut stderr = String::new();
        self.starting.child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
        (status.code(), stderr)
    }
}

/// Status and body of one request on a connection that stays open; `None` if there was no whole
/// answer.
pub fn request(stream: &mut TcpStream, head: &str, body: &str) -> Option<(u16, String)> {
    request_as(stream, "", head, body)
}

/// The same with a token.
pub fn request_as(stream: &mut TcpStream, token: &str, head: &str, body: &str) -> Option<(u16, String)> {
    send(stream, token, head, body)?;
    answer(stream)
}

/// Sends a request, for [`answer`] or [`whole_answer`]. Without a token if that is empty.
pub fn send(stream: &mut TcpStream, token: &str, head: &str, body: &str) -> Option<()> {
    let sign_in = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: x\r\n{sign_in}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()
}

/// Status and body of the answer to a request that has been sent.
pub fn answer(stream: &mut TcpStream) -> Option<(u16, String)> {
    whole_answer(stream).map(|answer| (answer.status, answer.body))
}

/// An answer with what of its head matters to a watch.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// `Retry-After`, if it says so.
    pub retry_after: Option<String>,
    pub body: String,
}

/// The answer to a request that has been sent.
pub fn whole_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let (mut length, mut retry_after) = (0, None);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?
            }
            Some((name, value)) if name.eq_ignore_ascii_case("retry-after") => {
                retry_after = Some(value.to_owned())
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Answer { status, retry_after, body: String::from_utf8(body).ok()? })
}

pub fn connect(addr: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    Some(stream)
}

/// The admin token of a server that has been started on this directory.
pub fn admin_token(data_dir: &Path) -> String {
    std::fs::read_to_string(data_dir.join("admin.token")).expect("a token").trim().to_owned()
}

/// Lets time pass on this thread.
pub fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// What threads were told that post events as fast as they are answered.
#[derive(Default)]
pub struct Load {
    pub stop: AtomicBool,
    answered: AtomicU64,
    /// Event ids answered with 200.
    pub stored: Mutex<Vec<String>>,
}

impl Load {
    /// Posts until told to stop or the server is gone. Every tenth event is an SOS. `run` and
    /// `thread` keep the events of different calls apart.
    pub fn post(&self, addr: SocketAddr, run: usize, thread: usize) {
        let Some(mut stream) = connect(addr) else { return };
        for number in 0u64.. {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let kind = if number.is_multiple_of(10) { "SOS_EVENT" } else { "CALL_STATE" };
            let device = number % 3;
            let body = format!(
                r#"{{"eventType":"{kind}","eventValue":"{run}-{number}","deviceSn":"W{thread}-{device}"}}"#
            );
            let Some((status, answer)) = request(&mut stream, "POST /upload_common_event", &body) else {
                return;
            };
            if status == 200 {
                let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
                let event_id = answer["event_id"].as_str().expect("an event id").to_owned();
                self.stored.lock().expect("no panic").push(event_id);
                self.answered.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Waits until so many were stored.
    pub fn until(&self, count: u64) {
        let begun = Instant::now();
        while self.answered.load(Ordering::Acquire) < count {
            assert!(begun.elapsed() < DEADLINE, "{count} events are stored within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}
