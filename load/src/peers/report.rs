//! What a run of peers found, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use super::PeersArgs;
use super::target::{Name, Stored};
use crate::body::{Kind, Workload};
use crate::stats::{Answers, Latencies, Summary, median};

#[derive(Debug, Default)]
pub struct Report {
    pub machine: Value,
    pub commit: String,
    pub measured: Vec<Measured>,
}

/// One target.
#[derive(Debug)]
pub struct Measured {
    pub name: Name,
    /// Why it is not there, or not to the end.
    pub failed: Option<String>,
    pub rounds: Vec<RoundReport>,
}

#[derive(Debug)]
pub struct RoundReport {
    pub summary: Summary,
    pub latencies: Latencies,
    pub elapsed: Duration,
    /// Warm-up included, as in `answers` and in what is stored.
    pub ran: Duration,
    pub answers: Answers,
    /// CPU seconds of the measured part.
    pub cpu_s: f64,
    pub generator_cpu_s: f64,
    pub resident_kib: u64,
    pub database_connections: Option<u64>,
    /// Since the last round, when the last answer was there.
    pub stored_at_once: Option<Stored>,
    /// The same when the target had come to rest.
    pub stored: Option<Stored>,
    pub rested: bool,
}

impl RoundReport {
    fn answered(&self) -> u64 {
        self.answers.stored(&Kind::ALL)
    }

    /// Answered 200 and not stored, as far as it is known.
    fn lost(&self, stored: Option<Stored>) -> Option<u64> {
        // Every event brings a health record.
        stored.map(|stored| self.answered().saturating_sub(stored.events.min(stored.vitals)))
    }

    fn to_json(&self) -> Value {
        let stored = |stored: Option<Stored>| {
            stored.map(|stored| json!({ "events": stored.events, "vitals": stored.vitals }))
        };
        json!({
            "latency": self.summary.to_json(),
            "elapsed_s": rounded(self.elapsed.as_secs_f64()),
            "ran_s": rounded(self.ran.as_secs_f64()),
            "answered_200": self.answered(),
            "not_answered_200": self.answers.failures_json(),
            "cpu_s": rounded(self.cpu_s),
            "cpu_generator_s": rounded(self.generator_cpu_s),
            "resident_kib": self.resident_kib,
            "database_connections": self.database_connections,
            "stored_at_once": stored(self.stored_at_once),
            "stored": stored(self.stored),
            "came_to_rest": self.rested,
        })
    }
}

impl Measured {
    pub fn new(name: Name) -> Self {
        Self { name, failed: None, rounds: Vec::new() }
    }

    pub fn add(&mut self, round: RoundReport) {
        self.rounds.push(round);
    }

    /// Requests per second: least, median, most.
    fn per_s(&self) -> Option<[f64; 3]> {
        let mut values: Vec<f64> = self.rounds.iter().map(|round| round.summary.per_s).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        Some([least, median(&values), most])
    }

    fn sum<T: std::iter::Sum>(&self, of: impl Fn(&RoundReport) -> T) -> T {
        self.rounds.iter().map(of).sum()
    }

    /// Of all rounds together.
    fn latency(&self) -> Summary {
        let mut all = Latencies::new();
        self.rounds.iter().for_each(|round| all.merge(&round.latencies));
        all.summary(self.sum(|round| round.elapsed))
    }

    fn lost(&self, stored: impl Fn(&RoundReport) -> Option<Stored>) -> Option<u64> {
        self.rounds.iter().map(|round| round.lost(stored(round))).sum()
    }

    /// Events stored per second while it was posted to, median of the rounds: what it can keep doing,
    /// whenever it answers.
    fn stored_per_s(&self) -> Option<f64> {
        let rate = |round: &RoundReport| {
            Some(round.stored_at_once?.events as f64 / round.ran.as_secs_f64().max(f64::EPSILON))
        };
        let mut rates: Vec<f64> = self.rounds.iter().map(rate).collect::<Option<_>>()?;
        rates.sort_by(f64::total_cmp);
        (!rates.is_empty()).then(|| median(&rates))
    }

