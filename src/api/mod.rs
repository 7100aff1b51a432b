//! The doors: the only place that knows HTTP status codes.

pub mod state;
pub mod stream;
