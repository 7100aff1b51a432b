//! Clients that break the protocol or stretch it: heads and bodies that come by the byte or never end,
//! lengths that are lies, thousands of idle connections. Others are served and memory stays flat.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::process::{answer, connect, pass, request};
use testkit::scale::{count, figure};

use crate::abuse::scene::{EVENTS, MIB, Scene};

const IDLE: usize = 5_000;
/// A head or a body that has not come whole within this ends its connection.
const TIMEOUTS: [&str; 2] = ["server.client_timeout_ms=1000", "server.body_timeout_ms=1000"];

fn event(device: &str, number: usize) -> String {
    format!(r#"{{"eventType":"CALL_STATE","eventValue":"{number}","deviceSn":"{device}"}}"#)
}

/// What comes until the connection ends, which it must; its status, 0 if it ended without an answer.
fn ending(mut stream: TcpStream) -> u16 {
    stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
    let mut bytes = Vec::new();
    if let Err(err) = stream.read_to_end(&mut bytes) {
        let still_open = matches!(err.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        assert!(!still_open, "the connection ends within {DEADLINE:?}; it said {bytes:?}");
    }
    let text = String::from_utf8_lossy(&bytes);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Sends and never says that it has ended.
fn say(addr: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = connect(addr)?;
    // A server that has heard enough may close before all is sent.
    let _ = stream.write_all(bytes);
    Some(stream)
}

fn head(more: &str) -> String {
    format!("{EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}\r\n")
}

/// A name, what is sent, and the answers that are all right; 0 is none.
fn lies() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let chunked = |body: &str| [head("Transfer-Encoding: chunked\r\n").as_bytes(), body.as_bytes()].concat();
    let long = "x".repeat(1 << 20);
    let body = event("SMUGGLED", 1);
    let both = format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", body.len());
    vec![
        ("no head", b"\r\n\r\n\r\n".to_vec(), &[0, 400, 408]),
        ("half a head", head("").into_bytes()[..30].to_vec(), &[0, 408]),
        (
            "half a body",
            [head("Content-Length: 100\r\n").as_bytes(), b"{\"eventType\":"].concat(),
            &[0, 400, 408],
        ),
        ("oversize", head("Content-Length: 3000000\r\n").into_bytes(), &[413]),
        (
            "a length of 20 digits",
            head("Content-Length: 99999999999999999999\r\n").into_bytes(),
            &[0, 400, 413],
        ),
        ("a length below zero", head("Content-Length: -1\r\n").into_bytes(), &[0, 400]),
        ("two lengths", head("Content-Length: 2\r\nContent-Length: 5\r\n").into_bytes(), &[0, 400]),
        ("a header of 1 MiB", head(&format!("X-Long: {long}\r\n")).into_bytes(), &[0, 400, 413, 431]),
        ("a path of 1 MiB", format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes(), &[0, 400, 414, 431]),
        ("a chunk of no number", chunked("zz\r\n{}\r\n0\r\n\r\n"), &[0, 400, 408]),
        ("a chunk of 2^64", chunked("ffffffffffffffff\r\n{}\r\n"), &[0, 400, 408, 413]),
        ("a chunk of 2^72", chunked("fffffffffffffffff1\r\n{}\r\n"), &[0, 400, 408, 413]),
        ("a chunk without its end", chunked("2\r\n{}0\r\n\r\n"), &[0, 400, 408]),
        ("chunks that never end", chunked("1\r\n{\r\n"), &[0, 400, 408]),
        ("chunks and a length", [head(&both), body].concat().into_bytes(), &[0, 400, 408]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[0, 400, 408]),
        ("nothing but noise", (0..=255).cycle().take(100_000).collect(), &[0, 400, 408, 431]),
    ]
}

#[test]
fn broken_requests_end_and_nobody_else_notices() {
    const THREADS: usize = 17;
    let scene = Scene::start(&TIMEOUTS);
    let rounds = count(1, 100);
    let lies = lies();
    assert_eq!(lies.len(), THREADS, "one each at a time");
    scene.under(
        "broken requests",
        THREADS,
        |thread| {
            for round in 0..rounds {
                let (name, bytes, fine) = &lies[(thread + round) % lies.len()];
                let Some(stream) = say(scene.addr, bytes) else { continue };
                let status = ending(stream);
                assert!(fine.contains(&status), "{name} got {status}");
            }
        },
        || {},
    );
    let (_dir, mut file) = scene.end();
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'SMUGGLED'"), 0);
    figure("broken requests: kinds, of each", format!("{}, {rounds}", lies.len()));
}

#[test]
fn heads_that_come_by_the_byte_are_cut_off() {
    const CONNECTIONS: usize = 100;
    let scene = Scene::start(&TIMEOUTS);
    let rounds = count(1, 50);
    let slowest = Mutex::new(Duration::ZERO);
    scene.under(
        "slow heads",
        CONNECTIONS,
        |thread| {
            let bytes = head(&format!("X-Slow: {}\r\n", "x".repeat(4_000))).into_bytes();
            for _ in 0..rounds {
                let Some(mut stream) = connect(scene.addr) else { continue };
                let begun = Instant::now();
                // It would take minutes at this pace.
                for byte in &bytes {
                    if stream.write_all(&[*byte]).is_err() || begun.elapsed() > Duration::from_secs(5) {
                        break;
                    }
                    pass(Duration::from_millis(20 + thread as u64 % 7));
                }
                assert!([0, 408].contains(&ending(stream)));
                let mut slowest = slowest.lock().expect("no panic");
                *slowest = slowest.max(begun.elapsed());
            }
        },
        || {},
    );
    figure(
        "slow heads: cut off after at most, ms, of 1,000 set",
        slowest.lock().expect("no panic").as_millis(),
    );
    scene.end();
}

/// A sender that has said all and closes its side is answered all the same.
#[test]
fn half_closed_and_pipelined_requests_are_answered_in_order() {
    const THREADS: usize = 4;
    const PIPELINED: usize = 50;
    let scene = Scene::start(&TIMEOUTS);
    let rounds = count(5, 2_000);
    scene.under(
        "half-closed and pipelined",
        THREADS,
        |thread| {
            for round in 0..rounds {
                let device = format!("P{thread}");
                let requests: Vec<String> = (0..PIPELINED)
                    .map(|number| {
                        let body = event(&device, round * PIPELINED + number);
                        format!("{}{body}", head(&format!("Content-Length: {}\r\n", body.len())))
                    })
                    .collect();
                let mut stream = say(scene.addr, requests.concat().as_bytes()).expect("a connection");
                let mut text = String::new();
                if round % 2 == 0 {
                    stream.shutdown(Shutdown::Write).expect("half of it is closed");
                    stream.read_to_string(&mut text).expect("answers");
                } else {
                    while text.matches("\r\n\r\n{").count() < PIPELINED {
                        let mut piece = [0; 4_096];
                        let read = stream.read(&mut piece).expect("answers");
                        assert!(read > 0, "the connection stays open: {text}");
                        text.push_str(&String::from_utf8_lossy(&piece[..read]));
                    }
                }
                let bodies: Vec<&str> =
                    text.split("\r\n\r\n").filter_map(|part| Some(&part[..=part.rfind('}')?])).collect();
                // After a half-close some may be left out, but none is answered out of turn.
                for body in &bodies {
                    scene.remember(body);
                }
                if round % 2 == 1 {
                    assert_eq!(bodies.len(), PIPELINED, "{text}");
                }
            }
        },
        || {},
    );
    let stored = scene.stored.lock().expect("no panic").clone();
    let (_dir, mut file) = scene.end();
    // Ids that were answered one after the other are of values one after the other.
    for thread in 0..THREADS {
        let by_value = file.event_ids_in_order(&format!("device_sn = 'P{thread}'"), "CAST(value AS INTEGER)");
        let told: Vec<&String> = stored.iter().filter(|id| by_value.contains(id)).collect();
        let places: Vec<_> = told.iter().map(|id| by_value.iter().position(|known| known == *id)).collect();
        assert!(places.is_sorted() && !places.is_empty(), "answered in order");
    }
}

/// The limit of this process; that of the server is its own affair.
fn allow_open_files(count: usize) {
    let set = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--nofile={count}:")])
        .output()
        .expect("prlimit, which is part of every Debian");
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
}

#[test]
fn five_thousand_idle_connections_cost_little_and_leave_nothing_behind() {
    allow_open_files(IDLE + 2_000);
    let scene = Scene::start(&[]);
    let rounds = count(2, 20);
    let resident = Mutex::new(Vec::new());
    scene.under(
        "idle connections",
        1,
        |_| {
            for _ in 0..rounds {
                let mut idle = Vec::new();
                for number in 0..IDLE {
                    let mut stream = connect(scene.addr).expect("a connection");
                    // Some have been used, some have begun to say something, most have not.
                    match number % 100 {
                        0 => assert_eq!(request(&mut stream, "GET /healthz", "").expect("an answer").0, 200),
                        1 => stream.write_all(b"POST /upload").expect("a beginning"),
                        _ => {}
                    }
                    idle.push(stream);
                }
                resident.lock().expect("no panic").push(scene.process.memory_kib("VmRSS"));
                // A new one is served beside them.
                let mut stream = connect(scene.addr).expect("a connection");
                assert_eq!(request(&mut stream, "GET /readyz", "").expect("an answer").0, 200);
            }
        },
        || {},
    );
    let resident = resident.into_inner().expect("no panic");
    let (first, last) = (resident[0], *resident.last().expect("rounds"));
    figure("idle connections: resident with 5,000 of them, first and last round, MiB", {
        format!("{}, {}", first / 1_024, last / 1_024)
    });
    assert!(last < first + first / 4 + 8 * MIB / 1_024, "memory stays flat: {resident:?} KiB");
    scene.end();
}

#[test]
fn the_answer_to_a_request_in_pieces_is_that_to_the_whole() {
    let scene = Scene::start(&[]);
    let body = event("PIECES", 1);
    let whole = format!("{}{body}", head(&format!("Content-Length: {}\r\n", body.len())));
    let mut stream = connect(scene.addr).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    for byte in whole.as_bytes() {
        stream.write_all(&[*byte]).expect("a byte");
    }
    let (status, told) = answer(&mut stream).expect("an answer");
    assert_eq!(status, 200, "{told}");
    scene.remember(&told);
    let mut chunks = head("Transfer-Encoding: chunked\r\n");
    for byte in event("PIECES", 2).chars() {
        chunks.push_str(&format!("1;a=b\r\n{byte}\r\n"));
    }
    chunks.push_str("0\r\nTrailer: x\r\n\r\n");
    let mut stream = say(scene.addr, chunks.as_bytes()).expect("a connection");
    let (status, told) = answer(&mut stream).expect("an answer");
    assert!([200, 400].contains(&status), "{status}: {told}");
    if status == 200 {
        scene.remember(&told);
    }
    scene.end();
}
