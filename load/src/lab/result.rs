//! A run as JSON: the schema is described in load/README.md, and `schema` grows with it.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::check::Check;
use super::figures::figure;
use super::ledger::PhaseBook;
use super::monitor::{Sample, rss_growth_mib, rss_slope_mib_per_h};
use super::request::Kind;
use super::scenario::{Phase, Scenario};
use super::shown::{Shown, shown};
use super::slo::Verdict;
use super::trial::Outcome;
use crate::machine;
use crate::stats::Latencies;

const SCHEMA: u64 = 1;

pub fn result(scenario: &Scenario, outcome: &Outcome, started: &DateTime<Utc>, work_dir: &Path) -> Value {
    let measured: Vec<bool> = scenario.phase.iter().map(|phase| !phase.warm_up).collect();
    let behaviours: Vec<_> = scenario.dashboards.iter().map(|group| group.behaviour).collect();
    let shown = shown(&outcome.ledger.critical, &outcome.watched, &measured, &behaviours);
    let mut total = PhaseBook::new();
    let mut all_screens = Latencies::new();
    let of_screens = shown.all_screens.iter().zip(&measured).filter(|(_, measured)| **measured);
    of_screens.for_each(|(latencies, _)| all_screens.merge(latencies));
    let mut measured_s = 0.0;
    for (phase, book) in scenario.phase.iter().zip(&outcome.ledger.phases).filter(|(phase, _)| !phase.warm_up)
    {
        total.merge(book);
        measured_s += phase.seconds;
    }
    let (cpu, memory) = usage(scenario, outcome);
    let mut result = json!({
        "schema": SCHEMA,
        "scenario": {
            "name": scenario.name,
            "about": scenario.about,
            "watches": scenario.watches + scenario.simulated_watches(),
            "simulated": scenario.simulated_watches(),
            "connections": scenario.connections() + scenario.simulated_watches(),
            "dashboards": scenario.screens(),
            "seconds": scenario.seconds(),
        },
        "started_at": started.to_rfc3339_opts(SecondsFormat::Millis, true),
        "watches_prefix": outcome.prefix,
        "commit": machine::commit(),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "own_server": outcome.own_server,
        "machine": machine::describe(work_dir),
        "ran_s": round(outcome.seconds),
        "total": part(&total, &shown.live, &all_screens, measured_s),
        "phases": phases(scenario, outcome, &shown),
        "by_kind": Kind::ALL
            .into_iter()
            .filter(|kind| outcome.ledger.successes_by_kind[*kind as usize] > 0)
            .map(|kind| (kind.name().to_owned(), json!(outcome.ledger.successes_by_kind[kind as usize])))
            .collect::<serde_json::Map<_, _>>(),
        "send_lag": outcome.ledger.lag.summary(Duration::from_secs_f64(outcome.seconds)).to_json(),
        "unsent": outcome.ledger.unsent,
        "dropped_from_rings": outcome.ledger.dropped,
        "repeated": outcome.ledger.repeated,
        "replayed_s": replayed_s(scenario, outcome),
        "simulated": outcome.ledger.simulated.map(|made| json!({
            "made": made.made,
            "answered_200": made.answered_200,
            "dropped_from_rings": made.dropped,
            "cleared_by_a_200": made.cleared,
            "waiting": made.waiting,
        })),
        "dashboards": dashboards(scenario, outcome, &shown),
        "cpu": cpu,
        "memory": memory,
        "checks": outcome.checks.iter().map(check_json).collect::<Vec<_>>(),
        "counts": {
            "stored": outcome.counts.stored,
            "stored_unanswered": outcome.counts.stored_unanswered,
            "critical_changes": outcome.counts.critical_changes,
            "pushed": outcome.counts.pushed,
            "resumed": outcome.counts.resumed,
            "gaps": outcome.counts.gaps,
        },
        "percentiles": {
            "latency_ms": curve(&total.latency),
            "service_ms": curve(&total.service),
            "screen_ms": curve(&shown.live),
        },
        "series": series(outcome, &shown),
    });
    let verdicts = scenario.slo.verdicts(|phase, name| figure(&result, phase, name));
    let kept = outcome.checks.iter().all(Check::ok);
    let met = verdicts.iter().all(Verdict::met);
    result["slo"] = verdicts.iter().map(verdict_json).collect();
    result["verdict"] = match (kept, met) {
        (false, _) => "failed".into(),
        (true, false) => "slo missed".into(),
        (true, true) => "passed".into(),
    };
    result
}

