//! Watchpost.

pub mod domain;
