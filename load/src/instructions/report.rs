//! Instructions per event, whether they grow, and which functions they are in.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::InstructionsArgs;
use super::callgrind::Profile;
use crate::turns::profile as build_profile;

/// The cost of an event in the second half of a run may be this many times that in the first.
const GROWTH_MAX: f64 = 1.1;

pub struct Run {
    pub events: u64,
    pub profile: Profile,
}

pub struct Report {
    /// N, 2 N and 4 N events.
    pub runs: Vec<Run>,
    pub commit: String,
    pub machine: Value,
}

/// What code is about, by its name or its file's. The first that fits counts.
const AREAS: [(&str, &[&str]); 8] = [
    ("SQLite", &["sqlite3.c:", "sqlite3"]),
    ("diesel", &["diesel"]),
    ("allocator", &["mi_", "mimalloc", "alloc.rs:", "malloc", "free"]),
    ("copying and comparing memory", &["mem", "str"]),
    ("JSON", &["serde", "json", "watchpost::wire"]),
    ("HTTP", &["actix_http", "actix_web", "httparse", "http::", "actix_router", "actix_service"]),
    ("runtime and actors", &["tokio", "mio", "actix", "futures", "std::sync", "parking_lot", "crossbeam"]),
    ("watchpost", &["watchpost"]),
];

impl Report {
    /// Instructions per further event between two runs in a row.
    fn per_event(&self) -> Vec<f64> {
        let between = |pair: &[Run]| {
            let more = pair[1].profile.total.saturating_sub(pair[0].profile.total);
            more as f64 / pair[1].events.saturating_sub(pair[0].events).max(1) as f64
        };
        self.runs.windows(2).map(between).collect()
    }

    /// How many times more an event costs between the longest runs than between the shortest.
    fn growth(&self) -> f64 {
        let costs = self.per_event();
        let (first, last) = (costs.first().copied(), costs.last().copied());
        last.unwrap_or_default() / first.unwrap_or_default().max(f64::EPSILON)
    }

    pub fn is_linear(&self) -> bool {
        self.growth() <= GROWTH_MAX
    }

    /// Instructions per event of each function, between the shortest and the longest run; most first.
    fn functions(&self) -> Vec<(String, f64)> {
        let (Some(first), Some(last)) = (self.runs.first(), self.runs.last()) else { return Vec::new() };
        let events = last.events.saturating_sub(first.events).max(1) as f64;
        let before = |name: &str| first.profile.functions.get(name).copied().unwrap_or_default();
        let mut functions: Vec<(String, f64)> = last
            .profile
            .functions
            .iter()
            .map(|(name, count)| (name.clone(), (*count as f64 - before(name) as f64) / events))
            .collect();
        functions.sort_by(|left, right| right.1.total_cmp(&left.1));
        functions
    }

    fn areas(&self) -> Vec<(&'static str, f64)> {
        let mut areas: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (name, count) in self.functions() {
            *areas.entry(area(&name)).or_default() += count;
        }
        let mut areas: Vec<_> = areas.into_iter().collect();
        areas.sort_by(|left, right| right.1.total_cmp(&left.1));
        areas
    }

    pub fn to_json(&self, args: &InstructionsArgs) -> Value {
        let named = |(name, count): (String, f64)| json!({ "name": name, "per_event": count.round() });
        json!({
            "machine": self.machine,
            "commit": self.commit,
            "profile": build_profile(),
            "arguments": {
                "events": args.events,
                "body": args.body.name(),
                "connections": args.connections,
                "devices": args.devices,
            },
            "runs": self.runs.iter().map(|run| json!({
                "events": run.events,
                "instructions": run.profile.total,
            })).collect::<Vec<_>>(),
            "per_event": self.per_event().into_iter().map(f64::round).collect::<Vec<_>>(),
            "growth": (self.growth() * 1_000.0).round() / 1_000.0,
            "linear": self.is_linear(),
            "areas": self.areas().into_iter().map(|(name, count)| named((name.to_owned(), count))).collect::<Vec<_>>(),
            "functions": self.functions().into_iter().take(args.top as usize).map(named).collect::<Vec<_>>(),
        })
    }

