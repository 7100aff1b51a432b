//! The commands that speak to a running server. Each answers the text to print.

pub mod bindings;
pub mod client;
pub mod login_link;
pub mod token;
