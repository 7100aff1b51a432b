//! The writer's job takes the next batch itself, from the lanes that it shares with the writer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use watchpost::session::messages::Publish;
use watchpost::storage::command::Command;
use watchpost::supervision::link::Link;
use watchpost::supervision::outage::OutageKind;
use watchpost::writer::actor::token_slot;
use watchpost::writer::backlog::{Backlog, More};
use watchpost::writer::inbox::Inbox;
use watchpost::writer::job::{self, Announce, Done, Job, TokenSlot};
use watchpost::writer::lanes::{Lanes, Queued};
use watchpost::writer::messages::{Administer, WriteBatch, WriteItem};

use super::bench::Answer;
use super::tools::WriteLock;
use super::writer::{Scene, decided};
use crate::support::{DEADLINE, NOW};

const ROWS: usize = 2;

/// Lanes that take of every shard, and a job on them.
struct Desk {
    scene: Scene,
    backlog: Backlog,
    token: TokenSlot,
}

impl Desk {
    fn new() -> Self {
        Self {
            scene: Scene::new(),
            backlog: Backlog::new(Lanes::default(), Inbox::unattended()),
            token: token_slot(),
        }
    }

    fn queue(&self, items: Vec<WriteItem>) {
        put(&self.backlog, items);
    }

    fn more(&self) -> More {
        More {
            backlog: self.backlog.clone(),
            rows_max: ROWS,
            bytes_max: usize::MAX,
            linger: Duration::from_millis(1),
        }
    }

    fn run(&self, batch: Vec<Queued>, announce: &Announce) -> Done {
        self.run_job(Job { batch, commands: Vec::new(), more: Some(self.more()) }, announce)
    }

    fn run_job(&self, job: Job, announce: &Announce) -> Done {
        let slot = self.token.clone().try_lock_owned().expect("nobody else has it");
        job::run(slot, &self.scene.database, job, announce)
    }

    /// What happens whenever a batch has committed.
    fn announce(&self, then: impl Fn() + Send + Sync + 'static) -> Announce {
        let registry = Link::to_fn("registry", move |_: Publish| then());
        Announce { registry, ..self.scene.announce.clone() }
    }

    fn waiting(&self) -> bool {
        !self.backlog.inbox().is_empty() || self.backlog.with(|lanes| !lanes.is_empty())
    }

    fn stored(&self) -> i64 {
        self.scene.file().number("SELECT count(*) FROM event")
    }
}

fn put(backlog: &Backlog, items: Vec<WriteItem>) {
    backlog.inbox().batch(WriteBatch { shard: 0, urgent: false, items });
}

fn answered(answers: &mut [Answer]) -> usize {
    answers.iter_mut().filter_map(super::bench::outcome).count()
}

#[test]
fn a_job_takes_batch_after_batch_and_what_comes_meanwhile_until_nothing_waits() {
    let desk = Desk::new();
    let (items, mut answers) = decided("A", &[1, 2, 3, 4, 5]);
    desk.queue(items);
    let (late, mut late_answers) = decided("B", &[1, 2]);
    let (late, backlog) = (Mutex::new(late), desk.backlog.clone());
    let announce = desk.announce(move || {
        let late = std::mem::take(&mut *late.lock().expect("no panic"));
        put(&backlog, late);
    });
    let done = desk.run(desk.more().take(), &announce);
    // Seven items, two at a time.
    assert!(done.failed.is_none());
    assert_eq!((done.batches, desk.backlog.taken(), desk.waiting()), (4, 7, false));
    assert_eq!((desk.stored(), answered(&mut answers), answered(&mut late_answers)), (7, 5, 2));
    desk.scene.file().assert_consistent();
}

#[test]
fn a_job_that_is_told_to_pause_ends_after_its_batch_and_leaves_the_rest_in_order() {
    let desk = Desk::new();
    let (items, mut answers) = decided("A", &[1, 2, 3, 4, 5]);
    desk.queue(items);
    let backlog = desk.backlog.clone();
    let announce = desk.announce(move || backlog.pause(true));
    let done = desk.run(desk.more().take(), &announce);
    assert!(done.failed.is_none());
    assert_eq!((done.batches, desk.backlog.taken(), desk.waiting()), (1, 2, true));
    assert_eq!((desk.stored(), answered(&mut answers)), (2, 2));
    assert!(desk.more().take().is_empty(), "nothing is handed out meanwhile");
    desk.backlog.pause(false);
    let done = desk.run(desk.more().take(), &desk.announce(|| {}));
    assert_eq!((done.batches, desk.stored(), answered(&mut answers)), (2, 5, 3));
    let causes =
        "SELECT replace(substr(cause, 7), '-', '') AS value FROM alert_change ORDER BY change_offset";
    let events = "SELECT lower(hex(event_id)) AS value FROM event ORDER BY occurred_ms";
    let mut file = desk.scene.file();
    assert_eq!(file.texts(causes), file.texts(events), "in the order in which they were decided");
    file.assert_consistent();
}

