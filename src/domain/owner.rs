//! Whose a device is, and what a caller may see.

use serde::{Deserialize, Serialize};

use super::ids::{BindingId, CustomerId, OrgId, PersonId};
use super::time::UtcMillis;

/// Whom a device's binding gives it to. Ids in a watch body never change this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub binding_id: BindingId,
    pub customer_id: CustomerId,
    pub org_id: Option<OrgId>,
    pub org_name: Option<Box<str>>,
    pub person_id: Option<PersonId>,
    pub person_name: Option<Box<str>>,
}

impl Owner {
    /// An unbound device belongs to the default customer, whose staff see its alerts.
    pub fn unbound() -> Self {
        Self {
            binding_id: BindingId::UNBOUND,
            customer_id: CustomerId::default_customer(),
            org_id: None,
            org_name: None,
            person_id: None,
            person_name: None,
        }
    }

    pub fn is_bound(&self) -> bool {
        self.binding_id != BindingId::UNBOUND
    }
}

/// What a caller may see. Every query and every frame takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything: the administrator.
    All,
    /// What belongs to one customer.
    Customer(CustomerId),
}

impl Scope {
    pub fn allows(&self, customer: &CustomerId) -> bool {
        match self {
            Scope::All => true,
            Scope::Customer(own) => own == customer,
        }
    }

    /// The customer to filter a list by if only `asked` is wanted: `None` within for all, and without
    /// if that one is nobody whom the caller may see.
    pub fn narrowed<'a>(&'a self, asked: Option<&'a CustomerId>) -> Option<Option<&'a CustomerId>> {
        match (self.customer(), asked) {
            (Some(own), Some(asked)) if own != asked => None,
            (own, asked) => Some(own.or(asked)),
        }
    }

    /// The customer to filter by, `None` for all.
    pub fn customer(&self) -> Option<&CustomerId> {
        match self {
            Scope::All => None,
            Scope::Customer(own) => Some(own),
        }
    }
}

/// Who a token belongs to.
#[derive(Debug, Clone)]
pub struct Caller {
    pub token_id: String,
    pub name: String,
    pub scope: Scope,
    /// When the token ends by itself.
    pub expires: Option<UtcMillis>,
}
