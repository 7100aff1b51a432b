//! Logs to stderr, and spans to a collector where that is built in.
//!
//! Spans follow a report from its request over its shard to the transaction: `request` holds
//! `report`, which holds `decide` and ends with its commit; `batch`, with `commit` in it, follows
//! from the reports that it stores. All are at DEBUG, and cost a comparison each while that is off.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What must be kept as long as the process runs; dropped, it sends what is left.
#[cfg(feature = "otlp")]
pub type Tracing = Option<super::otlp::Export>;
/// Nothing is exported by this build.
#[cfg(not(feature = "otlp"))]
#[derive(Debug, Default)]
pub struct Tracing(());

/// Starts logging to stderr, and exporting spans if `otlp_endpoint` is not empty. A second call in
/// one process (tests) does nothing.
pub fn init_logging(filter: &str, json: bool, otlp_endpoint: &str) -> Result<Tracing, String> {
    let filter = EnvFilter::try_new(filter).map_err(|err| format!("telemetry.log: {err}"))?;
    #[cfg(feature = "otlp")]
    if !otlp_endpoint.is_empty() {
        return exporting(filter, json, otlp_endpoint).map(Some);
    }
    #[cfg(not(feature = "otlp"))]
    if !otlp_endpoint.is_empty() {
        return Err("telemetry.otlp_endpoint: this build has no OTLP; build it with --features otlp".into());
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error here only says that a subscriber is already installed.
    let _ = if json { builder.json().try_init() } else { builder.compact().try_init() };
    Ok(Tracing::default())
}

/// The log is filtered as configured; spans of this program are exported whatever the log shows.
#[cfg(feature = "otlp")]
fn exporting(filter: EnvFilter, json: bool, endpoint: &str) -> Result<super::otlp::Export, String> {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{Layer, Registry};

    let export = super::otlp::Export::to(endpoint)?;
    let ours = Targets::new().with_target("watchpost", LevelFilter::DEBUG);
    let spans = tracing_opentelemetry::layer().with_tracer(export.tracer()).with_filter(ours);
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let log: Box<dyn Layer<Registry> + Send + Sync> = match json {
        true => to_stderr.json().with_filter(filter).boxed(),
        false => to_stderr.compact().with_filter(filter).boxed(),
    };
    // An error here only says that a subscriber is already installed.
    let _ = tracing_subscriber::registry().with(log).with(spans).try_init();
    Ok(export)
}
