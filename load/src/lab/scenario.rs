//! A scenario: what is sent how fast by whom, who watches, and what must come of it. Read from TOML.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::lane::ANSWER_WITHIN;
use super::request::Kind;
use super::shipped::SHIPPED;
use super::slo::Slo;

/// Limits of a scenario: a run is bounded in time and count.
pub const SECONDS_MAX: f64 = 24.0 * 3_600.0;
pub const WATCHES_MAX: u32 = 1_000_000;
pub const CONNECTIONS_MAX: u32 = 20_000;
pub const SCREENS_MAX: u32 = 5_000;
pub const RATE_MAX: f64 = 200_000.0;
/// Of what a dashboard does.
const TIME_MIN_S: f64 = 0.01;
pub const PHASES_MAX: usize = 64;
/// As much as the simulator allows.
pub const SPEED_MAX: f64 = 1_000.0;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// One sentence for `load list` and the report.
    pub about: String,
    /// Those that send what phases say, when they say it.
    #[serde(default)]
    pub watches: u32,
    /// Their keep-alive connections; one per watch if it is not said.
    pub connections: Option<u32>,
    /// Of the pseudo-random arrivals and mix: the same seed sends the same.
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default)]
    pub arrivals: Arrivals,
    /// A watch that got no 200 sends the same again after this long; 0 is never.
    #[serde(default)]
    pub retry_s: f64,
    /// What has found no free connection for so long is not sent any more; as long as a watch waits
    /// for an answer if it is not said.
    #[serde(default = "answer_within")]
    pub give_up_s: f64,
    /// What a watch keeps while it cannot send; the oldest goes.
    #[serde(default = "hundred")]
    pub ring: u32,
    /// Shares of what is sent.
    #[serde(default)]
    pub mix: BTreeMap<Kind, u32>,
    pub simulated: Option<Simulated>,
    pub phase: Vec<Phase>,
    #[serde(default)]
    pub dashboards: Vec<Screens>,
    /// Settings of the server that the lab starts, as `--set` takes them.
    #[serde(default)]
    pub server: BTreeMap<String, toml::Value>,
    #[serde(default)]
    pub slo: Slo,
}

/// How the arrivals of an open loop are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// As many watches that know nothing of each other.
    #[default]
    Poisson,
    Even,
}

/// Watches of the library `watch-simulator`: each follows its own timers, rings and retries, all
/// through the run, whatever its phases send besides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    pub watches: u32,
    /// They were switched on somewhere within this many of their seconds before the run, with a
    /// server that answered; 0: all at the moment when it begins.
    #[serde(default = "ten_minutes")]
    pub switched_on_over_s: f64,
    /// Seconds of a watch that pass in a second. Timeouts stay as they are.
    #[serde(default = "unit")]
    pub speed: f64,
    /// Mean seconds from one to the next on a watch; 0 is none.
    #[serde(default)]
    pub sos_s: u64,
    #[serde(default)]
    pub one_key_s: u64,
    #[serde(default)]
    pub fall_s: u64,
    #[serde(default)]
    pub wear_s: u64,
    #[serde(default)]
    pub ordinary_s: u64,
}

/// A stretch of time with one kind of load.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    pub seconds: f64,
    /// Not in the totals, and no `slo` looks at it.
    #[serde(default)]
    pub warm_up: bool,
    /// Open loop: requests per second, whether answers come or not.
    pub rate: Option<f64>,
    /// The rate changes evenly to this one.
    pub rate_to: Option<f64>,
    /// Closed loop: this many connections, each sends when it has its answer.
    pub closed: Option<u32>,
    /// Open loop: this many times the successes per second of phase `rate_of`.
    pub rate_times: Option<f64>,
    pub rate_of: Option<String>,
    /// Nothing gets through: what is due goes into the watches' rings, which are replayed at once
    /// when the next phase begins.
    #[serde(default)]
    pub outage: bool,
    /// With `outage`: the server is killed when it begins and started again when it ends.
    #[serde(default)]
    pub kill_server: bool,
}

/// Dashboards of one behaviour.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Screens {
    pub count: u32,
    #[serde(default)]
    pub behaviour: Behaviour,
    /// `reconnect`: seconds from one loss of the connection to the next.
    #[serde(default = "five")]
    pub every_s: f64,
    /// `reconnect`: seconds without a connection.
    #[serde(default = "unit")]
    pub away_s: f64,
    /// `stalled`: seconds from the start of the run until reading stops.
    #[serde(default)]
    pub from_s: f64,
    /// `stalled`: seconds without reading.
    #[serde(default = "twenty")]
    pub for_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    #[default]
    Read,
    /// Drops the connection now and then and resumes.
    Reconnect,
    /// Stops reading for a while, with the socket open.
    Stalled,
}

