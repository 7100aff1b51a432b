//! The commands that speak to a running server. Each answers the text to print, but for
//! [`watch::watch`], which prints as it goes.

pub mod bindings;
pub mod client;
pub mod login_link;
pub mod quarantine;
pub mod token;
pub mod watch;
mod watch_line;
