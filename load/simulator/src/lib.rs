//! Smart-watches as they behave on the wire, bugs included.
//!
//! A real watch keeps what it uploads in rings, empties a whole ring when one upload is answered 200,
//! and sends what is left again every 120 s, oldest first, until the first failure. A server can only be
//! trusted with such watches if it was tried with them. The rules are in this crate's README.md.
//!
//! [`Watch`] is the core: a value without I/O and without a clock. [`VirtualClock`] runs many of them in
//! simulated time against any server, with a [`Network`] that has gaps, outages and storms;
//! [`real_clock::run`] lets one speak HTTP over TCP.
//!
//! ```
//! use watch_simulator::{Answer, Kind, Occurrence, Profile, Watch};
//!
//! let mut now_ms = 1_757_480_730_000;
//! let mut watch = Watch::new(Profile::new("CRFTQ23409001890"), 7, now_ms);
//! watch.advance(now_ms);
//! let settings = watch.next_request().expect("it asks for its settings");
//! watch.answer(now_ms, settings.id, &Answer::Failed); // It goes on with what is built in.
//! watch.happen(now_ms, Occurrence::Sos);
//! while let Some(request) = watch.next_request() {
//!     watch.answer(now_ms, request.id, &Answer::status(200));
//! }
//! now_ms = watch.wakes_at();
//! watch.advance(now_ms);
//! assert!(watch.record().of(Kind::Event).all(|event| event.confirmed_ms.is_some()));
//! ```

mod body;
mod exchange;
mod messages;
mod network;
mod occurrence;
mod profile;
pub mod real_clock;
mod record;
mod ring;
mod settings;
mod timer;
mod virtual_clock;
mod watch;

pub use exchange::{Answer, Method, Purpose, Request, RequestId};
pub use network::{Network, Trouble, Window};
pub use occurrence::{Occurrence, SAME_TYPE_MS};
pub use profile::{Profile, Rates};
pub use record::{Item, Kind, Left, Record};
pub use ring::{CAPACITY_MAX, Ring, Waiting};
pub use settings::{Rejected, Settings};
pub use timer::{REPLAY_TICKS, TICK_MS};
pub use virtual_clock::{Arrival, VirtualClock};
pub use watch::Watch;
