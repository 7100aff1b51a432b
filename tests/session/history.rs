//! Made-up histories of alerts.

use std::collections::HashMap;
use std::sync::Arc;

use watchpost::domain::alert::{Alert, AlertState, LoggedChange, Transition};
use watchpost::domain::ids::{AlertId, CustomerId, DeviceSn, Offset};
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;

/// An alert as `Alert::raise` would make it.
pub fn alert(id: i64, device: &str, customer: &str, severity: Severity) -> Alert {
    let at = UtcMillis(1_790_000_000_000 + id * 1_000);
    serde_json::from_value(serde_json::json!({
        "alert_id": AlertId(id), "rule_id": "sos", "rule_name": "SOS", "device_sn": device,
        "severity": severity, "state": AlertState::Raised, "count": 1,
        "occurred_at": at, "raised_at": at, "last_at": at,
        "event_id": null, "event_type": "SOS", "value": "1", "location": null, "vitals": null,
        "binding_id": 0, "customer_id": customer, "org_id": null, "org_name": null,
        "person_id": null, "person_name": null, "verified": true,
        "acknowledged_at": null, "acknowledged_by": null, "resolved_at": null, "resolved_by": null,
        "back_to_normal_at": null, "pushed_at": at,
    }))
    .unwrap()
}

/// The log, as the writer would have it.
#[derive(Debug, Default, Clone)]
pub struct History {
    pub log: Vec<LoggedChange>,
    alerts: HashMap<i64, Alert>,
}

impl History {
    pub fn last(&self) -> Offset {
        self.log.len() as Offset
    }

    pub fn after(&self, after: Offset, until: Offset, limit: usize) -> Vec<LoggedChange> {
        let wanted = |change: &&LoggedChange| change.offset > after && change.offset <= until;
        self.log.iter().filter(wanted).take(limit).cloned().collect()
    }

    /// Open alerts as they were at `offset`, most severe first, then newest first.
    pub fn open_at(&self, offset: Offset) -> Vec<Alert> {
        let mut open: HashMap<AlertId, Alert> = HashMap::new();
        for change in self.log.iter().take_while(|change| change.offset <= offset) {
            if change.alert.state.is_open() {
                open.insert(change.alert.alert_id, (*change.alert).clone());
            } else {
                open.remove(&change.alert.alert_id);
            }
        }
        let mut open: Vec<Alert> = open.into_values().collect();
        open.sort_by_key(|alert| std::cmp::Reverse((alert.severity, alert.raised_at, alert.alert_id)));
        open
    }

    pub fn raise(&mut self, device: &str, customer: &str, severity: Severity) -> LoggedChange {
        let id = self.alerts.len() as i64 + 1;
        self.change(Transition::Raised, alert(id, device, customer, severity), false)
    }

    pub fn raise_with_value(
        &mut self,
        device: &str,
        customer: &str,
        severity: Severity,
        value: &str,
    ) -> LoggedChange {
        let id = self.alerts.len() as i64 + 1;
        let alert = Alert { value: Some(value.into()), ..alert(id, device, customer, severity) };
        self.change(Transition::Raised, alert, false)
    }

    /// Changes one of the alerts so far, picked by any number; raises one if there is none.
    pub fn touch(&mut self, pick: usize, transition: Transition, quiet: bool) -> LoggedChange {
        if self.alerts.is_empty() {
            return self.raise("w0", "0", Severity::High);
        }
        let id = (pick % self.alerts.len()) as i64 + 1;
        let mut alert = self.alerts[&id].clone();
        match transition {
            Transition::Acknowledged => alert.state = AlertState::Acknowledged,
            Transition::Resolved => alert.state = AlertState::Resolved,
            _ => alert.count += 1,
        }
        self.change(transition, alert, quiet)
    }

    fn change(&mut self, transition: Transition, alert: Alert, quiet: bool) -> LoggedChange {
        let change = LoggedChange {
            offset: self.last() + 1,
            transition,
            cause: format!("event:{}", self.log.len()).into(),
            at: alert.last_at,
            actor: None,
            note: None,
            quiet,
            alert: Arc::new(alert.clone()),
            arrived: None,
        };
        self.alerts.insert(alert.alert_id.0, alert);
        self.log.push(change.clone());
        change
    }
}

pub fn customer(text: &str) -> CustomerId {
    CustomerId::parse(text).unwrap()
}

pub fn device(text: &str) -> DeviceSn {
    DeviceSn::parse(text).unwrap()
}
