//! A result for the terminal.

use std::fmt::Write;

use serde_json::Value;

use super::compare::pairs;
use super::figures::{figure, phases};

/// `old`: an earlier result, for ratios.
pub fn table(result: &Value, old: Option<&Value>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut out, result, old);
    out
}

fn write_table(out: &mut String, result: &Value, old: Option<&Value>) -> std::fmt::Result {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let scenario = &result["scenario"];
    let machine = &result["machine"];
    writeln!(out, "{}: {}", text(&scenario["name"]), text(&scenario["about"]))?;
    writeln!(
        out,
        "{} watches, {} connections, {} dashboards, {:.0} s; commit {} ({}); {} cores, {}, {}\n",
        scenario["watches"],
        scenario["connections"],
        scenario["dashboards"],
        scenario["seconds"].as_f64().unwrap_or_default(),
        text(&result["commit"]),
        text(&result["profile"]),
        machine["cores"],
        text(&machine["cpu"]),
        text(&machine["file_system"]),
    )?;
    const COLUMNS: [(&str, &str); 9] = [
        ("requests_per_s", "requests/s"),
        ("success_percent", "success %"),
        ("mean_ms", "mean ms"),
        ("p50_ms", "p50"),
        ("p95_ms", "p95"),
        ("p99_ms", "p99"),
        ("max_ms", "max"),
        ("screen_p50_ms", "screen p50"),
        ("screen_p99_ms", "screen p99"),
    ];
    write!(out, "{:<12}", "")?;
    for (_, title) in COLUMNS {
        write!(out, "{title:>12}")?;
    }
    writeln!(out)?;
    let names = phases(result);
    let rows = names.iter().map(|name| Some(*name)).filter(|_| names.len() > 1).chain([None]);
    for phase in rows {
        write!(out, "{:<12.12}", phase.unwrap_or("all"))?;
        for (name, _) in COLUMNS {
            match figure(result, phase, name) {
                Some(value) => write!(out, "{:>12}", number(value))?,
                None => write!(out, "{:>12}", "-")?,
            }
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    let (cpu, memory) = (&result["cpu"], &result["memory"]);
    let value = |value: &Value| value.as_f64().map_or("-".to_owned(), number);
    writeln!(
        out,
        "server      {} % of one core, {} MiB resident at most, {} at the end{}",
        value(&cpu["server_percent"]),
        value(&memory["server_rss_peak_mib"]),
        value(&memory["server_rss_end_mib"]),
        match memory["server_rss_slope_mib_per_h"].as_f64() {
            Some(slope) => format!(", {} MiB an hour", number(slope)),
            None => String::new(),
        },
    )?;
    writeln!(
        out,
        "generator   {} % of one core; requests left {} ms late (p99)",
        value(&cpu["generator_percent"]),
        value(&result["send_lag"]["p99_ms"]),
    )?;
    if let Some(seconds) = result["replayed_s"].as_f64() {
        writeln!(out, "rings       empty after {} s", number(seconds))?;
    }
    for (name, count) in result["total"]["failures"].as_object().into_iter().flatten() {
        writeln!(out, "failed      {count} requests: {name}")?;
    }
    for (title, name) in [("unsent", "unsent"), ("dropped", "dropped_from_rings")] {
        if let Some(count) = result[name].as_u64().filter(|count| *count > 0) {
            writeln!(out, "{title:<12}{count} uploads")?;
        }
    }
    if let Some(made) = result["simulated"].as_object() {
        writeln!(
            out,
            "simulated   {} watches made {} reports, {} answered 200; {} waiting; gone without a 200: {} from full \
             rings, {} emptied by the 200 for another",
            scenario["simulated"],
            made["made"],
            made["answered_200"],
            made["waiting"],
            made["dropped_from_rings"],
            made["cleared_by_a_200"],
        )?;
    }
    let counts = &result["counts"];
    writeln!(
        out,
        "stored      {} uploads, {} of them without a 200; {} alert frames pushed, {} after a reconnect, {} gaps\n",
        counts["stored"], counts["stored_unanswered"], counts["pushed"], counts["resumed"], counts["gaps"],
    )?;
    for check in result["checks"].as_array().into_iter().flatten() {
        let mark = if check["ok"] == true { "ok    " } else { "BROKEN" };
        writeln!(out, "{mark}  {} ({} compared)", text(&check["name"]), check["compared"])?;
        if check["ok"] != true {
            writeln!(out, "        {} are not; the first:", check["broken"])?;
            for id in check["first"].as_array().into_iter().flatten() {
                writeln!(out, "        {}", text(id))?;
            }
        }
    }
    for verdict in result["slo"].as_array().into_iter().flatten() {
        let mark = if verdict["met"] == true { "ok    " } else { "MISSED" };
        let sign = if verdict["at_most"] == true { "<=" } else { ">=" };
        let limit = value(&verdict["limit"]);
        let why = verdict["relative"].as_str().map_or(String::new(), |words| format!(" ({words})"));
        let (figure, is) = (text(&verdict["figure"]), value(&verdict["value"]));
        writeln!(out, "{mark}  {figure} {sign} {limit}{why}: {is}")?;
    }
    if let Some(old) = old {
        write_comparison(out, result, old)?;
    }
    writeln!(out, "\n{}", text(&result["verdict"]))
}

fn write_comparison(out: &mut String, result: &Value, old: &Value) -> std::fmt::Result {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    writeln!(out, "\ncompared with {} of {}", text(&old["commit"]), text(&old["started_at"]))?;
    let names = phases(result);
    let parts = [None].into_iter().chain(names.iter().map(|name| Some(*name)).filter(|_| names.len() > 1));
    for phase in parts {
        for pair in pairs(old, result, phase) {
            let name = phase.map_or_else(|| pair.name.to_owned(), |phase| format!("{phase}.{}", pair.name));
            let ratio = pair.ratio.map_or("-".to_owned(), |ratio| format!("x {ratio:.2}"));
            let mark = match pair.better {
                Some(true) => "better",
                Some(false) => "worse",
                None => "",
            };
            writeln!(out, "{name:<34}{:>12}{:>12}{ratio:>10}  {mark}", number(pair.old), number(pair.new))?;
        }
    }
    Ok(())
}

/// Three digits, or all before the point.
pub fn number(value: f64) -> String {
    match value.abs() {
        abs if abs >= 100.0 => format!("{value:.0}"),
        abs if abs >= 10.0 => format!("{value:.1}"),
        0.0 => "0".into(),
        _ => format!("{value:.2}"),
    }
}
