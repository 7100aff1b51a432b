//! What is between the watches and their server in simulated time: delays, gaps in coverage, outages,
//! storms of 503. All of it follows from a seed.

/// The shortest way in one direction, in milliseconds. What happens in less time on one watch cannot
/// depend on what happens on another, so the driver takes steps of this length.
pub(crate) const LATENCY_MIN_MS: i64 = 50;
const LATENCY_MAX_MS: i64 = 400;

/// A span of true time, milliseconds since 1970. The end is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from_ms: i64,
    pub until_ms: i64,
}

impl Window {
    pub fn new(from_ms: i64, length_ms: i64) -> Self {
        Self { from_ms, until_ms: from_ms + length_ms }
    }

    pub fn contains(&self, at_ms: i64) -> bool {
        (self.from_ms..self.until_ms).contains(&at_ms)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// One watch has no coverage; the server never notices.
    Gap,
    /// Nobody listens: connections are refused.
    Outage,
    /// Something before the server answers 503.
    Storm,
    /// The server takes longer to answer.
    Slow,
}

/// Which trouble there is, and how long things take.
#[derive(Debug, Clone)]
pub struct Network {
    gaps: Vec<Vec<Window>>,
    troubles: Vec<(Window, Trouble, i64)>,
    answers_lost_per_mille: u32,
    rngs: Vec<fastrand::Rng>,
}

/// What becomes of a request on its way to the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WayOut {
    Arrives(i64),
    Fails(i64),
    Refused503(i64),
}

impl Network {
    /// No trouble but delays of 50 to 400 ms each way.
    pub fn new(watches: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rngs = (0..watches).map(|_| rng.fork()).collect();
        Self { gaps: vec![Vec::new(); watches], troubles: Vec::new(), answers_lost_per_mille: 0, rngs }
    }

    /// One watch is without coverage. Half of its requests fail at once, the others hang, and of these
    /// some get through if it ends within their timeout.
    pub fn gap(&mut self, watch: usize, window: Window) {
        self.gaps[watch].push(window);
    }

    /// Connections of all watches are refused.
    pub fn outage(&mut self, window: Window) {
        self.troubles.push((window, Trouble::Outage, 0));
    }

    /// All requests are answered 503 without the server's knowledge.
    pub fn storm(&mut self, window: Window) {
        self.troubles.push((window, Trouble::Storm, 0));
    }

    /// The server's answers come later by this much.
    pub fn slow(&mut self, window: Window, by_ms: i64) {
        self.troubles.push((window, Trouble::Slow, by_ms));
    }

    /// Of a thousand answers, this many never reach their watch.
    pub fn lose_answers(&mut self, per_mille: u32) {
        self.answers_lost_per_mille = per_mille;
    }

    /// The trouble that a watch has at a time; a gap first.
    pub fn trouble_at(&self, watch: usize, at_ms: i64) -> Option<Trouble> {
        let gap = self.gap_at(watch, at_ms).map(|_| Trouble::Gap);
        gap.or_else(|| self.common(at_ms).map(|(trouble, _)| trouble))
    }

    fn common(&self, at_ms: i64) -> Option<(Trouble, i64)> {
        let found = self.troubles.iter().find(|(window, ..)| window.contains(at_ms));
        found.map(|(_, trouble, by_ms)| (*trouble, *by_ms))
    }

    /// The gap that a watch is in.
    pub fn gap_at(&self, watch: usize, at_ms: i64) -> Option<Window> {
        self.gaps[watch].iter().find(|window| window.contains(at_ms)).copied()
    }

    fn latency(&mut self, watch: usize) -> i64 {
        self.rngs[watch].i64(LATENCY_MIN_MS..=LATENCY_MAX_MS)
    }

    pub(crate) fn way_out(&mut self, watch: usize, sent_ms: i64, timeout_ms: i64) -> WayOut {
        let (latency, hangs) = (self.latency(watch), self.rngs[watch].bool());
        let mut arrives_ms = sent_ms + latency;
        if let Some(gap) = self.gap_at(watch, sent_ms).or_else(|| self.gap_at(watch, arrives_ms)) {
            if !hangs {
                return WayOut::Fails(arrives_ms);
            }
            arrives_ms = gap.until_ms + latency;
            // It may be the beginning of the next gap.
            if arrives_ms >= sent_ms + timeout_ms || self.gap_at(watch, arrives_ms).is_some() {
                return WayOut::Fails(sent_ms + timeout_ms);
            }
        }
        match self.common(arrives_ms) {
            Some((Trouble::Outage, _)) => WayOut::Fails(arrives_ms),
            Some((Trouble::Storm, _)) => WayOut::Refused503(arrives_ms + LATENCY_MIN_MS),
            _ => WayOut::Arrives(arrives_ms),
        }
    }

    /// When the watch is done with its request, and whether it got the answer.
    pub(crate) fn way_back(
        &mut self,
        watch: usize,
        (sent_ms, arrived_ms): (i64, i64),
        timeout_ms: i64,
    ) -> (i64, bool) {
        let (latency, lot) = (self.latency(watch), self.rngs[watch].u32(..1_000));
        let slower_ms = match self.common(arrived_ms) {
            Some((Trouble::Slow, by_ms)) => by_ms,
            _ => 0,
        };
        let mut back_ms = arrived_ms + slower_ms + latency;
        if let Some(gap) = self.gap_at(watch, back_ms) {
            back_ms = gap.until_ms + latency;
        }
        let gives_up_ms = (sent_ms + timeout_ms).max(arrived_ms + LATENCY_MIN_MS);
        match back_ms <= gives_up_ms && lot >= self.answers_lost_per_mille {
            true => (back_ms, true),
            false => (gives_up_ms, false),
        }
    }
}
