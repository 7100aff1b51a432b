//! Chance from a seed, and the record of what it chose.

/// SplitMix64: small, and the same everywhere.
pub struct Chance(u64);

impl Chance {
    pub fn from_seed(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5157_a7c4_9057_0001)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// One of them, by weight.
    pub fn weighted<T>(&mut self, mut all: Vec<(usize, T)>) -> Option<T> {
        let total: usize = all.iter().map(|(weight, _)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.below(total);
        let index = all.iter().position(|(weight, _)| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        index.map(|index| all.swap_remove(index).1)
    }
}

/// The steps of the history that this thread runs.
pub mod trace {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::hash::{DefaultHasher, Hash, Hasher};

    const LINES_KEPT: usize = 40;

    #[derive(Default)]
    struct Trace {
        lines: VecDeque<String>,
        hasher: DefaultHasher,
        steps: usize,
        print: bool,
    }

    thread_local! {
        static TRACE: RefCell<Trace> = RefCell::default();
    }

    pub fn begin() {
        TRACE.with_borrow_mut(|trace| *trace = Trace { print: trace.print, ..Trace::default() });
    }

    /// Prints what is noted, from here on.
    pub fn print_all() {
        TRACE.with_borrow_mut(|trace| trace.print = true);
    }

    pub fn step() {
        TRACE.with_borrow_mut(|trace| trace.steps += 1);
    }

    pub fn note(line: String) {
        TRACE.with_borrow_mut(|trace| {
            line.hash(&mut trace.hasher);
            let line = format!("{:>5} {line}", trace.steps);
            if trace.print {
                eprintln!("{line}");
            }
            trace.lines.push_back(line);
            if trace.lines.len() > LINES_KEPT {
                trace.lines.pop_front();
            }
        });
    }

    pub fn steps() -> usize {
        TRACE.with_borrow(|trace| trace.steps)
    }

    pub fn last_lines() -> String {
        TRACE.with_borrow(|trace| trace.lines.iter().map(|line| format!("  {line}\n")).collect())
    }

    pub fn hash() -> u64 {
        TRACE.with_borrow(|trace| trace.hasher.finish())
    }
}
