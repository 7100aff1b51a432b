//! The promises, proved the hard way: crashes, floods, long outages. Each proof has a short form, and
//! a long one in `./tests/run --long`. Fail points are global, so each test wants a process of its
//! own; where a runner gives it none, `fail::FailScenario` makes them take turns.

mod abuse;
mod clock;
mod disk;
mod failpoints;
mod fuzz;
mod hand_over;
mod herd;
mod hostile;
mod kill;
#[cfg(feature = "postgres")]
mod pg_access;
#[cfg(feature = "postgres")]
mod pg_hand_over;
#[cfg(feature = "postgres")]
mod pg_kill;
#[cfg(feature = "postgres")]
mod pg_outage;
#[cfg(feature = "postgres")]
mod pg_readers;
#[cfg(feature = "postgres")]
mod pg_scene;
#[cfg(feature = "postgres")]
mod postgres;
mod shutdown;
mod simulation;
#[cfg(feature = "postgres")]
mod spool;
#[cfg(feature = "postgres")]
mod spool_bound;
#[cfg(feature = "postgres")]
mod spool_corners;
#[cfg(feature = "postgres")]
mod spool_damage;
#[cfg(feature = "postgres")]
mod spool_race;
#[cfg(feature = "postgres")]
mod spool_rate;
#[cfg(feature = "postgres")]
mod spool_return;
#[cfg(feature = "postgres")]
mod spool_salvage;
#[cfg(feature = "postgres")]
mod spool_tail;
mod watches;
