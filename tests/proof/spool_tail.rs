//! The spool ends too early, at whatever byte: that is noticed and said, what precedes is kept, and
//! nothing panics. On copies of the file, in this process.

use std::collections::BTreeSet;
use std::path::Path;

use testkit::bodies::event;
use testkit::scale::{Random, figure, is_long};
use testkit::truth::File;

use super::spool::{Scene, post, until_spooling};
use super::spool_damage::{copy_dir, copy_of, hand_on, start_alone};

const SPOOLED: i64 = 40;
/// Of SQLite's formats: of the log, of a frame in it without its page, of a page.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const PAGE: usize = 4_096;
const FRAME: usize = FRAME_HEADER + PAGE;
/// Lengths that the short form tries besides the ends of frames, of the log and of the file.
const SAMPLED: usize = 8;
/// Last pages of the file that are cut.
const PAGES: usize = 2;
/// Last transactions of the log that are cut.
const TRANSACTIONS: usize = 1;

fn spooled() -> Scene {
    let mut scene = Scene::new();
    let process = scene.start();
    assert_eq!(post(&process, &event("before", "CALL_STATE", "0", 0)).0, 200);
    scene.cluster.stop("-INT");
    for number in 0..SPOOLED {
        // Each is a transaction.
        assert_eq!(post(&process, &event("spooled", "CALL_STATE", &number.to_string(), number)).0, 200);
    }
    until_spooling(&process, true);
    process.kill();
    scene.cluster.go_on();
    scene
}

/// Where transactions of the log end: those of its present use.
fn ends_of_transactions(log: &[u8]) -> Vec<usize> {
    let frames = log[HEADER..].chunks_exact(FRAME).enumerate();
    let present = frames.take_while(|(_, frame)| frame[8..16] == log[16..24]);
    let ends = present.filter(|(_, frame)| frame[4..8] != [0; 4]);
    ends.map(|(index, _)| HEADER + (index + 1) * FRAME).collect()
}

/// All lengths of a part, or some of them and those around each of `edges`.
fn lengths(
    from: usize,
    to: usize,
    edges: impl Iterator<Item = usize>,
    random: &mut Random,
) -> BTreeSet<usize> {
    if is_long() {
        return (from..to).collect();
    }
    let around = edges.flat_map(|edge| [edge.wrapping_sub(1), edge, edge + 1]);
    let sampled = (0..SAMPLED).map(|_| from + (random.number() % (to - from) as u64) as usize);
    around.chain(sampled.collect::<Vec<_>>()).filter(|length| (from..to).contains(length)).collect()
}

fn was_told(dir: &Path) -> bool {
    let mut names = std::fs::read_dir(dir).expect("a directory").filter_map(Result::ok);
    names.any(|entry| entry.file_name().to_string_lossy().contains(".damaged-"))
}

/// How many of the spooled events the file has. They are the first of them.
fn kept(dir: &Path) -> i64 {
    let mut file = File::open(&dir.join("standby.db"));
    let values =
        file.texts("SELECT value FROM event WHERE device_sn = 'spooled' ORDER BY CAST(value AS INTEGER)");
    let first: Vec<String> = (0..values.len()).map(|number| number.to_string()).collect();
    assert_eq!(values, first, "what precedes is kept");
    values.len() as i64
}

#[test]
fn a_log_that_ends_at_any_byte_is_noticed_and_what_precedes_is_kept() {
    let (scene, mut random) = (spooled(), Random::from_environment());
    let log = std::fs::read(scene.path().join("standby.db-wal")).expect("the log");
    let ends = ends_of_transactions(&log);
    let (&end, &start) = (ends.last().expect("a transaction"), &ends[ends.len() - 1 - TRANSACTIONS]);
    let frames = (start..=end).step_by(FRAME);
    let tried = lengths(start, end + 1, frames.chain([end - PAGE]), &mut random);
    let (mut least, mut told) = (0, 0);
    for &length in &tried {
        let dir = tempfile::tempdir().expect("a directory");
        copy_dir(scene.path(), dir.path());
        std::fs::write(dir.path().join("standby.db-wal"), &log[..length]).expect("a shorter log");
        let config = config_of(&dir);
        start_alone(&config).unwrap_or_else(|err| panic!("cut to {length}: {err}"));
        let lost = ends.iter().filter(|&&end| end > length).count() as i64;
        let kept = kept(dir.path());
        assert!(kept >= SPOOLED - lost && (lost > 0 || kept == SPOOLED), "cut to {length}: {kept} kept");
        assert!(kept >= least, "cut to {length}: with more of it less is kept");
        // Without its last transactions a log is as whole as it was before them.
        let whole = ends.contains(&length);
        assert_eq!(was_told(dir.path()), !whole, "cut to {length}: {kept} kept");
        (least, told) = (kept, told + usize::from(!whole));
    }
    assert!(least == SPOOLED, "the whole log has them all");
    figure("log of the spool cut: lengths tried, noticed", format!("{}, {told}", tried.len()));
}

fn config_of(dir: &tempfile::TempDir) -> watchpost::config::StorageConfig {
    watchpost::config::StorageConfig { data_dir: dir.path().into(), ..Default::default() }
}

#[test]
fn a_file_that_ends_at_any_byte_is_noticed_and_what_can_be_read_is_stored() {
    let (scene, mut random) = (spooled(), Random::from_environment());
    let whole = tempfile::tempdir().expect("a directory");
    copy_dir(scene.path(), whole.path());
    File::open(&whole.path().join("standby.db")).execute("PRAGMA wal_checkpoint(TRUNCATE)");
    let bytes = std::fs::read(whole.path().join("standby.db")).expect("the file");
    let from = bytes.len() - PAGES * PAGE;
    let tried = lengths(from, bytes.len(), (from..=bytes.len()).step_by(PAGE), &mut random);
    let mut stored = Vec::new();
    for (at, &length) in tried.iter().enumerate() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("standby.db"), &bytes[..length]).expect("a shorter file");
        let refused = start_alone(&config_of(&dir)).err();
        let refused = refused.unwrap_or_else(|| panic!("cut to {length} of {}: nobody noticed", bytes.len()));
        assert!(refused.contains("cannot start without its database"), "cut to {length}: {refused}");
        assert!(was_told(dir.path()), "cut to {length}: the file is kept");
        // With PostgreSQL the rest is stored: for some of them.
        if at % tried.len().div_ceil(4) == 0 {
            let (config, other) = copy_of(&scene, whole.path(), &format!("cut_{at}"));
            std::fs::write(other.path().join("standby.db"), &bytes[..length]).expect("a shorter file");
            hand_on(&config).unwrap_or_else(|err| panic!("cut to {length}: {err}"));
            let mut file = File::of(other.path());
            file.assert_consistent();
            stored.push(file.number("SELECT count(*) FROM event WHERE device_sn = 'spooled'"));
            assert_eq!(file.number("SELECT count(*) FROM event WHERE device_sn = 'before'"), 1);
        }
    }
    assert!(
        stored.iter().all(|stored| *stored <= SPOOLED) && stored.iter().any(|stored| *stored > 0),
        "{stored:?}"
    );
    figure(
        "file of the spool cut: lengths tried, all noticed; rows stored of those that were tried, each",
        format!("{}; {stored:?} of {SPOOLED}", tried.len()),
    );
}
