//! What the writer does between two transactions: back to the main database when it has everything,
//! rows into quarantine that it refuses, a mirror that lacked something brought up to date.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::guarded::{Guarded, OPEN_WITHIN, late};
use super::remote::Request;
use super::{Mode, journal, lock, rejoin};
use crate::storage::command::{Command, CommandError};
use crate::storage::commit::Session;
use crate::storage::conn::write_transaction;
use crate::storage::database::{Conn, StorageError};

/// Between two looks at what of the log has been handed on and can go, and at its length.
const TIDY: Duration = Duration::from_millis(250);
/// Lines of the log that go at a time.
const TIDY_LINES: i64 = 5_000;
/// Between two attempts to mend the mirror.
const MEND: Duration = Duration::from_secs(5);
/// The same complaint is not logged again before this.
const REMIND: Duration = Duration::from_secs(60);

impl Guarded {
    /// Between two transactions: back to the main database, or a mirror that lacked something.
    pub(super) fn between(&mut self) {
        self.announced();
        // Lines after these may have a row that was refused since, which is nowhere else.
        let handed_on = self.standby.handed_on();
        let done = self.quarantine().and_then(|()| match self.standby.is_spooling() {
            true => self.rejoin(handed_on),
            false if self.standby.stale.load(Ordering::Acquire) => self.mend(),
            false => Ok(()),
        });
        if let Err(err) = done
            && self.complained.is_none_or(|at| at.elapsed() >= REMIND)
        {
            self.complained = Some(Instant::now());
            tracing::warn!("not yet back at the main database: {err}");
        }
    }

    pub(super) fn mend(&mut self) -> Result<(), StorageError> {
        if self.mended.is_some_and(|at| at.elapsed() < MEND) {
            return Ok(());
        }
        self.mended = Some(Instant::now());
        let now = self.now;
        match self.remote.ask(OPEN_WITHIN, |reply| Request::Refresh(now, reply)) {
            Some(Ok(())) => {
                self.local = Session::open(&self.standby.file)?;
                self.synchronous("NORMAL")?;
                self.standby.set_stale(false);
                tracing::info!("the mirror is up to date again");
                Ok(())
            }
            Some(Err(err)) => Err(err),
            None => Err(late(None, &self.standby)),
        }
    }

    /// Rows that the main database refuses are kept for people to look at.
    pub(super) fn quarantine(&mut self) -> Result<(), StorageError> {
        loop {
            let Some(row) = lock(&self.standby.refused).first().cloned() else { return Ok(()) };
            match self.carry_out(Command::Quarantine(row), self.now) {
                Ok(_) => drop(lock(&self.standby.refused).remove(0)),
                Err(CommandError::Storage(err)) => return Err(err),
                Err(err) => return Err(StorageError::Unusable(err.to_string())),
            }
        }
    }

    fn rejoin(&mut self, handed_on: (i64, i64)) -> Result<(), StorageError> {
        self.tidy(handed_on)?;
        let conflict = lock(&self.standby.conflict).clone();
        if let Some(conflict) = conflict {
            let epoch = rejoin::rebase(&mut self.local, &conflict)?;
            tracing::warn!(
                "the main database had {} changes of alerts that were not known here; what was spooled \
                 follows them, and dashboards read everything anew",
                conflict.changes.len()
            );
            *lock(&self.standby.conflict) = None;
            self.standby.unsure.store(true, Ordering::Release);
            self.changed(epoch);
            self.remote.drain();
        }
        if !self.standby.caught_up.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let (last, limit) = (self.local.last_offset(), self.standby.limits.commit);
        let until = Instant::now() + limit;
        match self.remote.ask(limit, |reply| Request::Finish(last, until, reply)) {
            // The log is the only place that has them: first they are kept.
            Some(Ok(())) if !lock(&self.standby.refused).is_empty() => Ok(()),
            Some(Ok(())) => self.back(),
            Some(Err(err)) if err.is_transient() => Ok(()),
            Some(Err(err)) => Err(err),
            None => Ok(()),
        }
    }

    /// Everybody has to read anew.
    fn changed(&mut self, epoch: String) {
        self.standby.rebased.store(true, Ordering::Release);
        self.standby.generation.fetch_add(1, Ordering::AcqRel);
        self.standby.epoch.send_replace(epoch);
    }

    fn back(&mut self) -> Result<(), StorageError> {
        if self.standby.unsure.load(Ordering::Acquire) {
            // Rules, bindings and tokens of the main database may be others than those here.
            let now = self.now;
            match self.remote.ask(OPEN_WITHIN, |reply| Request::Refresh(now, reply)) {
                Some(Ok(())) => {}
                // Something was written meanwhile: first it is handed on.
                Some(Err(err)) if err.is_transient() => return Ok(()),
                Some(Err(err)) => return Err(err),
                None => return Ok(()),
            }
            self.local = Session::open(&self.standby.file)?;
            self.standby.unsure.store(false, Ordering::Release);
            let epoch = self.standby.epoch.borrow().clone();
            self.changed(epoch);
        }
        end_journal(&mut self.local.conn, self.main.holder())?;
        self.synchronous("NORMAL")?;
        let lasted = lock(&self.standby.since).as_ref().map_or(0, |(since, _)| since.elapsed().as_secs());
        self.standby.answers();
        self.standby.set_rows(0);
        self.standby.set_mode(Mode::Mirroring, None);
        tracing::warn!(
            "the main database has everything that was spooled in {lasted} s, and is in use again"
        );
        Ok(())
    }

    /// Takes away lines that have been handed on.
    fn tidy(&mut self, (small, large): (i64, i64)) -> Result<(), StorageError> {
        if self.tidied.elapsed() < TIDY {
            return Ok(());
        }
        self.tidied = Instant::now();
        let left = write_transaction(&mut self.local.conn, |conn| {
            let Conn::Sqlite(conn) = conn else { return Ok(0) };
            journal::forget(conn, small, large, TIDY_LINES)?;
            Ok::<_, StorageError>(journal::last_seq(conn)? - small.max(large))
        })?;
        self.standby.set_rows(left.max(0).unsigned_abs());
        Ok(())
    }
}

fn end_journal(conn: &mut Conn, holder: Option<&str>) -> Result<(), StorageError> {
    write_transaction(conn, |conn| {
        let Conn::Sqlite(conn) = conn else { return Ok(()) };
        journal::end(conn)?;
        journal::set_note(conn, "mode", "mirroring")?;
        journal::set_note(conn, "unsure", "no")?;
        if let Some(holder) = holder {
            journal::set_note(conn, "holder", holder)?;
        }
        Ok(())
    })
}
