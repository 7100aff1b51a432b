//! A report can be followed from its request to its commit.

use std::path::Path;

use serde_json::Value;
use testkit::bodies::{EVENTS, sos};
use testkit::process::{Process, connect, request};

/// Posts an SOS and stops the server. The event's id, and what the server said.
fn one_report(dir: &Path, settings: &[&str]) -> (String, String) {
    let server = Process::start_with(dir, settings);
    let mut stream = connect(server.addr).expect("a connection");
    let head = format!("POST {EVENTS}");
    let (status, answer) = request(&mut stream, &head, &sos("w1", 0).to_string()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    drop(stream);
    server.signal("-TERM");
    let (code, stderr) = server.wait();
    assert_eq!(code, Some(0), "{stderr}");
    (answer["event_id"].as_str().expect("an id").to_owned(), stderr)
}

#[test]
fn at_debug_the_log_names_the_event_within_its_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = ["telemetry.log=watchpost=debug", "telemetry.log_format=json"];
    let (event_id, log) = one_report(dir.path(), &settings);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let committed: Vec<&Value> =
        lines.iter().filter(|line| line["fields"]["message"] == "committed").collect();
    assert_eq!(committed.len(), 1, "{log}");
    assert_eq!(committed[0]["fields"]["event_id"], event_id.as_str());
    let spans = committed[0]["spans"].as_array().expect("spans");
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["request", "report"]);
    assert_eq!((&spans[0]["method"], &spans[1]["device"]), (&"POST".into(), &"w1".into()));
}

#[test]
fn at_info_nothing_is_said_of_single_reports() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, log) = one_report(dir.path(), &["telemetry.log=info"]);
    assert!(!log.contains("w1") && !log.contains("committed"), "{log}");
}

#[cfg(feature = "otlp")]
mod otlp {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;
    use testkit::DEADLINE;
    use testkit::process::{command, refusal, server_args};

    /// A collector: head and body of every request, answered 200.
    fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (received, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.expect("a connection"));
                while let Some((head, body)) = read_request(&mut reader) {
                    let answered =
                        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    answered.expect("an answer");
                    if received.send((head, body)).is_err() {
                        return;
                    }
                }
            }
        });
        (endpoint, requests)
    }

    fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let begin = head.len();
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
            let line = head[begin..].trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.is_empty() {
                let mut body = vec![0; length];
                reader.read_exact(&mut body).ok()?;
                return Some((head, body));
            }
        }
    }

    /// A message of protobuf, as far as is needed here: fields that are messages, bytes or texts.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    varint(&mut bytes);
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (value, rest) = bytes.split_at(length);
            if key & 7 == 2 {
                found.push((key >> 3, value));
            }
            bytes = rest;
        }
        found
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for at in 0.. {
            let (first, rest) = bytes.split_first().expect("a varint");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << (7 * at);
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn all<'a>(message: &'a [u8], path: &[u64]) -> Vec<&'a [u8]> {
        path.iter().fold(vec![message], |messages, number| {
            let inner = messages.into_iter().flat_map(fields);
            inner.filter(|(found, _)| found == number).map(|(_, value)| value).collect()
        })
    }

    struct Span {
        id: Vec<u8>,
        trace: Vec<u8>,
        parent: Vec<u8>,
        links: Vec<Vec<u8>>,
    }

    #[test]
    fn a_collector_gets_the_spans_of_a_report_linked_to_its_transaction() {
        let dir = tempfile::tempdir().expect("a directory");
        let (endpoint, requests) = collector();
        let (event_id, _) = one_report(dir.path(), &[&format!("telemetry.otlp_endpoint={endpoint}")]);

        let (head, first) = requests.recv_timeout(DEADLINE).expect("an export");
        assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
        assert!(head.to_ascii_lowercase().contains("content-type: application/x-protobuf"), "{head}");
        // The server has ended, and sent what was left.
        let bodies: Vec<Vec<u8>> =
            std::iter::once(first).chain(requests.try_iter().map(|(_, body)| body)).collect();

        // ExportTraceServiceRequest.resource_spans(1).resource(1).attributes(1), .scope_spans(2).spans(2)
        let mut spans: Vec<(String, Span)> = Vec::new();
        let mut attributes = std::collections::BTreeSet::new();
        for body in &bodies {
            for attribute in all(body, &[1, 1, 1]) {
                let text = |path: &[u64]| all(attribute, path).concat();
                attributes.insert((text(&[1]), text(&[2, 1])));
            }
            for span in all(body, &[1, 2, 2]) {
                let one = |number| all(span, &[number]).concat();
                let links = all(span, &[13, 2]).into_iter().map(<[u8]>::to_vec).collect();
                let name = String::from_utf8(one(5)).expect("a name");
                spans.push((name, Span { id: one(2), trace: one(1), parent: one(4), links }));
            }
        }
        assert!(attributes.contains(&(b"service.name".to_vec(), b"watchpost".to_vec())), "{attributes:?}");
        let named = |name: &str| {
            let mut found = spans.iter().filter(|(other, _)| other == name).map(|(_, span)| span);
            let span = found.next().unwrap_or_else(|| panic!("no span {name}"));
            assert!(found.next().is_none(), "two spans {name}");
            span
        };
        let (request, report, decide) = (named("request"), named("report"), named("decide"));
        let (batch, commit) = (named("batch"), named("commit"));
        assert!(request.parent.is_empty() && batch.parent.is_empty(), "each begins a trace");
        assert_eq!((&report.parent, &report.trace), (&request.id, &request.trace));
        assert_eq!(decide.parent, report.id);
        assert_eq!(commit.parent, batch.id);
        assert_eq!(batch.links, std::slice::from_ref(&report.id));
        let holds = |body: &Vec<u8>| body.windows(event_id.len()).any(|part| part == event_id.as_bytes());
        assert!(bodies.iter().any(holds), "the event's id is exported");
    }

    #[test]
    fn a_collector_that_is_away_holds_nobody_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        one_report(dir.path(), &[&format!("telemetry.otlp_endpoint=http://{nobody}")]);
    }

    #[test]
    fn an_endpoint_that_cannot_work_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let args = server_args(dir.path());
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(["--set", "telemetry.otlp_endpoint=collector:4318"]);
        let said = refusal(command(&args));
        assert!(said.contains("telemetry.otlp_endpoint") && said.contains("http://"), "{said}");
    }
}
