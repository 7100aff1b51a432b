//! Two servers on one database, and a copy into it that is killed.

use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::cluster::Cluster;
use testkit::database;
use testkit::process::{Process, command, connect, pass, refusal, request, server_args};
use testkit::proxy::Proxy;
use testkit::traffic::Traffic;
use testkit::truth::File;

#[test]
fn a_second_server_on_the_same_database_is_refused() {
    let cluster = Cluster::start();
    let (first, second) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    let setting = format!("storage.database_url={}", cluster.url("postgres"));
    let process = Process::start_with(first.path(), &[&setting]);
    let args = server_args(second.path());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = command(&args);
    command.args(["--set", &setting, "--set", "storage.postgres_lock_timeout_ms=200"]);
    let said = refusal(command);
    assert!(said.contains("another watchpost writes to"), "{said}");
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
    // The lease went with it.
    let process =
        Process::start_with(second.path(), &[&setting, "writer.retry_for_ms=200", "telemetry.log=off"]);
    database::note_url(second.path(), &cluster.url("postgres"));
    let mut file = File::of(second.path());
    let mut stream = connect(process.addr).expect("a connection");
    let sos = |second: i64| testkit::bodies::sos("W1", second).to_string();
    let stored = request(&mut stream, "POST /upload_common_event", &sos(0)).expect("an answer");
    assert_eq!(stored.0, 200, "{}", stored.1);
    // It loses its session, and another one has written when it has a new one.
    file.execute("UPDATE meta SET value = 'another' WHERE key = 'holder'");
    file.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'watchpost' AND datname = current_database()",
    );
    // It spools until it knows, and then says so.
    let begun = Instant::now();
    for second in 1.. {
        let (status, answer) =
            request(&mut stream, "POST /upload_common_event", &sos(second)).expect("an answer");
        if status == 503 {
            break;
        }
        assert_eq!(status, 200, "{answer}");
        assert!(begun.elapsed() < DEADLINE, "it finds out that it is not the writer any more");
        pass(Duration::from_millis(20));
    }
    assert_eq!(file.number("SELECT count(*) FROM event"), 1, "nothing was written behind the other's back");
    process.kill();
}

/// Every row of a table, as text.
const TABLES: [(&str, &str); 5] = [
    ("event", "hex(event_id) || ' ' || device_sn || ' ' || occurred_ms || ' ' || coalesce(alert_id, 0)"),
    ("vitals", "device_sn || ' ' || measured_ms || ' ' || heart_rate"),
    ("alert", "alert_id || ' ' || last_offset || ' ' || body"),
    ("alert_change", "change_offset || ' ' || cause || ' ' || body"),
    ("device", "device_sn || ' ' || first_seen_ms || ' ' || coalesce(worn_ms, 0)"),
];

fn rows(file: &mut File) -> Vec<Vec<String>> {
    let rows =
        |(table, text): (&str, &str)| file.texts(&format!("SELECT {text} AS value FROM {table} ORDER BY 1"));
    // PostgreSQL writes 70 where SQLite writes 70.0.
    TABLES
        .map(rows)
        .map(|rows| rows.iter().map(|row| row.trim_end_matches(".0").to_owned()).collect())
        .to_vec()
}

#[test]
fn a_copy_that_is_killed_goes_on_and_has_every_row() {
    let cluster = Cluster::start();
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    let process = Process::start(dir.path());
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        let _stop = traffic.until_dropped();
        traffic.point_to(Some(process.addr));
        scope.spawn(|| traffic.watch("W0"));
        traffic.until(300);
    });
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
    let record = traffic.record().clone();
    let before = rows(&mut File::of(dir.path()));

    let from = format!("sqlite:{}", dir.path().join("watchpost.db").display());
    let to = cluster.url("postgres");
    let copy_to = |to: &str| command(&["copy", "--from", &from, "--to", to]);
    let copy = || copy_to(&to);
    // Slow enough that none of these comes to its end: there is a transaction for each of 17 tables.
    let proxy = Proxy::start(cluster.port());
    proxy.commits_take(Duration::from_millis(50));
    let slowly = to.replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port()));
    assert_ne!(slowly, to, "by way of the proxy");
    for after in [40, 80, 160, 320] {
        let mut child = copy_to(&slowly).spawn().expect("the program starts");
        pass(Duration::from_millis(after));
        child.kill().expect("it is still at it");
        assert_eq!(child.wait().expect("a child").code(), None, "it did not end by itself");
    }
    drop(proxy);
    let done = testkit::process::run(copy());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("the counts of both sides agree"), "{said}");

    database::note_url(other.path(), &to);
    let mut file = File::of(other.path());
    let after = rows(&mut file);
    for ((table, _), (before, after)) in TABLES.iter().zip(before.iter().zip(&after)) {
        assert!(!before.is_empty(), "table {table} holds something");
        assert_eq!(before, after, "table {table}");
    }
    record.assert_stored(&mut file);
    file.assert_consistent();
    // It is in use now.
    let again = testkit::process::run(copy());
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is in use already"));

    // A server goes on from there, and knows what it has.
    let setting = format!("storage.database_url={to}");
    let process = Process::start_with(other.path(), &[&setting]);
    traffic.point_to(Some(process.addr));
    file.execute("CREATE TABLE event_2001_02 PARTITION OF event FOR VALUES FROM ('\\x00') TO ('\\x0001')");
    let dropped =
        testkit::process::run(command(&["drop-months", "--before", "2001-04-01", "--database-url", &to]));
    let said = String::from_utf8_lossy(&dropped.stdout).into_owned();
    assert_eq!(said.trim(), "dropped event_2001_02", "{}", String::from_utf8_lossy(&dropped.stderr));
    assert_eq!(rows(&mut file), after, "nothing else went");
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
}

/// As when PostgreSQL ends a session at once; a trigger makes it sure.
#[test]
fn what_postgres_warns_of_is_not_mixed_into_the_log() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a directory");
    let setting = format!("storage.database_url={}", cluster.url("postgres"));
    let process = Process::start_with(dir.path(), &[&setting, "storage.postgres_commit_limit_ms=20000"]);
    cluster.execute(&[
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE WARNING 'a warning'; RETURN NULL; END $$",
        "CREATE TRIGGER warn AFTER INSERT ON alert_change EXECUTE FUNCTION warn()",
    ]);
    let mut stream = connect(process.addr).expect("a connection");
    let sos = testkit::bodies::sos("W1", 0).to_string();
    let stored = request(&mut stream, "POST /upload_common_event", &sos).expect("an answer");
    assert_eq!(stored.0, 200, "{}", stored.1);
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
    database::note_url(dir.path(), &cluster.url("postgres"));
    assert_eq!(File::of(dir.path()).number("SELECT count(*) FROM alert_change"), 1, "its trigger ran");
}
