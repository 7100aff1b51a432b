//! What all sessions of a server work with.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::delivery::RegistryLinks;
use super::messages::{AlertShown, Epoch};
use super::revocations::Revocations;
use super::slots::SessionSlots;
use crate::config::SessionConfig;
use crate::domain::owner::Caller;
use crate::storage::database::StorageError;
use crate::supervision::clock::Clock;
use crate::supervision::link::Link;
use crate::telemetry::Metrics;

/// Says whose a token is; `None` if nobody's; an error if it cannot be said now.
pub type Authenticate =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<Option<Caller>, StorageError>> + Send + Sync>;

/// What the server is doing, as JSON: the `pipeline` of a `stats` frame.
pub type Stats = Arc<dyn Fn() -> Box<RawValue> + Send + Sync>;

/// What all sessions of a server work with.
#[derive(Clone)]
pub struct SessionDeps {
    pub config: SessionConfig,
    pub registry: RegistryLinks,
    pub shown: Link<AlertShown>,
    pub authenticate: Authenticate,
    pub revocations: Revocations,
    pub stats: Stats,
    /// Of the database that the offsets belong to.
    pub epoch: Epoch,
    pub slots: SessionSlots,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}
