//! Two hundred watches, what happens to them, and the server they talk to.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use testkit::{DEADLINE, NOW, TestApp, eventually};
use watch_simulator::{
    Answer, Arrival, Method, Network, Profile, Rates, Trouble, VirtualClock, Watch, Window,
};
use watchpost::config::Config;
use watchpost::domain::time::UtcMillis;
use watchpost::supervision::permits::Priority;

use super::tally::Tally;

pub const WATCHES: usize = 200;
const S: i64 = 1_000;
const MINUTE: i64 = 60 * S;

/// What a run consists of. Times are minutes of simulated time.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    /// `watch.ring_guard`, and the silence after which it arms, in seconds.
    pub guard_silence_s: Option<u32>,
    /// An outage, a storm and gaps come once in each of these.
    pub rounds: i64,
    /// No outage and no storm: the server has no other hint than the silence of a watch.
    pub gaps_only: bool,
}

const ROUND: i64 = 14 * MINUTE;
const OUTAGE_AT: i64 = 3 * MINUTE;
const STORM_AT: i64 = 8 * MINUTE;
const TROUBLE_FOR: i64 = 60 * S;
const GAP_MS: std::ops::RangeInclusive<i64> = 15 * S..=4 * MINUTE;
/// When an event may meet its trouble, after it was made.
pub const ON_ITS_WAY_MS: [i64; 4] = [0, 200, 400, 10_200];
/// After the last round nothing happens any more, and what waits is sent again.
const SETTLE: i64 = 5 * MINUTE;

impl Plan {
    fn adjust(self, config: &mut Config) {
        // Half of what it is by default: the records are not what this is about.
        config.watch.upload_health_interval_s = 120;
        config.watch.ring_guard = self.guard_silence_s.is_some();
        if let Some(silence_s) = self.guard_silence_s {
            config.watch.ring_guard_silence_s = silence_s;
        }
    }

    fn watches(self) -> Vec<Watch> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let rates = Rates { sos_s: 900, one_key_s: 900, fall_s: 900, wear_s: 600, ordinary_s: 120 };
        (0..WATCHES)
            .map(|n| {
                // Most clocks are right to 2 s; every fourth is wrong by up to 10 minutes.
                let most_ms = if n % 4 == 0 { 10 * MINUTE } else { 2 * S };
                let clock_offset_ms = rng.i64(-most_ms..=most_ms);
                let profile = Profile {
                    clock_offset_ms,
                    has_location: n % 10 != 0,
                    rates,
                    ..Profile::new(format!("SIM{:013}", n))
                };
                Watch::new(profile, self.seed << 16 | n as u64, NOW.0 + rng.i64(0..MINUTE))
            })
            .collect()
    }

    /// Two gaps per watch and round, of 15 s to 4 minutes.
    fn network(self) -> Network {
        let mut network = Network::new(WATCHES, self.seed);
        let mut rng = fastrand::Rng::with_seed(!self.seed);
        network.lose_answers(5);
        for round in 0..self.rounds {
            let begin_ms = NOW.0 + round * ROUND;
            if !self.gaps_only {
                network.outage(Window::new(begin_ms + OUTAGE_AT, TROUBLE_FOR));
            }
            for watch in 0..WATCHES {
                for _ in 0..2 {
                    let at_ms = begin_ms + MINUTE + rng.i64(0..8 * MINUTE);
                    network.gap(watch, Window::new(at_ms, rng.i64(GAP_MS)));
                }
            }
        }
        network
    }

    /// The trouble that kept an event back, as words: it may begin while the event is on its way, and
    /// the event of a wear change waits for a device report before it.
    pub fn trouble(self, network: &Network, watch: usize, made_ms: i64) -> &'static str {
        let storms = |at_ms: i64| Window::new(STORM_AT, TROUBLE_FOR).contains((at_ms - NOW.0) % ROUND);
        let at = |at_ms: i64| match network.trouble_at(watch, at_ms) {
            Some(Trouble::Gap) => Some("gap in coverage"),
            Some(_) => Some("outage"),
            None if !self.gaps_only && storms(at_ms) => Some("storm of 503"),
            None => None,
        };
        ON_ITS_WAY_MS.into_iter().find_map(|ms| at(made_ms + ms)).unwrap_or("no trouble")
    }
}

