//! Two hundred simulated watches through outages, storms of 503 and gaps in coverage that the server
//! never notices: what was answered 200 is stored once, nothing is alerted twice, and with the ring
//! guard no watch throws away what it could not send.

mod fleet;
mod tally;

use fleet::Plan;
use tally::Tally;
use testkit::scale::{count, is_long};

/// Rounds of 14 simulated minutes: the long form is 12 hours.
fn rounds() -> i64 {
    if is_long() { 51 } else { 1 }
}

async fn runs(guard_silence_s: Option<u32>) -> Vec<Tally> {
    let mut tallies = Vec::new();
    for seed in 1..=count(1, 5) as u64 {
        let tally = fleet::run(Plan { seed, guard_silence_s, rounds: rounds() }).await;
        tally.print();
        tallies.push(tally);
    }
    tallies
}

#[actix_web::test]
async fn watches_lose_events_by_their_own_clearing_and_nothing_else() {
    for tally in runs(None).await {
        // Otherwise this would prove nothing about the guard.
        assert!(tally.lost_in_all > 0, "seed {}: the troubles are too small", tally.plan.seed);
    }
}

#[actix_web::test]
async fn with_the_ring_guard_on_every_live_event_no_watch_loses_any() {
    for tally in runs(Some(0)).await {
        assert_eq!(tally.lost_in_all, 0, "seed {}:\n{}", tally.plan.seed, tally.stories.join("\n"));
    }
}
