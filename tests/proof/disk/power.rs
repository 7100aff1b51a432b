//! Power loss: a server's writes and fsyncs are recorded under load, and from them are made the files
//! that a power cut at any instant could have left. Each is opened by the code that a start runs.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::disk::{Disk, Fault};
use testkit::process::{Process, admin_token, connect, pass, request};
use testkit::scale::{Random, count, figure};
use testkit::traffic::{Record, Traffic};
use testkit::truth::File;
use watchpost::config::StorageConfig;
use watchpost::domain::rule_seeds;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::commit::WriteToken;
use watchpost::storage::database::Database;
use watchpost::storage::{check, migrate};

use super::images::{DAMAGES, Platter, Step, read};

pub const WATCHES: [&str; 4] = ["W0", "W1", "W2", "W3"];
/// Requests of watches answered 200 while it is recorded, for each image. The recording stays in memory.
const ANSWERED_PER_IMAGE: usize = 2;
const ANSWERED_MAX: usize = 1_500;
/// One image in so many is also served from.
const SERVED: usize = 100;

const DATABASE: &str = "watchpost.db";

/// How much of the record had been answered when the recording was so long.
pub struct Mark {
    pub recorded: u64,
    events: usize,
    alerts: usize,
    vitals: usize,
    actions: usize,
}

impl Mark {
    /// The length is taken last: what was answered had been recorded before.
    pub fn of(record: &Record, disk: &Disk) -> Self {
        let (events, alerts) = (record.events.len(), record.alerts.len());
        let (vitals, actions) = (record.vitals.len(), record.actions.len());
        Self { recorded: disk.recorded(), events, alerts, vitals, actions }
    }

    fn cut(&self, record: &Record) -> Record {
        Record {
            events: record.events[..self.events].to_vec(),
            alerts: record.alerts[..self.alerts].to_vec(),
            vitals: record.vitals[..self.vitals].to_vec(),
            actions: record.actions[..self.actions].to_vec(),
            ..Record::default()
        }
    }
}

pub struct Recorded {
    /// What was there before.
    pub platter: Platter,
    pub steps: Vec<Step>,
    pub marks: Vec<Mark>,
    pub record: Record,
    /// Where power fails: anywhere after so much was recorded.
    pub begin: u64,
}

/// So many requests are answered while it is recorded.
pub fn answered_for(images: usize) -> usize {
    (images * ANSWERED_PER_IMAGE).clamp(100, ANSWERED_MAX)
}

/// Records a server under load until so many requests were answered 200, with fsyncs that fail now
/// and then, or without.
fn record(answered: usize, faulty: bool) -> Recorded {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Process::start(dir.path());
    let token = admin_token(dir.path());
    first.signal("-TERM");
    assert_eq!(first.wait(), (Some(0), String::new()));
    let platter = Platter::load(dir.path(), DATABASE);

    let disk = Disk::below(DATABASE);
    // What was admitted before anybody knew of a fault is given up sooner than in earnest.
    let process = disk.start(dir.path(), &["telemetry.log=off", "writer.retry_for_ms=500"]);
    let (traffic, marks) = (Traffic::default(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let traffic = &traffic;
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate("ann", &token));
        traffic.point_to(Some(process.addr));
        let begun = Instant::now();
        let mut faults = 0;
        while traffic.answered() < answered as u64 {
            assert!(begun.elapsed() < 30 * DEADLINE, "{} of {answered} answered", traffic.answered());
            let mark = Mark::of(&traffic.record(), &disk);
            marks.lock().expect("no panic").push(mark);
            pass(Duration::from_micros(500));
            if faulty && traffic.answered() > faults * answered as u64 / 6 {
                faults += 1;
                fail_fsync(&disk, traffic);
            }
        }
        process.kill();
        traffic.stop();
        traffic.point_to(None);
    });
    let record = traffic.record().clone();
    let (steps, marks) = (read(&disk.recording()), marks.into_inner().expect("no panic"));
    // After the server had begun to answer.
    let begin = marks.iter().find(|mark| mark.events > 0).expect("answers").recorded;
    Recorded { platter, steps, marks, record, begin }
}

/// Until something was refused because of it.
fn fail_fsync(disk: &Disk, traffic: &Traffic) {
    let (begun, refused) = (Instant::now(), traffic.record().refused);
    disk.begin(Fault::Eio);
    while traffic.record().refused == refused {
        assert!(begun.elapsed() < DEADLINE, "an fsync that fails is noticed within {DEADLINE:?}");
        pass(Duration::from_millis(1));
    }
    disk.end(Fault::Eio);
}

