//! The doors: the only place that knows HTTP status codes.

pub mod alerts;
pub mod auth;
pub mod body;
pub mod credentials;
pub mod device_history;
pub mod devices;
pub mod error;
pub mod event_item;
pub mod events;
pub mod import;
pub mod intake;
pub mod observe;
pub mod overview;
pub mod paging;
pub mod pending;
pub mod post_events;
pub mod quarantine;
pub mod quarantine_desk;
pub mod ring;
pub mod routes;
pub mod rules;
pub mod sessions;
pub mod sse;
pub mod state;
pub mod system;
pub mod tokens;
pub mod watch;
pub mod watch_device;
pub mod watch_door;

pub use routes::configure;
pub mod stream;
