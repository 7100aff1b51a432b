//! The database: diesel, and only here.
//!
//! One writer, many readers. Whoever wants to write sends a message to `writer`, which alone owns
//! the [`commit::WriteToken`]; reads go through [`database::Readers`].

mod apply;
pub mod command;
pub mod commit;
pub mod database;
pub mod device_state;
pub mod migrate;
pub mod owners;
mod rows;
pub mod rules;
pub mod schema;
