//! Watchpost.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod dashboard;
pub mod device;
pub mod domain;
pub mod ingest;
pub mod rules;
pub mod session;
pub mod storage;
pub mod supervision;
pub mod telemetry;
pub mod wire;
pub mod writer;
