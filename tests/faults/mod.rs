//! What may go wrong: too much at once, writes that fail, actors that die, processes that are
//! stopped or killed, configurations that cannot be meant.

mod admission;
mod backlog;
mod backup;
mod bench;
mod clock;
mod compiled;
mod config;
mod give_up;
mod guard;
mod held;
mod notices;
mod order;
mod shard;
mod start;
mod strangers;
mod tools;
mod traces;
mod writer;
