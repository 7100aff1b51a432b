//! What the writer says when the disk takes nothing more, and when it does again.

use std::time::Instant;

use super::job::Announce;
use super::messages::Administer;
use crate::storage::command::{Command, CommandError, CommandReply};
use crate::storage::database::{Database, StorageError};
use crate::supervision::outage::OutageKind;

impl Announce {
    /// A write has failed. If the disk is to blame the doors are closed, and the log says what to do.
    pub(super) fn write_failed(&self, err: &StorageError, database: &Database) {
        let Some(kind) = err.outage() else { return };
        self.metrics.storage_outage.set(1);
        if self.outage.begin(kind, err.to_string(), self.clock.now(), Instant::now()) {
            let path = database.path().display();
            let advice = match kind {
                OutageKind::DiskFull => format!("free space on the disk of {path}"),
                OutageKind::DiskError => {
                    format!("look at what the kernel's log says about the disk of {path}, and back it up")
                }
                OutageKind::NotWritable => format!("make {path} and its directory writable"),
                OutageKind::SpoolFull => {
                    "bring PostgreSQL back, or raise storage.spool_max_bytes and start again".into()
                }
                OutageKind::Damaged => {
                    format!("stop the server, keep {path} and its -wal file, and restore a backup")
                }
            };
            tracing::error!(
                "{kind}: {err}; what comes in is answered 503 and watches keep their reports, \
                 screens and reads go on; {advice}; writing goes on by itself"
            );
        }
    }

    /// Only a probe ends an outage of the disk: whatever else commits may have found nothing to write. So while one
    /// lasts, every turn has one.
    pub(super) fn with_probe(&self, mut commands: Vec<Administer>) -> Vec<Administer> {
        let has_one = commands.iter().any(|asked| matches!(asked.command, Command::Probe));
        if self.outage.current().is_some_and(|kind| kind != OutageKind::SpoolFull) && !has_one {
            commands.push(Administer::probe());
        }
        commands
    }

    /// A command has been carried out or not. False if its connection is not to be used again.
    pub(super) fn command_ended(
        &self,
        is_probe: bool,
        result: &Result<CommandReply, CommandError>,
        database: &Database,
    ) -> bool {
        match result {
            Ok(_) if is_probe => self.write_succeeded(),
            Ok(_) => self.has_room(),
            Err(CommandError::Storage(err)) => {
                self.write_failed(err, database);
                return false;
            }
            // It was refused before it wrote anything.
            Err(_) => {}
        }
        true
    }

    /// Something has committed. A full spool refuses before it writes, and what is urgent last: whatever
    /// commits has found room.
    pub(super) fn has_room(&self) {
        if self.outage.current() == Some(OutageKind::SpoolFull) {
            self.write_succeeded();
        }
    }

    fn write_succeeded(&self) {
        if let Some(lasted) = self.outage.end(Instant::now()) {
            self.metrics.storage_outage.set(0);
            tracing::warn!("the database takes writes again after {} s", lasted.as_secs());
        }
    }
}
