//! BatchWriter: the only one who begins a write transaction.

pub mod actor;
pub mod backlog;
pub mod checkpoints;
pub mod client;
pub mod core;
pub mod inbox;
pub mod job;
pub mod lanes;
pub mod messages;
mod outage;
