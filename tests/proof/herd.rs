//! Many screens at once: all come back in the middle of a storm, and one of them never reads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use testkit::bodies::{self, EVENTS};
use testkit::stream::StreamClient;
use testkit::{DEADLINE, TestApp, eventually, scale};
use watchpost::domain::alert::TEXT_CHARS_MAX;
use watchpost::telemetry::KindLabels;

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What a frame begins with: a whole text, and the signs of life.
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A short frame of a client, masked with zeros.
fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126, "a short one");
    [&[kind, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// SOS of as many watches, a few at a time.
async fn raise(app: &TestApp, numbers: std::ops::Range<usize>) {
    let numbers: Vec<usize> = numbers.collect();
    for some in numbers.chunks(16) {
        join_all(
            some.iter().map(async |number| app.stored(EVENTS, &bodies::sos(&format!("h{number}"), 0)).await),
        )
        .await;
    }
}

/// A screen that takes what comes and looks at offsets only: hundreds of them share the machine with
/// the server, and are not what is measured.
struct Screen {
    stream: BufReader<TcpStream>,
    frame: Vec<u8>,
}

impl Screen {
    /// Comes back with the last offset that it has had.
    fn resume(addr: SocketAddr, token: &str, since: i64) -> Self {
        let mut stream = TcpStream::connect(addr).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(DEADLINE)).expect("an option");
        let head = format!(
            "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{UPGRADE}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a request");
        let mut stream = BufReader::with_capacity(1 << 16, stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).expect("an answer");
        }
        let mut screen = Self { stream, frame: Vec::new() };
        let hello: Value = serde_json::from_str(screen.text()).expect("JSON");
        assert_eq!(hello["type"], "hello");
        let since = json!({"epoch": hello["epoch"], "offset": since});
        let subscribe =
            masked(TEXT, json!({"type": "subscribe", "id": "a", "since": since}).to_string().as_bytes());
        screen.stream.get_mut().write_all(&subscribe).expect("a frame");
        screen
    }

    /// The next text. Where machine and storm are slow pings come due meanwhile, and are answered.
    fn text(&mut self) -> &str {
        loop {
            match self.frame() {
                TEXT => break,
                PING => {
                    let pong = masked(PONG, &self.frame);
                    self.stream.get_mut().write_all(&pong).expect("a frame");
                }
                other => panic!("a frame of kind {other:#x}: nobody is closed"),
            }
        }
        std::str::from_utf8(&self.frame).expect("text")
    }

    /// Takes in one frame; what it begins with.
    fn frame(&mut self) -> u8 {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame in time");
        let mut length = [0; 8];
        let extended = match head[1] {
            126 => 2,
            127 => 8,
            short => {
                length[7] = short;
                0
            }
        };
        self.stream.read_exact(&mut length[8 - extended..]).expect("a length");
        self.frame.resize(u64::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.frame).expect("a whole frame");
        head[0]
    }

    /// The offset of the next frame, which must be an `alert`.
    fn next_alert(&mut self) -> i64 {
        let text = self.text();
        let rest = text.strip_prefix(r#"{"type":"alert","offset":"#).and_then(|rest| rest.split_once(','));
        rest.and_then(|(offset, _)| offset.parse().ok()).unwrap_or_else(|| panic!("an alert: {text}"))
    }
}

#[actix_web::test]
async fn all_screens_come_back_at_once_in_the_middle_of_a_storm_and_miss_nothing() {
    let screens = scale::count(60, 500);
    let alerts = scale::count(200, 1_000);
    let app = TestApp::start_with(|config| config.server.http_workers = 2).await;
    raise(&app, 0..alerts / 2).await;
    let reads = |kind| app.state.metrics.registry_reads.get_or_create(&KindLabels { kind }).get();
    let before = reads("replay");
    let begun = Instant::now();
    let threads: Vec<_> = (0..screens)
        .map(|index| {
            let (addr, token) = (app.addr, app.admin.clone());
            std::thread::spawn(move || {
                let since = (index % (alerts / 2)) as i64;
                let mut screen = Screen::resume(addr, &token, since);
                for expected in since + 1..=alerts as i64 {
                    assert_eq!(screen.next_alert(), expected, "screen {index}");
                }
                screen
            })
        })
        .collect();
    raise(&app, alerts / 2..alerts).await;
    let stored = begun.elapsed();
    let all =
        tokio::task::spawn_blocking(|| threads.into_iter().map(std::thread::JoinHandle::join).collect());
    let all: Result<Vec<Screen>, _> = all.await.expect("a thread");
    let took = begun.elapsed();
    // Open until all have everything.
    assert_eq!(all.expect("every screen has had everything").len(), screens);
    assert_eq!(reads("replay"), before, "what is recent is not read from the database");
    // Ten times what it should take.
    assert!(took.as_secs() < 30, "{took:?}");
    scale::figure("screens that resumed at once during a storm", screens);
    scale::figure("changes that came meanwhile or had been missed", alerts);
    scale::figure("milliseconds until the last alert was answered", stored.as_millis());
    scale::figure("milliseconds until all had everything", took.as_millis());
    app.stop().await;
}

/// Whether the server's end of a connection exists, by the kernel's own table.
fn is_connected(server: SocketAddr, client: SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the table of connections");
    let port =
        |text: &str| u16::from_str_radix(text.split_once(':').expect("a port").1, 16).expect("a number");
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // 01 is "established"; others are on their way out.
        port(columns[1]) == server.port() && port(columns[2]) == client.port() && columns[3] == "01"
    })
}

