//! The database: diesel, and only here.
//!
//! One writer, many readers. Whoever wants to write sends a message to `writer`, which alone owns
//! the [`commit::WriteToken`]; reads go through [`database::Readers`].

pub mod alert_log;
pub mod alerts;
mod apply;
pub mod bindings;
pub mod checkpoint;
pub mod command;
pub mod commit;
pub mod database;
pub mod device_state;
pub mod devices;
pub mod events;
mod execute;
mod messages;
pub mod migrate;
pub mod owners;
pub mod page;
pub mod quarantine;
mod rows;
pub mod rules;
pub mod schema;
mod slow;
mod statement;
pub mod tokens;
