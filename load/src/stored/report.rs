//! What a run of `stored` found, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::StoredArgs;
use super::pages::Page;
use crate::bench::verify;
use crate::stats::median;

/// Of the inserts per second into an empty database, this share is left in a full one.
const RATIO_MIN: f64 = 0.8;
/// Of a first page, milliseconds.
pub const PAGE_P99_MS_MAX: f64 = 10.0;

/// How a database was filled.
#[derive(Debug, Default)]
pub struct Filled {
    /// Of each piece.
    pub per_s: Vec<f64>,
    pub took: Duration,
}

#[derive(Debug, Default)]
pub struct Report {
    pub machine: Value,
    pub commit: String,
    pub filled: Filled,
    /// Events before the rounds.
    pub rows: u64,
    /// Events in the empty one after them.
    pub empty_rows: u64,
    pub empty_per_s: Vec<f64>,
    pub full_per_s: Vec<f64>,
    pub pages: Vec<Page>,
    /// At the end, with its log.
    pub database_bytes: u64,
    pub rss_kib: u64,
    pub verified: Value,
}

impl Report {
    /// Full by empty: medians of the rounds.
    fn ratio(&self) -> f64 {
        median(&self.full_per_s) / median(&self.empty_per_s).max(f64::EPSILON)
    }

    /// Name, value, limit, whether at most, and whether it is met.
    fn verdicts(&self) -> Vec<(String, f64, f64, bool, bool)> {
        let ratio = self.ratio();
        let mut verdicts = vec![("full / empty".to_owned(), ratio, RATIO_MIN, false, ratio >= RATIO_MIN)];
        for page in self.pages.iter().filter(|page| page.is_required) {
            let p99 = page.latency.p99_ms;
            let name = format!("first page of {}, p99 ms", page.name);
            verdicts.push((name, p99, PAGE_P99_MS_MAX, true, p99 < PAGE_P99_MS_MAX));
        }
        verdicts
    }

    pub fn is_met(&self) -> bool {
        self.verdicts().iter().all(|(.., is_met)| *is_met)
    }

    pub fn to_json(&self, args: &StoredArgs) -> Value {
        let more = json!({ "rows": args.rows, "pages": args.pages });
        let mut json = args.turns.to_json(&self.commit, &self.machine, "event", &more);
        json["filled"] = json!({
            "events": self.rows,
            "seconds": round(self.filled.took.as_secs_f64()),
            "per_s": self.filled.per_s.iter().map(|rate| rate.round()).collect::<Vec<_>>(),
        });
        let rates = |rates: &[f64]| json!({ "rounds": rates.iter().map(|rate| rate.round()).collect::<Vec<_>>(), "median": median(rates).round() });
        json["inserts_per_s"] = json!({
            "empty": rates(&self.empty_per_s),
            "full": rates(&self.full_per_s),
            "ratio": round(self.ratio()),
        });
        json["empty_events_at_the_end"] = json!(self.empty_rows);
        json["pages"] = self
            .pages
            .iter()
            .map(|page| json!({ "name": page.name, "items": page.items, "latency": page.latency.to_json() }))
            .collect();
        json["database_bytes"] = json!(self.database_bytes);
        json["resident_max_kib"] = json!(self.rss_kib);
        json["verified"] = self.verified.clone();
        json["slo"] = self
            .verdicts()
            .into_iter()
            .map(|(figure, value, limit, at_most, met)| {
                json!({ "figure": figure, "value": round(value), "limit": limit, "at_most": at_most, "met": met })
            })
            .collect();
        json
    }

    pub fn table(&self, args: &StoredArgs) -> String {
        let mut out = args.turns.head(&self.commit, &self.machine, "event");
        self.write_table(&mut out).expect("writing to a string cannot fail");
        out
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let per_event = self.database_bytes as f64
            / self.verified["compared"]["events"]["stored"].as_f64().unwrap_or(1.0);
        let pieces = &self.filled.per_s;
        writeln!(
            out,
            "filled      {} events in {:.0} s through the server, by HTTP: {:.0}/s at first, {:.0}/s at last",
            self.rows,
            self.filled.took.as_secs_f64(),
            pieces.first().copied().unwrap_or_default(),
            pieces.iter().rev().nth(1).or(pieces.last()).copied().unwrap_or_default(),
        )?;
        writeln!(
            out,
            "database    {:.2} GiB with its log, {per_event:.0} bytes an event; {:.0} MiB resident at most\n",
            self.database_bytes as f64 / f64::from(1 << 30),
            self.rss_kib as f64 / 1_024.0,
        )?;
        for (name, rates) in [("empty", &self.empty_per_s), ("full", &self.full_per_s)] {
            let rounds: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
            writeln!(out, "{name:<12}{:.0} inserts/s ({})", median(rates), rounds.join(", "))?;
        }
        writeln!(out, "            the empty one had {} events in the end\n", self.empty_rows)?;
        for page in &self.pages {
            let Page { name, items, latency, .. } = page;
            writeln!(
                out,
                "{name:<20}{items:>4} items   median {:.2} ms   p99 {:.2} ms   max {:.2} ms",
                latency.p50_ms, latency.p99_ms, latency.max_ms
            )?;
        }
        writeln!(out)?;
        write!(out, "{}", verify::compared_lines(&self.verified))?;
        for (name, value, limit, at_most, is_met) in self.verdicts() {
            let (mark, sign) = (if is_met { "ok    " } else { "MISSED" }, if at_most { "<" } else { ">=" });
            writeln!(out, "{mark}  {name} {sign} {limit}: {value:.2}")?;
        }
        Ok(())
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Summary;

    fn report(full: f64, p99_ms: f64) -> Report {
        let latency = Summary { p99_ms, ..Summary::default() };
        let page = |is_required| Page { name: "alerts", is_required, items: 50, latency };
        Report {
            empty_per_s: vec![100.0, 300.0, 200.0],
            full_per_s: vec![full],
            pages: vec![page(true)],
            ..Report::default()
        }
    }

    #[test]
    fn a_slow_insert_or_a_slow_page_is_a_miss() {
        assert!((report(160.0, 9.9).ratio() - 0.8).abs() < 1e-9);
        assert!(report(160.0, 9.9).is_met());
        assert!(!report(159.0, 9.9).is_met());
        assert!(!report(200.0, 10.0).is_met());
        let mut other = report(200.0, 10.0);
        other.pages[0].is_required = false;
        assert!(other.is_met(), "a list without a limit");
    }
}