fn part(book: &PhaseBook, screen: &Latencies, all_screens: &Latencies, seconds: f64) -> Value {
    let over = Duration::from_secs_f64(seconds.max(f64::EPSILON));
    let all = book.successes + book.failed();
    let failures = book.failures.iter().map(|(failure, count)| (failure.name(), json!(count)));
    json!({
        "requests": all,
        "succeeded": book.successes,
        "requests_per_s": round(book.successes as f64 / over.as_secs_f64()),
        "success_percent": if all == 0 { Value::Null } else { json!(percent(book.successes, all)) },
        "failures": Value::Object(failures.collect()),
        "latency": book.latency.summary(over).to_json(),
        "service": book.service.summary(over).to_json(),
        "refused": book.refused.summary(over).to_json(),
        "screen": screen.summary(over).to_json(),
        "all_screens": all_screens.summary(over).to_json(),
    })
}

/// Never rounded up to 100.
fn percent(some: u64, all: u64) -> f64 {
    (some as f64 / all as f64 * 1e6).floor() / 1e4
}

fn phases(scenario: &Scenario, outcome: &Outcome, shown: &Shown) -> Value {
    let mut begin_s = 0.0;
    let mut phases = Vec::new();
    for (index, phase) in scenario.phase.iter().enumerate() {
        let book = &outcome.ledger.phases[index];
        let mut value = part(book, &shown.phases[index], &shown.all_screens[index], phase.seconds);
        let end_s = begin_s + phase.seconds;
        value["offered_per_s"] = json!(book.offered_per_s.map(round));
        value["server_rss_growth_mib"] = json!(rss_growth_mib(&outcome.samples, begin_s, end_s).map(round));
        value["name"] = json!(phase.name);
        value["warm_up"] = json!(phase.warm_up);
        value["outage"] = json!(phase.outage);
        value["begin_s"] = json!(round(begin_s));
        value["seconds"] = json!(round(phase.seconds));
        value["load"] = json!(load(phase, book.offered_per_s));
        begin_s = end_s;
        phases.push(value);
    }
    phases.into()
}

/// What a phase sends, in words.
fn load(phase: &Phase, offered_per_s: Option<f64>) -> String {
    let load = match (offered_per_s, phase.rate_to, phase.closed) {
        (Some(from), Some(to), _) => format!("{from:.0} to {to:.0}/s"),
        (Some(rate), None, _) => format!("{rate:.0}/s"),
        (None, _, Some(1)) => "closed loop, 1 connection".into(),
        (None, _, Some(closed)) => format!("closed loop, {closed} connections"),
        (None, _, None) => "simulated watches alone".into(),
    };
    if phase.outage { format!("outage, {load} into the rings") } else { load }
}

/// From the end of the last outage until the last ring was empty.
fn replayed_s(scenario: &Scenario, outcome: &Outcome) -> Option<f64> {
    let last = scenario.phase.iter().rposition(|phase| phase.outage)?;
    let end_s: f64 = scenario.phase[..=last].iter().map(|phase| phase.seconds).sum();
    let drained = outcome.ledger.unsent == 0;
    outcome.ledger.replayed_ns.filter(|_| drained).map(|at| round((at as f64 / 1e9 - end_s).max(0.0)))
}

fn dashboards(scenario: &Scenario, outcome: &Outcome, shown: &Shown) -> Value {
    let groups = scenario.dashboards.iter().enumerate().map(|(group, screens)| {
        let lives: Vec<_> = outcome.watched.lives.iter().filter(|life| life.group == group).collect();
        let mut closes = std::collections::BTreeMap::<String, u64>::new();
        for (code, count) in lives.iter().flat_map(|life| &life.closes) {
            *closes.entry(code.to_string()).or_default() += u64::from(*count);
        }
        json!({
            "behaviour": format!("{:?}", screens.behaviour).to_lowercase(),
            "count": screens.count,
            "connections": lives.iter().map(|life| u64::from(life.connections)).sum::<u64>(),
            "pushed": lives.iter().map(|life| life.seen.len() as u64).sum::<u64>(),
            "gaps": lives.iter().map(|life| life.gaps.len() as u64).sum::<u64>(),
            "closed_by_server": closes,
            "screen": shown.groups[group].summary(Duration::from_secs_f64(outcome.seconds)).to_json(),
        })
    });
    groups.collect()
}

