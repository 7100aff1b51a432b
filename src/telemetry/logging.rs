//! Logs to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. A second call in one process (tests) does nothing.
pub fn init_logging(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|err| format!("telemetry.log: {err}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error here only says that a subscriber is already installed.
    let _ = if json { builder.json().try_init() } else { builder.compact().try_init() };
    Ok(())
}
