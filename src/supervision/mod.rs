//! What keeps actors alive and bounded: links that survive them, guarded handlers, the restart
//! budget, permits, the clock.
//!
//! The reasons are measured properties of actix 0.13.5: a panic in a handler kills the actor *and*
//! its `Supervisor`, its mailbox closes for ever and `do_send` to it is silent; mailbox capacity
//! bounds nothing once an address is cloned; a supervised actor restarts without any back-off.

pub mod clock;
pub mod failpoint;
pub mod guard;
pub mod health;
pub mod link;
pub mod outage;
pub mod permits;
pub mod restarts;
pub mod root;
