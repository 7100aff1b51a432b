//! Layers and limits of the configuration.

use watchpost::config::{Config, ConfigError};

fn load(file: Option<&str>, env: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("watchpost.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).expect("a file");
    }
    let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    let overrides: Vec<(String, String)> = overrides.iter().map(owned).collect();
    Config::load(file.map(|_| path.as_path()), env.iter().map(owned), &overrides)
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = Some("[writer]\nbatch_rows = 1\nretry_pause_ms = 1\nretry_for_ms = 1\n");
    let env = [("WATCHPOST_WRITER_BATCH_ROWS", "2"), ("WATCHPOST_WRITER_RETRY_PAUSE_MS", "2")];
    let config = load(file, &env, &[("writer.batch_rows", "3")]).expect("good");
    let writer = &config.writer;
    assert_eq!((writer.batch_rows, writer.retry_pause_ms, writer.retry_for_ms), (3, 2, 1));
    assert_eq!(writer.commands_max, Config::default().writer.commands_max);
    let other = load(None, &[("HOME", "/"), ("WATCHPOST_TOKEN", "t"), ("WATCHPOST_URL", "u")], &[]);
    assert_eq!(other.expect("not ours to read"), Config::default());
}

#[test]
fn what_is_printed_is_what_is_read() {
    let mut config = Config::default();
    config.watch.customer_name = "North".into();
    assert_eq!(load(Some(&config.to_masked_toml()), &[], &[]).expect("good"), config);
}

#[test]
fn a_password_in_the_database_url_is_not_printed() {
    let url = "postgres://ann:hunter2@db.example/watchpost";
    let config = load(None, &[], &[("storage.database_url", url)]).expect("good");
    let printed = config.to_masked_toml();
    assert!(printed.contains("postgres://ann:***@db.example/watchpost"), "{printed}");
    assert!(!printed.contains("hunter2"));
}

#[test]
fn limits_are_checked_at_the_limit_and_one_past() {
    for (key, good, bad) in [
        ("watch.records_max", "1", "0"),
        ("watch.records_max", "10000", "10001"),
        ("watch.depth_max", "4", "3"),
        ("watch.depth_max", "100", "101"),
        ("watch.upload_health_interval_s", "5", "4"),
        ("watch.customer_name", "x", ""),
        ("watch.time_zone", "Europe/Vienna", "Vienna"),
        ("storage.readers", "1", "0"),
        ("writer.batch_rows", "1", "0"),
        ("writer.commands_max", "1", "0"),
        ("device.turn_reports_max", "1", "0"),
        ("device.bindings_cached_max", "1", "0"),
        ("session.ring_changes", "1", "0"),
        ("session.reconcile_ms", "1", "0"),
        ("quarantine.permits", "1", "0"),
    ] {
        load(None, &[], &[(key, good)]).unwrap_or_else(|err| panic!("{key}={good}: {err}"));
        let err = load(None, &[], &[(key, bad)]).expect_err("one past the limit").to_string();
        assert!(err.starts_with(key) && !err.contains('\n'), "{key}={bad}: {err}");
    }
}

#[test]
fn reserves_must_leave_room_for_what_they_are_for() {
    let change = |adjust: fn(&mut Config)| {
        let mut config = Config::default();
        adjust(&mut config);
        config.validate().map_err(|err| err.to_string())
    };
    assert_eq!(change(|c| c.admission.capacity_kib = c.admission.reserve_above_vitals_kib + 1), Ok(()));
    for (what, result) in [
        ("admission", change(|c| c.admission.capacity_kib = c.admission.reserve_above_vitals_kib)),
        ("admission", change(|c| c.admission.reserve_above_events_kib = 16 * 1024 + 1)),
        ("admission", change(|c| c.admission.reserve_above_unbound_kib = 8 * 1024 + 1)),
        ("admission", change(|c| c.admission.reserve_above_unbound_kib = 15)),
        ("server.body_budget_bytes", change(|c| c.server.body_reserve_bytes = c.server.body_budget_bytes)),
        (
            "server.body_budget_bytes",
            change(|c| {
                c.server.body_budget_bytes = c.server.body_bytes_max + c.server.body_reserve_bytes - 1
            }),
        ),
    ] {
        let err = result.expect_err("one past the limit");
        assert!(err.starts_with(what), "{err}");
    }
    assert_eq!(change(|c| c.admission.reserve_above_unbound_kib = 16), Ok(()));
}