    pub fn table(&self, args: &InstructionsArgs) -> String {
        let mut out = String::new();
        self.write_table(&mut out, args).expect("writing to a string cannot fail");
        out
    }

    fn write_table(&self, out: &mut String, args: &InstructionsArgs) -> std::fmt::Result {
        writeln!(
            out,
            "commit {} ({}); {} bodies, {} connections, {} devices\n",
            self.commit,
            build_profile(),
            args.body.name(),
            args.connections,
            args.devices
        )?;
        writeln!(out, "{:>10}{:>20}{:>26}", "events", "instructions", "per further event")?;
        let costs = [None].into_iter().chain(self.per_event().into_iter().map(Some));
        for (run, cost) in self.runs.iter().zip(costs) {
            let cost = cost.map_or(String::new(), |cost| format!("{cost:.0}"));
            writeln!(out, "{:>10}{:>20}{cost:>26}", run.events, run.profile.total)?;
        }
        let (mark, growth) = (if self.is_linear() { "ok    " } else { "MISSED" }, self.growth());
        writeln!(out, "\n{mark}  cost per event grows by at most {GROWTH_MAX}: {growth:.3}\n")?;
        let whole = self.functions().iter().map(|(_, count)| count).sum::<f64>().max(f64::EPSILON);
        let share = |count: f64| count / whole * 100.0;
        writeln!(out, "per event, between the shortest run and the longest, by what the code is about:")?;
        for (name, count) in self.areas() {
            writeln!(out, "{count:>12.0}{:>8.1} %  {name}", share(count))?;
        }
        writeln!(out, "\nby function, without what it calls:")?;
        for (name, count) in self.functions().into_iter().take(args.top as usize) {
            writeln!(out, "{count:>12.0}{:>8.1} %  {name:.120}", share(count))?;
        }
        Ok(())
    }
}

fn area(name: &str) -> &'static str {
    let function = name.split_once(':').map_or(name, |(_, function)| function);
    let fits = |pattern: &&str| match *pattern {
        // The whole name, or it would be found in everything.
        "mem" | "str" => {
            let plain = function.trim_start_matches('_');
            plain.starts_with(*pattern) && !plain.contains("::")
        }
        "free" | "malloc" => function == *pattern,
        _ => name.contains(*pattern),
    };
    AREAS.iter().find(|(_, patterns)| patterns.iter().any(fits)).map_or("other", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(events: u64, per_event: u64, start: u64) -> Run {
        let functions = BTreeMap::from([
            ("sqlite3.c:sqlite3VdbeExec".to_owned(), start + events * per_event),
            ("ld.so:start".to_owned(), start),
        ]);
        Run { events, profile: Profile { total: 2 * start + events * per_event, functions } }
    }

    fn report(runs: Vec<Run>) -> Report {
        Report { runs, commit: String::new(), machine: Value::Null }
    }

    #[test]
    fn the_start_cancels_out() {
        let report = report(vec![run(100, 7, 9_000), run(200, 7, 9_000), run(400, 7, 9_000)]);
        assert_eq!(report.per_event(), [7.0, 7.0]);
        assert!(report.is_linear());
        assert_eq!(report.functions()[0], ("sqlite3.c:sqlite3VdbeExec".to_owned(), 7.0));
        assert_eq!(report.areas()[0], ("SQLite", 7.0));
    }

    #[test]
    fn cost_that_grows_with_what_is_stored_is_a_miss() {
        assert!(!report(vec![run(100, 7, 9_000), run(200, 7, 9_000), run(400, 9, 9_000)]).is_linear());
    }

    #[test]
    fn code_is_told_apart_by_its_name() {
        for (name, expected) in [
            ("???:__memcpy_avx_unaligned_erms", "copying and comparing memory"),
            ("mod.rs:core::mem::swap", "other"),
            ("de.rs:serde_json::de::Deserializer<R>::parse", "JSON"),
            ("h1.rs:actix_http::h1::decoder", "HTTP"),
            ("shard.rs:watchpost::device::shard::Shard::take", "watchpost"),
        ] {
            assert_eq!(area(name), expected, "{name}");
        }
    }
}
