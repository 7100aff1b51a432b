//! CPU and memory of server and generator once a second, and the line that shows how it goes.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::live::Live;
use crate::machine;

const EVERY: Duration = Duration::from_secs(1);
/// Where a line cannot be written over.
const LINES_EVERY: u32 = 10;

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    pub at_s: f64,
    /// Percent of one core since the last look.
    pub server_cpu_percent: f64,
    pub generator_cpu_percent: f64,
    /// Resident; 0 if it is not known.
    pub server_rss_mib: f64,
    pub pushes: u64,
    pub screens: u64,
}

/// CPU seconds of both so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub server_s: f64,
    pub generator_s: f64,
}

impl Cpu {
    /// A server that is not on this machine, or not there just now, has used nothing.
    pub fn now(server: Option<u32>) -> Self {
        let used = |pid| machine::cpu_seconds(pid).unwrap_or_default();
        Self { server_s: server.map_or(0.0, used), generator_s: used(std::process::id()) }
    }
}

pub struct Monitor<'a> {
    pub live: &'a Live,
    pub phases: Vec<String>,
    pub start: Instant,
    pub seconds: f64,
    pub quiet: bool,
    pub samples: Vec<Sample>,
    last: Option<(Instant, Cpu, u64, u64)>,
}

impl<'a> Monitor<'a> {
    pub fn new(live: &'a Live, phases: Vec<String>, start: Instant, seconds: f64, quiet: bool) -> Self {
        Self { live, phases, start, seconds, quiet, samples: Vec::new(), last: None }
    }

    /// Looks once a second until it is dropped. `server` says which process it is now.
    pub async fn watch(&mut self, server: impl Fn() -> Option<u32>) {
        let mut ticks = tokio::time::interval_at(self.start.into(), EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut count = 0;
        loop {
            ticks.tick().await;
            let rates = self.look(server());
            if !self.quiet
                && let Some((rate, failures)) = rates
            {
                self.show(rate, failures, count);
            }
            count += 1;
        }
    }

    /// Requests answered and failed per second since the last look.
    fn look(&mut self, server: Option<u32>) -> Option<(f64, f64)> {
        let now = Instant::now();
        let cpu = Cpu::now(server);
        let answered = Live::count(&self.live.succeeded);
        let failed = Live::count(&self.live.failed);
        let last = self.last.replace((now, cpu, answered, failed));
        let (then, before, answered_before, failed_before) = last?;
        let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
        // A server that was started again begins at 0.
        let percent = |used: f64| (used / seconds * 100.0).max(0.0);
        let rss_kib = server.and_then(|pid| machine::resident_kib(pid).ok()).unwrap_or_default();
        self.samples.push(Sample {
            at_s: now.saturating_duration_since(self.start).as_secs_f64(),
            server_cpu_percent: percent(cpu.server_s - before.server_s),
            generator_cpu_percent: percent(cpu.generator_s - before.generator_s),
            server_rss_mib: rss_kib as f64 / 1_024.0,
            pushes: Live::count(&self.live.pushes),
            screens: Live::count(&self.live.screens_connected),
        });
        let per_s = |now: u64, then: u64| (now - then) as f64 / seconds;
        Some((per_s(answered, answered_before), per_s(failed, failed_before)))
    }

    fn show(&self, rate: f64, failures: f64, count: u32) {
        let Some(sample) = self.samples.last() else { return };
        let (p50, p99) = self.live.take_recent();
        let phase = usize::try_from(Live::count(&self.live.phase)).unwrap_or_default();
        let phase = self.phases.get(phase).map_or("", String::as_str);
        let line = format!(
            "{:>4.0}/{:.0} s  {phase:<10.10} {rate:>7.0}/s  p50 {p50:>7.2}  p99 {p99:>8.2} ms  {} failed/s  {} pushes  server {:>3.0}% {:>4.0} MiB  generator {:>3.0}%",
            sample.at_s.min(self.seconds),
            self.seconds,
            failures.round(),
            sample.pushes,
            sample.server_cpu_percent,
            sample.server_rss_mib,
            sample.generator_cpu_percent,
        );
        let mut out = std::io::stderr();
        // Progress that nobody can see is no reason to stop.
        let _ = match out.is_terminal() {
            true => write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush()),
            false if count.is_multiple_of(LINES_EVERY) => writeln!(out, "{line}"),
            false => Ok(()),
        };
    }

    pub fn end_line(&self) {
        if !self.quiet && std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}

/// MiB per hour by least squares over the samples from `from_s` on; `None` with less than a minute.
pub fn rss_slope_mib_per_h(samples: &[Sample], from_s: f64) -> Option<f64> {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.at_s >= from_s && sample.server_rss_mib > 0.0)
        .map(|sample| (sample.at_s / 3_600.0, sample.server_rss_mib))
        .collect();
    let (first, last) = (points.first()?, points.last()?);
    if last.0 - first.0 < 60.0 / 3_600.0 {
        return None;
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_t, mean_rss) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|(t, rss)| (t - mean_t) * (rss - mean_rss)).sum();
    let below: f64 = points.iter().map(|(t, _)| (t - mean_t).powi(2)).sum();
    Some(above / below)
}

/// By how much the median of resident memory, MiB, in the last third of a span is above that in its
/// second third; `None` with fewer than three samples in either.
pub fn rss_growth_mib(samples: &[Sample], from_s: f64, to_s: f64) -> Option<f64> {
    let third = (to_s - from_s) / 3.0;
    let median = |from_s: f64| {
        let within = samples.iter().filter(|sample| sample.at_s > from_s && sample.at_s <= from_s + third);
        let mut values: Vec<f64> = within.map(|sample| sample.server_rss_mib).collect();
        values.sort_by(f64::total_cmp);
        (values.len() >= 3).then(|| values[values.len() / 2])
    };
    Some(median(to_s - third)? - median(from_s + third)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_later_part_of_a_span() {
        // Fills up for 10 s, and is flat or grows after that.
        let sample = |at_s: u32, slope: f64| Sample {
            at_s: f64::from(at_s),
            server_rss_mib: f64::from(at_s.min(10)) * 50.0 + f64::from(at_s) * slope,
            ..Sample::default()
        };
        let growth = |slope: f64| {
            let samples: Vec<Sample> = (1..=30).map(|at_s| sample(at_s, slope)).collect();
            rss_growth_mib(&samples, 0.0, 30.0)
        };
        assert_eq!(growth(0.0), Some(0.0));
        assert_eq!(growth(2.0), Some(20.0));
        assert_eq!(rss_growth_mib(&[Sample::default(); 5], 0.0, 30.0), None);
    }

    #[test]
    fn the_slope_is_that_of_the_samples_and_needs_a_minute() {
        let sample = |at_s: u32| Sample {
            at_s: f64::from(at_s),
            server_rss_mib: 100.0 + f64::from(at_s) / 360.0,
            ..Sample::default()
        };
        let samples: Vec<Sample> = (0..600).map(sample).collect();
        let slope = rss_slope_mib_per_h(&samples, 60.0).expect("a slope");
        assert!((slope - 10.0).abs() < 1e-6, "{slope}");
        assert_eq!(rss_slope_mib_per_h(&samples[..59], 0.0), None);
    }
}
