//! `watchpost demo` as a newcomer runs it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::DEADLINE;
use crate::support::process::{admin_token, command, connect, request_as, run};

/// Killed when dropped.
struct Demo {
    child: Child,
    addr: SocketAddr,
    link: String,
    third_line: String,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let mut child = command(&[&["demo"], args].concat()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut line = || lines.next().expect("a line").expect("text");
        let (first, link, third_line) = (line(), line(), line());
        let addr = first.strip_prefix("watchpost listening on http://").and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("{first:?} says where it listens"));
        Self { child, addr, link, third_line }
    }

    fn get(&self, token: &str, path: &str) -> Value {
        let mut stream = connect(self.addr).expect("a connection");
        let (status, body) = request_as(&mut stream, token, &format!("GET {path}"), "").expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Asks again until the answer is as wanted.
    fn until(&self, token: &str, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(token, path);
            if is_so(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < DEADLINE, "{what} within {DEADLINE:?}: {answer}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// As Ctrl-C does; it must end well, with nothing to complain about.
    fn interrupt(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(begun.elapsed() < DEADLINE, "it ends within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let stderr = std::io::read_to_string(self.child.stderr.take().expect("a pipe")).expect("text");
        assert!(status.success() && stderr.is_empty(), "{status}: {stderr}");
    }
}

#[test]
fn it_shows_watches_people_charts_and_an_sos_and_leaves_nothing_behind() {
    let demo = Demo::start(&["--watches", "20"]);
    assert!(demo.addr.ip().is_loopback());
    let begin = format!("sign in within ten minutes: http://{}/#code=wpt_", demo.addr);
    assert!(demo.link.starts_with(&begin), "{:?}", demo.link);
    let said =
        demo.third_line.strip_prefix("20 simulated watches of made-up people; ").expect("what it shows");
    let dir =
        PathBuf::from(said.strip_suffix(" is deleted at the end; Ctrl-C ends it").expect("a directory"));
    let token = admin_token(&dir);

    let is_sos = |alert: &Value| alert["rule_id"] == "sos";
    let find = |answer: &Value| answer["items"].as_array().expect("items").iter().any(is_sos);
    let alerts = demo.until(&token, "/api/v1/alerts?open=true", "an SOS is raised", find);
    let sos = alerts["items"].as_array().expect("items").iter().find(|alert| is_sos(alert)).expect("it");
    assert_eq!((&sos["verified"], &sos["severity"]), (&Value::Bool(true), &"critical".into()), "{sos}");
    assert!(
        sos["person_name"].is_string() && sos["location"].is_object() && sos["vitals"].is_object(),
        "{sos}"
    );

    // All but the one that falls silent and the one in its box report by themselves.
    let online = |state: &str| format!("/api/v1/devices?state={state}&limit=50");
    let named = |answer: &Value| answer["items"].as_array().expect("items").len();
    demo.until(&token, &online("charging"), "a watch charges", |answer| named(answer) == 1);
    demo.until(&token, &online("unknown"), "one is in its box", |answer| named(answer) == 1);
    demo.until(&token, &online("online"), "most are worn", |answer| named(answer) >= 16);
    let week = "/api/v1/devices/DEMO00020/vitals?hours=168";
    let has_week = |chart: &Value| {
        let points = chart["metrics"]["heart_rate"].as_array();
        points.is_some_and(|points| points.len() > 150)
    };
    demo.until(&token, week, "the last watch has sent its week", has_week);
    // What a watch counts goes on where its past ended, with the SOS of the first one: it is one watch.
    let week = demo.get(&token, "/api/v1/devices/DEMO00001/vitals?hours=168");
    let steps: Vec<f64> = week["metrics"]["step"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|point| point[1].as_f64().expect("a number"))
        .collect();
    // What was measured for the SOS may be a few steps ahead of the rest.
    let [.., before, last] = &steps[..] else { panic!("{steps:?}") };
    assert!(*last >= before - 100.0, "{steps:?}");
    let track = demo.get(&token, "/api/v1/devices/DEMO00001/track");
    assert!(track["points"].as_array().expect("points").len() > 100, "{track}");
    let overview = demo.get(&token, "/api/v1/overview");
    assert_eq!(overview["devices"]["all"], 20);
    // Every watch but the one in its box: eight hours apart there are at least two within a day.
    assert!(overview["yesterday"]["events"].as_i64().expect("a number") >= 2 * 19, "{overview}");

    demo.interrupt();
    assert!(!dir.exists(), "{} is gone", dir.display());
}

#[test]
fn a_named_directory_stays_and_can_be_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("kept").display().to_string();
    for _ in 0..2 {
        let demo = Demo::start(&["--watches", "1", "--data-dir", &path]);
        assert!(demo.third_line.contains(&format!("their data stays in {path}")), "{}", demo.third_line);
        let token = admin_token(Path::new(&path));
        demo.until(&token, "/api/v1/devices", "its watch is there", |answer| {
            answer["items"].as_array().expect("items").len() == 1
        });
        demo.interrupt();
    }
    assert!(Path::new(&path).join("watchpost.db").is_file());
}

#[test]
fn more_watches_than_it_can_carry_are_refused() {
    for count in ["0", "2001", "many"] {
        let output: Output = run(command(&["demo", "--watches", count]));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains("--watches"), "{count}: {stderr}");
    }
}
