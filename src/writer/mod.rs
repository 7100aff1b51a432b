//! BatchWriter: the only one who begins a write transaction.

pub mod client;
pub mod messages;
