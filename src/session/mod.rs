//! Dashboards: the registry of open alerts and recent changes, and one actor per socket.

pub mod messages;