/// Opens an image as a start does, and compares it with what had been answered by then.
fn check_image(image: &Path, told: &Record) {
    let config = StorageConfig { data_dir: image.into(), ..StorageConfig::default() };
    let database = Database::from_config(&config).expect("a path");
    let opened = migrate::prepare(&database, &rule_seeds::seeds(), UtcMillis(1)).expect("it opens");
    assert!(opened.stopped_uncleanly && !opened.newly_created);
    let last = WriteToken::open(&database).expect("a writer").last_offset();
    let findings = check::whole(&database).expect("it can be read");
    assert_eq!((findings.faults, findings.last_offset), (vec![], last));
    let mut file = File::of(image);
    told.assert_stored(&mut file);
    file.assert_consistent();
}

/// A whole server starts on it and takes an SOS.
fn serve_image(image: &Path) {
    let process = Process::start(image);
    let mut stream = connect(process.addr).expect("a connection");
    let sos = r#"{"eventType":"SOS_EVENT","eventValue":"after","deviceSn":"AFTER"}"#;
    let (status, answer) = request(&mut stream, "POST /upload_common_event", sos).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
    File::of(image).assert_consistent();
}

fn images(what: &str, faulty: bool, share: usize) {
    let images = (count(200, 2_000) / share).max(1);
    let recorded = record(answered_for(images), faulty);
    let lost = fail_power(what, images, recorded, |index, image, told| {
        check_image(image, told);
        if index % SERVED == 0 {
            serve_image(image);
        }
    });
    assert_eq!(faulty, lost > 0, "{lost} writes were lost by fsyncs that failed");
}

/// Makes images of what was recorded, and hands each to `check` with what had been answered by then. Tells
/// how many writes were lost by fsyncs that failed.
pub fn fail_power(
    what: &str,
    images: usize,
    recorded: Recorded,
    mut check: impl FnMut(usize, &Path, &Record),
) -> usize {
    let mut random = Random::from_environment();
    let Recorded { mut platter, steps, marks, record, begin } = recorded;
    assert!(record.odd.is_empty(), "{:?}", record.odd);
    let first = steps.iter().position(|step| step.ends > begin).expect("writes");
    let mut cuts: Vec<usize> =
        (0..images).map(|_| first + random.number() as usize % (steps.len() - first)).collect();
    cuts.sort_unstable();
    let (mut done, mut doubtful, mut compared, mut lost) = (0, 0, 0, 0);
    let mut cuts = cuts.into_iter().enumerate().peekable();
    for (number, step) in steps.iter().enumerate() {
        platter.step(step);
        while let Some((index, _)) = cuts.next_if(|(_, cut)| *cut == number) {
            let damage = DAMAGES[index % DAMAGES.len()];
            let image = tempfile::tempdir().expect("a directory");
            doubtful += platter.fail(damage, &mut random, image.path());
            let told =
                marks.iter().rev().find(|mark| mark.recorded <= step.ends).map(|mark| mark.cut(&record));
            let told = told.unwrap_or_default();
            compared += told.events.len() + told.vitals.len() + told.actions.len();
            check(index, image.path(), &told);
            (done, lost) = (done + 1, platter.lost);
        }
    }
    assert_eq!(done, images);
    assert!(doubtful > 0 && compared > 0, "something was in doubt, and something was promised");
    let megabytes = steps.last().map_or(0, |step| step.ends) / 1_000_000;
    figure(&format!("{what}: calls recorded, MB"), format!("{}, {megabytes}", steps.len()));
    figure(&format!("{what}: images that open and are sound, acknowledged lost"), format!("{done}, 0"));
    figure(&format!("{what}: acknowledged items compared, over all images"), compared);
    figure(&format!("{what}: unsynced writes dropped, reordered or torn, over all images"), doubtful);
    figure(&format!("{what}: writes that failed fsyncs had lost"), lost);
    lost
}

#[test]
fn after_a_power_cut_at_any_instant_the_file_opens_and_holds_all_that_was_answered_200() {
    images("power loss", false, 1);
}

/// The writer must not take for stored what a failed fsync has dropped.
#[test]
fn after_fsyncs_that_failed_a_power_cut_takes_nothing_that_was_answered_200() {
    images("power loss after EIO", true, 4);
}
