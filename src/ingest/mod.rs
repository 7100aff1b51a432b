//! The gate: what is let in, and to which shard it goes.

pub mod admission;
pub mod ring_guard;
pub mod router;
