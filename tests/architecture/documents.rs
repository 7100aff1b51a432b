//! The documents say what is there.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use watchpost::config::Config;

use super::{none, read, root, sources};

fn documents() -> Vec<(String, String)> {
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];
    let top = top.map(|name| (name.to_string(), read(&root().join(name))));
    let docs = sources("docs", ".md").into_iter().map(|source| (source.path, source.text));
    top.into_iter().chain(docs).collect()
}

#[test]
fn every_key_of_the_configuration_is_described_with_its_default() {
    let text = read(&root().join("docs/configuration.md"));
    let table = toml::Table::try_from(Config::default()).expect("a configuration is TOML");
    let (mut faults, mut known) = (Vec::new(), Vec::new());
    for (section, keys) in &table {
        for (key, default) in keys.as_table().expect("a section") {
            let name = format!("`{section}.{key}`");
            let row = text.lines().find(|line| line.starts_with(&format!("| {name} |")));
            let default = match default {
                toml::Value::String(text) if text.is_empty() => "empty".to_string(),
                toml::Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            match row.map(|row| row.split('|').nth(2).unwrap_or_default().trim().replace(',', "")) {
                None => faults.push(format!("{name} is missing")),
                Some(shown) if shown != default => {
                    faults.push(format!("{name}: the default is {default}, not {shown}"));
                }
                Some(_) => {}
            }
            known.push(name);
        }
    }
    let mut rows = HashSet::new();
    for row in text.lines().filter(|line| line.starts_with("| `") && line.contains('.')) {
        let name = row.split('|').nth(1).unwrap_or_default().trim();
        if !rows.insert(name) {
            faults.push(format!("{name} is described twice"));
        }
        if !known.iter().any(|key| key == name) {
            faults.push(format!("{name} is no key"));
        }
    }
    none("docs/configuration.md", &faults);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut faults = Vec::new();
    for (name, text) in documents() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let from = root().join(&name);
            if !from.parent().unwrap_or(Path::new("")).join(file).exists() {
                faults.push(format!("{name}: {link}"));
            }
        }
    }
    none("links to files that are not there", &faults);
}

/// Lines of the fenced blocks, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2).filter(|block| block.starts_with("sh"));
    let blocks: Vec<String> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    blocks.iter().flat_map(|block| block.lines().skip(1)).map(|line| line.trim().to_string()).collect()
}

#[test]
fn the_commands_of_the_documents_exist() {
    let mut faults = Vec::new();
    let mut checked = 0;
    for (name, text) in documents() {
        for line in commands(&text) {
            for path in line.split_whitespace().filter(|word| word.starts_with("./")) {
                if !path.starts_with("./watchpost-data") && !root().join(path).exists() {
                    faults.push(format!("{name}: {path} is not there"));
                }
            }
            let line = line.split('#').next().unwrap_or_default();
            let Some((_, arguments)) = line.split_once("watchpost ") else { continue };
            if !line.starts_with("watchpost ") && !line.contains("/watchpost ") {
                continue;
            }
            checked += 1;
            faults.extend(unknown_arguments(arguments).map(|fault| format!("{name}: {line}: {fault}")));
        }
    }
    assert!(checked > 3, "the documents show no commands");
    none("commands that do not exist", &faults);
}

/// Asks the binary's own help about the subcommands and flags in `arguments`.
fn unknown_arguments(arguments: &str) -> Option<String> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let mut subcommands: Vec<&str> =
        words.iter().take(1).copied().filter(|word| !word.starts_with('-')).collect();
    if matches!(subcommands.first(), Some(&"bindings" | &"quarantine" | &"token")) {
        subcommands.extend(words.get(1).copied());
    }
    let help = Command::new(env!("CARGO_BIN_EXE_watchpost")).args(&subcommands).arg("--help").output();
    let help = help.expect("the binary runs");
    if !help.status.success() {
        return Some(String::from_utf8_lossy(&help.stderr).trim().to_string());
    }
    let help = String::from_utf8_lossy(&help.stdout).to_string();
    let flags = words.iter().filter(|word| word.starts_with("--"));
    let mut unknown = flags.filter(|flag| !help.contains(flag.split('=').next().unwrap_or(flag)));
    unknown.next().map(|flag| format!("no flag {flag}"))
}

#[test]
fn no_file_names_a_registry() {
    let hosts =
        [["crates", "io"], ["npmjs", "org"], ["npmjs", "com"], ["pypi", "org"]].map(|host| host.join("."));
    let mut files: Vec<(String, String)> = documents();
    for dir in ["src", "tests", "load", "migrations", ".ci", ".config"] {
        for ending in [".rs", ".toml", ".md", ".sql", "run", ".js", ".html"] {
            files.extend(sources(dir, ending).into_iter().map(|source| (source.path, source.text)));
        }
    }
    for name in ["Cargo.toml", "deny.toml", "clippy.toml", "tests/run"] {
        files.push((name.into(), read(&root().join(name))));
    }
    let faults: Vec<String> = files
        .iter()
        .filter(|(_, text)| hosts.iter().any(|host| text.contains(host.as_str())))
        .map(|(name, _)| name.clone())
        .collect();
    none("files that name a package registry", &faults);
}
