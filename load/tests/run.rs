//! Scenarios as a whole, small and in a debug build: that they run, check and tell; not how fast
//! anything is. So objectives may be missed here, and promises may not.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PASSED: i32 = 0;
const BROKEN: i32 = 1;
const MISSED: i32 = 2;

fn load() -> Command {
    Command::new(env!("CARGO_BIN_EXE_load"))
}

/// Next to the lab, if cargo has built it; otherwise the lab has cargo build it.
fn server() -> Option<PathBuf> {
    let server = PathBuf::from(env!("CARGO_BIN_EXE_load")).with_file_name("watchpost");
    server.exists().then_some(server)
}

struct Ran {
    code: i32,
    text: String,
    result: Value,
}

/// `words`: the scenario and flags.
fn run(dir: &Path, words: &[&str]) -> Ran {
    let out = dir.join("run");
    let mut command = load();
    command.args(words).arg("--quiet").arg("--out").arg(&out);
    if !words.contains(&"--target") {
        command.arg("--work-dir").arg(dir);
        if let Some(server) = server() {
            command.arg("--server").arg(server);
        }
    }
    let output = command.output().expect("the lab runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let json = std::fs::read(out.with_extension("json")).unwrap_or_else(|err| panic!("{err}: {text}"));
    let page = std::fs::read_to_string(out.with_extension("html")).expect("a page");
    assert!(page.contains("Watchpost load lab") && page.len() > 50_000);
    let left: Vec<_> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("watchpost-lab-"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "the data directory is left");
    Ran {
        code: output.status.code().expect("an exit code"),
        text: text.into_owned(),
        result: serde_json::from_slice(&json).expect("JSON"),
    }
}

/// Every promise was kept, and this many things were looked at for it.
#[track_caller]
fn assert_kept(ran: &Ran, check: &str) -> u64 {
    assert!(ran.code == PASSED || ran.code == MISSED, "{}", ran.text);
    let checks = ran.result["checks"].as_array().expect("checks");
    assert!(checks.iter().all(|check| check["ok"] == true), "{}", ran.text);
    let named = checks.iter().find(|known| known["name"] == check);
    let compared = named.unwrap_or_else(|| panic!("no check {check}: {}", ran.text))["compared"].as_u64();
    let compared = compared.expect("a count");
    assert!(compared > 0, "{check}: nothing was compared: {}", ran.text);
    compared
}

const STORED: &str = "answered 200 is stored";
const PUSHED: &str = "every dashboard got every critical change";

#[test]
fn a_small_steady_run_keeps_every_promise_and_tells_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &["steady", "--seconds", "3", "--scale", "0.05"]);
    let stored = assert_kept(&ran, STORED);
    let result = &ran.result;
    assert_eq!(result["counts"]["stored"], stored, "{}", ran.text);
    assert_eq!(result["total"]["failures"], serde_json::json!({}), "{}", ran.text);
    let phases = result["phases"].as_array().expect("phases");
    assert_eq!(phases.iter().map(|phase| &phase["name"]).collect::<Vec<_>>(), ["warm-up", "steady"]);
    // The warm-up is stored like everything, and counts for no figure.
    let requests = |part: &Value| part["requests"].as_u64().expect("a count");
    assert_eq!(requests(&result["total"]), requests(&phases[1]));
    assert_eq!(requests(&phases[0]) + requests(&phases[1]), stored);
    let total = &result["total"]["latency"];
    let ms = |name: &str| total[name].as_f64().expect("a number");
    assert!(ms("p50_ms") > 0.0 && ms("p50_ms") <= ms("p99_ms") && ms("p99_ms") <= ms("max_ms"));
    let answered = result["series"]["answered"].as_array().expect("a series");
    assert_eq!(answered.iter().filter_map(Value::as_u64).sum::<u64>(), stored);
    assert!(result["memory"]["server_rss_peak_mib"].as_f64() > Some(1.0), "{result:#}");
    assert!(result["percentiles"]["latency_ms"].as_array().is_some_and(|curve| curve.len() > 10));
}

#[test]
fn a_small_storm_is_on_every_screen() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &["run", "storm", "--seconds", "3", "--scale", "0.05"]);
    let pushed = assert_kept(&ran, PUSHED);
    let changes = ran.result["counts"]["critical_changes"].as_u64().expect("a count");
    assert_eq!(pushed, changes * 25, "{}", ran.text);
    assert_eq!(ran.result["total"]["screen"]["count"], pushed);
}

