//! The session to the main database, on a thread of its own: nobody waits longer for it than he
//! wants to. While the file spools, the same thread hands on what it holds, since its session has
//! the lease.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use diesel::SqliteConnection;
use diesel::prelude::*;

use super::hand_on::{self, NotWritten};
use super::mirror::OwnedBatch;
use super::{Conflict, Standby, fill, journal, lock, poison, rejoin, start};
use crate::domain::ids::Offset;
use crate::domain::time::UtcMillis;
use crate::storage::command::{Command, CommandError, CommandReply, NewQuarantine};
use crate::storage::commit::{Committed, Session};
use crate::storage::database::{Conn, Database, StorageError};
use crate::storage::migrate;
use crate::storage::postgres::partitions;
use crate::supervision::guard::panic_text;
use crate::telemetry::KindLabels;

/// Lines of the log in one transaction of the main database.
const LINES: i64 = 2_000;
/// With fewer left the writer waits for the rest, between two batches.
const LINES_LEFT: u64 = 500;
/// Between two attempts to reach the main database.
const RETRY: Duration = Duration::from_millis(250);
/// Between two looks at an empty log.
const LOOK: Duration = Duration::from_millis(20);
/// The same complaint is not logged again before this.
const REMIND: Duration = Duration::from_secs(60);

/// A batch that the main database has.
pub struct Taken {
    pub committed: Committed,
    pub last: Offset,
    /// Rows of it that are to be put into quarantine.
    pub refused: Vec<NewQuarantine>,
}

pub enum Request {
    /// Opens the session, if there is none, and answers the last offset.
    Open(SyncSender<Result<Offset, StorageError>>),
    Commit(Arc<OwnedBatch>, SyncSender<Result<Taken, StorageError>>),
    Execute(Box<Command>, UtcMillis, SyncSender<Result<CommandReply, CommandError>>),
    /// Brings the mirror up to date.
    Refresh(UtcMillis, SyncSender<Result<(), StorageError>>),
    /// There is something to hand on.
    Drain,
    /// Hands on the rest until then; with it the main database has this last offset.
    Finish(Offset, Instant, SyncSender<Result<(), StorageError>>),
}

/// The writer's end. Dropping it ends the thread after what it has in work.
pub struct Remote(Sender<Request>);

impl Remote {
    pub fn start(main: &Database, standby: &Arc<Standby>) -> Result<Self, StorageError> {
        let (requests, incoming) = channel();
        let worker = Worker {
            main: main.clone(),
            standby: standby.clone(),
            session: None,
            file: None,
            verified: false,
            complained: None,
        };
        std::thread::Builder::new()
            .name("main-database".into())
            .spawn(move || worker.run(&incoming))
            .map_err(|err| StorageError::Unusable(format!("start a thread: {err}")))?;
        Ok(Self(requests))
    }

    /// The answer; `None` if it has not come within `limit`, whatever becomes of the request.
    pub fn ask<T>(&self, limit: Duration, request: impl FnOnce(SyncSender<T>) -> Request) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        self.0.send(request(reply)).ok()?;
        answer.recv_timeout(limit).ok()
    }

    pub fn drain(&self) {
        // Without the thread the next request says so.
        let _ = self.0.send(Request::Drain);
    }
}

struct Worker {
    main: Database,
    standby: Arc<Standby>,
    session: Option<Session>,
    /// Reads the log of the file.
    file: Option<SqliteConnection>,
    /// This session's database has no changes that are not known here.
    verified: bool,
    complained: Option<Instant>,
}

impl Worker {
    fn run(mut self, incoming: &Receiver<Request>) {
        let mut pause = Duration::ZERO;
        loop {
            let request = match self.standby.is_spooling() {
                true => incoming.recv_timeout(pause),
                false => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let request = match request {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Without this thread nothing would ever be handed on. Whoever waits for an answer is told
            // that there is none.
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(request)));
            pause = turn.unwrap_or_else(|panic| {
                tracing::error!("the session to the main database panicked: {}", panic_text(&*panic));
                if let Some(metrics) = self.standby.metrics() {
                    metrics.panics.get_or_create(&KindLabels { kind: "main-database" }).inc();
                }
                (self.session, self.file) = (None, None);
                RETRY
            });
        }
    }

