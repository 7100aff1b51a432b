//! The watches: what each is like, what it did before, and its life from now on.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::http::Method;
use tokio::task::JoinSet;
use watch_simulator::real_clock::{self, Options};
use watch_simulator::{Occurrence, Profile, Rates, Watch};

use super::people;
use crate::cli::client::{CliError, Client};
use crate::domain::time::UtcMillis;

/// Means over the whole fleet, seconds: what a screen can show without wearing anybody out.
const SOS_EVERY_S: u64 = 120;
const FALL_EVERY_S: u64 = 300;
const ONE_KEY_EVERY_S: u64 = 900;
const ORDINARY_EVERY_S: u64 = 45;
/// Mean for one watch, of those that are taken off now and then, seconds.
const WEAR_EVERY_S: u64 = 1_800;
/// Watches are not switched on all at once.
const SWITCHED_ON_WITHIN_MS: u64 = 8_000;
/// Degrees between two measurements: somebody walks.
const STRIDE_DEG: f64 = 0.000_8;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// What was buffered, as time between two measurements: a day closely, the week before coarsely.
const CLOSELY_MS: i64 = 10 * MINUTE_MS;
const COARSELY_MS: i64 = HOUR_MS;
/// Harmless things that happened within the last two days, for each watch.
const LATE_EVENTS: i64 = 6;
const LATE_EVENT_EVERY_MS: i64 = 8 * HOUR_MS;

const HEALTH: &str = "/upload_health_data";
const EVENTS: &str = "/upload_common_event";
/// Late uploads are tried again so often, with a pause, if the server says "not now".
const ATTEMPTS_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Kinds of watches, by their number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Ordinary,
    /// Goes onto its charger at once.
    Charging,
    LowBattery,
    /// Is taken off and put on again.
    Restless,
    /// Has sent what it had, and says nothing more.
    FallsSilent,
    /// Is bound to somebody and has never been switched on.
    InItsBox,
}

fn life(watch: u32) -> Life {
    match watch % 20 {
        3 => Life::LowBattery,
        6 => Life::Charging,
        7 => Life::FallsSilent,
        13 => Life::InItsBox,
        1 | 5 | 9 | 11 | 15 => Life::Restless,
        _ => Life::Ordinary,
    }
}

/// Dropping it switches all watches off.
pub struct Fleet {
    watches: u32,
    now: UtcMillis,
    running: JoinSet<()>,
}

impl Fleet {
    pub fn new(watches: u32, now: UtcMillis) -> Self {
        Self { watches, now, running: JoinSet::new() }
    }

    /// Binds the watches to people, switches them on, presses one SOS, and has every watch send what
    /// it had buffered. The watches go on when this is done.
    pub async fn live(&mut self, client: &Client, server: SocketAddr) -> Result<(), CliError> {
        let csv = people::bindings(self.watches).into_bytes();
        client.send(Method::POST, "/api/v1/bindings/import", "text/csv", csv).await?;
        for watch in
            (0..self.watches).filter(|watch| !matches!(life(*watch), Life::FallsSilent | Life::InItsBox))
        {
            self.switch_on(watch, server);
        }
        let mut first = self.watch(0);
        first.go_on_from(&self.past(0).watch);
        let sos = first.late_event(self.now.0, Occurrence::Sos);
        post(client, EVENTS, sos).await?;
        let heard_of = (0..self.watches).filter(|watch| life(*watch) != Life::InItsBox);
        // Charts of a day are looked at first.
        for watch in heard_of.clone() {
            let Past { day, watch: mut past, .. } = self.past(watch);
            post(client, HEALTH, day).await?;
            for step in (1..=LATE_EVENTS).rev() {
                let at_ms = self.now.0 - step * LATE_EVENT_EVERY_MS + i64::from(watch % 60) * MINUTE_MS;
                let what = if step % 2 == 0 { Occurrence::Call } else { Occurrence::DoubleClick };
                post(client, EVENTS, past.late_event(at_ms, what)).await?;
            }
        }
        for watch in heard_of {
            post(client, HEALTH, self.past(watch).week).await?;
        }
        Ok(())
    }

    fn watch(&self, watch: u32) -> Watch {
        Watch::new(profile(watch, self.watches), u64::from(watch) + 1, self.now.0)
    }

    /// The same each time it is asked for.
    fn past(&self, watch: u32) -> Past {
        Past::of(profile(watch, self.watches), u64::from(watch) + 1, self.now)
    }

    fn switch_on(&mut self, watch: u32, server: SocketAddr) {
        let after_ms = SWITCHED_ON_WITHIN_MS * u64::from(watch) / u64::from(self.watches);
        let mut simulated = self.watch(watch);
        let (profile, seed, now) = (profile(watch, self.watches), u64::from(watch) + 1, self.now);
        let start_ms = self.now.0 + after_ms as i64;
        self.running.spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            simulated.go_on_from(&Past::of(profile, seed, now).watch);
            let options = Options { server, start_ms, speed: 1.0 };
            real_clock::run(simulated, options, std::future::pending()).await;
        });
    }
}

/// What a watch has measured in the days before, and the watch as it was then.
struct Past {
    /// But the last day.
    week: String,
    day: String,
    watch: Watch,
}

impl Past {
    fn of(profile: Profile, seed: u64, now: UtcMillis) -> Self {
        let mut watch = Watch::new(Profile { battery_percent: None, ..profile }, seed, now.0);
        let week = watch.late_records(times(now, (7 * DAY_MS, DAY_MS), COARSELY_MS));
        let day = watch.late_records(times(now, (DAY_MS, 0), CLOSELY_MS));
        Self { week, day, watch }
    }
}

/// Times from so long ago until so long ago, in order.
fn times(now: UtcMillis, (from_ago_ms, to_ago_ms): (i64, i64), every_ms: i64) -> impl Iterator<Item = i64> {
    let first = now.0 - from_ago_ms;
    (0..(from_ago_ms - to_ago_ms) / every_ms).map(move |step| first + step * every_ms)
}

fn profile(watch: u32, watches: u32) -> Profile {
    let fleet = u64::from(watches);
    let life = life(watch);
    Profile {
        stride_deg: STRIDE_DEG,
        battery_percent: match life {
            Life::Charging => Some(4.0),
            Life::LowBattery => Some(9.0 + f64::from(watch % 5)),
            _ => None,
        },
        rates: Rates {
            sos_s: SOS_EVERY_S * fleet,
            one_key_s: ONE_KEY_EVERY_S * fleet,
            fall_s: FALL_EVERY_S * fleet,
            wear_s: if life == Life::Restless { WEAR_EVERY_S } else { 0 },
            ordinary_s: ORDINARY_EVERY_S * fleet,
        },
        ..Profile::new(people::serial(watch))
    }
}

async fn post(client: &Client, path: &str, body: String) -> Result<(), CliError> {
    for _ in 1..ATTEMPTS_MAX {
        match client.send(Method::POST, path, "application/json", body.clone().into_bytes()).await {
            Err(CliError::Problem(_)) => tokio::time::sleep(PAUSE).await,
            done => return done.map(drop),
        }
    }
    client.send(Method::POST, path, "application/json", body.into_bytes()).await.map(drop)
}
