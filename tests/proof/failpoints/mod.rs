//! Fail points: whatever panics, fails, waits or is lost, the promises hold.

mod budget;
mod dashboard;
mod fault;
mod load;
mod outcomes;
pub mod points;
mod rebuilt;
mod stage;
mod sweep;
