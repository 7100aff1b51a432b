//! The state of one device, as its shard holds it.

use super::alert::Alert;
use super::ids::{AlertId, BindingId, RuleId};
use super::recent::{RecentEvents, RecentSamples};
use super::time::UtcMillis;
use super::vitals::{Metric, Metrics};

/// Worn or not, by device time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wear {
    /// `None` is unknown, which counts as worn.
    worn: Option<bool>,
    at: UtcMillis,
}

impl Wear {
    pub fn new(worn: Option<bool>, at: UtcMillis) -> Self {
        Self { worn, at }
    }

    /// Takes a report of `at`; an older one than the newest known is ignored and answers false.
    pub fn report(&mut self, worn: bool, at: UtcMillis) -> bool {
        if self.worn.is_some() && at < self.at {
            return false;
        }
        *self = Self { worn: Some(worn), at };
        true
    }

    /// True if a newer report than that of `at` says otherwise. `None` agrees with nothing.
    pub fn contradicts(&self, worn: Option<bool>, at: UtcMillis) -> bool {
        self.worn.is_some() && self.worn != worn && self.at > at
    }

    /// Whether a sample of `at` was taken on a wrist. Watches repeat old values when they are
    /// taken off, so a heart rate that changed proves that they are worn after all.
    pub fn judge_sample(&mut self, at: UtcMillis, metrics: &Metrics, last_heart_rate: Option<f64>) -> bool {
        if self.worn != Some(false) || at < self.at {
            return true;
        }
        let changed = match (metrics.get(Metric::HeartRate), last_heart_rate) {
            (Some(new), Some(last)) => new != last,
            _ => false,
        };
        if changed {
            self.report(true, at);
        }
        changed
    }
}

/// All that rules may look at, and what decides duplicates.
#[derive(Debug, Clone, Default)]
pub struct DeviceState {
    pub events: RecentEvents,
    pub samples: RecentSamples,
    pub wear: Wear,
    /// When its row was last written, by the server's clock; `None` if it has none yet.
    pub touched_at: Option<UtcMillis>,
    /// Open alerts, of all bindings that the device has had.
    pub open_alerts: Vec<Alert>,
}

/// A device's row is written when it is new, when its wear state changes, and otherwise at most
/// this often: its "last seen" lags no further behind.
pub const TOUCH_EVERY_MS: i64 = 10_000;

impl DeviceState {
    /// Whether a report of `now` writes the device's row; takes note that it does.
    pub fn touch(&mut self, now: UtcMillis, wear_changed: bool) -> bool {
        let due = self.touched_at.is_none_or(|last| now.ms_since(last).abs() >= TOUCH_EVERY_MS);
        if due || wear_changed {
            self.touched_at = Some(now);
        }
        due || wear_changed
    }

    /// The open alert of a rule for the present wearer. A watch that was handed to somebody else
    /// raises a new one.
    pub fn open_alert_mut(&mut self, rule: &RuleId, binding: BindingId) -> Option<&mut Alert> {
        self.open_alerts.iter_mut().find(|alert| alert.rule_id == *rule && alert.binding_id == binding)
    }

    pub fn open_alert_by_id_mut(&mut self, id: AlertId) -> Option<&mut Alert> {
        self.open_alerts.iter_mut().find(|alert| alert.alert_id == id)
    }

    /// Drops what is no longer open.
    pub fn forget_closed(&mut self) {
        self.open_alerts.retain(|alert| alert.state.is_open());
    }
}