impl Scenario {
    /// The error says which key is wrong.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.validate()?;
        Ok(scenario)
    }

    /// A shipped one by its name, or a file.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(text).with_context(|| format!("scenario {name}"));
        }
        let path = Path::new(name);
        if !path.exists() {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            bail!("no scenario and no file is called {name}; there are {}", names.join(", "));
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
        Self::parse(&text).with_context(|| format!("scenario {name}"))
    }

    pub fn connections(&self) -> u32 {
        self.connections.unwrap_or(self.watches)
    }

    pub fn simulated_watches(&self) -> u32 {
        self.simulated.as_ref().map_or(0, |simulated| simulated.watches)
    }

    pub fn seconds(&self) -> f64 {
        self.phase.iter().map(|phase| phase.seconds).sum()
    }

    pub fn screens(&self) -> u32 {
        self.dashboards.iter().map(|group| group.count).sum()
    }

    /// Stretched or shortened so that all phases together take this long.
    pub fn last(&mut self, seconds: f64) {
        let factor = seconds / self.seconds();
        for phase in &mut self.phase {
            phase.seconds *= factor;
        }
        if let Some(simulated) = &mut self.simulated {
            // As much happens to a watch in all as before.
            simulated.speed = (simulated.speed / factor).min(SPEED_MAX);
        }
        for group in &mut self.dashboards {
            for time in [&mut group.every_s, &mut group.away_s, &mut group.from_s, &mut group.for_s] {
                // Too short to be anything, but still valid.
                *time = (*time * factor).max(TIME_MIN_S.min(*time));
            }
        }
    }

    /// Watches, connections, rates and dashboards times `factor`, at least one of each.
    pub fn scale(&mut self, factor: f64) {
        let count = |count: &mut u32| *count = ((f64::from(*count) * factor).round() as u32).max(1);
        self.simulated.iter_mut().for_each(|simulated| count(&mut simulated.watches));
        if self.watches > 0 {
            count(&mut self.watches);
        }
        self.connections.iter_mut().for_each(count);
        for phase in &mut self.phase {
            phase.closed.iter_mut().for_each(count);
            for rate in [&mut phase.rate, &mut phase.rate_to].into_iter().flatten() {
                *rate = (*rate * factor).max(1.0);
            }
        }
        self.dashboards.iter_mut().for_each(|group| count(&mut group.count));
    }

    /// Errors name the key. Called again after scaling.
    pub fn validate(&self) -> anyhow::Result<()> {
        within("watches", f64::from(self.watches), 0.0, f64::from(WATCHES_MAX))?;
        let connections = self.connections() + self.simulated_watches();
        within("connections", f64::from(connections), 1.0, f64::from(CONNECTIONS_MAX))?;
        ensure!(self.connections() > 0 || self.watches == 0, "connections: there are none");
        ensure!(
            self.connections() <= self.watches,
            "connections: {} are more than the {} watches",
            self.connections(),
            self.watches
        );
        within("retry_s", self.retry_s, 0.0, 3_600.0)?;
        within("give_up_s", self.give_up_s, TIME_MIN_S, answer_within())?;
        within("ring", f64::from(self.ring), 1.0, 1_000.0)?;
        within("dashboards.count", f64::from(self.screens()), 0.0, f64::from(SCREENS_MAX))?;
        if let Some(simulated) = &self.simulated {
            within("simulated.speed", simulated.speed, 0.01, SPEED_MAX)?;
            within("simulated.switched_on_over_s", simulated.switched_on_over_s, 0.0, SECONDS_MAX)?;
        }
        ensure!(
            !self.phase.is_empty() && self.phase.len() <= PHASES_MAX,
            "phase: 1 to {PHASES_MAX} are needed"
        );
        within("seconds of all phases", self.seconds(), 0.1, SECONDS_MAX)?;
        for (index, phase) in self.phase.iter().enumerate() {
            self.validate_phase(phase, &self.phase[..index])
                .with_context(|| format!("phase {}", phase.name))?;
        }
        let last = self.phase.last();
        ensure!(!last.is_some_and(|phase| phase.outage), "phase: an outage cannot be the last");
        for group in &self.dashboards {
            for (name, time) in [("every_s", group.every_s), ("away_s", group.away_s), ("for_s", group.for_s)]
            {
                within(name, time, TIME_MIN_S, SECONDS_MAX)?;
            }
            within("from_s", group.from_s, 0.0, SECONDS_MAX)?;
        }
        let phases: Vec<&str> = self.phase.iter().map(|phase| phase.name.as_str()).collect();
        self.slo.validate(&phases)
    }

    fn validate_phase(&self, phase: &Phase, earlier: &[Phase]) -> anyhow::Result<()> {
        within("seconds", phase.seconds, 0.0, SECONDS_MAX)?;
        let loads = [phase.rate.is_some(), phase.closed.is_some(), phase.rate_times.is_some()];
        match loads.iter().filter(|load| **load).count() {
            0 => ensure!(
                self.simulated.is_some(),
                "`rate`, `rate_times` or `closed` is needed, or watches in `[simulated]`"
            ),
            1 => {
                ensure!(self.mix.values().any(|share| *share > 0), "`mix` has no shares");
                ensure!(self.watches > 0, "it needs `watches` that send");
            }
            _ => bail!("one of `rate`, `rate_times` and `closed` is enough"),
        }
        ensure!(phase.rate_times.is_some() == phase.rate_of.is_some(), "`rate_times` needs `rate_of`");
        if let (Some(times), Some(of)) = (phase.rate_times, &phase.rate_of) {
            within("rate_times", times, 0.01, 1_000.0)?;
            ensure!(earlier.iter().any(|phase| phase.name == *of), "rate_of: no earlier phase is {of}");
        }
        ensure!(phase.rate_to.is_none() || phase.rate.is_some(), "`rate_to` needs `rate`");
        ensure!(!phase.outage || phase.closed.is_none(), "an outage cannot be `closed`");
        ensure!(!phase.kill_server || phase.outage, "`kill_server` needs `outage`");
        for rate in [phase.rate, phase.rate_to].into_iter().flatten() {
            within("rate", rate, 0.01, RATE_MAX)?;
        }
        if let Some(closed) = phase.closed {
            within("closed", f64::from(closed), 1.0, f64::from(self.connections()))?;
        }
        Ok(())
    }
}

