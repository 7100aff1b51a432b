//! Each fail point under load: once, then again and again.

use std::time::Duration;

use testkit::scale;

use super::fault::{Panics, Passes};
use super::points::{self, Point, Reached};
use super::stage::Stage;

/// Long enough that a thread that is held up holds up others; short enough for every timeout.
const DELAY: &str = "1*sleep(30)";

impl Stage {
    /// Brings about what leads to the point. Answers what it cost in restarts of the same actor.
    async fn lead_to(&self, point: &Point) -> u64 {
        match point.reached {
            Reached::Load => 0,
            Reached::Reconnect => {
                self.dashboard.hang_up();
                0
            }
            Reached::Restart(at) => {
                let other = Panics::arm(at, 1);
                other.wait_for(1).await;
                let same = points::ALL.iter().flat_map(|group| group.iter());
                let there = same.into_iter().find(|there| there.name == at).expect("a point");
                u64::from(!point.restarts.is_empty() && there.restarts == point.restarts)
            }
        }
    }

    /// One panic; whoever died is back, with one restart.
    async fn panic_once(&self, point: &Point) {
        let before = self.restarts(point.restarts);
        let panics = Panics::arm(point.name, 1);
        let more = self.lead_to(point).await;
        panics.wait_for(1).await;
        drop(panics);
        let expected = before + more + u64::from(!point.restarts.is_empty());
        if !point.restarts.is_empty() {
            let what = format!("{} is back after {}", point.restarts, point.name);
            testkit::eventually(&what, || async {
                (self.restarts(point.restarts) >= expected && self.app.state.board.all_running())
                    .then_some(())
            })
            .await;
            assert_eq!(self.restarts(point.restarts), expected, "{}", point.name);
        }
    }

    /// Another action, once: the point is passed after it was armed.
    async fn act_once(&self, point: &Point, action: &str) {
        fail::cfg(point.name, action).expect("an action");
        self.lead_to(point).await;
        self.load.progress(10).await;
        let passes = Passes::count(point.name);
        self.lead_to(point).await;
        testkit::eventually(point.name, || async { (passes.passed() > 0).then_some(()) }).await;
    }

    async fn sweep(&mut self, point: &Point) {
        self.panic_once(point).await;
        self.check().await;

        let (times, apart_ms) = if scale::is_long() { (10, 1_000) } else { (3, 200) };
        // What leads there is a restart too: half as often.
        let apart_ms = if matches!(point.reached, Reached::Restart(_)) { apart_ms * 2 } else { apart_ms };
        let mut rhythm = tokio::time::interval(Duration::from_millis(apart_ms));
        rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        rhythm.tick().await;
        for _ in 0..times {
            rhythm.tick().await;
            self.panic_once(point).await;
        }
        if point.returns {
            self.act_once(point, "1*return").await;
        }
        self.act_once(point, DELAY).await;
        self.check().await;
    }
}

async fn sweep_all(group: &[Point]) {
    let mut stage = Stage::set().await;
    for point in group {
        let begun = std::time::Instant::now();
        stage.sweep(point).await;
        println!("{} held in {:.1} s", point.name, begun.elapsed().as_secs_f64());
    }
    stage.strike().await;
}

#[actix_web::test]
async fn nothing_breaks_when_the_doors_fail() {
    sweep_all(points::DOORS).await;
}

#[actix_web::test]
async fn nothing_breaks_when_a_shard_fails() {
    sweep_all(points::SHARDS).await;
}

#[actix_web::test]
async fn nothing_breaks_when_the_writer_fails() {
    sweep_all(points::WRITERS).await;
}

#[actix_web::test]
async fn nothing_breaks_when_a_transaction_fails() {
    sweep_all(points::JOBS).await;
}

#[actix_web::test]
async fn nothing_breaks_when_the_rule_cache_fails() {
    sweep_all(points::RULE_CACHE).await;
}

#[actix_web::test]
async fn nothing_breaks_when_the_registry_or_a_session_fails() {
    sweep_all(points::SESSIONS).await;
}
