//! What has committed in the main database, applied to the file beside it: as it was decided there,
//! with the same offsets, and nothing is decided again. What nobody needs goes again.

use std::collections::HashMap;
use std::time::Instant;

use crate::domain::alert::{AlertChange, Cause, LoggedChange};
use crate::domain::identity::EventIdentity;
use crate::domain::ids::Offset;
use crate::domain::record::Records;
use crate::storage::apply::update_alert;
use crate::storage::commit::{Batch, Committed, Entry, Session, Stored, alert_json};
use crate::storage::conn::write_transaction;
use crate::storage::database::{Conn, StorageError};
use crate::storage::rows::{insert_alert, insert_change};

/// A batch that outlives the call that brought it: the main database may still be at it when
/// nobody waits any more.
#[derive(Debug)]
pub struct OwnedBatch(Vec<OwnedEntry>);

#[derive(Debug)]
struct OwnedEntry {
    records: Option<Records>,
    changes: Vec<AlertChange>,
    unasked: Option<EventIdentity>,
    arrived: Instant,
}

impl OwnedBatch {
    pub fn of(entries: &[Entry<'_>]) -> Self {
        let owned = |entry: &Entry<'_>| OwnedEntry {
            records: entry.records.cloned(),
            changes: entry.changes.to_vec(),
            unasked: entry.unasked.cloned(),
            arrived: entry.arrived,
        };
        Self(entries.iter().map(owned).collect())
    }

    pub fn entries(&self) -> Vec<Entry<'_>> {
        self.0.iter().map(borrow).collect()
    }
}

fn borrow(owned: &OwnedEntry) -> Entry<'_> {
    Entry {
        records: owned.records.as_ref(),
        changes: &owned.changes,
        unasked: owned.unasked.as_ref(),
        arrived: owned.arrived,
    }
}

/// Writes what a batch has become elsewhere. `last` is the last offset there.
pub fn apply(
    session: &mut Session,
    entries: &[Entry<'_>],
    committed: &Committed,
    last: Offset,
) -> Result<(), StorageError> {
    write_transaction(&mut session.conn, |conn| {
        for change in &committed.changes {
            put_change(conn, change)?;
        }
        let mut batch = Batch::default();
        for (entry, stored) in entries.iter().zip(&committed.stored) {
            let Stored::New { alert_id } = stored else { continue };
            let decided = entry.records.and_then(|records| records.event.as_ref()?.alert_id);
            let renamed: HashMap<_, _> = decided.zip(*alert_id).into_iter().collect();
            batch.take(conn, entry, &renamed)?;
        }
        batch.store(conn)
    })?;
    session.last_offset = last;
    Ok(())
}

/// One line of the log and the alert with it.
pub fn put_change(conn: &mut Conn, logged: &LoggedChange) -> Result<(), StorageError> {
    let change = AlertChange {
        alert: (*logged.alert).clone(),
        transition: logged.transition,
        // Its text is what is written.
        cause: Cause::Action("".into()),
        at: logged.at,
        actor: logged.actor.clone(),
        note: logged.note.clone(),
        quiet: logged.quiet,
    };
    let body = alert_json(&change)?;
    let written = insert_change(conn, &change, logged.offset, &logged.cause, &body)? == 1
        && (insert_alert(conn, &change, logged.offset, &body)? == 1
            || update_alert(conn, &change, logged.offset, &body)? == 1);
    match written {
        true => Ok(()),
        false => Err(StorageError::Unusable(format!(
            "the mirror does not agree with the main database about offset {}",
            logged.offset
        ))),
    }
}
