//! What a run found, as a table and as JSON.

use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{BenchArgs, verify};
use crate::body::{Kind, Template};
use crate::machine;
use crate::stats::{Answers, Summary};

#[derive(Debug, Default)]
pub struct Report {
    pub machine: Value,
    pub commit: String,
    pub rounds: Vec<RoundReport>,
    /// All rounds together.
    pub ceiling: RoundReport,
    pub server: RoundReport,
    /// Event to answer and event to socket.
    pub idle: Option<(Summary, Summary)>,
    pub ceiling_rss_kib: u64,
    pub server_rss_kib: u64,
    pub verified: Value,
}

#[derive(Debug, Default)]
pub struct RoundReport {
    pub target: &'static str,
    pub summary: Summary,
    pub cpu: Cpu,
    pub answers: Answers,
}

/// CPU seconds of the measured part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub generator_s: f64,
    pub server_s: f64,
}

impl Cpu {
    /// So far, of this process and of that.
    pub fn used(server_pid: u32) -> anyhow::Result<Self> {
        let generator_s = machine::cpu_seconds(std::process::id())?;
        Ok(Self { generator_s, server_s: machine::cpu_seconds(server_pid)? })
    }

    pub fn since(self, before: Self) -> Self {
        Self { generator_s: self.generator_s - before.generator_s, server_s: self.server_s - before.server_s }
    }

    pub fn plus(self, other: Self) -> Self {
        Self { generator_s: self.generator_s + other.generator_s, server_s: self.server_s + other.server_s }
    }
}

impl RoundReport {
    fn to_json(&self) -> Value {
        json!({
            "target": self.target,
            "latency": self.summary.to_json(),
            "cpu_generator_s": round(self.cpu.generator_s),
            "cpu_server_s": round(self.cpu.server_s),
            "answer_bytes_mean": self.answers.body_bytes_mean().round(),
            "not_answered_200": self.answers.failures_json(),
        })
    }
}

impl Report {
    pub fn to_json(&self, args: &BenchArgs) -> Value {
        let more = json!({
            "body_bytes": body_bytes(),
            "idle_events": args.idle_events,
            "idle_pause_ms": args.idle_pause_ms,
        });
        let mut json = args.turns.to_json(&self.commit, &self.machine, args.body.name(), &more);
        json["rounds"] = self.rounds.iter().map(RoundReport::to_json).collect();
        json["ceiling"] = self.ceiling.to_json();
        json["server"] = self.server.to_json();
        json["ratio"] = self.server.summary.ratio(&self.ceiling.summary);
        json["resident_max_kib"] = json!({ "ceiling": self.ceiling_rss_kib, "server": self.server_rss_kib });
        json["idle"] = match self.idle {
            Some((answer, socket)) => {
                json!({ "event_to_answer": answer.to_json(), "event_to_socket": socket.to_json() })
            }
            None => Value::Null,
        };
        json["verified"] = self.verified.clone();
        json
    }

    pub fn table(&self, args: &BenchArgs) -> String {
        let mut out = String::new();
        self.write_table(&mut out, args).expect("writing to a string cannot fail");
        out
    }

    fn write_table(&self, out: &mut String, args: &BenchArgs) -> std::fmt::Result {
        write!(out, "{}", args.turns.head(&self.commit, &self.machine, args.body.name()))?;
        write!(out, "{:<12}{:>12}", "", "requests/s")?;
        for name in ["mean", "p50", "p95", "p99", "p99.9", "max"] {
            write!(out, "{:>10}", format!("{name} ms"))?;
        }
        writeln!(out, "{:>12}{:>15}", "own cpu", "generator cpu")?;
        for (index, round) in self.rounds.iter().enumerate() {
            row(out, &format!("{} {}", round.target, index / 2 + 1), round)?;
        }
        row(out, "ceiling all", &self.ceiling)?;
        row(out, "server all", &self.server)?;
        let ratio = self.server.summary.ratio(&self.ceiling.summary);
        write!(out, "{:<12}", "ratio")?;
        for (index, (name, _)) in self.server.summary.columns().iter().enumerate() {
            let width = if index == 0 { 12 } else { 10 };
            write!(out, "{:>width$.3}", ratio[name.trim_end_matches("_ms")].as_f64().unwrap_or_default())?;
        }
        writeln!(
            out,
            "\n\nmax resident memory: ceiling {}, server {}",
            mib(self.ceiling_rss_kib),
            mib(self.server_rss_kib)
        )?;
        if let Some((answer, socket)) = &self.idle {
            writeln!(out, "\nidle, one SOS every {} ms, {} times", args.idle_pause_ms, socket.count)?;
            for (name, summary) in [("event to 200", answer), ("event to socket", socket)] {
                writeln!(
                    out,
                    "{name:<16} median {:.3} ms   p95 {:.3} ms   p99 {:.3} ms   max {:.3} ms",
                    summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.max_ms,
                )?;
            }
        }
        writeln!(out)?;
        for report in [&self.ceiling, &self.server] {
            for (failure, count) in &report.answers.failures {
                writeln!(out, "{}: {count} answers were not 200 but: {}", report.target, failure.name())?;
            }
        }
        write!(out, "{}", verify::compared_lines(&self.verified))?;
        Ok(())
    }
}

fn row(out: &mut String, name: &str, report: &RoundReport) -> std::fmt::Result {
    write!(out, "{name:<12}")?;
    for (index, (_, value)) in report.summary.columns().into_iter().enumerate() {
        match index {
            0 => write!(out, "{value:>12.0}")?,
            _ => write!(out, "{value:>10.3}")?,
        }
    }
    writeln!(
        out,
        "{:>12}{:>15}",
        format!("{:.2} s", report.cpu.server_s),
        format!("{:.2} s", report.cpu.generator_s)
    )
}

/// Of one upload of each kind.
fn body_bytes() -> Value {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let lengths = Kind::ALL.map(|kind| (kind.name(), json!(Template::new(kind, nowhere).body_bytes())));
    lengths.into_iter().collect()
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}