fn within(name: &str, value: f64, min: f64, max: f64) -> anyhow::Result<()> {
    ensure!((min..=max).contains(&value), "{name}: {value} is not within {min} and {max}");
    Ok(())
}

fn one() -> u64 {
    1
}

fn answer_within() -> f64 {
    ANSWER_WITHIN.as_secs_f64()
}

fn hundred() -> u32 {
    100
}

fn five() -> f64 {
    5.0
}

fn unit() -> f64 {
    1.0
}

fn twenty() -> f64 {
    20.0
}

fn ten_minutes() -> f64 {
    600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_parses_and_bears_its_name() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::parse(text).unwrap_or_else(|err| panic!("{name}: {err:#}"));
            assert_eq!(scenario.name, *name);
            assert!(scenario.about.len() > 20, "{name}");
        }
    }

    #[test]
    fn scaling_keeps_a_scenario_valid() {
        for (name, text) in SHIPPED {
            let mut scenario = Scenario::parse(text).expect("a scenario");
            scenario.last(3.0);
            scenario.scale(0.01);
            scenario.validate().unwrap_or_else(|err| panic!("{name}: {err:#}"));
            assert!((scenario.seconds() - 3.0).abs() < 1e-6, "{name}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_by_name() {
        let base = "name = 'x'\nabout = 'x'\nwatches = 10\nmix = { sos = 1 }\n";
        let fault = |rest: &str| format!("{:#}", Scenario::parse(&format!("{base}{rest}")).expect_err(rest));
        assert!(fault("[[phase]]\nname = 'a'\nseconds = 1\n").contains("`rate`"));
        assert!(fault("[[phase]]\nname = 'a'\nseconds = 1\nclosed = 11\n").contains("closed"));
        assert!(fault("[[phase]]\nname = 'a'\nseconds = 1\nrate = 1\nrates = 1\n").contains("rates"));
        assert!(fault("[[phase]]\nname = 'a'\nseconds = 1\nrate = 1\noutage = true\n").contains("outage"));
        assert!(fault("connections = 20\nphase = []\n").contains("connections"));
        assert!(fault("give_up_s = 0\n[[phase]]\nname = 'a'\nseconds = 1\nrate = 1\n").contains("give_up_s"));
        let slo = "[[phase]]\nname = 'a'\nseconds = 1\nrate = 1\n[slo]\np98_ms = 1\n";
        assert!(fault(slo).contains("p98_ms"));
    }
}
