//! Watchpost takes in what smart-watches send, decides by rule which of it is an alert, stores
//! everything, and puts a critical alert on the right screens within milliseconds.
//!
//! # The path of an event
//!
//! ```text
//!  watch                                              dashboard
//!    | POST /upload_common_event                         ^ WebSocket frames
//!    v                                                   |
//!  api::watch          bytes, size                    session::actor      one per client
//!    | wire::decode    dialects -> DeviceReport          ^
//!    v                                                   | only what is due, by offset
//!  ingest::admission   permit, or 503                 session::registry_actor
//!    v                                                   ^   open alerts, recent changes
//!  ingest::router      device -> shard                   |
//!    v                                                   |
//!  device::actor       duplicate? rules, alert changes   |
//!    v WriteBatch                                        |
//!  writer::actor       one transaction at a time --------+
//!    |                                         Publish, after the commit
//!    +-- receipts: 200
//! ```
//!
//! The receipt of a report is answered after the transaction with it has committed and been synced
//! to disk, and only then does a screen learn of it.
//!
//! # Modules
//!
//! Each uses only those above it; `tests/architecture` checks it.
//!
//! | module | idea |
//! | --- | --- |
//! | [`domain`] | plain types: ids, events, vitals, rules, alerts and their state machine |
//! | [`telemetry`] | logs, every metric in one list, the figures of the last seconds |
//! | [`config`] | a struct per concern; file, environment, flags |
//! | [`supervision`] | guarded handlers, restart budgets, links between actors, permits, the clock |
//! | [`wire`] | the dialects of watches and phones: bytes to reports |
//! | [`storage`] | the database, and the only place with SQL |
//! | [`session`] | the registry of open alerts and recent changes; an actor per WebSocket |
//! | [`writer`] | BatchWriter: the one who writes |
//! | [`rules`] | RuleCache, and evaluation as a pure function |
//! | [`device`] | DeviceActors: shards that decide over their devices |
//! | [`ingest`] | admission by importance; device to shard; the ring guard |
//! | [`api`] | the watch API, the REST API, the door of the stream: all HTTP status codes |
//! | [`dashboard`] | the operators' page, embedded |
//! | [`cli`] | the commands that speak to a running server, over REST |
//! | [`app`] | puts it all together; order of start and stop |
//! | [`demo`] | a server with simulated watches, to look at |
//!
//! # What is not there
//!
//! - `domain` and `wire` know no actor, no database and no clock: time is an argument.
//! - Nothing but [`writer`] writes to the database once the server runs; nothing but [`storage`]
//!   knows diesel; only two of its files begin a write transaction.
//! - No handler waits for another actor; nothing blocks an actor's thread.
//! - No queue is without a bound: what may come in numbers carries a permit or has a limit in
//!   [`config`].
//! - No address of an actor is kept: every edge is a [`supervision::link::Link`], which is pointed
//!   at the new actor when one had to be built.
//! - Nothing that a watch claims about its customer scopes anything; a binding does.
//! - No global state: two servers in one process do not notice each other.
//!
//! ARCHITECTURE.md in the repository goes on from here.

#![deny(unsafe_code)]

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod dashboard;
pub mod demo;
pub mod device;
pub mod domain;
pub mod ingest;
pub mod rules;
pub mod session;
pub mod storage;
pub mod supervision;
pub mod telemetry;
pub mod wire;
pub mod writer;
