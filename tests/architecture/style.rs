//! Rules of form.

use std::collections::BTreeSet;

use super::{none, root, sources};

/// Lines of a file, unit tests included: what fits into a head.
const LINES_MAX: usize = 400;
/// Written by `diesel print-schema`.
const GENERATED: [&str; 1] = ["src/storage/schema.rs"];

#[test]
fn no_file_is_longer_than_400_lines() {
    let files = sources("src", ".rs").into_iter().chain(sources("tests", ".rs"));
    let files = files.filter(|source| !GENERATED.contains(&source.path.as_str()));
    let faults: Vec<String> = files
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path} has {lines} lines"))
        .collect();
    none("a file is too long; split it by idea", &faults);
}

#[test]
fn nothing_sleeps_on_a_thread_and_nothing_unwraps() {
    let mut faults = Vec::new();
    for source in sources("src", ".rs").into_iter().chain(sources("tests", ".rs")) {
        // Not this file, which names it.
        if source.path != "tests/architecture/style.rs" && source.code().contains("thread::sleep") {
            faults.push(format!("{} blocks a thread with sleep", source.path));
        }
    }
    for source in sources("src", ".rs") {
        for (number, line) in source.code().lines().enumerate() {
            if line.contains(".unwrap()") {
                faults.push(format!("{}, code line {number}: {}", source.path, line.trim()));
            }
        }
    }
    none("wait for a condition; say with expect() why it cannot fail", &faults);
}

#[test]
fn every_file_says_what_it_is() {
    let generated = |path: &str| GENERATED.contains(&path);
    let faults: Vec<String> = sources("src", ".rs")
        .into_iter()
        .filter(|source| !source.text.starts_with("//!") && !generated(&source.path))
        .map(|source| source.path)
        .collect();
    none("a file does not begin with a line about itself", &faults);
}

#[test]
fn migrations_are_named_alike_and_go_both_ways() {
    let mut names: Vec<BTreeSet<String>> = Vec::new();
    let mut faults = Vec::new();
    for backend in std::fs::read_dir(root().join("migrations")).expect("migrations") {
        let backend = backend.expect("an entry").path();
        let mut here = BTreeSet::new();
        for entry in std::fs::read_dir(&backend).expect("a folder per database") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().to_string();
            if !is_migration_name(&name) {
                faults.push(format!("{name} is not YYYY-MM-DD-NNNNNN_words"));
            }
            for file in ["up.sql", "down.sql"] {
                if !path.join(file).is_file() {
                    faults.push(format!("{name} has no {file}"));
                }
            }
            here.insert(name);
        }
        names.push(here);
    }
    if names.windows(2).any(|pair| pair[0] != pair[1]) {
        faults.push("the databases do not have the same migrations".into());
    }
    none("migrations", &faults);
}

fn is_migration_name(name: &str) -> bool {
    let Some((number, words)) = name.split_once('_') else { return false };
    let pattern = "dddd-dd-dd-dddddd";
    number.len() == pattern.len()
        && number.chars().zip(pattern.chars()).all(|(char, wanted)| match wanted {
            'd' => char.is_ascii_digit(),
            other => char == other,
        })
        && !words.is_empty()
        && words.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

#[test]
fn each_migration_is_there_for_both_databases() {
    let of = |database: &str| -> BTreeSet<String> {
        let dir = root().join("migrations").join(database);
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let (sqlite, postgres) = (of("sqlite"), of("postgres"));
    let faults: Vec<String> = sqlite.symmetric_difference(&postgres).cloned().collect();
    none("migrations that only one of migrations/sqlite and migrations/postgres has", &faults);
}
