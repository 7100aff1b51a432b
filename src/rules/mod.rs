//! Alert rules: the set, its evaluation, and RuleCache, its only owner and publisher.

pub mod actor;
pub mod evaluate;
pub mod messages;
pub mod set;
