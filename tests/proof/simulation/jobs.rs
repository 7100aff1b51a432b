//! The writer with its mailbox, its blocking thread and what may go wrong there: what `writer::actor`
//! does round the core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use watchpost::config::WriterConfig;
use watchpost::storage::commit::WriteToken;
use watchpost::storage::database::StorageError;
use watchpost::supervision::link::Link;
use watchpost::writer::actor::token_slot;
use watchpost::writer::core::{Core, Effect};
use watchpost::writer::inbox::Inbox;
use watchpost::writer::job::{self, Announce, Done, Job, TokenSlot};
use watchpost::writer::messages::Administer;

use super::chance::trace;
use super::shards::ToWriter;
use super::template::{Fault, arm, database_in};
use super::world::{SHARDS, World};

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Commits,
    /// The connection is gone and cannot be opened anew.
    CannotOpen,
    Fails(Fault),
    /// It commits, and the writer is told that it failed.
    OutcomeLost,
    /// It commits, and the thread panics before anybody is told.
    PanicsBehindCommit,
}

/// Waits for the write connection; the first has it.
pub struct OnThread {
    incarnation: u64,
    job: Job,
    takes_over: bool,
}

enum End {
    TookOver,
    Done(Done),
    Panicked,
}

pub struct WriterSide {
    pub core: Core,
    config: WriterConfig,
    /// Outlives the core, as `wakes` in its mailbox do unless the actor dies unguarded.
    inbox: Inbox,
    wakes: Arc<AtomicUsize>,
    pub commands: VecDeque<Administer>,
    pub thread: VecDeque<OnThread>,
    /// Ended, and the writer has not heard of it.
    ends: VecDeque<End>,
    /// Waits for its next try.
    paused: Option<(Instant, Job)>,
    incarnation: u64,
    token: TokenSlot,
    pub announce: Announce,
}

impl WriterSide {
    pub fn new(config: WriterConfig, announce: Announce) -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let sent = wakes.clone();
        let inbox = Inbox::new(Link::to_fn("batch-writer", move |_| {
            sent.fetch_add(1, Ordering::AcqRel);
        }));
        Self {
            core: Core::new(config.clone(), SHARDS, announce.metrics.clone(), inbox.clone()),
            config,
            inbox,
            wakes,
            commands: VecDeque::new(),
            thread: VecDeque::new(),
            ends: VecDeque::new(),
            paused: None,
            incarnation: 0,
            token: token_slot(),
            announce,
        }
    }

    pub fn has_ended(&self) -> bool {
        !self.ends.is_empty()
    }

    pub fn is_woken(&self) -> bool {
        self.wakes.load(Ordering::Acquire) > 0
    }

    pub fn has_due(&self, now: Instant) -> bool {
        self.paused.as_ref().is_some_and(|(at, _)| *at <= now)
    }

    pub fn is_idle(&self) -> bool {
        self.core.is_idle()
            && !self.is_woken()
            && self.thread.is_empty()
            && self.ends.is_empty()
            && self.commands.is_empty()
    }

    fn take_over(&mut self) {
        self.thread.push_back(OnThread {
            incarnation: self.incarnation,
            job: Job::default(),
            takes_over: true,
        });
    }

    pub fn hand_overs(&self) -> i64 {
        self.announce.hand_overs.load(Ordering::Acquire)
    }
}

impl World {
    pub fn writer_begins(&mut self) {
        let writer = &mut self.server.writer;
        writer.core.restart_shards();
        writer.take_over();
        self.collect_writer();
    }

    fn collect_writer(&mut self) {
        let writer = &mut self.server.writer;
        for effect in writer.core.take_effects() {
            match effect {
                Effect::Run { job, pause } => {
                    let of: Vec<&str> =
                        job.batch.iter().map(|queued| queued.item.device_sn.as_str()).collect();
                    trace::note(format!("  the writer takes {of:?}, {} commands", job.commands.len()));
                    if pause.is_zero() {
                        let incarnation = writer.incarnation;
                        writer.thread.push_back(OnThread { incarnation, job, takes_over: false });
                    } else {
                        writer.paused = Some((self.now + pause, job));
                    }
                }
                Effect::TakeOver => writer.take_over(),
                Effect::Notify { shard, notice } => {
                    writer.announce.shards[shard].send(notice).expect("a link to a queue");
                }
            }
        }
    }

