//! Runs a target on damaged inputs from many threads. Not guided by coverage, which needs an
//! instrumented build: inputs that bring out an answer of a new kind are kept and damaged further.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use testkit::scale::{count, figure, is_long};

/// Of the short form, for each target.
const SHORT: Duration = Duration::from_secs(5);
/// Of the long form, for each target.
const EXECUTIONS: usize = 10_000_000;
/// Kept because they were answered in a new way.
const POOL_MAX: usize = 4_000;
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Between two looks at the clock and the pool.
const ROUND: u64 = 256;

/// Pieces that decoders look for.
const WORDS: [&str; 34] = [
    "{}",
    "[]",
    "null",
    "true",
    "\"\"",
    "0",
    "-1",
    "1e308",
    "9223372036854775808",
    "0.1",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{1F198}",
    "\"data\":",
    "\"healthData\":",
    "\"deviceSn\":",
    "\"eventType\":",
    "\"timestamp\":",
    "2025-09-10 13:05:24",
    "1757480724",
    "1757480724000",
    "2025-09-10T13:05:24+08:00",
    "SOS_EVENT",
    "heart_rate",
    "{\"data\":[",
    "]}",
    "\"batchEvents\":[",
    ",",
    ":",
    "\"type\":\"subscribe\"",
    "\r\n",
    "\"\"\"",
    "device_sn,",
];

struct Pool {
    inputs: Vec<Vec<u8>>,
    kinds: HashSet<u64>,
}

/// Replays `corpus`, then damages it. `target` panics at what must not be, and answers a number that
/// says what kind of answer the decoder gave.
pub fn fuzz(name: &str, corpus: Vec<Vec<u8>>, target: impl Fn(&[u8]) -> u64 + Sync) {
    assert!(!corpus.is_empty());
    let mut pool = Pool { inputs: Vec::new(), kinds: HashSet::new() };
    for input in corpus {
        pool.kinds.insert(tried(name, &target, &input));
        pool.inputs.push(input);
    }
    let seeds = pool.inputs.len();
    let wanted = count(0, EXECUTIONS) as u64;
    let (pool, done, begun) = (Mutex::new(pool), AtomicU64::new(0), Instant::now());
    let threads = if is_long() { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let enough = || match wanted {
        0 => begun.elapsed() >= SHORT,
        wanted => done.load(Ordering::Relaxed) >= wanted,
    };
    let seed = fastrand::u64(..);
    println!("{name}: seed {seed}");
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (pool, done, target, enough) = (&pool, &done, &target, &enough);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed ^ thread as u64);
                while !enough() {
                    let mine = pool.lock().unwrap_or_else(PoisonError::into_inner).inputs.clone();
                    for _ in 0..ROUND {
                        let input = damaged(&mine, &mut rng);
                        let kind = tried(name, target, &input);
                        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
                        if pool.inputs.len() < POOL_MAX && pool.kinds.insert(kind) {
                            pool.inputs.push(input);
                        }
                    }
                    done.fetch_add(ROUND, Ordering::Relaxed);
                }
            });
        }
    });
    let (pool, done) = (pool.into_inner().expect("no panic"), done.into_inner());
    assert!(done > 0 && pool.kinds.len() > 1, "{done} executions, {} kinds of answers", pool.kinds.len());
    figure(
        &format!("fuzz {name}: executions, inputs of the corpus, kinds of answers, s"),
        format!("{done}, {seeds}, {}, {:.0}", pool.kinds.len(), begun.elapsed().as_secs_f64()),
    );
}

fn tried(name: &str, target: &(impl Fn(&[u8]) -> u64 + Sync), input: &[u8]) -> u64 {
    catch_unwind(AssertUnwindSafe(|| target(input))).unwrap_or_else(|panic| {
        let path = std::env::temp_dir().join(format!("watchpost-fuzz-{name}-{}", fastrand::u32(..)));
        std::fs::write(&path, input).expect("the input is kept");
        eprintln!("{name}: the input is in {}: {}", path.display(), String::from_utf8_lossy(input));
        std::panic::resume_unwind(panic)
    })
}

/// One input of the pool with one to four injuries.
fn damaged(pool: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = pool[rng.usize(..pool.len())].clone();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..input.len() + 1);
        match rng.u8(..10) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 if at < input.len() => {
                let piece = b"\"\\{}[],:0-.e\n\r\0\xff\x80";
                input[at] = piece[rng.usize(..piece.len())];
            }
            3 => input.insert(at, rng.u8(..)),
            4 => {
                let word = WORDS[rng.usize(..WORDS.len())].bytes();
                input.splice(at..at, word);
            }
            5 => {
                let to = (at + rng.usize(..32)).min(input.len());
                input.drain(at..to);
            }
            6 => {
                let to = (at + rng.usize(..64)).min(input.len());
                let again = input[at..to].to_vec();
                let times = rng.usize(1..4);
                (0..times).for_each(|_| drop(input.splice(at..at, again.iter().copied())));
            }
            7 => {
                let other = &pool[rng.usize(..pool.len())];
                let from = rng.usize(..other.len() + 1);
                let to = (from + rng.usize(..128)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            8 => input.truncate(at),
            _ => {
                if let Some(digit) = (at..input.len()).find(|at| input[*at].is_ascii_digit()) {
                    input[digit] = b'0' + rng.u8(..10);
                }
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// The bytes of every file in a folder of the corpus, in order.
pub fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("a folder of the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && path.file_name().is_some_and(|name| name != ".gitattributes"))
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a file")).collect()
}
