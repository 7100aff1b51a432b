//! Dashboards: what a subscriber sees, whatever is lost, late or slow.

mod dashboard;
mod history;
mod javascript;
mod model;
mod server;
mod stream;
mod trouble;
mod world;
