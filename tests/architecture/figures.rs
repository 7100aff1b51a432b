//! The documents about metrics, the dashboard and the alert rules name what there is.

use std::collections::BTreeSet;

use serde_json::Value;
use watchpost::telemetry::Metrics;
use yaml_rust2::{Yaml, YamlLoader};

use super::{none, read, root};

fn metrics() -> BTreeSet<String> {
    Metrics::described().into_iter().map(|(name, _)| name).collect()
}

/// What begins like a metric in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let in_name = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
    let starts = text.match_indices("watchpost_").filter(|(at, _)| !text[..*at].ends_with(in_name));
    starts
        .map(|(at, _)| {
            let rest = &text[at..];
            &rest[..rest.find(|char: char| !in_name(char)).unwrap_or(rest.len())]
        })
        .collect()
}

fn exists(name: &str, metrics: &BTreeSet<String>) -> bool {
    let series = ["", "_bucket", "_sum", "_count"];
    series.into_iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|name| metrics.contains(name)))
}

#[test]
fn every_metric_is_described_once() {
    let docs = read(&root().join("docs/operations.md"));
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: Vec<&str> = rows.filter(|name| name.starts_with("watchpost_")).collect();
    let metrics = metrics();
    let missing = metrics.iter().filter(|name| rows.iter().filter(|row| row == name).count() != 1);
    let missing = missing.map(|name| format!("{name} has not one row"));
    let unknown = rows.iter().filter(|name| !metrics.contains(**name));
    let unknown = unknown.map(|name| format!("{name} is no metric"));
    none("docs/operations.md", &missing.chain(unknown).collect::<Vec<_>>());
}

#[test]
fn nothing_names_a_metric_that_is_not_there() {
    let metrics = metrics();
    let mut faults = Vec::new();
    let files =
        ["README.md", "ARCHITECTURE.md", "docs/watch-api.md", "docs/operations.md", "docs/performance.md"];
    for file in files.into_iter().chain(["docs/grafana-dashboard.json", "docs/alert-rules.yml"]) {
        let text = read(&root().join(file));
        let unknown = named(&text).into_iter().filter(|name| !exists(name, &metrics));
        faults.extend(unknown.map(|name| format!("{file}: {name}")));
    }
    none("metrics that do not exist", &faults);
}

#[test]
fn the_dashboard_shows_every_metric_from_a_source_that_one_chooses() {
    let text = read(&root().join("docs/grafana-dashboard.json"));
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert!(variables.iter().any(|variable| variable["type"] == "datasource"), "{variables:?}");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    let mut expressions = String::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        if !ids.insert(panel["id"].as_u64().expect("an id")) {
            faults.push(format!("{title}: its id is taken"));
        }
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().expect("queries");
        for target in targets {
            if target["datasource"]["uid"] != "${datasource}" {
                faults.push(format!("{title}: a fixed source"));
            }
            let expr = target["expr"].as_str().expect("a query");
            faults.extend(unbalanced(expr).map(|fault| format!("{title}: {fault}: {expr}")));
            expressions.push_str(expr);
            expressions.push('\n');
        }
    }
    let shown = named(&expressions);
    let series =
        |name: &String| shown.iter().any(|shown| *shown == name || shown.starts_with(&format!("{name}_")));
    faults.extend(metrics().iter().filter(|name| !series(name)).map(|name| format!("{name} has no panel")));
    none("docs/grafana-dashboard.json", &faults);
}

/// What `promtool check rules` would refuse first.
fn unbalanced(expr: &str) -> Option<String> {
    let mut open = Vec::new();
    let mut quoted = false;
    for char in expr.chars() {
        match char {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => open.push(char),
            ')' | ']' | '}' => {
                let opened = open.pop();
                if !matches!((opened, char), (Some('('), ')') | (Some('['), ']') | (Some('{'), '}')) {
                    return Some(format!("{char} closes {opened:?}"));
                }
            }
            _ => {}
        }
    }
    (quoted || !open.is_empty()).then(|| "something is not closed".into())
}

fn text<'a>(yaml: &'a Yaml, what: &str) -> &'a str {
    yaml.as_str().unwrap_or_else(|| panic!("{what} is a text, not {yaml:?}"))
}

#[test]
fn alert_rules_say_what_is_wrong_and_what_to_do() {
    let rules = read(&root().join("docs/alert-rules.yml"));
    let rules = YamlLoader::load_from_str(&rules).expect("YAML");
    let operations = read(&root().join("docs/operations.md"));
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for group in rules[0]["groups"].as_vec().expect("groups") {
        for rule in group["rules"].as_vec().expect("rules") {
            let name = text(&rule["alert"], "alert");
            if !names.insert(name.to_owned()) {
                faults.push(format!("{name} is there twice"));
            }
            faults.extend(unbalanced(text(&rule["expr"], name)).map(|fault| format!("{name}: {fault}")));
            let severity = text(&rule["labels"]["severity"], name);
            if !["warning", "critical"].contains(&severity) {
                faults.push(format!("{name}: severity {severity}"));
            }
            let summary = text(&rule["annotations"]["summary"], name);
            if !summary.contains("{{ $labels.instance }}") {
                faults.push(format!("{name}: the summary does not say which server"));
            }
            text(&rule["annotations"]["description"], name);
            if !operations.contains(&format!("| `{name}` |")) {
                faults.push(format!("{name} is not in docs/operations.md"));
            }
        }
    }
    assert!(names.len() >= 10, "the rules were not found: {names:?}");
    none("docs/alert-rules.yml", &faults);
}

#[test]
fn names_are_found_in_texts() {
    let text = "rate(watchpost_a_total[5m]) / x_watchpost_b + `watchpost_c_bucket{le=\"1\"}`";
    assert_eq!(named(text).into_iter().collect::<Vec<_>>(), ["watchpost_a_total", "watchpost_c_bucket"]);
    assert!(unbalanced("sum(rate(a{b=\")\"}[5m]))").is_none());
    assert!(unbalanced("sum(rate(a[5m))").is_some() && unbalanced("sum(a").is_some());
    assert!(exists("watchpost_batch_rows_sum", &metrics()) && !exists("watchpost_made_up", &metrics()));
}
