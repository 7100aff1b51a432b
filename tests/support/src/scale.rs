//! How much a proof does: the short form of every test run, or the long one of `./tests/run --long`.

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
