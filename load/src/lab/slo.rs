//! Service level objectives: figures of a run that a scenario wants at most, or at least.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use serde::Deserialize;

/// Every figure that a run has, and which way is good. Those of a phase are the first ones.
pub const FIGURES: [(&str, Limit); 21] = [
    ("mean_ms", Limit::AtMost),
    ("p50_ms", Limit::AtMost),
    ("p95_ms", Limit::AtMost),
    ("p99_ms", Limit::AtMost),
    ("p999_ms", Limit::AtMost),
    ("max_ms", Limit::AtMost),
    ("requests_per_s", Limit::AtLeast),
    ("success_percent", Limit::AtLeast),
    ("refused_p99_ms", Limit::AtMost),
    ("screen_p50_ms", Limit::AtMost),
    ("screen_p95_ms", Limit::AtMost),
    ("screen_p99_ms", Limit::AtMost),
    ("screen_max_ms", Limit::AtMost),
    // Of the run as a whole only.
    ("server_cpu_percent", Limit::AtMost),
    ("generator_cpu_percent", Limit::AtMost),
    ("server_rss_peak_mib", Limit::AtMost),
    ("server_rss_end_mib", Limit::AtMost),
    ("server_rss_slope_mib_per_h", Limit::AtMost),
    ("send_lag_p99_ms", Limit::AtMost),
    ("unsent", Limit::AtMost),
    ("replayed_s", Limit::AtMost),
];
/// How many of [`FIGURES`] a phase has.
pub const OF_A_PHASE: usize = 13;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    AtMost,
    AtLeast,
}

/// Figures by name; those of one phase are in a table with its name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Slo(BTreeMap<String, Entry>);

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Entry {
    Run(f64),
    Phase(BTreeMap<String, f64>),
}

/// One figure against its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `p99_ms`, or `storm.p99_ms` of a phase.
    pub figure: String,
    pub limit: f64,
    pub at_most: bool,
    /// `None`: the run has no such figure. That is a miss.
    pub value: Option<f64>,
}

impl Verdict {
    pub fn met(&self) -> bool {
        self.value.is_some_and(|value| if self.at_most { value <= self.limit } else { value >= self.limit })
    }
}

impl Slo {
    pub fn validate(&self, phases: &[&str]) -> anyhow::Result<()> {
        for (name, entry) in &self.0 {
            match entry {
                Entry::Run(_) => ensure!(limit(name, FIGURES.len()).is_some(), "slo: no figure is {name}"),
                Entry::Phase(_) if !phases.contains(&name.as_str()) => bail!("slo: no phase is {name}"),
                Entry::Phase(figures) => {
                    for figure in figures.keys() {
                        let known = limit(figure, OF_A_PHASE).is_some();
                        ensure!(known, "slo.{name}: a phase has no figure {figure}");
                    }
                }
            }
        }
        Ok(())
    }

    /// `value` finds a figure by phase, `None` for the run, and name.
    pub fn verdicts(&self, value: impl Fn(Option<&str>, &str) -> Option<f64>) -> Vec<Verdict> {
        let verdict = |phase: Option<&str>, name: &str, wanted: f64| Verdict {
            figure: phase.map_or_else(|| name.to_owned(), |phase| format!("{phase}.{name}")),
            limit: wanted,
            at_most: limit(name, FIGURES.len()) != Some(Limit::AtLeast),
            value: value(phase, name),
        };
        let mut verdicts = Vec::new();
        for (name, entry) in &self.0 {
            match entry {
                Entry::Run(wanted) => verdicts.push(verdict(None, name, *wanted)),
                Entry::Phase(figures) => {
                    let of_phase =
                        figures.iter().map(|(figure, wanted)| verdict(Some(name), figure, *wanted));
                    verdicts.extend(of_phase);
                }
            }
        }
        verdicts
    }
}

/// Which way is good, among the first `known` figures.
pub fn limit(name: &str, known: usize) -> Option<Limit> {
    FIGURES[..known].iter().find(|(figure, _)| *figure == name).map(|(_, limit)| *limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_held_against_its_limit_in_its_direction() {
        let slo: Slo = toml::from_str("p99_ms = 10\nrequests_per_s = 400\n[storm]\nscreen_p99_ms = 1000\n")
            .expect("objectives");
        slo.validate(&["storm"]).expect("known figures");
        let verdicts = |p99: f64, rate: f64| {
            let value = |phase: Option<&str>, name: &str| match (phase, name) {
                (None, "p99_ms") => Some(p99),
                (None, "requests_per_s") => Some(rate),
                _ => None,
            };
            slo.verdicts(value)
        };
        let met = |p99, rate| verdicts(p99, rate).iter().map(Verdict::met).collect::<Vec<_>>();
        // In the order of names; the phase has no such figure, which is a miss.
        assert_eq!(met(10.0, 400.0), [true, true, false]);
        assert_eq!(met(10.1, 399.0), [false, false, false]);
        assert_eq!(verdicts(1.0, 1.0)[2].figure, "storm.screen_p99_ms");
    }

    #[test]
    fn unknown_figures_and_phases_are_refused() {
        let slo = |text: &str| toml::from_str::<Slo>(text).expect("a table");
        assert!(slo("p98_ms = 1").validate(&[]).is_err());
        assert!(slo("[calm]\np99_ms = 1").validate(&["storm"]).is_err());
        assert!(slo("[storm]\nserver_cpu_percent = 1").validate(&["storm"]).is_err());
    }
}
