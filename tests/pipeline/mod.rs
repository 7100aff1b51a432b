//! What the pipeline as a whole promises to watches and to those who watch the screens.

mod alerts;
mod defects;
mod duplicates;
mod figures;
mod loading;
mod main_job;
mod metrics;
mod operators;
mod poison;
mod quarantine;
mod replay_window;
mod ring_guard;
mod rules;
mod tenants;
mod vitals;
mod watch_endpoints;
