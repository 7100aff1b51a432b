//! What a subscriber wants to see, and what it may.

use std::collections::HashSet;

use serde::Deserialize;

use crate::domain::alert::Alert;
use crate::domain::ids::{CustomerId, DeviceSn, OrgId};
use crate::domain::owner::Scope;
use crate::domain::rule::Severity;

/// Filter of a `subscribe` frame. Empty lets everything through; the parts narrow it together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Only these.
    pub severity: Option<Vec<Severity>>,
    /// Only this and worse.
    pub min_severity: Option<Severity>,
    pub customer_id: Option<CustomerId>,
    /// Only those whose wearer belongs to it.
    pub org_id: Option<OrgId>,
    /// Only alerts that events of these types raised; of a type its last segment counts, in any case.
    pub kinds: Option<Vec<String>>,
    /// Only these devices.
    pub devices: Option<HashSet<DeviceSn>>,
    /// Also the newest vitals of `devices`.
    pub vitals: bool,
}

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("vitals need `devices`: name those whose vitals are wanted")]
    VitalsWithoutDevices,
    #[error("vitals of more than {0} devices at a time are not sent")]
    TooManyDevices(usize),
    #[error("kinds has more than {KINDS_MAX} entries")]
    TooManyKinds,
}

/// Event types of one filter: each is compared with each change.
pub const KINDS_MAX: usize = 100;

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub severity: Severity,
    pub customer_id: &'a CustomerId,
    pub org_id: Option<&'a OrgId>,
    pub device_sn: &'a DeviceSn,
    /// Of the event that raised the alert; a metric alert has none.
    pub event_type: Option<&'a str>,
}

impl<'a> From<&'a Alert> for Subject<'a> {
    fn from(alert: &'a Alert) -> Self {
        Self {
            severity: alert.severity,
            customer_id: &alert.customer_id,
            org_id: alert.org_id.as_ref(),
            device_sn: &alert.device_sn,
            event_type: alert.event_type.as_deref(),
        }
    }
}

/// The last dotted segment of an event type.
fn short(event_type: &str) -> &str {
    event_type.rsplit('.').next().unwrap_or(event_type)
}

impl Filter {
    pub fn check(&self, vitals_devices_max: usize) -> Result<(), FilterError> {
        if self.kinds.as_ref().is_some_and(|kinds| kinds.len() > KINDS_MAX) {
            return Err(FilterError::TooManyKinds);
        }
        match &self.devices {
            None if self.vitals => Err(FilterError::VitalsWithoutDevices),
            Some(devices) if self.vitals && devices.len() > vitals_devices_max => {
                Err(FilterError::TooManyDevices(vitals_devices_max))
            }
            _ => Ok(()),
        }
    }

    /// True if an alert like this passes.
    pub fn passes(&self, subject: Subject<'_>) -> bool {
        self.severity.as_ref().is_none_or(|list| list.contains(&subject.severity))
            && self.min_severity.is_none_or(|least| subject.severity >= least)
            && self.customer_id.as_ref().is_none_or(|own| own == subject.customer_id)
            && self.org_id.as_ref().is_none_or(|org| subject.org_id == Some(org))
            && self.devices.as_ref().is_none_or(|devices| devices.contains(subject.device_sn))
            && self.kinds.as_ref().is_none_or(|kinds| {
                let of = |kind: &str| kinds.iter().any(|one| short(one).eq_ignore_ascii_case(short(kind)));
                subject.event_type.is_some_and(of)
            })
    }

    /// Devices whose vitals are wanted.
    pub fn vitals_devices(&self) -> impl Iterator<Item = &DeviceSn> {
        self.devices.iter().filter(|_| self.vitals).flatten()
    }
}

/// A filter together with what its caller may see at all.
#[derive(Debug, Clone)]
pub struct View {
    pub scope: Scope,
    pub filter: Filter,
}

