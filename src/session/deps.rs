//! What all sessions of a server work with.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::delivery::RegistryLinks;
use super::messages::AlertShown;
use super::slots::SessionSlots;
use crate::config::SessionConfig;
use crate::domain::owner::Caller;
use crate::supervision::clock::Clock;
use crate::supervision::link::Link;
use crate::telemetry::Metrics;

/// Says whose a token is; `None` if nobody's.
pub type Authenticate = Arc<dyn Fn(String) -> BoxFuture<'static, Option<Caller>> + Send + Sync>;

/// What all sessions of a server work with.
#[derive(Clone)]
pub struct SessionDeps {
    pub config: SessionConfig,
    pub registry: RegistryLinks,
    pub shown: Link<AlertShown>,
    pub authenticate: Authenticate,
    pub slots: SessionSlots,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}
