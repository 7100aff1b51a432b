//! Plain types of the field: identities, reports, records, rules, alerts and their state machine.
//!
//! Nothing here knows actix, diesel, tokio or a clock: time is always an argument. Everything in
//! this module can be built and compared in a unit test without setting anything up.

pub mod action;
pub mod alert;
pub mod days;
pub mod device;
pub mod event;
pub mod identity;
pub mod ids;
pub mod kept;
pub mod message;
pub mod owner;
pub mod presence;
pub mod recent;
pub mod record;
pub mod rule;
pub mod rule_seeds;
pub mod shortened;
pub mod status;
pub mod time;
pub mod vitals;
