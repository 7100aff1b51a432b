//! Watchpost.

pub mod domain;
pub mod wire;
