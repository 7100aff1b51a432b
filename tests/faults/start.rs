//! Starts that must not be: each says in one line what is wrong and what to do.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::process::{Process, command, refusal, run, server_args};
use crate::support::truth::File;

fn server(data_dir: &Path, more: &[&str]) -> Command {
    let args = server_args(data_dir);
    let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
    command(&args)
}

/// The line holds all of these.
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{line:?} must say {part:?}");
    }
}

#[test]
fn a_second_process_on_the_same_data_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let _first = Process::start(dir.path());
    let line = refusal(server(dir.path(), &[]));
    assert_says(&line, &[&dir.path().display().to_string(), "in use", "--data-dir"]);
}

#[test]
fn a_file_in_the_place_of_the_data_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    assert_says(&refusal(server(&file, &[])), &[&file.display().to_string(), "--data-dir"]);
    let below = file.join("below");
    assert_says(&refusal(server(&below, &[])), &[&below.display().to_string(), "--data-dir"]);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    File::of(dir.path()).execute("CREATE TABLE recipes (name TEXT)");
    let line = refusal(server(dir.path(), &[]));
    assert_says(&line, &["watchpost.db", "another program", "recipes", "--data-dir"]);
    let tables = File::of(dir.path()).texts("SELECT name AS value FROM sqlite_master");
    assert_eq!(tables, ["recipes"]);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("watchpost.db");
    let text = "These are my notes, and they are long enough to be a header. ".repeat(20);
    std::fs::write(&file, &text).expect("a file");
    let line = refusal(server(dir.path(), &[]));
    assert_says(&line, &[&file.display().to_string(), "not a database", "--data-dir"]);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), text);
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Process::start(dir.path());
    first.signal("-TERM");
    assert_eq!(first.wait().0, Some(0));
    File::of(dir.path())
        .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999999999')");
    let line = refusal(server(dir.path(), &[]));
    assert_says(&line, &["watchpost.db", "newer", "99999999999999", "backup"]);
}

#[test]
fn a_port_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let dir = dir.path().display().to_string();
    let args = ["--listen", &addr, "--data-dir", &dir, "--set", "telemetry.log=error"];
    let line = refusal(command(&args));
    assert_says(&line, &[&addr, "--listen"]);
}

#[test]
fn keys_that_do_not_exist_are_refused_wherever_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("watchpost.toml");
    let config = file.display().to_string();
    for (text, parts) in [
        ("[writer]\nbatch_rows = 5\nnope = 1\n", ["line 3", "nope"]),
        ("[nope]\nx = 1\n", ["line 1", "nope"]),
        ("[writer]\nbatch_rows = \"many\"\n", ["line 2", "many"]),
        ("[writer\n", ["line 1", "watchpost.toml"]),
    ] {
        std::fs::write(&file, text).expect("a file");
        let line = refusal(server(dir.path(), &["--config", &config]));
        assert_says(&line, &[&config]);
        assert_says(&line, &parts);
    }
    let absent = dir.path().join("absent.toml").display().to_string();
    assert_says(&refusal(server(dir.path(), &["--config", &absent])), &[&absent]);

    let mut with_env = server(dir.path(), &[]);
    with_env.env("WATCHPOST_NOPE_X", "1");
    assert_says(&refusal(with_env), &["WATCHPOST_NOPE_X", "no such key", "watchpost config"]);
    let mut with_env = server(dir.path(), &[]);
    with_env.env("WATCHPOST_WRITER_BATCH_ROWS", "many");
    assert_says(&refusal(with_env), &["WATCHPOST_WRITER_BATCH_ROWS", "many"]);

    let unused = dir.path().join("unused").display().to_string();
    for (entry, part) in [
        ("nope.x=1", "no such key"),
        ("writer.nope=1", "no such key"),
        ("writer=1", "section.key"),
        ("writer.batch_rows", "section.key=value"),
        ("writer.batch_rows=0", "at least 1"),
        ("server.listen=here", "server.listen"),
    ] {
        let line = refusal(command(&["--data-dir", &unused, "--set", entry]));
        assert_says(&line, &[part]);
    }
    assert!(!Path::new(&unused).exists(), "nothing is made before the configuration is known to be good");
}

#[test]
fn a_public_address_needs_a_word_of_consent() {
    let dir = tempfile::tempdir().expect("a directory");
    let public = |more: &[&str]| {
        let dir = dir.path().display().to_string();
        let args = ["--listen", "0.0.0.0:0", "--data-dir", &dir, "--set", "telemetry.log=error"];
        command(&[&args, more].concat())
    };
    assert_says(&refusal(public(&[])), &["0.0.0.0:0", "--allow-open-ingest"]);
}

#[test]
fn an_unknown_database_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    for url in ["mysql://host/db", "watchpost.db", "sqlite:", "postgre://host/db"] {
        let line = refusal(server(dir.path(), &["--database-url", url]));
        assert_says(&line, &[url, "sqlite:"]);
    }
}

#[test]
fn config_prints_every_key_and_masks_what_is_secret() {
    let output = run(command(&["config", "--set", "watch.api_auth=hunter2", "--listen", "127.0.0.1:7001"]));
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("hunter2"), "{text}");
    let printed: toml::Table = toml::from_str(&text).expect("TOML");
    let all = toml::Table::try_from(watchpost::config::Config::default()).expect("a table");
    for (section, keys) in &all {
        let keys: Vec<&String> = keys.as_table().expect("a section").keys().collect();
        let shown: Vec<&String> = printed[section].as_table().expect("a section").keys().collect();
        assert_eq!(shown, keys, "keys of {section}");
    }
    assert_eq!(printed["server"]["listen"].as_str(), Some("127.0.0.1:7001"));
    assert_eq!(printed["watch"]["api_auth"].as_str(), Some("***"));
}
