//! A whole server under a virtual clock: the real cores of shards, rules, writer, storage and registry,
//! with made-up watches, operators and screens round them. A scheduler picks the next step by chance
//! from a seed, crashes and failed transactions among them; then everything is calm until nothing is left
//! to do, and the promises are looked at in the file, in what was answered and on the screens.
//!
//! A seed is a whole history: the same seed is the same steps. `WATCHPOST_TESTS_SEED=n` runs that one
//! and prints its steps.

mod chance;
mod jobs;
mod operators;
mod promises;
mod screens;
mod sessions;
mod shards;
mod steps;
mod template;
mod watches;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use testkit::scale;

use chance::trace;
use template::Template;
use world::World;

/// Steps by chance in one history, before everything is calm.
const STEPS: usize = 260;
/// After so many failed histories there is enough to look at.
const FAILURES_MAX: usize = 10;
/// Tests that share the seeds, so that several processors work.
const PARTS: u64 = 4;

/// Seeds that once found a fault of the server, and what it was.
const FOUND: [(u64, &str); 7] = [
    (165, "a new writer took what a shard had decided on changes that the old writer had lost"),
    (13, "an older wear report that an urgent one had overtaken was written over it"),
    (461, "a commit of an earlier incarnation let a state be loaded before an emergency was stored"),
    (576, "an emergency that was stored before raised a second alert when it was decided without state"),
    (632, "an emergency of a device that had no row yet was not known after a crash"),
    (754, "of two wear reports of one second the one that was decided first was stored last"),
    (5, "an emergency whose device's owner was not sure was missing in the state that was there"),
];

/// Runs a history; what remains of it is the hash of its steps.
fn run(seed: u64, template: &Template) -> u64 {
    trace::begin();
    let history = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, template);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm_down();
        world.assert_promises();
    }));
    if let Err(panic) = history {
        eprintln!(
            "seed {seed} failed at step {}; its last steps:\n{}\nreplay: WATCHPOST_TESTS_SEED={seed} \
             cargo nextest run --all-features -E 'test(simulation)' --no-capture",
            trace::steps(),
            trace::last_lines()
        );
        resume_unwind(panic);
    }
    trace::hash()
}

/// The seed to replay, if one was asked for.
fn asked_for() -> Option<u64> {
    let seed = std::env::var("WATCHPOST_TESTS_SEED").ok()?;
    Some(seed.parse().expect("WATCHPOST_TESTS_SEED is a number"))
}

fn run_part(part: u64) {
    let template = Template::new();
    if let Some(seed) = asked_for() {
        if seed % PARTS == part {
            trace::print_all();
            run(seed, &template);
        }
        return;
    }
    let seeds = scale::count(1_000, 200_000) as u64;
    let mut failed = Vec::new();
    for seed in (0..seeds).filter(|seed| seed % PARTS == part) {
        if catch_unwind(AssertUnwindSafe(|| run(seed, &template))).is_err() {
            failed.push(seed);
        }
        assert!(failed.len() < FAILURES_MAX, "seeds {failed:?} failed; see above");
    }
    assert!(failed.is_empty(), "seeds {failed:?} of {seeds} failed; see above");
    scale::figure(&format!("simulated histories without a broken promise, part {part}"), seeds / PARTS);
}

#[test]
fn histories_keep_every_promise_part_0() {
    run_part(0);
}

#[test]
fn histories_keep_every_promise_part_1() {
    run_part(1);
}

#[test]
fn histories_keep_every_promise_part_2() {
    run_part(2);
}

#[test]
fn histories_keep_every_promise_part_3() {
    run_part(3);
}

#[test]
fn the_same_seed_is_the_same_history() {
    let template = Template::new();
    for seed in 5_000..5_010 {
        assert_eq!(run(seed, &template), run(seed, &template), "seed {seed}");
    }
}

#[test]
fn histories_that_found_a_fault_stay_sound() {
    let template = Template::new();
    for (seed, fault) in FOUND {
        eprintln!("seed {seed}: {fault}");
        run(seed, &template);
    }
}
