//! What the writer holds: the right to write, wherever that goes.

use std::time::Duration;

use super::command::{Command, CommandError, CommandReply};
use super::commit::{Committed, Entry, Session};
use super::database::{Database, StorageError};
#[cfg(feature = "postgres")]
use super::standby::guarded::Guarded;
use crate::domain::ids::Offset;
use crate::domain::time::UtcMillis;

/// The write connection and the offset allocator in one: whoever holds it is the writer. It moves
/// into the blocking call and back; one that is lost in a panic is opened anew.
pub struct WriteToken(Kind);

enum Kind {
    Plain(Session),
    /// A main database that may go away, and a file beside it that does not.
    #[cfg(feature = "postgres")]
    Guarded(Box<Guarded>),
}

impl WriteToken {
    /// Opens the write connection and reads the last offset from the log.
    pub fn open(database: &Database) -> Result<Self, StorageError> {
        #[cfg(feature = "postgres")]
        if let Some(standby) = database.standby() {
            return Ok(Self(Kind::Guarded(Box::new(Guarded::open(database, standby)?))));
        }
        Session::open(database).map(|session| Self(Kind::Plain(session)))
    }

    pub fn last_offset(&self) -> Offset {
        match &self.0 {
            Kind::Plain(session) => session.last_offset(),
            #[cfg(feature = "postgres")]
            Kind::Guarded(guarded) => guarded.last_offset(),
        }
    }

    /// Stores a batch in one transaction. After an error nothing of it is stored, and the same
    /// batch may be tried again.
    pub fn commit(&mut self, entries: &[Entry<'_>]) -> Result<Committed, StorageError> {
        match &mut self.0 {
            Kind::Plain(session) => session.commit(entries),
            #[cfg(feature = "postgres")]
            Kind::Guarded(guarded) => guarded.commit(entries),
        }
    }

    /// Everybody has been told of the last batch: what else has to be done about it.
    pub fn announced(&mut self) {
        #[cfg(feature = "postgres")]
        if let Kind::Guarded(guarded) = &mut self.0 {
            guarded.announced();
        }
    }

    /// Runs an administrative command in a transaction of its own.
    pub fn execute(&mut self, command: Command, now: UtcMillis) -> Result<CommandReply, CommandError> {
        match &mut self.0 {
            Kind::Plain(session) => session.execute(command, now),
            #[cfg(feature = "postgres")]
            Kind::Guarded(guarded) => guarded.execute(command, now),
        }
    }

    /// True once after what is stored has changed behind the shards: they have to load it anew.
    pub fn take_rebased(&mut self) -> bool {
        match &mut self.0 {
            Kind::Plain(_) => false,
            #[cfg(feature = "postgres")]
            Kind::Guarded(guarded) => guarded.take_rebased(),
        }
    }

    /// A transaction that takes so long is slow; zero if nobody wants to know.
    pub fn slow_statement(&self) -> Duration {
        match &self.0 {
            Kind::Plain(session) => session.slow_statement(),
            #[cfg(feature = "postgres")]
            Kind::Guarded(guarded) => guarded.slow_statement(),
        }
    }

    /// How many statements of commands were slow since this was asked last.
    pub fn take_slow_statements(&mut self) -> u64 {
        match &mut self.0 {
            Kind::Plain(session) => session.take_slow_statements(),
            #[cfg(feature = "postgres")]
            Kind::Guarded(guarded) => guarded.take_slow_statements(),
        }
    }
}
