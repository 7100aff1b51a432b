//! What a subscriber wants to see, and what it may.

use std::collections::HashSet;

use serde::Deserialize;

use crate::domain::ids::{CustomerId, DeviceSn};
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
}

impl Filter {
    pub fn check(&self, vitals_devices_max: usize) -> Result<(), FilterError> {
        match &self.devices {
            None if self.vitals => Err(FilterError::VitalsWithoutDevices),
            Some(devices) if self.vitals && devices.len() > vitals_devices_max => {
                Err(FilterError::TooManyDevices(vitals_devices_max))
            }
            _ => Ok(()),
        }
    }

    /// True if an alert of this kind passes.
    pub fn passes(&self, severity: Severity, customer: &CustomerId, device: &DeviceSn) -> bool {
        self.severity.as_ref().is_none_or(|list| list.contains(&severity))
            && self.min_severity.is_none_or(|least| severity >= least)
            && self.customer_id.as_ref().is_none_or(|own| own == customer)
            && self.devices.as_ref().is_none_or(|devices| devices.contains(device))
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
    pub fn shows(&self, severity: Severity, customer: &CustomerId, device: &DeviceSn) -> bool {
        self.scope.allows(customer) && self.filter.passes(severity, customer, device)
    }

    pub fn shows_vitals(&self, customer: &CustomerId) -> bool {
        self.scope.allows(customer) && self.filter.customer_id.as_ref().is_none_or(|own| own == customer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Filter, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn parts_narrow_together_and_none_lets_everything_through() {
        let (customer, device) = (CustomerId::parse("c1").unwrap(), DeviceSn::parse("w1").unwrap());
        assert!(Filter::default().passes(Severity::Info, &customer, &device));
        let filter = parse(r#"{"min_severity":"high","customer_id":"c1","devices":["w1"]}"#).unwrap();
        assert!(filter.passes(Severity::Critical, &customer, &device));
        assert!(!filter.passes(Severity::Medium, &customer, &device));
        assert!(!filter.passes(Severity::High, &CustomerId::parse("c2").unwrap(), &device));
        assert!(!filter.passes(Severity::High, &customer, &DeviceSn::parse("w2").unwrap()));
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
        assert!(!view.shows(Severity::Critical, &other, &device));
        assert!(!view.shows(Severity::Critical, &own, &device));
        assert!(!view.shows_vitals(&other));
    }
}
