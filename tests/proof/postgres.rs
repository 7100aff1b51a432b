//! PostgreSQL goes away and comes back, under load: nothing that was answered 200 is lost, nobody is
//! told anything but "send it again", the server goes on by itself, and dashboards stay connected.

use std::time::Duration;

use testkit::cluster::Cluster;
use testkit::dashboard::{Dashboard, assert_told_the_log};
use testkit::database;
use testkit::process::{Process, admin_token, command, connect, pass, refusal, request, server_args};
use testkit::scale::{count, figure};
use testkit::traffic::Traffic;
use testkit::truth::File;

const WATCHES: [&str; 3] = ["W0", "W1", "W2"];
/// Reports that are stored between two outages.
const BETWEEN: u64 = 40;
/// How long PostgreSQL is away after nobody gets through any more.
const AWAY: Duration = Duration::from_millis(400);

/// Ends the load also when the test fails.
struct Stop<'a>(&'a Traffic);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn stopped_and_restarted_postgres_loses_nothing_and_dashboards_stay() {
    let outages = count(4, 40);
    let mut cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a directory");
    let url = cluster.url("postgres");
    database::note_url(dir.path(), &url);
    let setting = format!("storage.database_url={url}");
    let process =
        Process::start_with(dir.path(), &[&setting, "writer.retry_for_ms=500", "telemetry.log=off"]);
    let token = admin_token(dir.path());

    let traffic = Traffic::default();
    let dashboard = Dashboard::start(&token);
    std::thread::scope(|scope| {
        let _stop = Stop(&traffic);
        let traffic = &traffic;
        traffic.point_to(Some(process.addr));
        dashboard.point_to(Some(process.addr));
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        for outage in 0..outages {
            traffic.until(BETWEEN);
            // In order, and as a crash of the whole server.
            cluster.stop(if outage % 2 == 0 { "-INT" } else { "-QUIT" });
            let refused = traffic.record().refused;
            while traffic.record().refused == refused {
                std::thread::park_timeout(Duration::from_millis(2));
            }
            pass(AWAY);
            // It answers, and says what it cannot do.
            let mut stream = connect(process.addr).expect("the server is up");
            let health = request(&mut stream, "GET /healthz", "").expect("an answer");
            assert_eq!(health.0, 200, "{}", health.1);
            cluster.go_on();
        }
        traffic.until(BETWEEN);
        traffic.stop();
    });
    let mut file = File::of(dir.path());
    dashboard.until(file.number("SELECT max(change_offset) FROM alert_change"));
    let connections = dashboard.finish();
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));

    let record = traffic.record().clone();
    record.assert_stored(&mut file);
    file.assert_consistent();
    let told = assert_told_the_log(&connections, &mut file);
    assert_eq!(connections.len(), 1, "the dashboard stayed connected all the time");
    assert!(told.alerts > 0 && record.refused > 0, "there were alerts and outages");

    figure("PostgreSQL away: outages", outages);
    figure("PostgreSQL away: items answered 200, answers 503", {
        format!("{}, {}", traffic.answered(), record.refused)
    });
    figure("PostgreSQL away: events answered 200 and stored", {
        format!("{}, {}", record.events.len(), file.number("SELECT count(*) FROM event"))
    });
}

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
    let refused = request(&mut stream, "POST /upload_common_event", &sos(1)).expect("an answer");
    assert_eq!(refused.0, 503, "{}", refused.1);
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
        let _stop = Stop(&traffic);
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
    let copy = || command(&["copy", "--from", &from, "--to", &to]);
    for after in [40, 80, 160] {
        let mut child = copy().spawn().expect("the program starts");
        pass(Duration::from_millis(after));
        let _ = child.kill();
        child.wait().expect("a child");
    }
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