/// A watch's request over HTTP on a kept connection; the server's clock goes along.
fn deliver(
    client: &Rc<awc::Client>,
    app: &TestApp,
    arrival: Arrival,
) -> impl Future<Output = Answer> + use<> {
    app.hand.store(arrival.at_ms, Ordering::Relaxed);
    let (client, url, request) = (client.clone(), app.url(&arrival.request.target), arrival.request);
    async move {
        let head = match request.method {
            Method::Get => client.get(url),
            Method::Post => client.post(url).content_type("application/json; charset=UTF-8"),
        };
        let sent = match request.authorization {
            Some(text) => head.insert_header(("Authorization", text)),
            None => head,
        };
        let mut response =
            sent.send_body(request.body.unwrap_or_default()).await.expect("the server answers");
        let body = response.body().await.expect("a whole answer").to_vec();
        Answer::Status { status: response.status().as_u16(), body }
    }
}

async fn run_until(clock: &mut VirtualClock, end_ms: i64, app: &TestApp) {
    // One per phase: no connection of it is left when the server stops.
    let client = Rc::new(awc::Client::builder().timeout(DEADLINE).finish());
    clock.run_until(end_ms, |arrival| deliver(&client, app, arrival)).await;
}

/// Runs the whole plan, and compares what the watches know with the file.
pub async fn run(plan: Plan) -> Tally {
    let mut app = TestApp::start_with(|config| plan.adjust(config)).await;
    for watch in 0..WATCHES / 4 {
        app.bind(&format!("SIM{watch:013}"), &json!({"customer_id": "mine", "person_id": watch.to_string()}))
            .await;
    }
    let mut clock = VirtualClock::new(plan.watches(), plan.network(), NOW.0);
    for round in 0..plan.rounds {
        let begin_ms = NOW.0 + round * ROUND;
        if !plan.gaps_only {
            run_until(&mut clock, begin_ms + OUTAGE_AT, &app).await;
            app = outage(plan, &mut clock, app).await;
            run_until(&mut clock, begin_ms + STORM_AT, &app).await;
            storm(&mut clock, &app).await;
        }
        run_until(&mut clock, begin_ms + ROUND, &app).await;
    }
    clock.watches.iter_mut().for_each(Watch::quieten);
    run_until(&mut clock, NOW.0 + plan.rounds * ROUND + SETTLE, &app).await;
    let dir = app.stop().await;
    Tally::of(plan, &clock, &dir.path().join("data"))
}

/// The server is gone for a minute: stopped, and started again on the same data.
async fn outage(plan: Plan, clock: &mut VirtualClock, app: TestApp) -> TestApp {
    let dir: Arc<tempfile::TempDir> = app.stop().await;
    let end_ms = clock.now_ms() + TROUBLE_FOR;
    let nobody = |arrival: Arrival| async move { panic!("{arrival:?} reached a server that is not there") };
    clock.run_until(end_ms, nobody).await;
    TestApp::start_in(dir, UtcMillis(end_ms), |config| plan.adjust(config)).await
}

/// For a minute there is no room at all: the server's own admission answers 503 to everything.
async fn storm(clock: &mut VirtualClock, app: &TestApp) {
    let pool = &app.state.admission.pool;
    let all = pool.capacity_kib() as usize * 1_024;
    let held =
        eventually("no report is under way", || async { pool.acquire(Priority::CriticalBound, all).ok() })
            .await;
    run_until(clock, clock.now_ms() + TROUBLE_FOR, app).await;
    drop(held);
}
