//! What the dependencies are licensed under, where they come from, and which are unwanted: the
//! rules of `deny.toml`, checked without cargo-deny.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::{none, read, root};

fn deny() -> toml::Table {
    toml::from_str(&read(&root().join("deny.toml"))).expect("deny.toml is TOML")
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The packages that a build for this machine consists of.
fn packages() -> Vec<Value> {
    let version = cargo().arg("-vV").output().expect("cargo runs");
    let version = String::from_utf8_lossy(&version.stdout).to_string();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    // Only what this host needs: offline, the packages of other systems are not there.
    let output = cargo()
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("resolved packages");
    let used: BTreeSet<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    let all = metadata["packages"].as_array().expect("packages").iter();
    all.filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id))).cloned().collect()
}

fn names(list: &toml::Value) -> Vec<String> {
    let name = |entry: &toml::Value| match entry {
        toml::Value::Table(table) => table["crate"].as_str().map(ToString::to_string),
        other => other.as_str().map(ToString::to_string),
    };
    list.as_array().expect("a list").iter().filter_map(name).collect()
}

#[test]
fn every_dependency_has_a_licence_on_the_list() {
    let deny = deny();
    let allowed: BTreeSet<String> = names(&deny["licenses"]["allow"]).into_iter().collect();
    let mut faults = Vec::new();
    for package in packages() {
        let (name, expression) = (&package["name"], package["license"].as_str().unwrap_or_default());
        if !permits(expression, &allowed) {
            faults.push(format!("{name}: {expression:?}"));
        }
    }
    none("licences that deny.toml does not allow", &faults);
}

#[test]
fn no_dependency_is_banned_or_comes_from_elsewhere() {
    let deny = deny();
    let banned = names(&deny["bans"]["deny"]);
    let mut faults = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        if banned.iter().any(|other| other == name) {
            faults.push(format!("{name} is banned"));
        }
        // A package of this workspace has no source.
        let source = package["source"].as_str().unwrap_or("registry+");
        if !source.starts_with("registry+") {
            faults.push(format!("{name} comes from {source}"));
        }
    }
    none("dependencies that deny.toml does not want", &faults);
}

/// True if the terms of an SPDX expression can be met with the licences in `allowed`. An old-style
/// `/` is an OR.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => {
            let met = any_of(words, allowed);
            words.next_if_eq(&")").is_some() && met
        }
        Some(licence) => match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => allowed.contains(&format!("{licence} WITH {exception}")),
            None => allowed.contains(licence),
        },
        None => false,
    }
}

#[test]
fn expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "Zlib"].map(String::from).into();
    for good in ["MIT", "Unlicense/MIT", "GPL-3.0 OR (MIT AND Zlib)", "Apache-2.0 WITH LLVM-exception OR MIT"]
    {
        assert!(permits(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT WITH GCC-exception", "(MIT", "MIT Zlib"] {
        assert!(!permits(bad, &allowed), "{bad}");
    }
}
