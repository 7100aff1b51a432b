//! Every decoder of what strangers send, on bodies of the corpus that were damaged at random: it
//! answers, keeps its limits, and means the same when asked again.
//!
//! `tests/corpus` is replayed first, byte for byte. An input that brings a target down is written to
//! the temporary directory, and named: put it into `tests/corpus/fuzz/TARGET/`, and it stays replayed.

#[path = "fuzz/engine.rs"]
mod engine;
#[path = "fuzz/targets.rs"]
mod targets;
