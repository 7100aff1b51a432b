//! PostgreSQL has what it never said it had: that is no conflict with the spool. And what cannot be read
//! while it is away is not said to be unknown.

use std::time::Duration;

use testkit::DEADLINE;
use testkit::bodies::sos;
use testkit::process::{Process, admin_token, connect, pass, request_as};

use super::spool::{Scene, get, post, until_mirroring, until_spooling};

/// The commit comes after the time for it, and before the file has what it is for.
const LATE: &str = "standby::commit=1*sleep(800);standby::spool=1*sleep(2400)";

#[test]
fn a_commit_that_came_too_late_is_no_conflict_with_the_spool() {
    let scene = Scene::new();
    let process = Process::start_adjusted(scene.path(), |command| {
        command.args(["--set", &scene.setting, "--set", "telemetry.log=off"]);
        command.args(["--set", "storage.postgres_commit_limit_ms=300"]);
        command.args(["--set", "watch.receipt_timeout_ms=30000"]);
        command.env("FAILPOINTS", LATE);
    });
    let token = admin_token(scene.path());
    let epoch = get(&process, &token, "/api/v1/system")["epoch"].clone();
    let (status, told) = post(&process, &sos("late", 0));
    assert_eq!(status, 200, "{told}");
    until_mirroring(&process);
    assert_eq!(get(&process, &token, "/api/v1/system")["epoch"], epoch, "nobody else has written");
    assert_eq!(post(&process, &sos("late", 0)).1["alert_id"], told["alert_id"], "a copy is known");
    let mut file = scene.settle(process);
    let log = "SELECT change_offset || ' ' || device_sn || ' ' || transition AS value FROM alert_change";
    assert_eq!(file.texts(log), ["1 late raised"]);
    assert_eq!(file.texts("SELECT value FROM meta WHERE key = 'epoch'"), [epoch.as_str().expect("text")]);
}

#[test]
fn an_alert_that_is_not_found_while_reads_are_incomplete_is_not_said_to_be_unknown() {
    let mut scene = Scene::new();
    let process = scene.start();
    let token = admin_token(scene.path());
    let raised = post(&process, &sos("known", 0)).1["alert_id"].as_str().expect("an alert").to_owned();
    let ask = |head: &str| {
        let mut stream = connect(process.addr).expect("the server is up");
        let body = if head.starts_with("POST") { "{}" } else { "" };
        let (status, answer) = request_as(&mut stream, &token, head, body).expect("an answer");
        let kind = serde_json::from_str::<serde_json::Value>(&answer).expect("JSON")["type"].clone();
        (status, kind.as_str().unwrap_or_default().rsplit([':', '/']).next().unwrap_or_default().to_owned())
    };
    let heads =
        |id: &str| [format!("GET /api/v1/alerts/{id}"), format!("POST /api/v1/alerts/{id}/acknowledge")];
    for head in heads("17") {
        assert_eq!(ask(&head), (404, "not-found".into()), "{head}");
    }
    scene.cluster.stop("-INT");
    assert_eq!(post(&process, &sos("meanwhile", 0)).0, 200);
    until_spooling(&process, true);
    for head in heads("17") {
        assert_eq!(ask(&head), (503, "incomplete".into()), "{head}");
    }
    for head in heads(&raised) {
        assert_eq!(ask(&head).0, 200, "{head}");
    }
    scene.cluster.go_on();
    until_mirroring(&process);
    let begun = std::time::Instant::now();
    while get(&process, &token, "/api/v1/devices")["incomplete"] == true {
        assert!(begun.elapsed() < DEADLINE, "reads are complete within {DEADLINE:?}");
        pass(Duration::from_millis(20));
    }
    for head in heads("17") {
        assert_eq!(ask(&head), (404, "not-found".into()), "{head}");
    }
    scene.settle(process);
}
