//! The two drivers.

use std::cell::RefCell;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use watch_simulator::real_clock::{self, Options};
use watch_simulator::{Answer, Kind, Network, Profile, Purpose, Rates, Trouble, VirtualClock, Watch, Window};

use crate::{START_MS, ok, settings};

const MINUTE_MS: i64 = 60_000;

fn fleet(count: usize, seed: u64) -> Vec<Watch> {
    let rates = Rates { sos_s: 300, one_key_s: 300, fall_s: 300, wear_s: 300, ordinary_s: 60 };
    let profile = |n| Profile { rates, ..Profile::new(format!("SIM{n:04}")) };
    (0..count).map(|n| Watch::new(profile(n), seed + n as u64, START_MS + n as i64 * 311)).collect()
}

/// Everything that arrives, in order, at a server that answers 200.
async fn arrivals(seed: u64) -> (Vec<(usize, i64, Purpose)>, VirtualClock) {
    let mut network = Network::new(10, seed);
    network.gap(3, Window::new(START_MS + 2 * MINUTE_MS, 3 * MINUTE_MS));
    network.outage(Window::new(START_MS + 7 * MINUTE_MS, MINUTE_MS));
    network.storm(Window::new(START_MS + 9 * MINUTE_MS, MINUTE_MS));
    network.slow(Window::new(START_MS + 11 * MINUTE_MS, MINUTE_MS), 12_000);
    network.lose_answers(20);
    let mut clock = VirtualClock::new(fleet(10, seed), network, START_MS);
    let seen = RefCell::new(Vec::new());
    let configured = ok(&settings(60, 300, 60));
    let server = |arrival: watch_simulator::Arrival| {
        seen.borrow_mut().push((arrival.watch, arrival.at_ms, arrival.request.purpose));
        let is_settings = arrival.request.purpose == Purpose::Settings;
        let answer = if is_settings { configured.clone() } else { Answer::status(200) };
        async { answer }
    };
    clock.run_until(START_MS + 20 * MINUTE_MS, server).await;
    (seen.into_inner(), clock)
}

#[tokio::test]
async fn the_same_seed_makes_the_same_run() {
    let (first, ..) = arrivals(5).await;
    assert!(first.len() > 500 && first.is_sorted_by_key(|(_, at_ms, _)| *at_ms));
    assert_eq!(first, arrivals(5).await.0);
    assert_ne!(first, arrivals(6).await.0);
}

#[tokio::test]
async fn nothing_arrives_in_an_outage_or_a_storm_and_in_a_gap_nothing_of_that_watch() {
    let (seen, clock) = arrivals(5).await;
    let mut in_gap = 0;
    for (watch, at_ms, _) in &seen {
        let trouble = clock.network.trouble_at(*watch, *at_ms);
        assert!(matches!(trouble, None | Some(Trouble::Slow)), "{trouble:?} at {at_ms}");
        in_gap += usize::from((START_MS + 2 * MINUTE_MS..START_MS + 5 * MINUTE_MS).contains(at_ms));
    }
    assert!(in_gap > 100, "the others go on");
}

#[tokio::test]
async fn trouble_makes_watches_lose_items_and_the_record_says_which() {
    let (_, clock) = arrivals(5).await;
    let items = || clock.watches.iter().flat_map(|watch| watch.record().of(Kind::Event));
    let lost = items().filter(|item| item.is_unconfirmed_and_gone()).count();
    assert!(lost > 0 && lost < items().count() / 2, "{lost} of {}", items().count());
}

#[tokio::test]
async fn the_real_clock_speaks_http_and_keeps_its_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = listener.local_addr().expect("an address");
    let configured = settings(5, 5, 5).to_string();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let serve = tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let (configured, told) = (configured.clone(), told.clone());
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                    // A whole request: its head, and as much body as that says.
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.split_once("Content-Length: ").map_or(0, |(_, rest)| {
                        rest.lines().next().and_then(|length| length.parse().ok()).expect("a length")
                    });
                    if body.len() < length {
                        continue;
                    }
                    bytes.clear();
                    let answer = if head.contains("/fetch") { configured.as_str() } else { "{}" };
                    let length = answer.len();
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}");
                    stream.write_all(answer.as_bytes()).await.expect("a write");
                    let line = head.lines().next().expect("a line").to_owned();
                    if told.send((connection, line)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let watch = Watch::new(Profile::new(crate::SERIAL), 3, START_MS);
    let mut lines = Vec::new();
    let until = async {
        while lines.len() < 30 {
            lines.push(heard.recv().await.expect("a request"));
        }
    };
    let options = Options { server, start_ms: START_MS, speed: 200.0 };
    let watch = tokio::time::timeout(Duration::from_secs(60), real_clock::run(watch, options, until));
    let watch = watch.await.expect("30 requests");
    assert!(watch.record().items().iter().any(|item| item.confirmed_ms.is_some()));
    let connections = lines.iter().map(|(connection, _)| *connection).max().expect("a request") + 1;
    assert!(connections <= 5, "{connections} connections for {} requests", lines.len());
    for path in ["/upload_health_data", "/upload_device_info", "/upload_common_event", "/DeviceMessage"] {
        assert!(lines.iter().any(|(_, line)| line.contains(path)), "{path} in {lines:?}");
    }
    serve.abort();
}
