//! The disk below the database: its power fails, it is full, its fsync fails. What was answered 200
//! is there afterwards, what cannot be promised is refused clearly, and it goes on by itself.

#[path = "disk/commit.rs"]
mod commit;
#[path = "disk/images.rs"]
mod images;
#[path = "disk/outage.rs"]
mod outage;
#[path = "disk/power.rs"]
mod power;
#[cfg(feature = "postgres")]
#[path = "disk/spool.rs"]
mod spool;
