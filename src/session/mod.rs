//! Dashboards: the registry of open alerts and recent changes, and one actor per socket.
//!
//! ```text
//! writer -- Publish (a hint) --> SessionRegistry -- one hand-over at a time --> SessionActor --> socket
//! storage <-- what no hint brought, or a resume from far back --+     <-- Pull when written --+
//! ```

pub mod actor;
pub mod audience;
pub mod client;
pub mod delivery;
pub mod deps;
pub mod filter;
pub mod frames;
pub mod inbound;
pub mod interest;
pub mod live_log;
pub mod messages;
pub mod open_alerts;
pub mod outbound;
pub mod pending;
pub mod pulls;
pub mod registry;
pub mod registry_actor;
pub mod revocations;
pub mod ring;
pub mod seen;
pub mod slots;
pub mod socket;
pub mod sse;
