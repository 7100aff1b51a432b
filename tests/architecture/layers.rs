//! Who may use whom: the table of layers in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use super::{none, read, root, sources};

/// Below everything, in this order: each may use those before it.
const GROUND: [&str; 4] = ["domain", "telemetry", "config", "supervision"];
const EVERYTHING_BELOW_THE_DOORS: [&str; 7] =
    ["wire", "storage", "session", "writer", "rules", "device", "ingest"];

/// What each module may use besides itself: a module, or one file of it.
fn allowed(module: &str) -> Vec<&'static str> {
    let ground = GROUND.to_vec();
    let and = |more: &[&'static str]| [&ground, more].concat();
    match module {
        "domain" => vec![],
        "telemetry" => vec!["domain"],
        "config" => vec!["domain", "telemetry"],
        "supervision" => vec!["domain", "telemetry", "config"],
        "wire" => vec!["domain"],
        "storage" => ground,
        "session" => and(&["storage"]),
        "writer" => and(&["storage", "session::messages"]),
        "rules" => and(&["storage", "writer::messages", "writer::client"]),
        "device" => and(&["storage", "rules", "writer::messages", "writer::client", "writer::inbox"]),
        "ingest" => and(&["device::messages", "device::bindings", "rules::set", "writer::messages"]),
        "api" | "dashboard" => and(&EVERYTHING_BELOW_THE_DOORS),
        "app" => [&and(&EVERYTHING_BELOW_THE_DOORS)[..], &["api", "dashboard"]].concat(),
        // Speaks to a server over REST like everybody else.
        "cli" => vec!["domain", "config"],
        // Stands above all, and nothing uses it.
        "demo" => [&and(&EVERYTHING_BELOW_THE_DOORS)[..], &["api", "dashboard", "app", "cli"]].concat(),
        "lib" | "main" => vec![],
        other => panic!("module {other} has no layer; give it one here and in ARCHITECTURE.md"),
    }
}

