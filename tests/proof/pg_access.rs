//! Who gets in: TLS to PostgreSQL with a certificate that is checked, and the role that only reads, as
//! docs/postgres.md makes it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use diesel::prelude::*;
use diesel::sql_types::Text;
use testkit::cluster::Cluster;
use testkit::database;
use testkit::process::{self, Process, connect, refusal, request, server_args};
use testkit::truth::File;
use watchpost::storage::database::Conn;

use super::pg_scene::{Scene, sos};

fn openssl(dir: &Path, args: &str) {
    let done = Command::new("openssl").args(args.split(' ')).current_dir(dir).output().expect("openssl");
    assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority of the test's own, `NAME.pem` with `NAME.key`.
fn make_authority(dir: &Path, name: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 \
             -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ),
    );
}

/// PostgreSQL that takes TLS only, with a certificate for `localhost` of the authority `ca`.
fn start_with_tls(dir: &Path) -> Cluster {
    make_authority(dir, "ca");
    openssl(
        dir,
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
         -keyout server.key -out server.csr",
    );
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost").expect("a file");
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile names -out server.pem",
    );
    let mut cluster = Cluster::make();
    let read = |name: &str| std::fs::read(dir.join(name)).expect("a file");
    for (setting, name, bytes) in [
        ("ssl_cert_file", "server.pem", read("server.pem")),
        ("ssl_key_file", "server.key", read("server.key")),
        ("hba_file", "hba", b"hostssl all all 127.0.0.1/32 trust\n".to_vec()),
    ] {
        let path = cluster.put(name, &bytes);
        cluster.set(format!("{setting}={}", path.display()));
    }
    cluster.set("ssl=on".into());
    cluster.go_on();
    cluster
}

#[test]
fn tls_is_used_and_a_wrong_host_or_authority_is_refused() {
    let (keys, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    let cluster = start_with_tls(keys.path());
    cluster.execute(&["CREATE ROLE watchpost LOGIN", "CREATE DATABASE watchpost OWNER watchpost"]);
    make_authority(keys.path(), "other");
    let url = |host: &str, tls: &str| {
        format!("storage.database_url=postgres://watchpost@{host}:{}/watchpost?{tls}", cluster.port())
    };
    let checked = |authority: &str| {
        let path = keys.path().join(authority).with_extension("pem");
        format!("sslmode=verify-full&sslrootcert={}", path.display())
    };
    for (setting, why) in [
        (url("127.0.0.1", &checked("ca")), "does not match host name"),
        (url("localhost", &checked("other")), "certificate verify failed"),
        (url("localhost", "sslmode=disable"), "no encryption"),
    ] {
        let args = server_args(dir.path());
        let mut command = process::command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        command.args(["--set", &setting]);
        let said = refusal(command);
        assert!(said.contains("connect to postgres://watchpost@") && said.contains(why), "{said}");
    }
    let process = Process::start_with(dir.path(), &[&url("localhost", &checked("ca"))]);
    let mut stream = connect(process.addr).expect("a connection");
    let stored = request(&mut stream, "POST /upload_common_event", &sos("W1")).expect("an answer");
    assert_eq!(stored.0, 200, "{}", stored.1);
    database::note_url(dir.path(), &cluster.url("watchpost"));
    let mut file = File::of(dir.path());
    let sessions =
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'watchpost'";
    assert_eq!(file.number(&format!("{sessions} AND NOT ssl")), 0);
    assert!(file.number(&format!("{sessions} AND ssl")) >= 2, "one that writes, and some that read");
    assert_eq!(file.number("SELECT count(*) FROM event"), 1);
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
}

/// The part of docs/postgres.md under a heading.
fn section(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/postgres.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let parts = text.split("\n## ").find(|part| part.starts_with(heading));
    parts.unwrap_or_else(|| panic!("a part {heading:?}")).to_owned()
}

fn names(conn: &mut Conn, query: &str) -> BTreeSet<String> {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let rows: Vec<Name> = diesel::sql_query(query).load(conn).expect("names");
    rows.into_iter().map(|row| row.name).collect()
}

#[test]
fn the_role_for_reports_reads_what_the_document_says_and_changes_nothing() {
    let scene = Scene::new();
    let process = Scene::start(scene.dir.path(), &scene.proxy);
    let mut stream = connect(process.addr).expect("a connection");
    let stored = request(&mut stream, "POST /upload_common_event", &sos("W1")).expect("an answer");
    assert_eq!(stored.0, 200, "{}", stored.1);

    let text = section("Reports");
    let (_, rest) = text.split_once("```sql\n").expect("statements");
    let (statements, rest) = rest.split_once("```").expect("their end");
    let mut owner = Conn::establish(&scene.cluster.url("watchpost")).expect("a session");
    for statement in statements.split(';').filter(|statement| !statement.trim().is_empty()) {
        diesel::sql_query(statement).execute(&mut owner).unwrap_or_else(|err| panic!("{statement}: {err}"));
    }
    let (left_out, _) = rest.split_once("left out on purpose").expect("what is left out");
    let left_out: BTreeSet<String> = left_out.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let tables = |which: &str| {
        format!(
            "SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace \
             AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT LIKE '\\_\\_%' AND {which}"
        )
    };
    let may_read = "has_table_privilege('watchpost_reports', oid, 'SELECT')";
    let granted = names(&mut owner, &tables(may_read));
    assert_eq!(names(&mut owner, &tables(&format!("NOT {may_read}"))), left_out, "the document names them");

    let url = scene.cluster.url("watchpost").replace("postgres@", "watchpost_reports@");
    let mut reports = Conn::establish(&url).expect("a session of that role");
    let failure = |conn: &mut Conn, statement: &str| {
        diesel::sql_query(statement).execute(conn).err().map(|err| err.to_string()).unwrap_or_default()
    };
    for table in &granted {
        names(&mut reports, &format!("SELECT count(*)::text AS name FROM {table}"));
        let said = failure(&mut reports, &format!("DELETE FROM {table}"));
        assert!(said.contains("read-only transaction"), "{table}: {said}");
    }
    for table in &left_out {
        let said = failure(&mut reports, &format!("SELECT 1 FROM {table}"));
        assert!(said.contains("permission denied"), "{table}: {said}");
    }
    // It may say that it writes, and still cannot.
    diesel::sql_query("SET default_transaction_read_only = off").execute(&mut reports).expect("a setting");
    for table in &granted {
        let said = failure(&mut reports, &format!("DELETE FROM {table}"));
        assert!(said.contains("permission denied"), "{table}: {said}");
    }
    let event = names(&mut reports, "SELECT device_sn AS name FROM event");
    assert_eq!(event, BTreeSet::from(["W1".to_owned()]));
    // A month that is made later.
    let later = "CREATE TABLE event_later PARTITION OF event FOR VALUES FROM ('\\xf0') TO ('\\xff')";
    diesel::sql_query(later).execute(&mut owner).expect("a month");
    assert_eq!(names(&mut reports, "SELECT device_sn AS name FROM event"), event);
    let timeout = names(&mut reports, "SELECT current_setting('statement_timeout') AS name");
    assert_eq!(timeout, BTreeSet::from(["1min".to_owned()]));
    process.signal("-TERM");
    assert_eq!(process.wait(), (Some(0), String::new()));
}
