//! Dashboards: what a subscriber sees, whatever is lost, late or slow.

mod dashboard;
mod description;
mod ended;
mod history;
mod javascript;
mod model;
mod pending;
mod reconnects;
mod replaced;
mod server;
mod sse;
mod stream;
mod trouble;
mod world;
mod writes;
