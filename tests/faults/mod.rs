//! What may go wrong: too much at once, writes that fail, actors that die, processes that are
//! stopped or killed, configurations that cannot be meant.

mod admission;
mod give_up;
mod guard;
mod process;
mod start;
mod stop;
mod tools;
