//! Device shards: the only ones who decide over their devices.

pub mod messages;
