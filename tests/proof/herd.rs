//! Many screens at once: all come back in the middle of a storm, and one of them never reads.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use testkit::bodies::{self, EVENTS};
use testkit::stream::StreamClient;
use testkit::{TestApp, eventually, scale};
use watchpost::telemetry::KindLabels;

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

#[actix_web::test]
async fn all_screens_come_back_at_once_in_the_middle_of_a_storm_and_miss_nothing() {
    let screens = scale::count(60, 500);
    let alerts = scale::count(200, 1_000);
    let app = TestApp::start_with(|config| config.server.http_workers = 2).await;
    raise(&app, 0..alerts / 2).await;
    let reads = |kind| app.state.metrics.registry_reads.get_or_create(&KindLabels { kind }).get();
    let before = reads("replay");
    let begun = Instant::now();
    let resume = async |index: usize| {
        let mut screen = StreamClient::connect(&app, &app.admin).await;
        let since = (index % (alerts / 2)) as i64;
        screen.subscribe(json!({}), Some(since)).await;
        for expected in since + 1..=alerts as i64 {
            assert_eq!(screen.next_alert_offset().await, expected, "screen {index}");
        }
    };
    tokio::join!(raise(&app, alerts / 2..alerts), join_all((0..screens).map(resume)));
    let took = begun.elapsed();
    assert_eq!(reads("replay"), before, "what is recent is not read from the database");
    // Ten times what it should take.
    assert!(took.as_secs() < 30, "{took:?}");
    scale::figure("screens that resumed at once during a storm", screens);
    scale::figure("changes that came meanwhile or had been missed", alerts);
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
    let alerts = scale::count(120, 1_000) as i64;
    let app = TestApp::start_with(|config| {
        config.server.unread_timeout_ms = 4_000;
        config.session.write_stall_ms = 2_000;
    })
    .await;
    let head = format!("Host: x\r\nAuthorization: Bearer {}\r\n", app.admin);
    let events = stalled(&app, &format!("GET /api/v1/stream/sse HTTP/1.1\r\n{head}\r\n"));
    // With a subscription behind the upgrade, masked with zeros.
    let subscribe = br#"{"type":"subscribe","id":"a"}"#;
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut socket = stalled(&app, &format!("GET /api/v1/stream HTTP/1.1\r\n{head}{upgrade}\r\n"));
    socket.write_all(&[0x81, 0x80 | subscribe.len() as u8, 0, 0, 0, 0]).expect("a frame");
    socket.write_all(subscribe).expect("a frame");
    eventually("both are in", async || (app.state.metrics.sessions.get() == 2).then_some(())).await;
    let ends = [events.local_addr().expect("an address"), socket.local_addr().expect("an address")];
    assert!(ends.iter().all(|end| is_connected(app.addr, *end)));

    let mut screens = join_all((0..readers).map(async |_| StreamClient::open(&app, &app.admin).await)).await;
    let long = "x".repeat(100_000);
    let raising = async {
        for number in 0..alerts {
            let mut sos = bodies::sos(&format!("h{number}"), 0);
            // Large ones at first: more than all buffers on the way hold.
            if number < 100 {
                sos["eventValue"] = json!(long);
            }
            app.stored(EVENTS, &sos).await;
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