    fn turn(&mut self, request: Option<Request>) -> Duration {
        if let Some(request) = request {
            self.serve(request);
        }
        match self.standby.is_spooling() {
            true => self.hand_on(),
            false => Duration::ZERO,
        }
    }

    fn serve(&mut self, request: Request) {
        // Whoever asked may have stopped waiting.
        match request {
            Request::Open(reply) => {
                let opened = self.session().map(|session| session.last_offset());
                drop(reply.send(opened));
            }
            Request::Commit(batch, reply) => {
                crate::fail_point!("standby::commit");
                let done = self.session().and_then(|session| {
                    let mut refused = Vec::new();
                    let committed = poison::commit(session, &batch.entries(), &mut refused)?;
                    Ok(Taken { committed, last: session.last_offset(), refused })
                });
                self.forget_after(done.as_ref().err());
                drop(reply.send(done));
            }
            Request::Execute(command, now, reply) => {
                let done = match self.session() {
                    Ok(session) => session.execute(*command, now),
                    Err(err) => Err(err.into()),
                };
                if let Err(CommandError::Storage(err)) = &done {
                    self.forget_after(Some(err));
                }
                drop(reply.send(done));
            }
            Request::Refresh(now, reply) => drop(reply.send(self.refresh(now))),
            Request::Drain => {}
            Request::Finish(last, until, reply) => drop(reply.send(self.finish(last, until))),
        }
    }

    fn session(&mut self) -> Result<&mut Session, StorageError> {
        if self.session.is_none() {
            self.verified = false;
            if self.standby.unprepared.load(Ordering::Acquire) {
                start::prepare_late(&self.main, &self.standby.file)?;
                self.standby.unprepared.store(false, Ordering::Release);
            }
            let session = Session::open(&self.main).or_else(|err| match err {
                // By another server, or by a session of this one that has not ended yet.
                StorageError::Leased { .. } => {
                    migrate::refuse_superseded(&mut self.main.open_beside()?, &self.main)?;
                    Err(err)
                }
                err => Err(err),
            })?;
            self.session = Some(session);
        }
        self.session.as_mut().ok_or(StorageError::Busy)
    }

    /// A session whose transaction failed is never used again.
    fn forget_after(&mut self, err: Option<&StorageError>) {
        if err.is_some() {
            self.session = None;
        }
    }

    fn refresh(&mut self, now: UtcMillis) -> Result<(), StorageError> {
        let (file, keep_ms) = (self.standby.file.clone(), self.standby.limits.keep_ms);
        let handed_on = self.standby.is_spooling().then(|| self.standby.handed_on());
        let Conn::Sqlite(mut file) = file.open_writer()? else { return Ok(()) };
        let session = self.session()?;
        let Conn::Postgres(main) = &mut session.conn else { return Ok(()) };
        fill::bring_up_to_date(main, &mut file, now, keep_ms, false, handed_on)
    }

    /// One step of handing on, and how long to wait for the next.
    fn hand_on(&mut self) -> Duration {
        match self.step() {
            Ok(pause) => {
                self.complained = None;
                pause
            }
            Err(err) => {
                self.session = None;
                if matches!(err, StorageError::Superseded { .. }) {
                    self.standby.superseded.store(true, Ordering::Release);
                }
                if self.complained.is_none_or(|at| at.elapsed() >= REMIND) {
                    self.complained = Some(Instant::now());
                    match err.is_transient() {
                        true => tracing::debug!("what is spooled cannot be handed on yet: {err}"),
                        false => tracing::error!("what is spooled cannot be handed on: {err}"),
                    }
                }
                RETRY
            }
        }
    }