/// A client that says what it wants and never reads.
fn stalled(app: &TestApp, request: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // What it takes before its window is shut.
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.connect(&app.addr.into()).expect("a connection");
    let mut stalled: TcpStream = socket.into();
    stalled.write_all(request.as_bytes()).expect("a request");
    stalled
}

#[actix_web::test]
async fn a_screen_that_never_reads_costs_the_others_nothing_and_its_connection_ends() {
    let readers = scale::count(20, 200);
    // In a direction of a connection the kernel holds up to 4 MiB, an alert with the longest value has 5 KB.
    let alerts = scale::count(1_000, 2_000) as i64;
    let app = TestApp::start_with(|config| {
        config.server.unread_timeout_ms = 4_000;
        config.session.write_stall_ms = 2_000;
    })
    .await;
    let head = format!("Host: x\r\nAuthorization: Bearer {}\r\n", app.admin);
    let events = stalled(&app, &format!("GET /api/v1/stream/sse HTTP/1.1\r\n{head}\r\n"));
    // With a subscription behind the upgrade.
    let mut socket = stalled(&app, &format!("GET /api/v1/stream HTTP/1.1\r\n{head}{UPGRADE}\r\n"));
    socket.write_all(&masked(TEXT, br#"{"type":"subscribe","id":"a"}"#)).expect("a frame");
    eventually("both are in", async || (app.state.metrics.sessions.get() == 2).then_some(())).await;
    let ends = [events.local_addr().expect("an address"), socket.local_addr().expect("an address")];
    assert!(ends.iter().all(|end| is_connected(app.addr, *end)));

    let mut screens = join_all((0..readers).map(async |_| StreamClient::open(&app, &app.admin).await)).await;
    let long = "\u{1f198}".repeat(TEXT_CHARS_MAX);
    let raising = async {
        // All of them large: together more than all buffers on the way hold.
        let numbers: Vec<i64> = (0..alerts).collect();
        for some in numbers.chunks(16) {
            join_all(some.iter().map(async |number| {
                let mut sos = bodies::sos(&format!("h{number}"), 0);
                sos["eventValue"] = json!(long);
                app.stored(EVENTS, &sos).await
            }))
            .await;
        }
    };
    let reading = join_all(screens.iter_mut().map(async |screen| {
        for expected in 1..=alerts {
            assert_eq!(screen.next_alert_offset().await, expected);
        }
    }));
    tokio::join!(raising, reading);
    // By the session, which has seen a write stall, or by the kernel, if its time is over first.
    let left = || app.state.metrics.sessions.get();
    eventually("both are given up", async || (left() == readers as i64).then_some(())).await;
    let is_open = |end: &SocketAddr| is_connected(app.addr, *end);
    eventually("both connections end", async || (!ends.iter().any(is_open)).then_some(())).await;
    drop((events, socket));
    app.stop().await;
}
