//! Server-sent events: the same stream for clients that only read.

use std::io::{Read, Write};
use std::time::Duration;

use actix_web::http::StatusCode;
use awc::Client;
use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;
use serde_json::{Value, json};
use testkit::schema::assert_frame;
use watchpost::domain::rule::Severity;

use super::history::History;
use super::server::{PATIENCE, Server, eventually, quick};

/// What came.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: Option<String>,
    data: Option<Value>,
}

/// An EventSource, as far as a test needs one.
struct Events {
    body: LocalBoxStream<'static, Result<bytes::Bytes, awc::error::PayloadError>>,
    text: String,
    last_id: Option<String>,
}

impl Events {
    async fn open(server: &Server, query: &str, last_id: Option<&str>) -> Self {
        let url = server.url(&format!("/api/v1/stream/sse{query}"));
        let mut request = Client::new().get(url).insert_header(("authorization", "Bearer admin"));
        if let Some(id) = last_id {
            request = request.insert_header(("Last-Event-ID", id));
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers().get("content-type").unwrap(), "text/event-stream");
        let mut events = Self { body: answer.boxed_local(), text: String::new(), last_id: None };
        let first = events.block().await.unwrap();
        let retry: u64 = first.strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!((1_000..=2_000).contains(&retry), "{retry}");
        assert_eq!(events.next().await.data.unwrap()["type"], "hello");
        events
    }

    /// Up to the next empty line; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("nothing came");
            self.text += std::str::from_utf8(&piece?.ok()?).unwrap();
        }
    }

    /// The next event, or a heartbeat.
    async fn next(&mut self) -> Event {
        let block = self.block().await.expect("an event");
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let id = field("id: ").map(str::to_owned);
        let data: Option<Value> = field("data: ").map(|data| serde_json::from_str(data).unwrap());
        data.iter().for_each(assert_frame);
        assert!(data.is_some() || block.starts_with(": heartbeat"), "{block:?}");
        if id.is_some() {
            self.last_id.clone_from(&id);
        }
        Event { id, data }
    }

    /// The next event with data.
    async fn data(&mut self) -> Value {
        loop {
            if let Some(data) = self.next().await.data {
                return data;
            }
        }
    }
}

fn offsets(frames: &[Value]) -> Vec<i64> {
    frames.iter().map(|frame| frame["offset"].as_i64().unwrap()).collect()
}

