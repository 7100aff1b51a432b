//! The writer's token where the main database may go away: into it while it answers in time, into the
//! file when it does not, and back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use diesel::prelude::*;

use super::mirror::{self, OwnedBatch};
use super::prune::Pruning;
use super::remote::{Remote, Request, Taken};
use super::{Mode, Pending, Standby, journal, lock};
use crate::domain::ids::Offset;
use crate::domain::time::UtcMillis;
use crate::storage::command::{Command, CommandError, CommandReply};
use crate::storage::commit::{Committed, Entry, Session};
use crate::storage::conn::write_transaction;
use crate::storage::database::{Conn, Database, StorageError};

/// A first session, or a mirror that is brought up to date, may take this.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// An import of bindings may take so long for each of them.
const PER_BINDING: Duration = Duration::from_millis(2);

pub struct Guarded {
    pub(super) standby: Arc<Standby>,
    pub(super) main: Database,
    pub(super) local: Session,
    pub(super) remote: Remote,
    pub(super) pruning: Pruning,
    /// The newest time at which something was received.
    pub(super) now: UtcMillis,
    pub(super) tidied: Instant,
    pub(super) mended: Option<Instant>,
    pub(super) complained: Option<Instant>,
}

impl Guarded {
    pub fn open(main: &Database, standby: &Arc<Standby>) -> Result<Self, StorageError> {
        let mut this = Self {
            local: Session::open(&standby.file)?,
            remote: Remote::start(main, standby)?,
            standby: standby.clone(),
            main: main.clone(),
            pruning: Pruning::default(),
            now: UtcMillis(0),
            tidied: Instant::now(),
            mended: None,
            complained: None,
        };
        if standby.is_spooling() {
            // Whatever was under way ended with the session before, which had the lease.
            this.settled();
            this.remote.drain();
            return Ok(this);
        }
        this.synchronous("NORMAL")?;
        this.announced();
        match this.remote.ask(OPEN_WITHIN, Request::Open) {
            Some(Ok(last)) if last == this.local.last_offset() => {}
            // A batch has committed that nobody was told of.
            Some(Ok(last)) => {
                standby.set_stale(true);
                if let Err(err) = this.mend() {
                    // The main database is there: it can be done without its mirror.
                    tracing::warn!("the mirror is not up to date: {err}");
                    this.local.last_offset = last;
                }
            }
            Some(Err(err)) if !err.is_transient() => return Err(err),
            other => {
                this.begin(&late(other.and_then(Result::err), standby))?;
                this.settled();
            }
        }
        Ok(this)
    }

    pub fn last_offset(&self) -> Offset {
        self.local.last_offset()
    }

    pub fn slow_statement(&self) -> Duration {
        self.local.slow_statement()
    }

    pub fn take_slow_statements(&mut self) -> u64 {
        self.local.take_slow_statements()
    }

    pub fn take_rebased(&mut self) -> bool {
        self.standby.rebased.swap(false, Ordering::AcqRel)
    }