#[test]
fn dashboards_that_drop_and_resume_miss_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &["reconnect", "--seconds", "4", "--scale", "0.04"]);
    assert_kept(&ran, PUSHED);
    let group = &ran.result["dashboards"][0];
    assert_eq!(group["count"], 20);
    assert!(group["connections"].as_u64() >= Some(40), "they did not come back: {}", ran.text);
    assert!(ran.result["counts"]["resumed"].as_u64() > Some(0), "nothing was missed: {}", ran.text);
}

#[test]
fn dashboards_that_stop_reading_get_everything_in_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &["stalled", "--seconds", "4", "--scale", "0.1"]);
    assert_kept(&ran, PUSHED);
    let groups = ran.result["dashboards"].as_array().expect("groups");
    let behaviours: Vec<_> = groups.iter().map(|group| &group["behaviour"]).collect();
    assert_eq!(behaviours, ["read", "stalled"]);
    // They were still for nearly half of the time, and what they got then came late.
    let worst = |group: &Value| group["screen"]["max_ms"].as_f64().expect("a number");
    assert!(worst(&groups[1]) > 1_000.0, "{}", ran.text);
    let count = |part: &Value| part["screen"]["count"].as_u64().expect("a count");
    let only_the_others = count(&ran.result["total"]) + count(phase(&ran, "warm-up"));
    assert_eq!(only_the_others, count(&groups[0]));
}

/// As `retry-herd`, with few watches whose time runs fast, and long enough for several replays.
const HERD: &str = r#"
name = "herd"
about = "simulated watches through a kill of the server"
simulated = { watches = 30, switched_on_over_s = 0, speed = 40, sos_s = 300, wear_s = 300, ordinary_s = 20 }
phase = [
    { name = "before", seconds = 1 },
    { name = "outage", seconds = 2, outage = true, kill_server = true },
    { name = "herd", seconds = 7 },
]
dashboards = [{ count = 3 }]
"#;

#[test]
fn simulated_watches_lose_nothing_to_a_killed_server_and_replay_their_rings() {
    let dir = tempfile::tempdir().expect("a directory");
    let scenario = dir.path().join("herd.toml");
    std::fs::write(&scenario, HERD).expect("a file");
    let ran = run(dir.path(), &["run", scenario.to_str().expect("a path")]);
    assert_kept(&ran, STORED);
    assert_kept(&ran, PUSHED);
    assert!(ran.result["replayed_s"].as_f64().is_some(), "{}", ran.text);
    let group = &ran.result["dashboards"][0];
    assert!(group["connections"].as_u64() > group["count"].as_u64(), "they were not cut off: {}", ran.text);
    let count = |name: &str| ran.result["simulated"][name].as_u64().expect("a count");
    let gone = count("dropped_from_rings") + count("cleared_by_a_200");
    assert_eq!(count("made"), count("answered_200") + gone + count("waiting"), "{}", ran.text);
    assert!(count("answered_200") > 100, "{}", ran.text);
}

#[test]
fn a_small_fleet_of_simulated_watches_keeps_its_rhythm() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &["fleet", "--seconds", "6", "--scale", "0.01"]);
    assert_kept(&ran, STORED);
    assert_eq!(ran.result["scenario"]["simulated"], 100);
    for kind in ["vitals", "device", "messages", "config"] {
        assert!(ran.result["by_kind"][kind].as_u64() > Some(0), "no {kind}: {}", ran.text);
    }
    let [rest, busy] = ["at rest", "busy"].map(|name| phase(&ran, name));
    assert_eq!(rest["offered_per_s"], Value::Null);
    assert_eq!(busy["offered_per_s"], 50.0);
}

