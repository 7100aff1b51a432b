//! The file that stands in for PostgreSQL has bindings, owners and their alerts, and one of its tables or
//! indexes is destroyed: everything else of it is stored, and whoever is named still has what is his.

use std::path::Path;

use serde_json::{Value, json};
use testkit::bodies::{event, sos};
use testkit::process::{Process, admin_token, connect, request_as};
use testkit::scale::{figure, is_long};
use testkit::truth::File;

use super::spool::{Scene, post, until_spooling};
use super::spool_damage::{copy_dir, copy_of, hand_on, start_alone};

/// Of the file's format.
const PAGE: usize = 4_096;
/// Events that only the file has.
const SPOOLED: i64 = 30;
/// What the short form destroys: tables, and indexes by which something is looked up.
const SHORT: [&str; 10] = [
    "customer",
    "sqlite_autoindex_customer_1",
    "org",
    "person",
    "device_binding",
    "api_token",
    "alert",
    "alert_change",
    "spool_log",
    "sqlite_autoindex_standby_1",
];

/// What PostgreSQL must have in the end, unless this table was destroyed: table, question, answer.
const KEPT: [(&str, &str, &str); 13] = [
    ("event", "SELECT count(*) AS value FROM event WHERE device_sn = 'spooled'", "30"),
    ("device_binding", "SELECT customer_id AS value FROM device_binding WHERE device_sn = 'new'", "9"),
    (
        "device_binding",
        "SELECT customer_id AS value FROM device_binding WHERE device_sn = 'moved' AND unbound_ms IS NULL",
        "9",
    ),
    (
        "device_binding",
        "SELECT count(*) AS value FROM device_binding WHERE device_sn = 'freed' AND unbound_ms IS NULL",
        "0",
    ),
    ("customer", "SELECT name AS value FROM customer WHERE customer_id = '9'", "Nine"),
    ("customer", "SELECT name AS value FROM customer WHERE customer_id = '7'", "Seven"),
    ("org", "SELECT name AS value FROM org WHERE org_id = 'ward'", "The ward"),
    ("person", "SELECT name AS value FROM person WHERE person_id = 'nina'", "Nina"),
    (
        "api_token",
        "SELECT count(*) AS value FROM api_token WHERE name = 'revoked' AND revoked_ms IS NULL",
        "0",
    ),
    ("api_token", "SELECT count(*) AS value FROM api_token WHERE name = 'made'", "1"),
    ("alert_rule", "SELECT count(*) AS value FROM alert_rule WHERE name = 'Door'", "0"),
    ("device", "SELECT customer_id AS value FROM device WHERE device_sn = 'new'", "9"),
    ("alert_change", "SELECT state AS value FROM alert WHERE device_sn = 'before'", "acknowledged"),
];
/// And whatever was destroyed.
const ALWAYS: [(&str, &str); 3] = [
    ("SELECT count(*) AS value FROM alert WHERE device_sn = 'before'", "1"),
    ("SELECT count(*) AS value FROM event WHERE device_sn = 'before'", "1"),
    (
        "SELECT count(*) AS value FROM device_binding b WHERE customer_id NOT IN (SELECT customer_id FROM customer)",
        "0",
    ),
];

fn ask(process: &Process, token: &str, head: &str, body: &Value) -> Value {
    let mut stream = connect(process.addr).expect("the server is up");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = request_as(&mut stream, token, head, &body).expect("an answer");
    assert!((200..300).contains(&status), "{head}: {status} {answer}");
    serde_json::from_str(&answer).unwrap_or_default()
}

/// Owners, tokens, rules and an alert that PostgreSQL knows, and what becomes of them while it is away.
pub fn spool_owners(scene: &mut Scene, process: &Process) {
    let token = admin_token(scene.path());
    let ask = |head: &str, body: Value| ask(process, &token, head, &body);
    for sn in ["moved", "freed"] {
        ask(&format!("PUT /api/v1/devices/{sn}/binding"), json!({"customer_id": "7", "person_id": sn}));
    }
    let revoked = ask("POST /api/v1/tokens", json!({"name": "revoked"}));
    let rule =
        json!({"name": "Door", "severity": "low", "condition": {"kind": "event", "event_type": "DOOR*"}});
    let rule = ask("POST /api/v1/rules", rule);
    let raised = post(process, &sos("before", 0)).1;
    scene.cluster.stop("-INT");
    let nina = json!({"customer_id": "9", "customer_name": "Nine", "org_id": "ward", "org_name": "The ward",
        "person_id": "nina", "person_name": "Nina"});
    ask("PUT /api/v1/devices/new/binding", nina);
    let otto = json!({"customer_id": "9", "org_id": "ward", "person_id": "otto"});
    ask("PUT /api/v1/devices/moved/binding", otto);
    ask("DELETE /api/v1/devices/freed/binding", Value::Null);
    ask("PUT /api/v1/devices/last/binding", json!({"customer_id": "7", "customer_name": "Seven"}));
    ask("POST /api/v1/tokens", json!({"name": "made"}));
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    ask(&format!("DELETE /api/v1/tokens/{}", text(&revoked["token_id"])), Value::Null);
    ask(&format!("DELETE /api/v1/rules/{}", text(&rule["rule_id"])), Value::Null);
    ask(&format!("POST /api/v1/alerts/{}/acknowledge", text(&raised["alert_id"])), json!({}));
    for sn in ["new", "moved"] {
        assert_eq!(post(process, &sos(sn, 0)).0, 200, "{sn}");
    }
    until_spooling(process, true);
}

