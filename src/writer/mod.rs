//! BatchWriter: the only one who begins a write transaction.

pub mod actor;
pub mod backlog;
pub mod client;
pub mod core;
pub mod inbox;
pub mod job;
pub mod lanes;
pub mod messages;
