//! Device shards: the only ones who decide over their devices.

pub mod actor;
pub mod bindings;
pub mod decide;
pub mod duplicates;
pub mod effects;
pub mod judge;
pub mod loading;
pub mod messages;
pub mod outbox;
pub mod shard;
pub mod states;
pub mod strangers;
pub mod waiting;