/// CPU and memory: percent of one core over the phases that count.
fn usage(scenario: &Scenario, outcome: &Outcome) -> (Value, Value) {
    let mut spans = Vec::new();
    let mut at_s = 0.0;
    for phase in &scenario.phase {
        let end_s = at_s + phase.seconds;
        if !phase.warm_up {
            spans.push((at_s, end_s));
        }
        at_s = end_s;
    }
    // A sample is of the second before it.
    let measured: Vec<&Sample> = outcome
        .samples
        .iter()
        .filter(|sample| spans.iter().any(|(from, to)| sample.at_s > from + 0.5 && sample.at_s < to + 0.5))
        .collect();
    let mean = |of: fn(&Sample) -> f64, whole_s: f64| match measured.len() {
        0 => whole_s / outcome.seconds * 100.0,
        count => measured.iter().map(|sample| of(sample)).sum::<f64>() / count as f64,
    };
    let server = mean(|sample| sample.server_cpu_percent, outcome.cpu.server_s);
    let known = |value: f64| if outcome.rss_mib.is_some() { json!(round(value)) } else { Value::Null };
    let generator = mean(|sample| sample.generator_cpu_percent, outcome.cpu.generator_s);
    let from_s = spans.first().map_or(0.0, |span| span.0);
    let cpu = json!({
        "server_percent": known(server),
        "generator_percent": round(generator),
        "server_s": known(outcome.cpu.server_s),
        "generator_s": round(outcome.cpu.generator_s),
    });
    let memory = json!({
        "server_rss_peak_mib": outcome.rss_mib.map(|rss| round(rss.0)),
        "server_rss_end_mib": outcome.rss_mib.map(|rss| round(rss.1)),
        "server_rss_slope_mib_per_h": rss_slope_mib_per_h(&outcome.samples, from_s).map(round),
    });
    (cpu, memory)
}

fn curve(latencies: &Latencies) -> Value {
    if latencies.is_empty() {
        return json!([]);
    }
    latencies
        .curve()
        .into_iter()
        .map(|(quantile, ms)| json!([(quantile * 1e6).round() / 1e6, round(ms)]))
        .collect()
}

fn series(outcome: &Outcome, shown: &Shown) -> Value {
    let seconds = &outcome.ledger.seconds;
    let ms = |value: f32| round(f64::from(value));
    let latency = |value: f32, answered: u32| if answered == 0 { Value::Null } else { json!(ms(value)) };
    let screen = |index: usize| -> Vec<Value> {
        seconds
            .iter()
            .map(|second| shown.seconds.get(&second.second).map_or(Value::Null, |at| json!(ms(at[index]))))
            .collect()
    };
    let samples = &outcome.samples;
    json!({
        "second": seconds.iter().map(|second| second.second).collect::<Vec<_>>(),
        "answered": seconds.iter().map(|second| second.answered).collect::<Vec<_>>(),
        "failed": seconds.iter().map(|second| second.failed).collect::<Vec<_>>(),
        "p50_ms": seconds.iter().map(|second| latency(second.p50_ms, second.answered)).collect::<Vec<_>>(),
        "p90_ms": seconds.iter().map(|second| latency(second.p90_ms, second.answered)).collect::<Vec<_>>(),
        "p99_ms": seconds.iter().map(|second| latency(second.p99_ms, second.answered)).collect::<Vec<_>>(),
        "max_ms": seconds.iter().map(|second| latency(second.max_ms, second.answered)).collect::<Vec<_>>(),
        "screen_p50_ms": screen(0),
        "screen_p99_ms": screen(1),
        "screen_max_ms": screen(2),
        "sample_s": samples.iter().map(|sample| round(sample.at_s)).collect::<Vec<_>>(),
        "server_cpu_percent": samples.iter().map(|sample| round(sample.server_cpu_percent)).collect::<Vec<_>>(),
        "generator_cpu_percent":
            samples.iter().map(|sample| round(sample.generator_cpu_percent)).collect::<Vec<_>>(),
        "server_rss_mib": samples.iter().map(|sample| round(sample.server_rss_mib)).collect::<Vec<_>>(),
        "pushes": samples.iter().map(|sample| sample.pushes).collect::<Vec<_>>(),
        "dashboards": samples.iter().map(|sample| sample.screens).collect::<Vec<_>>(),
    })
}

fn check_json(check: &Check) -> Value {
    json!({
        "name": check.name,
        "ok": check.ok(),
        "compared": check.compared,
        "broken": check.broken,
        "first": check.first,
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    json!({
        "figure": verdict.figure,
        "limit": verdict.limit.map(round),
        "relative": verdict.relative,
        "at_most": verdict.at_most,
        "value": verdict.value,
        "met": verdict.met(),
    })
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_in_a_million_is_not_100_percent() {
        assert!(percent(9_999_999, 10_000_000) < 100.0);
        assert_eq!(percent(10, 10), 100.0);
    }
}
