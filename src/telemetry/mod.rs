//! Logs, traces, and every figure of the process: the list of metrics with units and meanings, and
//! the pipeline's figures of the last seconds.

pub mod ages;
pub mod events;
pub mod histogram;
pub mod labels;
mod logging;
pub mod metrics;
pub mod observer;
#[cfg(feature = "otlp")]
mod otlp;
pub mod pipeline;
pub mod process;
pub mod reading;

pub use labels::{ActorLabels, KindLabels, RouteLabels};
pub use logging::init_logging;
pub use metrics::Metrics;
