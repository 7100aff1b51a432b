//! The database: diesel, and only here.
//!
//! One writer, many readers. Whoever wants to write sends a message to `writer`, which alone owns
//! the [`commit::WriteToken`]; reads go through [`database::Readers`].

pub mod alert_log;
pub mod command;
pub mod database;
pub mod migrate;
pub mod rules;
pub mod schema;