#[test]
fn a_batch_that_fails_comes_back_whole_and_what_waits_stays_where_it_is() {
    let desk = Desk::new();
    let (items, mut answers) = decided("A", &[1, 2, 3, 4, 5]);
    desk.queue(items);
    // Another process takes the file after the first batch.
    let (path, lock) = (desk.scene.database.path().to_path_buf(), Arc::new(Mutex::new(None)));
    let taken = lock.clone();
    let announce = desk.announce(move || {
        taken.lock().expect("no panic").get_or_insert_with(|| WriteLock::take(&path));
    });
    let done = desk.run(desk.more().take(), &announce);
    let (batch, err) = done.failed.expect("the second batch fails");
    assert_eq!((done.batches, batch.len(), desk.backlog.taken()), (1, 2, 4));
    assert!(desk.waiting() && err.outage().is_none(), "{err}");
    assert_eq!((desk.stored(), answered(&mut answers)), (2, 2));
    let token = desk.token.try_lock().expect("nobody else has it");
    assert!(token.is_none(), "a connection whose transaction failed is not used again");
    drop(token);
    lock.lock().expect("no panic").take().expect("the lock").release();
    let done = desk.run(batch, &desk.announce(|| {}));
    assert!(done.failed.is_none());
    assert_eq!((done.batches, desk.stored(), answered(&mut answers)), (2, 5, 3));
    desk.scene.file().assert_consistent();
}

#[test]
fn a_job_that_has_nothing_left_waits_for_the_next_batch_and_goes_when_something_else_is_to_be_done() {
    let desk = Desk::new();
    let more = More { linger: 10 * DEADLINE, ..desk.more() };
    let (announce, begun) = (desk.announce(|| {}), Instant::now());
    let done = std::thread::scope(|scope| {
        let job = scope.spawn(|| desk.run_job(Job { more: Some(more), ..Job::default() }, &announce));
        for device in ["A", "B"] {
            let (items, answers) = decided(device, &[1]);
            desk.queue(items);
            for answer in answers {
                answer.blocking_recv().expect("an answer");
            }
        }
        assert!(!job.is_finished(), "it waits for more");
        desk.backlog.pause(true);
        job.join().expect("no panic")
    });
    assert!(begun.elapsed() < DEADLINE, "nothing waits for the end of its patience");
    assert!(done.failed.is_none());
    assert_eq!((done.batches, desk.stored(), desk.waiting()), (2, 2, false));
}

/// What a full disk says, where only a probe meets it.
const NO_ROOM: &str = "CREATE TRIGGER no_room BEFORE INSERT ON meta WHEN new.key = 'write_probe' \
    BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";

#[test]
fn an_outage_lasts_until_a_probe_succeeds_whatever_else_commits() {
    let desk = Desk::new();
    let announce = desk.announce(|| {});
    let outage = &announce.outage;
    outage.begin(OutageKind::DiskFull, "test".into(), NOW, Instant::now());
    let (items, mut answers) = decided("A", &[1, 2]);
    desk.queue(items);
    desk.scene.file().execute(NO_ROOM);
    // As does a batch of nothing but duplicates, for which a full disk has room.
    let done = desk.run(desk.more().take(), &announce);
    assert!(done.failed.is_none() && outage.current().is_some());
    assert_eq!((done.batches, answered(&mut answers)), (1, 2));
    let (reply, answer) = tokio::sync::oneshot::channel();
    let command = Administer { command: Command::RevokeToken { token_id: "none".into() }, reply };
    desk.run_job(Job { commands: vec![command], ..Job::default() }, &announce);
    assert!(answer.blocking_recv().is_ok() && outage.current().is_some());

    desk.scene.file().execute("DROP TRIGGER no_room");
    let (items, mut answers) = decided("B", &[1]);
    desk.queue(items);
    desk.run(desk.more().take(), &announce);
    assert_eq!((outage.current(), answered(&mut answers)), (None, 1));
}
