//! The open alerts in memory, bounded: the least severe are left out first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::filter::View;
use crate::domain::alert::Alert;
use crate::domain::ids::AlertId;
use crate::domain::rule::Severity;
use crate::domain::time::UtcMillis;

type Rank = (Severity, UtcMillis, AlertId);

#[derive(Debug)]
pub struct OpenAlerts {
    /// Least severe first, then oldest first.
    ranked: BTreeMap<Rank, Arc<Alert>>,
    ranks: HashMap<AlertId, Rank>,
    alerts_max: usize,
    /// Some open alerts are not here.
    truncated: bool,
}

impl OpenAlerts {
    pub fn new(alerts_max: usize, truncated: bool) -> Self {
        Self { ranked: BTreeMap::new(), ranks: HashMap::new(), alerts_max, truncated }
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
        if let Some(rank) = self.ranks.remove(&alert.alert_id) {
            self.ranked.remove(&rank);
        }
        if !alert.state.is_open() {
            return;
        }
        let rank = (alert.severity, alert.raised_at, alert.alert_id);
        self.ranks.insert(alert.alert_id, rank);
        self.ranked.insert(rank, alert);
        while self.ranked.len() > self.alerts_max {
            let Some((rank, _)) = self.ranked.pop_first() else { break };
            self.ranks.remove(&rank.2);
            self.truncated = true;
        }
    }

    /// Those that the view shows, most severe first, then newest first.
    pub fn select(&self, view: &View) -> Vec<Arc<Alert>> {
        let shown = |alert: &&Arc<Alert>| view.shows(&***alert);
        self.ranked.values().rev().filter(shown).cloned().collect()
    }
}
