//! Watchpost.

pub mod config;
pub mod domain;
pub mod supervision;
pub mod telemetry;