/// First two segments of every path that begins with `crate::`, braces taken apart.
fn crate_paths(code: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let inside_a_word = code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        // A macro that every module may use.
        let fail_point = code[at + start.len()..].starts_with("fail_point!");
        if !inside_a_word && !fail_point {
            take_tree(&code[at + start.len()..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one tree of a `use` and returns what is behind it.
fn take_tree<'a>(
    mut code: &'a str,
    path: &mut Vec<String>,
    found: &mut BTreeSet<(String, String)>,
) -> &'a str {
    let depth = path.len();
    loop {
        code = code.trim_start();
        if let Some(mut inner) = code.strip_prefix('{') {
            loop {
                inner = take_tree(inner, path, found).trim_start();
                match inner.strip_prefix(',') {
                    Some(next) if !next.trim_start().starts_with('}') => inner = next,
                    Some(next) => inner = next.trim_start(),
                    None => {}
                }
                if let Some(behind) = inner.strip_prefix('}') {
                    path.truncate(depth);
                    return behind;
                }
                assert!(!inner.is_empty(), "a `use` without an end");
            }
        }
        let end = code
            .find(|char: char| !(char.is_alphanumeric() || char == '_' || char == '*'))
            .unwrap_or(code.len());
        path.push(code[..end].to_string());
        code = &code[end..];
        match code.strip_prefix("::") {
            Some(next) => code = next,
            None => break,
        }
        if path.len() == 2 && !code.trim_start().starts_with('{') {
            break;
        }
    }
    let second = path.get(1).cloned().unwrap_or_default();
    found.insert((path[0].clone(), second));
    path.truncate(depth);
    // The rest of a longer path, and an `as` name.
    let end = code.find([',', '}', ';', '(', ')', '\n', '>', '<', ' ', '{']).unwrap_or(code.len());
    let behind = &code[end..];
    match behind.trim_start().strip_prefix("as ") {
        Some(name) => &name[name.find([',', '}', ';']).unwrap_or(name.len())..],
        None => behind,
    }
}

/// The edges between modules, with a file that shows each.
fn edges() -> BTreeMap<(String, String), Vec<(String, String)>> {
    let mut edges: BTreeMap<(String, String), Vec<(String, String)>> = BTreeMap::new();
    for source in sources("src", ".rs") {
        for (first, second) in crate_paths(&source.code()) {
            if first != source.module() {
                let edge = edges.entry((source.module().to_string(), first)).or_default();
                edge.push((source.path.clone(), second));
            }
        }
    }
    edges
}

#[test]
fn every_module_uses_only_what_is_below_it() {
    let mut faults = Vec::new();
    for ((from, to), uses) in edges() {
        let allowed = allowed(&from);
        for (path, second) in uses {
            let whole = allowed.contains(&to.as_str());
            let part = allowed.iter().any(|entry| *entry == format!("{to}::{second}"));
            if !whole && !part {
                faults.push(format!("{path} uses crate::{to}::{second}"));
            }
        }
    }
    none("a module uses what is not below it (ARCHITECTURE.md, layers)", &faults);
}

#[test]
fn no_two_modules_use_each_other_on_whatever_way_round() {
    let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in edges().into_keys() {
        below.entry(from).or_default().insert(to);
    }
    // What uses nobody that is left goes; a circle is what remains.
    loop {
        let standing: BTreeSet<String> = below.keys().cloned().collect();
        let before = below.len();
        below.retain(|_, uses| uses.iter().any(|used| standing.contains(used)));
        if below.len() == before {
            break;
        }
    }
    let circle: Vec<String> = below.iter().map(|(from, uses)| format!("{from} uses {uses:?}")).collect();
    none("modules use each other in a circle", &circle);
}

#[test]
fn the_reader_of_use_lines_takes_braces_apart() {
    let code = "use crate::{a::{b, c as d,}, e};\nlet x = crate::f::g(1); use crate::h::{self, I};";
    let found: Vec<String> = crate_paths(code).into_iter().map(|(a, b)| format!("{a}/{b}")).collect();
    assert_eq!(found, ["a/b", "a/c", "e/", "f/g", "h/I", "h/self"]);
}

/// A word that may stand in the code of these files only; a folder ends with `/`.
#[test]
fn each_library_and_power_has_its_place() {
    let places: [(&str, &[&str]); 14] = [
        ("diesel::", &["src/storage/"]),
        ("diesel_migrations", &["src/storage/"]),
        ("libsqlite3_sys", &["src/storage/wal_vfs.rs"]),
        ("unsafe ", &["src/storage/wal_vfs.rs"]),
        ("actix_ws", &["src/session/socket.rs"]),
        ("immediate_transaction", &["src/storage/conn.rs"]),
        (
            "write_transaction",
            &[
                "src/storage/conn.rs",
                "src/storage/commit.rs",
                "src/storage/migrate.rs",
                "src/storage/standby/",
            ],
        ),
        ("exclusive_transaction", &[]),
        // The two files of the command line read what a server answers.
        ("StatusCode", &["src/api/", "src/dashboard/", "src/cli/client.rs", "src/cli/watch.rs"]),
        // A session begins as the answer to an upgrade.
        ("HttpResponse", &["src/api/", "src/dashboard/", "src/session/socket.rs"]),
        ("csv::", &["src/api/import.rs"]),
        ("opentelemetry", &["src/telemetry/otlp.rs", "src/telemetry/logging.rs"]),
        ("rustix::", &["src/telemetry/process.rs", "src/app/descriptors.rs", "src/demo/mod.rs"]),
        ("SyncArbiter", &[]),
    ];
    let mut faults = Vec::new();
    for source in sources("src", ".rs") {
        let code = source.code();
        for (word, files) in &places {
            let at_home = files.iter().any(|file| match file.ends_with('/') {
                true => source.path.starts_with(file),
                false => source.path == *file,
            });
            if code.contains(word) && !at_home {
                faults.push(format!("{} uses {word}", source.path));
            }
        }
    }
    none("a library or a power is used outside its place", &faults);
}

#[test]
fn the_plain_modules_know_no_runtime() {
    let mut faults = Vec::new();
    for source in sources("src", ".rs") {
        let code = source.code();
        if !["domain", "wire"].contains(&source.module()) {
            continue;
        }
        for word in ["actix", "diesel", "tokio", "Instant::now", "SystemTime::now", "Utc::now"] {
            if code.contains(word) {
                faults.push(format!("{} uses {word}", source.path));
            }
        }
    }
    none("domain and wire are plain: no actor, no database, no clock", &faults);
}

/// Simulated watches must not share the server's mistakes.
#[test]
fn the_watch_simulator_knows_neither_the_server_nor_the_load_lab() {
    let manifest: toml::Table =
        toml::from_str(&read(&root().join("load/simulator/Cargo.toml"))).expect("a manifest is TOML");
    let mut faults = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
        for (name, value) in dependencies {
            let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
            if value.get("path").is_some() || ["watchpost", "load", "testkit"].contains(&package) {
                faults.push(format!("load/simulator depends on {package}"));
            }
        }
    }
    assert!(manifest.contains_key("dependencies"), "the simulator has no dependencies at all");
    none("the simulator has to do without the server", &faults);
}
