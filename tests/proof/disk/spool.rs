//! The disk below the spool, while PostgreSQL is away and the file beside it is the only place that has
//! what was answered 200.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use testkit::DEADLINE;
use testkit::bodies::event;
use testkit::disk::{Disk, Fault};
use testkit::process::{admin_token, pass};
use testkit::scale::count;
use testkit::traffic::{Record, Traffic};
use testkit::truth::File;
use watchpost::config::StorageConfig;

use super::images::{Platter, read};
use super::power::{Mark, Recorded, WATCHES, answered_for, fail_power};
use crate::spool::{Scene, post, until_mirroring, until_spooling};
use crate::spool_damage::start_alone;

const DATABASE: &str = "standby.db";
/// Reports that PostgreSQL has before it goes away.
const BEFORE: u64 = 30;

/// Records a server that has PostgreSQL first, and then has not.
fn record(answered: usize) -> Recorded {
    let mut scene = Scene::new();
    let first = scene.start();
    let token = admin_token(scene.path());
    first.signal("-TERM");
    assert_eq!(first.wait(), (Some(0), String::new()));
    let platter = Platter::load(scene.path(), DATABASE);

    let disk = Disk::below(DATABASE);
    let limit = "storage.postgres_commit_limit_ms=1000";
    let process = disk.start(scene.path(), &[&scene.setting, limit, "telemetry.log=off"]);
    let (traffic, marks) = (Traffic::default(), Mutex::new(Vec::new()));
    let begin = std::thread::scope(|scope| {
        let traffic = &traffic;
        let _stop = traffic.until_dropped();
        for name in WATCHES {
            scope.spawn(|| traffic.watch(name));
        }
        scope.spawn(|| traffic.operate("ann", &token));
        traffic.point_to(Some(process.addr));
        traffic.until(BEFORE);
        scene.cluster.stop("-INT");
        until_spooling(&process, true);
        // From now on nothing else has what was answered, before and since.
        let spooling = Mark::of(&traffic.record(), &disk).recorded;
        let (begun, before) = (Instant::now(), traffic.answered());
        while traffic.answered() < before + answered as u64 {
            assert!(begun.elapsed() < 30 * DEADLINE, "{} of {answered} answered", traffic.answered());
            let mark = Mark::of(&traffic.record(), &disk);
            marks.lock().expect("no panic").push(mark);
            pass(Duration::from_micros(500));
        }
        process.kill();
        traffic.stop();
        traffic.point_to(None);
        spooling
    });
    let (steps, record) = (read(&disk.recording()), traffic.record().clone());
    Recorded { platter, steps, marks: marks.into_inner().expect("no panic"), record, begin }
}

/// A server starts on it without PostgreSQL, and knows what had been answered.
fn check_image(image: &Path, told: &Record) {
    let config = StorageConfig { data_dir: image.into(), ..StorageConfig::default() };
    start_alone(&config).expect("it starts");
    let mut file = File::open(&image.join(DATABASE));
    told.assert_stored(&mut file);
    file.assert_consistent();
}

#[test]
fn after_a_power_cut_at_any_instant_of_an_outage_the_spool_has_all_that_was_answered_200() {
    let images = count(50, 2_000);
    let recorded = record(answered_for(images));
    fail_power("power loss while it spools", images, recorded, |_, image, told| check_image(image, told));
}

/// Neither place takes anything: that is said, nothing is promised, and it goes on by itself.
fn fails(fault: Fault) {
    let mut scene = Scene::new();
    let disk = Disk::below(DATABASE);
    let process = disk.start(
        scene.path(),
        &[
            &scene.setting,
            "telemetry.log=off",
            "writer.retry_for_ms=500",
            "storage.postgres_commit_limit_ms=1000",
        ],
    );
    let item = |number: i64| event("W", "CALL_STATE", &number.to_string(), number);
    let mut stored = Vec::new();
    let mut try_it = |number: i64, wanted: u16| {
        let begun = Instant::now();
        loop {
            let (status, answer) = post(&process, &item(number));
            assert!([200, 503].contains(&status), "{answer}");
            if status == 200 {
                stored.push(answer["event_id"].as_str().expect("an id").to_owned());
            }
            if status == wanted {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{wanted} within {DEADLINE:?}: {answer}");
            pass(Duration::from_millis(50));
        }
    };
    try_it(1, 200);
    scene.cluster.stop("-INT");
    try_it(2, 200);
    until_spooling(&process, true);
    disk.begin(fault);
    for number in 3..6 {
        try_it(number, 503);
    }
    disk.end(fault);
    try_it(6, 200);
    scene.cluster.go_on();
    until_mirroring(&process);
    try_it(7, 200);
    process.signal("-TERM");
    assert_eq!(process.wait().0, Some(0));
    let mut file = File::of(scene.path());
    file.assert_holds(&stored);
    file.assert_consistent();
}

#[test]
fn while_the_disk_of_the_spool_is_full_nothing_is_promised_and_it_goes_on_by_itself() {
    fails(Fault::Full);
}

#[test]
fn while_the_disk_of_the_spool_fails_nothing_is_promised_and_it_goes_on_by_itself() {
    fails(Fault::Eio);
}