    /// Into the inbox. A job that runs may take it from there before the writer has heard of it.
    pub fn deliver_to_writer(&mut self, shard: usize) {
        match self.server.shards[shard].to_writer.pop_front() {
            Some(ToWriter::Batch(batch)) => self.server.writer.inbox.batch(batch),
            Some(ToWriter::Barrier(barrier)) => self.server.writer.inbox.barrier(barrier),
            None => {}
        }
    }

    pub fn wake_writer(&mut self) {
        let writer = &mut self.server.writer;
        writer.wakes.fetch_sub(1, Ordering::AcqRel);
        writer.core.incoming();
        self.collect_writer();
    }

    pub fn deliver_command(&mut self) {
        let writer = &mut self.server.writer;
        if let Some(command) = writer.commands.pop_front() {
            writer.core.command(command);
        }
        self.collect_writer();
    }

    pub fn try_again(&mut self) {
        let writer = &mut self.server.writer;
        if let Some((_, job)) = writer.paused.take() {
            let incarnation = writer.incarnation;
            writer.thread.push_back(OnThread { incarnation, job, takes_over: false });
        }
    }

    /// The first on the thread runs to its end.
    pub fn run_job(&mut self, fate: Fate) {
        let writer = &mut self.server.writer;
        let Some(OnThread { incarnation, job, takes_over }) = writer.thread.pop_front() else { return };
        let mut slot = writer.token.clone().try_lock_owned().expect("one at a time");
        let end = match fate {
            Fate::Commits => End::Done(job::run(slot, &self.database, job, &writer.announce)),
            Fate::Fails(fault) => {
                arm(&mut self.conn, Some(fault));
                let done = job::run(slot, &self.database, job, &writer.announce);
                arm(&mut self.conn, None);
                End::Done(done)
            }
            Fate::CannotOpen => {
                drop(slot.take());
                let nowhere = database_in(&self.dir.path().join("nowhere"));
                End::Done(job::run(slot, &nowhere, job, &writer.announce))
            }
            Fate::OutcomeLost | Fate::PanicsBehindCommit => {
                let token = slot.take().map_or_else(|| WriteToken::open(&self.database), Ok);
                let mut token = token.expect("a file to open");
                let entries = job::entries(&job.batch);
                token.commit(&entries).expect("a commit");
                drop(entries);
                if fate == Fate::OutcomeLost {
                    End::Done(Done {
                        failed: Some((job.batch, StorageError::Panicked("simulated".into()))),
                        ..Done::default()
                    })
                } else {
                    if self.chance.percent(50) {
                        writer.announce.watermark.advance(token.last_offset());
                    }
                    End::Panicked
                }
            }
        };
        if let End::Done(Done { failed: Some((batch, err)), .. }) = &end {
            let kind = std::mem::discriminant(err);
            trace::note(format!("  failed, {} items: {kind:?}", batch.len()));
        }
        if incarnation == writer.incarnation {
            let failed = !matches!(end, End::Done(Done { failed: None, .. }));
            writer.ends.push_back(if takes_over { End::TookOver } else { end });
            if takes_over && failed {
                writer.take_over();
            }
        }
    }

    pub fn writer_hears(&mut self) {
        let now = self.now;
        let core = &mut self.server.writer.core;
        match self.server.writer.ends.pop_front() {
            Some(End::TookOver) => core.taken_over(),
            Some(End::Done(done)) => core.finished(done, now),
            Some(End::Panicked) => core.panicked(),
            None => {}
        }
        self.collect_writer();
    }

    /// What runs on the thread goes on; what waits for the connection or for its next try goes.
    pub fn writer_dies(&mut self, guarded: bool) {
        if !guarded {
            self.server.writer.commands.clear();
            self.server.writer.wakes.store(0, Ordering::Release);
        }
        let began = self.chance.percent(70);
        let writer = &mut self.server.writer;
        writer.thread.truncate(usize::from(began));
        writer.ends.clear();
        writer.paused = None;
        writer.incarnation += 1;
        let (config, metrics) = (writer.config.clone(), writer.announce.metrics.clone());
        writer.core = Core::new(config, SHARDS, metrics, writer.inbox.clone());
        self.writer_begins();
    }

    /// The first on the thread carries a batch.
    pub fn has_batch_on_thread(&self) -> bool {
        self.server.writer.thread.front().is_some_and(|first| !first.job.batch.is_empty())
    }
}