    fn resident_kib(&self) -> u64 {
        self.rounds.iter().map(|round| round.resident_kib).max().unwrap_or_default()
    }

    fn connections(&self) -> Option<u64> {
        self.rounds.iter().filter_map(|round| round.database_connections).max()
    }

    /// Cores that it kept busy, cores that the generator did, and its CPU time per answer, µs.
    fn cpu(&self) -> [f64; 3] {
        let elapsed = self.sum(|round| round.elapsed.as_secs_f64()).max(f64::EPSILON);
        let (cpu_s, generator_s) = (self.sum(|round| round.cpu_s), self.sum(|round| round.generator_cpu_s));
        let answers = self.sum(|round| round.summary.count).max(1) as f64;
        [cpu_s / elapsed, generator_s / elapsed, cpu_s / answers * 1e6]
    }

    fn to_json(&self) -> Value {
        let [cpu, generator_cpu, cpu_us] = self.cpu();
        json!({
            "name": self.name.text(),
            "failed": self.failed,
            "requests_per_s": self.per_s().map(|[least, median, most]| {
                json!({ "min": rounded(least), "median": rounded(median), "max": rounded(most) })
            }),
            "stored_per_s": self.stored_per_s().map(rounded),
            "latency": self.latency().to_json(),
            "cpu_cores": rounded(cpu),
            "cpu_us_per_request": rounded(cpu_us),
            "cpu_cores_generator": rounded(generator_cpu),
            "resident_kib": self.resident_kib(),
            "database_connections": self.connections(),
            "answered_200": self.sum(RoundReport::answered),
            "not_answered_200": self.sum(|round| round.answers.failed()),
            "answered_200_not_stored_at_once": self.lost(|round| round.stored_at_once),
            "answered_200_not_stored": self.lost(|round| round.stored),
            "rounds": self.rounds.iter().map(RoundReport::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Report {
    fn find(&self, name: Name) -> Option<&Measured> {
        self.measured.iter().find(|measured| measured.name == name)
    }

    /// Medians: of one by those of another.
    fn ratio(&self, name: Name, by: Name) -> Option<f64> {
        let median = |name| self.find(name)?.per_s().map(|[_, median, _]| median);
        Some(median(name)? / median(by)?.max(f64::EPSILON))
    }

    /// Requests per second of this server by those of each other target.
    fn ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let others = self.measured.iter().filter(|measured| measured.name != Name::Watchpost);
        others.filter_map(|other| Some((other.name.text(), self.ratio(Name::Watchpost, other.name)?)))
    }

    /// The same by what is stored per second, of those that store.
    fn ratios_stored(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let own = self.find(Name::Watchpost).and_then(Measured::stored_per_s);
        let others = self.measured.iter().filter(|measured| measured.name != Name::Watchpost);
        let theirs = |other: &Measured| Some((other.name.text(), other.stored_per_s()?));
        let by = move |(name, rate): (_, f64)| Some((name, own? / rate.max(f64::EPSILON)));
        others.filter_map(theirs).filter_map(by)
    }

    /// An error if one that promises to store has not, or has failed.
    pub fn verdict(&self) -> anyhow::Result<()> {
        for measured in self.measured.iter().filter(|measured| measured.name.must_store()) {
            let name = measured.name.text();
            if let Some(failed) = &measured.failed {
                anyhow::bail!("{name}: {failed}");
            }
            for round in &measured.rounds {
                let Some(stored) = round.stored_at_once else { anyhow::bail!("{name} was not counted") };
                let answered = round.answered();
                let possible = answered..=answered + round.answers.failed();
                ensure!(
                    possible.contains(&stored.events) && possible.contains(&stored.vitals),
                    "{name}: {answered} answered 200, {} events and {} health records stored",
                    stored.events,
                    stored.vitals
                );
            }
        }
        Ok(())
    }

    pub fn to_json(&self, args: &PeersArgs) -> Value {
        let by_name = |(name, ratio): (&str, f64)| (name.to_owned(), json!(thousandths(ratio)));
        let body = Workload::from(args.body).name();
        let mut json = args.turns.to_json(&self.commit, &self.machine, body, &json!({}));
        json["targets"] = self.measured.iter().map(Measured::to_json).collect();
        json["watchpost_by"] = Value::Object(self.ratios().map(by_name).collect());
        json["watchpost_by_stored"] = Value::Object(self.ratios_stored().map(by_name).collect());
        json
    }

    pub fn table(&self, args: &PeersArgs) -> String {
        let mut out = String::new();
        self.write_table(&mut out, args).expect("writing to a string cannot fail");
        out
    }

    fn write_table(&self, out: &mut String, args: &PeersArgs) -> std::fmt::Result {
        let body = Workload::from(args.body).name();
        write!(out, "{}", args.turns.head(&self.commit, &self.machine, body))?;
        writeln!(
            out,
            "{:<15}{:>10}{:>18}{:>10}{:>12}{:>8}{:>8}{:>8}{:>7}{:>9}{:>11}{:>9}{:>9}",
            "",
            "requests/s",
            "min..max",
            "/ceiling",
            "/prototype",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "cores",
            "us/req",
            "generator",
            "memory",
            "db conn"
        )?;
        for measured in &self.measured {
            self.write_row(out, measured)?;
        }
        writeln!(out)?;
        for (name, ratio) in self.ratios() {
            let stored = self.ratios_stored().find(|(other, _)| *other == name);
            let stored =
                stored.map_or(String::new(), |(_, ratio)| format!(", by events stored {ratio:.2} x"));
            writeln!(out, "watchpost is {ratio:.2} x {name}{stored}")?;
        }
        writeln!(out)?;
        for measured in &self.measured {
            write_notes(out, measured)?;
        }
        Ok(())
    }

    fn write_row(&self, out: &mut String, measured: &Measured) -> std::fmt::Result {
        let Some([least, median, most]) = measured.per_s() else {
            let why = measured.failed.as_deref().unwrap_or("not measured");
            return writeln!(out, "{:<15}{why}", measured.name.text());
        };
        let latency = measured.latency();
        let [cores, generator, us] = measured.cpu();
        let ratio = |by| self.ratio(measured.name, by).map_or("-".into(), |ratio| format!("{ratio:.3}"));
        writeln!(
            out,
            "{:<15}{median:>10.0}{:>18}{:>10}{:>12}{:>8.2}{:>8.2}{:>8.2}{cores:>7.2}{us:>9.1}{generator:>11.2}{:>9}{:>9}",
            measured.name.text(),
            format!("{least:.0}..{most:.0}"),
            ratio(Name::Ceiling),
            ratio(Name::Prototype),
            latency.p50_ms,
            latency.p95_ms,
            latency.p99_ms,
            format!("{:.0} MiB", measured.resident_kib() as f64 / 1024.0),
            measured.connections().map_or("-".into(), |count| count.to_string()),
        )
    }
}

/// What was answered and stored, and what went wrong.
fn write_notes(out: &mut String, measured: &Measured) -> std::fmt::Result {
    let name = measured.name.text();
    if measured.rounds.is_empty() {
        return Ok(());
    }
    let answered = measured.sum(RoundReport::answered);
    match (measured.lost(|round| round.stored_at_once), measured.lost(|round| round.stored)) {
        (Some(at_once), Some(lost)) => writeln!(
            out,
            "{name:<15}{answered} answered 200, {:.0} stored per second; not stored at that moment {at_once}, at \
             rest {lost}",
            measured.stored_per_s().unwrap_or_default()
        )?,
        _ => writeln!(out, "{name:<15}{answered} answered 200; nothing to count")?,
    }
    let mut failures = Answers::default();
    measured.rounds.iter().for_each(|round| failures.merge(&round.answers));
    for (failure, count) in &failures.failures {
        writeln!(out, "{:<15}{count} answers were not 200 but: {}", "", failure.name())?;
    }
    if measured.rounds.iter().any(|round| !round.rested) {
        writeln!(out, "{:<15}still busy {} s after a round", "", super::IDLE_WITHIN.as_secs())?;
    }
    if let Some(failed) = &measured.failed {
        writeln!(out, "{:<15}{failed}", "")?;
    }
    Ok(())
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
