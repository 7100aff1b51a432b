//! The REST API and what it reads and writes, on a temporary SQLite file each.

mod actions;
mod bindings;
mod commands;
mod credentials;
mod device_reads;
mod import;
mod lists;
mod overview;
mod posting;
mod query_plans;
mod routes;
mod rows;
mod rules;
mod server;
mod store;
mod undecided;