#[actix_web::test]
async fn a_snapshot_and_then_the_changes_as_on_a_socket_each_with_its_place() {
    let mut history = History::default();
    history.raise("w1", "c1", Severity::High);
    let mut server = Server::start(quick(), history).await;
    let mut socket = server.subscribe("admin").await;
    let mut events = Events::open(&server, "", None).await;
    let snapshot = events.next().await;
    assert_eq!(snapshot.id, Some(format!("{}:1", server.epoch)));
    assert_eq!(snapshot.data.unwrap()["alerts"].as_array().unwrap().len(), 1);
    for _ in 0..100 {
        server.raise("w2", "c2");
    }
    for _ in 0..100 {
        let event = events.next().await;
        let frame = socket.json().await;
        assert_eq!(event.id, Some(format!("{}:{}", server.epoch, frame["offset"])));
        assert_eq!(event.data, Some(frame));
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_resume_misses_nothing_and_a_place_that_nobody_knows_is_a_gap() {
    let mut server = Server::start(quick(), History::default()).await;
    let mut events = Events::open(&server, "", None).await;
    assert_eq!(events.data().await["type"], "snapshot");
    let mut seen = Vec::new();
    let mut last_id = events.last_id.clone();
    for round in 1..=5 {
        for _ in 0..7 {
            server.raise("w1", "c1");
        }
        // It reads a part of them, and its line breaks.
        for _ in 0..round {
            seen.push(events.data().await);
        }
        last_id.clone_from(&events.last_id);
        events = Events::open(&server, "", last_id.as_deref()).await;
    }
    while seen.len() < 35 {
        seen.push(events.data().await);
    }
    assert_eq!(offsets(&seen), (1..=35).collect::<Vec<_>>());

    let by_query = format!("?last_event_id={}:33", server.epoch);
    let mut events = Events::open(&server, &by_query, None).await;
    assert_eq!(events.data().await["offset"], 34);
    let mut events = Events::open(&server, "", Some("another-epoch:3")).await;
    assert_eq!(events.data().await, json!({"type": "gap", "from": 1, "to": 35}));
    assert_eq!(events.data().await["type"], "snapshot");
    server.stop().await;
}

#[actix_web::test]
async fn a_filter_is_in_the_query_and_heartbeats_move_on_over_what_it_hides() {
    let mut config = quick();
    config.heartbeat_ms = 50;
    let mut server = Server::start(config, History::default()).await;
    let query = "?severity=critical,high&devices=w1,w2&kinds=sos&customer_id=c1";
    let mut events = Events::open(&server, query, None).await;
    assert_eq!(events.data().await["type"], "snapshot");
    for (device, customer, severity) in
        [("w1", "c1", Severity::High), ("w3", "c1", Severity::High), ("w1", "c1", Severity::Low)]
    {
        server.publish(|history| history.raise(device, customer, severity));
    }
    assert_eq!(events.data().await["offset"], 1);
    while events.last_id != Some(format!("{}:3", server.epoch)) {
        assert_eq!(events.next().await.data, None);
    }
    let hidden = ["?kinds=fall", "?org_id=o1", "?min_severity=critical", "?customer_id=c2"];
    for query in hidden {
        let mut events = Events::open(&server, query, None).await;
        assert_eq!(events.data().await["alerts"], json!([]), "{query}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn who_has_no_token_or_asks_wrongly_is_refused() {
    // A reader that has gone is noticed when it is written to.
    let mut config = quick();
    config.heartbeat_ms = 50;
    let server = Server::start(config, History::default()).await;
    let ask = async |query: &str, headers: &[(&str, &str)]| {
        let mut request = Client::new().get(server.url(&format!("/api/v1/stream/sse{query}")));
        for header in headers {
            request = request.insert_header(*header);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let bearer = ("authorization", "Bearer admin");
    assert_eq!(ask("", &[]).await, 401);
    assert_eq!(ask("", &[("authorization", "Bearer wrong")]).await, 401);
    assert_eq!(ask("", &[("cookie", "watchpost_session=wrong")]).await, 401);
    assert_eq!(
        ask("", &[("cookie", "watchpost_session=admin"), ("origin", "http://evil.example")]).await,
        403
    );
    for query in ["?severty=high", "?severity=bad", "?vitals=true", "?last_event_id=7", "?devices=%00"] {
        assert_eq!(ask(query, &[bearer]).await, 400, "{query}");
    }
    assert_eq!(ask("", &[bearer, ("last-event-id", "nonsense")]).await, 400);
    assert_eq!(ask("", &[bearer]).await, 200);
    eventually("all places are free", || server.metrics.sessions.get() == 0).await;
    server.stop().await;
}

#[actix_web::test]
async fn a_reader_that_does_not_read_is_dropped_and_resumes() {
    let mut config = quick();
    config.write_stall_ms = 500;
    let mut server = Server::start(config, History::default()).await;
    let mut stalled = std::net::TcpStream::connect(server.address).unwrap();
    let request = "GET /api/v1/stream/sse HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n";
    stalled.write_all(request.as_bytes()).unwrap();
    eventually("it is in", || server.metrics.sessions.get() == 1).await;
    let mut reader = server.subscribe("admin").await;
    // More than all buffers on the way hold.
    let long = "x".repeat(128 * 1024);
    for n in 1..=200 {
        server.publish(|history| history.raise_with_value("w1", "c1", Severity::Critical, &long));
        assert_eq!(reader.json().await["offset"], n);
    }
    eventually("it is given up", || server.closed("stalled") == 1).await;
    // What had left is read after all; the server has buffered no more than fits.
    let reading = tokio::task::spawn_blocking(move || {
        stalled.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut text, mut piece) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            match stalled.read(&mut piece) {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&text).into_owned(),
                Ok(read) => text.extend_from_slice(&piece[..read]),
            }
            if text.ends_with(b"0\r\n\r\n") {
                return String::from_utf8_lossy(&text).into_owned();
            }
        }
    });
    let text = reading.await.unwrap();
    let ids: Vec<i64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: ")?.rsplit_once(':')?.1.parse().ok())
        .filter(|id| *id > 0)
        .collect();
    let last = *ids.last().expect("some had left");
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]) && last < 200, "{ids:?}");
    let mut events = Events::open(&server, "", Some(&format!("{}:{last}", server.epoch))).await;
    for offset in last + 1..=200 {
        assert_eq!(events.data().await["offset"], offset);
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_reader_learns_why_it_is_closed() {
    let server = Server::start(quick(), History::default()).await;
    let mut events = Events::open(&server, "?stats=true", None).await;
    assert_eq!(events.data().await["type"], "snapshot");
    let stats = events.data().await;
    assert_eq!((&stats["type"], &stats["pipeline"]), (&json!("stats"), &json!({"window_s": 10})));
    server.revocations.add("admin");
    let close = loop {
        let frame = events.data().await;
        if frame["type"] != "stats" {
            break frame;
        }
    };
    assert_eq!((&close["type"], &close["code"]), (&json!("close"), &json!(4401)));
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), events.block()).await.unwrap(), None);
    server.stop().await;
}
