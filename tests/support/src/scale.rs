//! How much a proof does: the short form of every test run, or the long one of `./tests/run --long`.

use std::time::Duration;

/// True in the long form.
pub fn is_long() -> bool {
    std::env::var_os("WATCHPOST_TESTS_LONG").is_some_and(|value| value == "1")
}

/// How often to do something. `WATCHPOST_TESTS_COUNT` wins over both, for a single test.
pub fn count(short: usize, long: usize) -> usize {
    let wanted = std::env::var("WATCHPOST_TESTS_COUNT").ok();
    let wanted = wanted.map(|text| text.parse().expect("WATCHPOST_TESTS_COUNT is a number"));
    wanted.unwrap_or(if is_long() { long } else { short })
}

/// A figure that a proof found. The long form shows them all at its end.
pub fn figure(what: &str, value: impl std::fmt::Display) {
    println!("figure: {what}: {value}");
}

/// Median and largest of some times.
pub fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let of = |index: usize| times.get(index).map_or(0, Duration::as_millis);
    format!("p50 {} ms, max {} ms", of(times.len() / 2), of(times.len().saturating_sub(1)))
}

/// Chance that can be had again: SplitMix64.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From `WATCHPOST_TESTS_SEED`, else from the clock. Prints the seed.
    pub fn from_environment() -> Self {
        let wanted = std::env::var("WATCHPOST_TESTS_SEED").ok();
        let wanted = wanted.map(|text| text.parse().expect("WATCHPOST_TESTS_SEED is a number"));
        let seed = wanted.unwrap_or_else(|| {
            let since = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
            u64::from(since.subsec_nanos()) ^ since.as_secs()
        });
        println!("WATCHPOST_TESTS_SEED={seed}");
        Self::new(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1, 1 excluded.
    pub fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }
}