    fn step(&mut self) -> Result<Duration, StorageError> {
        if lock(&self.standby.conflict).is_some() || !self.standby.settled.load(Ordering::Acquire) {
            return Ok(LOOK);
        }
        self.session()?;
        if !self.verify()? {
            return Ok(LOOK);
        }
        let lines = self.portion(LINES)?;
        self.standby.caught_up.store(lines < LINES_LEFT, Ordering::Release);
        Ok(if lines == 0 { LOOK } else { Duration::ZERO })
    }

    /// False if the main database has changes that are not known here; the writer has to look.
    fn verify(&mut self) -> Result<bool, StorageError> {
        if self.verified {
            return Ok(true);
        }
        let file = reader(&mut self.file, &self.standby)?;
        let Some(Session { conn: Conn::Postgres(main), .. }) = &mut self.session else {
            return Ok(false);
        };
        partitions::make_ahead(main, UtcMillis(chrono::Utc::now().timestamp_millis()))?;
        match rejoin::compare(main, file)? {
            None => self.verified = true,
            Some(conflict) => self.report(conflict),
        }
        Ok(self.verified)
    }

    fn report(&mut self, conflict: Conflict) {
        self.verified = false;
        *lock(&self.standby.conflict) = Some(conflict);
    }

    /// Hands on one portion; how many lines it had.
    fn portion(&mut self, lines: i64) -> Result<u64, StorageError> {
        let (small, large) = (&self.standby.small_until, &self.standby.large_until);
        let file = reader(&mut self.file, &self.standby)?;
        let after = self.standby.handed_on();
        let portion = journal::next(file, after.0, after.1, lines)?;
        let Some(Session { conn: Conn::Postgres(main), .. }) = &mut self.session else {
            return Err(StorageError::Busy);
        };
        if portion.lines > 0 {
            crate::fail_point!("standby::hand_on", |_| Err(StorageError::Unusable("a fail point".into())));
            match hand_on::portion(main, &portion) {
                Ok(()) => {}
                Err(err) => {
                    let mut refused = Vec::new();
                    let by_halves = match err {
                        NotWritten::Failed(err) if err.is_content() => {
                            poison::portion(main, &portion, &mut refused)
                        }
                        err => Err(err),
                    };
                    match by_halves {
                        // Until the writer has quarantined them the log is not shortened.
                        Ok(()) => lock(&self.standby.refused).extend(refused),
                        Err(NotWritten::Failed(err)) => return Err(err),
                        Err(NotWritten::Conflict(what)) => return Err(StorageError::Unusable(what)),
                    }
                }
            }
            crate::fail_point!("standby::handed_on");
        }
        small.store(portion.small_until, Ordering::Release);
        large.store(portion.large_until, Ordering::Release);
        if let Some(metrics) = self.standby.metrics() {
            metrics.spool_handed_on.inc_by(portion.lines);
        }
        Ok(portion.lines)
    }

    /// Hands on what is left and sees that both have the same log. Nobody adds to it `until` then, while
    /// the writer waits: later it has no end.
    fn finish(&mut self, last: Offset, until: Instant) -> Result<(), StorageError> {
        self.session()?;
        if !self.verify()? {
            return Err(StorageError::Busy);
        }
        while self.portion(LINES)? > 0 {
            if Instant::now() >= until {
                return Err(StorageError::Busy);
            }
        }
        let session = self.session()?;
        let theirs = crate::storage::alert_log::last_offset(&mut session.conn)?;
        if theirs != last {
            self.session = None;
            let message = format!("the log ends at {last} here and at {theirs} in the main database");
            return Err(StorageError::Unusable(message));
        }
        session.last_offset = theirs;
        Ok(())
    }
}

/// A connection of this thread to the file.
fn reader<'a>(
    slot: &'a mut Option<SqliteConnection>,
    standby: &Standby,
) -> Result<&'a mut SqliteConnection, StorageError> {
    if slot.is_none() {
        let Conn::Sqlite(conn) = standby.file.open_reader()? else { return Err(StorageError::Busy) };
        *slot = Some(conn);
    }
    slot.as_mut().ok_or(StorageError::Busy)
}

/// The rows of a query on the main database that are texts.
#[derive(QueryableByName)]
pub struct TextRow {
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub body: String,
}
