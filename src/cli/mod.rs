//! The subcommands that talk to a running server.

pub mod watch;
mod watch_line;
