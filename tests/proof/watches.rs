//! Two hundred simulated watches through outages, storms of 503 and gaps in coverage that the server
//! never notices: what was answered 200 is stored once, nothing is alerted twice, and with the ring
//! guard no watch throws away what it could not send.

mod fleet;
mod tally;

use fleet::Plan;
use tally::Tally;
use testkit::scale::{count, is_long};

/// Rounds of 14 simulated minutes: the long form is 4 hours.
fn rounds() -> i64 {
    if is_long() { 17 } else { 1 }
}

async fn runs(guard_silence_s: Option<u32>, gaps_only: bool) -> Vec<Tally> {
    let mut tallies = Vec::new();
    for seed in 1..=count(1, 5) as u64 {
        let plan = Plan { seed, guard_silence_s, rounds: rounds(), gaps_only };
        let tally = fleet::run(plan).await;
        tally.print();
        tallies.push(tally);
    }
    tallies
}

#[actix_web::test]
async fn watches_lose_events_by_their_own_clearing_and_nothing_else() {
    for tally in runs(None, false).await {
        // Otherwise this would prove nothing about the guard.
        for trouble in ["gap in coverage", "outage", "storm of 503"] {
            assert!(tally.lost.contains_key(trouble), "seed {}: no loss in {trouble}", tally.plan.seed);
        }
    }
}

#[actix_web::test]
async fn with_the_ring_guard_on_every_live_event_no_watch_loses_any() {
    for tally in runs(Some(0), false).await {
        let (seed, lost) = (tally.plan.seed, tally.lost_in_all);
        // Whoever loses one that no answer could have saved is rare enough for none in the short form.
        let excused = if is_long() { tally.by_replay.min(tally.made / 10_000) } else { 0 };
        assert!(lost <= excused, "seed {seed}: {lost} lost\n{}", tally.stories.join("\n"));
    }
}

/// A gap that fits between two polls looks like none, so only a guard of every live event is
/// complete. Of longer ones the guard misses nothing.
#[actix_web::test]
async fn a_ring_guard_that_waits_for_a_silence_loses_events_in_shorter_gaps_only() {
    const SILENCE_S: u32 = 90;
    for tally in runs(Some(SILENCE_S), true).await {
        let story = || format!("seed {}:\n{}", tally.plan.seed, tally.stories.join("\n"));
        assert_eq!(tally.gaps_ms.len(), tally.lost_in_all, "lost outside of gaps; {}", story());
        // What was on its way when the gap began still counts as heard.
        let limit_ms = i64::from(SILENCE_S) * 1_000 + 1_000;
        assert!(tally.gaps_ms.iter().all(|ms| *ms < limit_ms), "{:?}; {}", tally.gaps_ms, story());
    }
}
