//! A thin client of the DevTools protocol: commands, answers, events, one after the other. The
//! crates for it bring the whole protocol as tens of thousands of lines, or another HTTP stack; what
//! is needed here is JSON on a WebSocket.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::DEADLINE;
use tungstenite::{Message, WebSocket};

/// A browser of its own. Ended when dropped.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    next_id: u64,
    /// What has been told since the last [`Browser::take_events`].
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("chromium")
            .args(["--headless=new", "--remote-debugging-port=0", "--no-sandbox", "--disable-gpu"])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
            ])
            // A window behind another one is a screen all the same.
            .args(["--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"])
            .arg("--disable-background-timer-throttling")
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Debian's package chromium is installed (tests/run installs it)");
        let stderr = child.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(stderr).lines();
        let url = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            if let Some(url) = line.strip_prefix("DevTools listening on ") {
                break url.trim().to_owned();
            }
        };
        // It goes on talking; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let host = url.trim_start_matches("ws://").split('/').next().expect("a host").to_owned();
        let stream = TcpStream::connect(host).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(DEADLINE)).expect("an option");
        let config = tungstenite::protocol::WebSocketConfig::default()
            .max_message_size(Some(256 << 20))
            .max_frame_size(Some(256 << 20));
        let (socket, _) =
            tungstenite::client::client_with_config(url, stream, Some(config)).expect("an upgrade");
        Self { child, socket, next_id: 1, events: Vec::new(), _profile: profile }
    }

    /// Sends a command and waits for its answer. Empty `session`: to the browser itself. The error is
    /// the browser's message.
    pub fn try_call(&mut self, session: &str, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next_id;
        self.next_id += 1;
        let mut command = json!({"id": id, "method": method, "params": params});
        if !session.is_empty() {
            command["sessionId"] = session.into();
        }
        self.socket.send(Message::text(command.to_string())).expect("an open socket");
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < DEADLINE, "{method} is answered within {DEADLINE:?}");
            let message = self.socket.read().unwrap_or_else(|err| panic!("{method}: {err}"));
            let Message::Text(text) = message else { continue };
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] != id {
                self.events.push(message);
            } else if message["error"].is_null() {
                return Ok(message["result"].take());
            } else {
                return Err(message["error"]["message"].as_str().unwrap_or_default().to_owned());
            }
        }
    }

    pub fn call(&mut self, session: &str, method: &str, params: Value) -> Value {
        self.try_call(session, method, params).unwrap_or_else(|err| panic!("{method}: {err}"))
    }

    /// The newest event of that name in a window.
    pub fn told(&self, session: &str, method: &str) -> Option<Value> {
        let mut events = self.events.iter().rev();
        let found = events.find(|event| event["sessionId"] == session && event["method"] == method);
        found.map(|event| event["params"].clone())
    }

    pub fn take_events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.socket.send(Message::text(r#"{"id":0,"method":"Browser.close"}"#));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