/// A data directory whose server was killed while it spooled, with everything in the file itself.
fn killed() -> (Scene, tempfile::TempDir) {
    let mut scene = Scene::new();
    let process = scene.start();
    spool_owners(&mut scene, &process);
    for number in 0..SPOOLED {
        assert_eq!(post(&process, &event("spooled", "CALL_STATE", &number.to_string(), number)).0, 200);
    }
    process.kill();
    let whole = tempfile::tempdir().expect("a directory");
    copy_dir(scene.path(), whole.path());
    let mut file = File::open(&whole.path().join("standby.db"));
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    drop(file);
    scene.cluster.go_on();
    (scene, whole)
}

/// Name, table, and number of the first page.
fn objects(whole: &Path) -> Vec<(String, String, usize)> {
    let found = File::open(&whole.join("standby.db")).texts(
        "SELECT name || ' ' || tbl_name || ' ' || rootpage AS value FROM sqlite_schema WHERE rootpage > 0",
    );
    let parse = |line: &String| {
        let parts: Vec<&str> = line.split(' ').collect();
        (parts[0].to_owned(), parts[1].to_owned(), parts[2].parse().expect("a page"))
    };
    found.iter().map(parse).collect()
}

fn destroy(file: &Path, page: usize) {
    let mut bytes = std::fs::read(file).expect("the file");
    bytes[(page - 1) * PAGE..page * PAGE].fill(0);
    std::fs::write(file, bytes).expect("a damaged file");
}

#[test]
fn whatever_of_a_spool_is_destroyed_the_rest_is_stored_and_owners_keep_what_is_theirs() {
    let (scene, whole) = killed();
    let all = objects(whole.path());
    let chosen = all.iter().filter(|(name, ..)| is_long() || SHORT.contains(&name.as_str()));
    let mut count = 0;
    for (at, (name, table, page)) in chosen.enumerate() {
        let (config, dir) = copy_of(&scene, whole.path(), &format!("salvage_{at}"));
        destroy(&dir.path().join("standby.db"), *page);
        hand_on(&config).unwrap_or_else(|err| panic!("{name}: {err}"));
        let mut file = File::of(dir.path());
        let lost = |of: &str| match table.as_str() {
            // That a rule is gone is said nowhere else.
            "spool_log" => of == "alert_rule",
            table => name == table && of == table,
        };
        for (of, query, answer) in KEPT {
            if !lost(of) {
                assert_eq!(file.texts(query), [answer], "{name} is destroyed: {query}");
            }
        }
        for (query, answer) in ALWAYS {
            assert_eq!(file.texts(query), [answer], "{name} is destroyed: {query}");
        }
        // Either of both says what is open.
        let open = file.number("SELECT count(*) FROM alert WHERE device_sn IN ('new', 'moved') AND is_open");
        assert_eq!(open, 2, "{name}");
        assert_eq!(file.number("SELECT count(*) FROM quarantine"), 0, "{name}: PostgreSQL refuses nothing");
        file.assert_consistent();
        count += 1;
    }
    assert!(count >= SHORT.len(), "all that is to be destroyed is there: {all:?}");
    figure("spool with owners: tables and indexes destroyed, one after the other", count);
}

#[test]
fn where_the_schema_is_damaged_the_tables_that_it_still_tells_of_are_read() {
    let (scene, whole) = killed();
    let (config, dir) = copy_of(&scene, whole.path(), "schema");
    let path = dir.path().join("standby.db");
    let mut bytes = std::fs::read(&path).expect("the file");
    let statement = b"CREATE TABLE device_message";
    let at = bytes.windows(statement.len()).position(|found| found == statement).expect("its schema");
    bytes[at + 7] = b'/';
    std::fs::write(&path, &bytes).expect("a damaged file");
    hand_on(&config).expect("it is handed on");
    let mut file = File::of(dir.path());
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'spooled'"), SPOOLED);
    for (of, query, answer) in KEPT {
        assert_eq!(file.texts(query), [answer], "{of}: {query}");
    }
    file.assert_consistent();
}

#[test]
fn a_spool_of_which_nothing_can_be_read_does_not_keep_a_server_from_starting() {
    let (scene, whole) = killed();
    let (config, dir) = copy_of(&scene, whole.path(), "header");
    destroy(&dir.path().join("standby.db"), 1);
    hand_on(&config).expect("it starts");
    let mut file = File::of(dir.path());
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'spooled'"), 0);
    assert_eq!(
        file.number("SELECT count(*) FROM event WHERE device_sn = 'before'"),
        1,
        "what PostgreSQL has"
    );
    file.assert_consistent();
}

#[test]
fn a_damaged_spool_waits_for_postgres_and_is_salvaged_then() {
    let (scene, whole) = killed();
    let (config, dir) = copy_of(&scene, whole.path(), "waiting");
    let (_, _, page) =
        objects(whole.path()).into_iter().find(|(name, ..)| name == "person").expect("a table");
    destroy(&dir.path().join("standby.db"), page);
    // It cannot start alone, again and again, and forgets nothing.
    for _ in 0..2 {
        let refused = start_alone(&config).expect_err("no server starts on a damaged file alone");
        assert!(refused.contains("cannot start without its database"), "{refused}");
    }
    hand_on(&config).expect("it is handed on");
    let mut file = File::of(dir.path());
    assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'spooled'"), SPOOLED);
    assert_eq!(file.texts("SELECT name AS value FROM person WHERE person_id = 'nina'"), ["nina"]);
    file.assert_consistent();
}