impl View {
    pub fn shows<'a>(&self, subject: impl Into<Subject<'a>>) -> bool {
        let subject = subject.into();
        self.scope.allows(subject.customer_id) && self.filter.passes(subject)
    }

    pub fn shows_vitals(&self, customer: &CustomerId) -> bool {
        self.scope.allows(customer) && self.filter.customer_id.as_ref().is_none_or(|own| own == customer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(severity: Severity, customer_id: &'a CustomerId, device_sn: &'a DeviceSn) -> Subject<'a> {
        Subject { severity, customer_id, org_id: None, device_sn, event_type: None }
    }

    fn parse(text: &str) -> Result<Filter, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn parts_narrow_together_and_none_lets_everything_through() {
        let (customer, device) = (CustomerId::parse("c1").unwrap(), DeviceSn::parse("w1").unwrap());
        assert!(Filter::default().passes(subject(Severity::Info, &customer, &device)));
        let filter = parse(r#"{"min_severity":"high","customer_id":"c1","devices":["w1"]}"#).unwrap();
        assert!(filter.passes(subject(Severity::Critical, &customer, &device)));
        assert!(!filter.passes(subject(Severity::Medium, &customer, &device)));
        assert!(!filter.passes(subject(Severity::High, &CustomerId::parse("c2").unwrap(), &device)));
        assert!(!filter.passes(subject(Severity::High, &customer, &DeviceSn::parse("w2").unwrap())));
    }

    #[test]
    fn an_organisation_and_event_types_narrow_and_what_has_none_does_not_pass() {
        let (customer, device) = (CustomerId::parse("c1").unwrap(), DeviceSn::parse("w1").unwrap());
        let (org, other) = (OrgId::parse("o1").unwrap(), OrgId::parse("o2").unwrap());
        let nobody = subject(Severity::High, &customer, &device);
        let filter = parse(r#"{"org_id":"o1"}"#).unwrap();
        assert!(filter.passes(Subject { org_id: Some(&org), ..nobody }));
        assert!(!filter.passes(Subject { org_id: Some(&other), ..nobody }) && !filter.passes(nobody));
        let filter = parse(r#"{"kinds":["sos_event","com.watch.FALL_EVENT"]}"#).unwrap();
        for (kind, passes) in
            [("com.tdtech.SOS_EVENT", true), ("FALL_EVENT", true), ("com.x.SOS_EVENTS", false)]
        {
            assert_eq!(filter.passes(Subject { event_type: Some(kind), ..nobody }), passes, "{kind}");
        }
        assert!(!filter.passes(nobody));
        let many = Filter { kinds: Some(vec!["x".into(); KINDS_MAX + 1]), ..Filter::default() };
        assert_eq!(many.check(1), Err(FilterError::TooManyKinds));
    }

    #[test]
    fn a_misspelt_part_is_an_error_and_vitals_need_devices() {
        assert!(parse(r#"{"severty":["high"]}"#).is_err());
        let filter = parse(r#"{"vitals":true}"#).unwrap();
        assert_eq!(filter.check(10), Err(FilterError::VitalsWithoutDevices));
        let filter = parse(r#"{"vitals":true,"devices":["a","b"]}"#).unwrap();
        assert_eq!(filter.check(1), Err(FilterError::TooManyDevices(1)));
        assert_eq!(filter.check(2), Ok(()));
    }

    #[test]
    fn a_scope_hides_what_the_filter_asks_for() {
        let (own, other) = (CustomerId::parse("c1").unwrap(), CustomerId::parse("c2").unwrap());
        let device = DeviceSn::parse("w1").unwrap();
        let filter = Filter { customer_id: Some(other.clone()), ..Filter::default() };
        let view = View { scope: Scope::Customer(own.clone()), filter };
        assert!(!view.shows(subject(Severity::Critical, &other, &device)));
        assert!(!view.shows(subject(Severity::Critical, &own, &device)));
        assert!(!view.shows_vitals(&other));
    }
}
