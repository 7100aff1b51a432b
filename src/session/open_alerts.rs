//! The open alerts in memory, bounded: the least severe are left out first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::filter::View;
use crate::domain::alert::{Alert, AlertState};
use crate::domain::ids::AlertId;
use crate::domain::rule::Severity;
use crate::domain::time::UtcMillis;

/// How many are open, by state (raised, acknowledged) and severity.
pub type OpenCounts = [[usize; Severity::ALL.len()]; 2];

type Rank = (Severity, UtcMillis, AlertId);

#[derive(Debug)]
pub struct OpenAlerts {
    /// Least severe first, then oldest first.
    ranked: BTreeMap<Rank, Arc<Alert>>,
    ranks: HashMap<AlertId, Rank>,
    counts: OpenCounts,
    alerts_max: usize,
    /// Some open alerts are not here.
    truncated: bool,
}

impl OpenAlerts {
    pub fn new(alerts_max: usize, truncated: bool) -> Self {
        let counts = OpenCounts::default();
        Self { ranked: BTreeMap::new(), ranks: HashMap::new(), counts, alerts_max, truncated }
    }

    pub fn len(&self) -> usize {
        self.ranked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranked.is_empty()
    }

    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    pub fn set_truncated(&mut self, truncated: bool) {
        self.truncated = truncated;
    }

    /// Takes an alert as it is after a change.
    pub fn apply(&mut self, alert: Arc<Alert>) {
        if let Some(known) = self.ranks.remove(&alert.alert_id).and_then(|rank| self.ranked.remove(&rank)) {
            *self.count_of(&known) -= 1;
        }
        if !alert.state.is_open() {
            return;
        }
        let rank = (alert.severity, alert.raised_at, alert.alert_id);
        self.ranks.insert(alert.alert_id, rank);
        *self.count_of(&alert) += 1;
        self.ranked.insert(rank, alert);
        while self.ranked.len() > self.alerts_max {
            let Some((rank, left_out)) = self.ranked.pop_first() else { break };
            self.ranks.remove(&rank.2);
            *self.count_of(&left_out) -= 1;
            self.truncated = true;
        }
    }

    pub fn counts(&self) -> &OpenCounts {
        &self.counts
    }

    fn count_of(&mut self, alert: &Alert) -> &mut usize {
        let state = usize::from(alert.state == AlertState::Acknowledged);
        &mut self.counts[state][alert.severity as usize]
    }

    /// Those that the view shows, most severe first, then newest first.
    pub fn select(&self, view: &View) -> Vec<Arc<Alert>> {
        let shown = |alert: &&Arc<Alert>| view.shows(&***alert);
        self.ranked.values().rev().filter(shown).cloned().collect()
    }
}
