//! The database: diesel, and only here.
//!
//! One writer, many readers. Whoever wants to write sends a message to `writer`, which alone owns
//! the [`commit::WriteToken`]; reads go through [`database::Readers`].

pub mod alert_log;
pub mod alerts;
mod apply;
pub mod backup;
mod binding_rows;
pub mod bindings;
pub mod check;
pub mod checkpoint;
pub mod command;
pub mod commit;
mod conn;
pub mod database;
pub mod device_state;
pub mod devices;
pub mod events;
mod execute;
pub mod history;
mod messages;
pub mod migrate;
pub mod overview;
pub mod owners;
pub mod page;
#[cfg(feature = "postgres")]
mod postgres;
pub mod quarantine;
mod readers;
pub mod restore;
mod rows;
pub mod rules;
mod running;
pub mod schema;
mod slow;
#[cfg(feature = "postgres")]
pub mod standby;
mod statement;
mod token;
pub mod tokens;
mod trouble;
#[cfg(feature = "postgres")]
pub mod upkeep;
mod wal_frames;
#[allow(unsafe_code)]
mod wal_vfs;