    pub fn commit(&mut self, entries: &[Entry<'_>]) -> Result<Committed, StorageError> {
        self.between();
        let received = entries.iter().filter_map(|entry| entry.records).map(|records| records.received_at);
        self.now = received.max().map_or(self.now, |newest| newest.max(self.now));
        if self.standby.is_spooling() {
            return self.spool(entries);
        }
        let batch = Arc::new(OwnedBatch::of(entries));
        let theirs = batch.clone();
        let limit = self.standby.limits.commit;
        match self.remote.ask(limit, |reply| Request::Commit(theirs, reply)) {
            Some(Ok(Taken { committed, last, refused })) => {
                self.standby.answers();
                self.local.last_offset = last;
                let pending = Pending { batch, committed: committed.clone(), last };
                *lock(&self.standby.pending) = Some(pending);
                if !refused.is_empty() {
                    lock(&self.standby.refused).extend(refused);
                    self.quarantine()?;
                }
                Ok(committed)
            }
            Some(Err(err @ StorageError::Superseded { .. })) => Err(err),
            other => {
                self.begin(&late(other.and_then(Result::err), &self.standby))?;
                let spooled = self.spool(entries);
                self.settled();
                spooled
            }
        }
    }

    /// What the main database was asked for is in the file, or was refused: they can be compared.
    fn settled(&self) {
        self.standby.settled.store(true, Ordering::Release);
    }

    /// Applies the last batch to the mirror, and takes away some of what nobody needs there.
    pub fn announced(&mut self) {
        // Fetched out only when it is applied: whoever reads the mirror waits for that.
        let mut pending = lock(&self.standby.pending);
        let Some(Pending { batch, committed, last }) = pending.as_ref() else { return };
        let begun = Instant::now();
        crate::fail_point!("standby::mirror");
        let applied = match self.standby.stale.load(Ordering::Acquire) {
            true => Ok(()),
            false => mirror::apply(&mut self.local, &batch.entries(), committed, *last),
        };
        self.local.last_offset = *last;
        *pending = None;
        drop(pending);
        self.standby.mirrored.notify_all();
        if let Some(metrics) = self.standby.metrics() {
            metrics.mirror_seconds.observe(begun.elapsed().as_secs_f64());
        }
        let pruned = applied
            .and_then(|()| self.pruning.step(&mut self.local.conn, self.now, self.standby.limits.keep_ms));
        if let Err(err) = pruned {
            self.lacks(&err);
        }
    }

    fn lacks(&mut self, err: &StorageError) {
        if !self.standby.stale.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "the mirror {} cannot be written; if the main database goes away now, reports will be \
                 answered 503: {err}",
                self.standby.file.name()
            );
            self.standby.set_stale(true);
        }
    }

    pub fn execute(&mut self, command: Command, now: UtcMillis) -> Result<CommandReply, CommandError> {
        self.between();
        self.carry_out(command, now)
    }

    pub(super) fn carry_out(
        &mut self,
        command: Command,
        now: UtcMillis,
    ) -> Result<CommandReply, CommandError> {
        if self.standby.is_spooling() {
            self.refuse_superseded()?;
            let urgent = !matches!(
                command,
                Command::Probe | Command::StoreWatchLogs(_) | Command::StoreDeviceMessage(_)
            );
            self.refuse_at_the_bound(urgent)?;
            return self.local.execute(command, now);
        }
        let limit = self.standby.limits.commit
            + match &command {
                Command::ImportBindings { bindings, .. } => PER_BINDING * bindings.len() as u32,
                _ => Duration::ZERO,
            };
        let theirs = Box::new(command.clone());
        match self.remote.ask(limit, |reply| Request::Execute(theirs, now, reply)) {
            Some(Ok(reply)) => {
                self.standby.answers();
                self.mirror_command(command, now);
                Ok(reply)
            }
            Some(Err(CommandError::Storage(err))) if !err.is_content() && !is_superseded(&err) => {
                self.begin(&err)?;
                let done = self.local.execute(command, now);
                self.settled();
                done
            }
            Some(Err(err)) => Err(err),
            None => {
                self.begin(&late(None, &self.standby))?;
                let done = self.local.execute(command, now);
                self.settled();
                done
            }
        }
    }

    fn mirror_command(&mut self, command: Command, now: UtcMillis) {
        if matches!(command, Command::Probe | Command::StoreWatchLogs(_) | Command::StoreDeviceMessage(_))
            || self.standby.stale.load(Ordering::Acquire)
        {
            return;
        }
        // A start without the main database has to know whether this server was stopped well.
        let synced = matches!(command, Command::MarkRunning);
        let level = |this: &mut Self, level| if synced { this.synchronous(level) } else { Ok(()) };
        let done = level(self, "FULL")
            .map_err(CommandError::from)
            .and_then(|()| self.local.execute(command, now).map(|_| ()))
            .and_then(|()| level(self, "NORMAL").map_err(CommandError::from));
        if let Err(err) = done {
            self.lacks(&StorageError::Unusable(err.to_string()));
        }
    }

    /// From now on everything goes into the file. `why` is the error if that is not possible.
    fn begin(&mut self, why: &StorageError) -> Result<(), StorageError> {
        let said = || StorageError::Away { name: "the main database".into(), message: why.to_string() };
        if self.standby.stale.load(Ordering::Acquire) {
            return Err(said());
        }
        self.announced();
        self.synchronous("FULL")?;
        let base = self.local.last_offset();
        begin_journal(&mut self.local.conn, base)?;
        for until in [&self.standby.small_until, &self.standby.large_until] {
            until.store(0, Ordering::Release);
        }
        self.standby.caught_up.store(false, Ordering::Release);
        self.standby.settled.store(false, Ordering::Release);
        self.standby.set_mode(Mode::Spooling, Some(why.to_string()));
        self.remote.drain();
        tracing::warn!(
            "the main database does not take what comes: {why}; from now on it is stored in {}, alerts \
             go on, and it is handed on when the database is back",
            self.standby.file.name()
        );
        Ok(())
    }

    fn spool(&mut self, entries: &[Entry<'_>]) -> Result<Committed, StorageError> {
        crate::fail_point!("standby::spool", |_| Err(StorageError::Unusable("a fail point".into())));
        self.refuse_superseded()?;
        self.refuse_at_the_bound(entries.iter().any(|entry| !entry.changes.is_empty()))?;
        self.local.commit(entries)
    }

    /// Watches and people shall go to the other server.
    fn refuse_superseded(&self) -> Result<(), StorageError> {
        match self.standby.superseded.load(Ordering::Acquire) {
            true => Err(StorageError::Superseded { name: "the main database".into() }),
            false => Ok(()),
        }
    }

    pub(super) fn synchronous(&mut self, level: &str) -> Result<(), StorageError> {
        diesel::sql_query(format!("PRAGMA synchronous = {level}")).execute(&mut self.local.conn)?;
        Ok(())
    }
}

fn is_superseded(err: &StorageError) -> bool {
    matches!(err, StorageError::Superseded { .. })
}

/// What went wrong; without an answer, that there was none.
pub(super) fn late(err: Option<StorageError>, standby: &Standby) -> StorageError {
    err.unwrap_or_else(|| StorageError::Away {
        name: "the main database".into(),
        message: format!("it did not answer within {:?}", standby.limits.commit),
    })
}

/// From now on writes are logged; `base` is the last offset that the main database has.
pub(super) fn begin_journal(conn: &mut Conn, base: Offset) -> Result<(), StorageError> {
    write_transaction(conn, |conn| {
        let Conn::Sqlite(conn) = conn else { return Ok(()) };
        journal::begin(conn)?;
        journal::set_note(conn, "mode", "spooling")?;
        journal::set_note(conn, "base", &base.to_string())?;
        Ok(())
    })
}