#[test]
fn an_overload_is_three_times_what_was_measured_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &["overload", "--seconds", "6", "--scale", "0.01"]);
    assert_kept(&ran, STORED);
    let capacity = phase(&ran, "capacity")["requests_per_s"].as_f64().expect("a rate");
    let offered = phase(&ran, "overload")["offered_per_s"].as_f64().expect("a rate");
    // What was under way when the phase ended had no answer yet when the rate was set.
    assert!((offered / capacity - 3.0).abs() < 0.2, "{offered} is not 3 x {capacity}");
    let goodput = ran.result["slo"].as_array().expect("verdicts").iter();
    let goodput = goodput.clone().find(|slo| slo["figure"] == "overload.requests_per_s").expect("a verdict");
    assert_eq!(goodput["relative"], "0.9 x capacity");
    let limit = goodput["limit"].as_f64().expect("a limit");
    assert!((limit / capacity - 0.9).abs() < 0.01, "{limit} is not 0.9 x {capacity}");
}

/// One phase of the result.
fn phase<'a>(ran: &'a Ran, name: &str) -> &'a Value {
    let phases = ran.result["phases"].as_array().expect("phases");
    phases.iter().find(|phase| phase["name"] == name).unwrap_or_else(|| panic!("no phase {name}"))
}

#[test]
fn every_dialect_and_every_bad_body_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(dir.path(), &["dirty", "--seconds", "4", "--scale", "0.5"]);
    assert_kept(&ran, STORED);
    assert!(ran.result["by_kind"]["corpus"].as_u64() > Some(100), "{}", ran.text);
    assert_eq!(ran.result["total"]["failures"], serde_json::json!({}), "{}", ran.text);
}

const TINY: &str = r#"
name = "tiny"
about = "a scenario of one's own"
watches = 4
mix = { vitals = 1, sos = 1 }
phase = [{ name = "only", seconds = 1, rate = 20 }]
"#;

#[test]
fn an_objective_decides_the_exit_code_and_an_earlier_run_is_compared() {
    let dir = tempfile::tempdir().expect("a directory");
    let scenario = dir.path().join("tiny.toml");
    let text = |slo: &str| std::fs::write(&scenario, format!("{TINY}{slo}")).expect("a file");
    let scenario = scenario.to_str().expect("a path");
    text("[slo]\nsuccess_percent = 100\n[slo.only]\np99_ms = 60000\n");
    let met = run(dir.path(), &["run", scenario]);
    assert_eq!((met.code, &met.result["verdict"]), (PASSED, &Value::from("passed")), "{}", met.text);
    let old = dir.path().join("old.json");
    std::fs::rename(dir.path().join("run.json"), &old).expect("a result");

    text("[slo.only]\np99_ms = 0.0001\n");
    let missed = run(dir.path(), &["run", scenario, "--compare", old.to_str().expect("a path")]);
    assert_eq!((missed.code, &missed.result["verdict"]), (MISSED, &Value::from("slo missed")));
    assert!(missed.text.contains("MISSED  only.p99_ms <= "), "{}", missed.text);
    assert!(missed.text.contains("compared with") && missed.text.contains("x 1.00"), "{}", missed.text);
}

#[test]
fn a_server_that_runs_already_is_checked_by_rest() {
    let Some(binary) = server() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--set", "telemetry.log=warn", "--data-dir"])
        .arg(dir.path().join("data"))
        .stdout(Stdio::piped())
        .spawn()
        .map(Stopped)
        .expect("a server");
    let mut line = String::new();
    let stdout = server.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let url = line.trim().rsplit(' ').next().expect("an address").to_owned();
    let token = std::fs::read_to_string(dir.path().join("data/admin.token")).expect("a token");
    let words = ["storm", "--seconds", "2", "--scale", "0.05", "--target", &url, "--token", token.trim()];
    for _ in 0..2 {
        let ran = run(dir.path(), &words);
        assert_kept(&ran, STORED);
        assert_kept(&ran, PUSHED);
        assert_eq!(ran.result["own_server"], false);
    }
}

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.id() as i32) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

#[test]
fn what_cannot_run_says_why() {
    let fails = |words: &[&str]| {
        let output = load().args(words).output().expect("the lab runs");
        assert_eq!(output.status.code(), Some(BROKEN), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let remote = ["steady", "--target", "http://192.0.2.7:5001", "--token", "x"];
    assert!(fails(&remote).contains("--allow-remote"));
    assert!(fails(&["stedy"]).contains("there are steady, fleet"));
    assert!(fails(&["steady", "--seconds", "0"]).contains("--seconds"));
    let listed = load().arg("list").output().expect("the lab runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in ["steady", "fleet", "storm", "burst", "retry-herd", "overload", "stalled", "dirty", "soak"] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{listed}");
    }
}
