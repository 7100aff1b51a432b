//! Service level objectives: figures of a run that a scenario wants at most, or at least.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use serde::Deserialize;

/// Every figure that a run has, and which way is good. Those of a phase are the first ones.
pub const FIGURES: [(&str, Limit); 25] = [
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
    ("all_screens_p50_ms", Limit::AtMost),
    ("all_screens_p99_ms", Limit::AtMost),
    ("all_screens_max_ms", Limit::AtMost),
    ("server_rss_growth_mib", Limit::AtMost),
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
pub const OF_A_PHASE: usize = 17;

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
    Run(Wanted),
    Phase(BTreeMap<String, Wanted>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Wanted {
    Limit(f64),
    Relative(Relative),
}

/// A limit that another phase of the same run sets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Relative {
    times: f64,
    /// The phase whose figure of the same name is taken.
    of: String,
    /// Good enough whatever that phase had.
    or: Option<f64>,
}

impl Wanted {
    /// `of`: the same figure of another phase. `None` if that phase has no such figure.
    fn limit(&self, direction: Limit, of: impl Fn(&str) -> Option<f64>) -> Option<f64> {
        let relative = match self {
            Self::Limit(limit) => return Some(*limit),
            Self::Relative(relative) => relative,
        };
        let limit = of(&relative.of)? * relative.times;
        Some(match (direction, relative.or) {
            (_, None) => limit,
            (Limit::AtMost, Some(or)) => limit.max(or),
            (Limit::AtLeast, Some(or)) => limit.min(or),
        })
    }

    fn words(&self) -> Option<String> {
        let Self::Relative(Relative { times, of, or }) = self else { return None };
        Some(or.map_or_else(|| format!("{times} x {of}"), |or| format!("{times} x {of}, or {or}")))
    }
}

/// One figure against its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `p99_ms`, or `storm.p99_ms` of a phase.
    pub figure: String,
    /// `None`: the phase that sets it has no such figure. That is a miss.
    pub limit: Option<f64>,
    /// How the limit came about, if another phase set it.
    pub relative: Option<String>,
    pub at_most: bool,
    /// `None`: the run has no such figure. That is a miss.
    pub value: Option<f64>,
}

impl Verdict {
    pub fn met(&self) -> bool {
        let (Some(value), Some(limit)) = (self.value, self.limit) else { return false };
        if self.at_most { value <= limit } else { value >= limit }
    }
}

impl Slo {
    pub fn validate(&self, phases: &[&str]) -> anyhow::Result<()> {
        let known = |figure: &str, wanted: &Wanted, count: usize, place: &str| {
            ensure!(limit(figure, count).is_some(), "{place}: there is no figure {figure}");
            if let Wanted::Relative(Relative { of, .. }) = wanted {
                ensure!(phases.contains(&of.as_str()), "{place}.{figure}: no phase is {of}");
                ensure!(limit(figure, OF_A_PHASE).is_some(), "{place}: a phase has no figure {figure}");
            }
            Ok(())
        };
        for (name, entry) in &self.0 {
            match entry {
                Entry::Run(wanted) => known(name, wanted, FIGURES.len(), "slo")?,
                Entry::Phase(_) if !phases.contains(&name.as_str()) => bail!("slo: no phase is {name}"),
                Entry::Phase(figures) => {
                    for (figure, wanted) in figures {
                        known(figure, wanted, OF_A_PHASE, &format!("slo.{name}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// `value` finds a figure by phase, `None` for the run, and name.
    pub fn verdicts(&self, value: impl Fn(Option<&str>, &str) -> Option<f64>) -> Vec<Verdict> {
        let verdict = |phase: Option<&str>, name: &str, wanted: &Wanted| {
            let direction = limit(name, FIGURES.len()).unwrap_or(Limit::AtMost);
            Verdict {
                figure: phase.map_or_else(|| name.to_owned(), |phase| format!("{phase}.{name}")),
                limit: wanted.limit(direction, |phase| value(Some(phase), name)),
                relative: wanted.words(),
                at_most: direction == Limit::AtMost,
                value: value(phase, name),
            }
        };
        let mut verdicts = Vec::new();
        for (name, entry) in &self.0 {
            match entry {
                Entry::Run(wanted) => verdicts.push(verdict(None, name, wanted)),
                Entry::Phase(figures) => {
                    let of_phase = figures.iter().map(|(figure, wanted)| verdict(Some(name), figure, wanted));
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
    #[test]
    fn a_limit_may_be_that_of_another_phase() {
        let text = "[during]\np99_ms = { times = 2, of = 'before', or = 20 }\n\
                    requests_per_s = { times = 0.9, of = 'before' }\n";
        let slo: Slo = toml::from_str(text).expect("objectives");
        slo.validate(&["before", "during"]).expect("known figures");
        assert!(slo.validate(&["during"]).is_err(), "there is no phase before");
        let met = |before: Option<f64>, during: f64| {
            let value =
                |phase: Option<&str>, _: &str| if phase == Some("before") { before } else { Some(during) };
            slo.verdicts(value).iter().map(|verdict| (verdict.limit, verdict.met())).collect::<Vec<_>>()
        };
        assert_eq!(met(Some(5.0), 20.0), [(Some(20.0), true), (Some(4.5), true)]);
        assert_eq!(met(Some(15.0), 30.5), [(Some(30.0), false), (Some(13.5), true)]);
        assert_eq!(met(Some(40.0), 30.5), [(Some(80.0), true), (Some(36.0), false)]);
        assert_eq!(met(None, 1.0), [(None, false), (None, false)]);
        assert_eq!(slo.verdicts(|_, _| None)[0].relative.as_deref(), Some("2 x before, or 20"));
    }
}
