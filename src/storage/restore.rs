//! A backup in the place of the database, when nobody runs on it. The old file is kept.

use std::path::{Path, PathBuf};

use diesel::prelude::*;

use super::backup::{Unfinished, beside, refuse_faults, sync, sync_directory_of};
use super::check::{self, Findings};
use super::database::{Database, StorageError};
use super::schema::meta;
use super::{migrate, running};
use crate::domain::time::UtcMillis;

/// What was put in place.
#[derive(Debug)]
pub struct Restored {
    /// Of the database as it now is, with an epoch of its own.
    pub findings: Findings,
    /// Where the old database is, if there was one.
    pub kept: Option<PathBuf>,
}

/// Puts a copy of `from` in the place of `database`. The caller holds the lock of the data
/// directory. Blocking. Until the copy has been checked nothing is touched; after an error later on
/// the old database is in its place or, under the name in the error, beside it.
pub fn restore(database: &Database, from: &Path, now: UtcMillis) -> Result<Restored, StorageError> {
    let said = |what: &str, path: &Path, err: &dyn std::fmt::Display| {
        StorageError::Unusable(format!("{what} {}: {err}", path.display()))
    };
    if let (Ok(from), Ok(to)) = (from.canonicalize(), database.path().canonicalize())
        && from == to
    {
        return Err(StorageError::Unusable(format!("{} is the database itself", from.display())));
    }
    // A copy that was made with `cp` beside a server has its newest part in a second file.
    let log = beside(from, "-wal");
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return Err(StorageError::Unusable(format!(
            "{} belongs to a database that was not closed; make a backup of that one with `watchpost backup`",
            log.display()
        )));
    }
    let unfinished = Unfinished(beside(database.path(), &format!(".unfinished-{}", std::process::id())));
    std::fs::copy(from, &unfinished.0).map_err(|err| said("copy", from, &err))?;
    let copy = Database::at(unfinished.0.clone());
    let mut conn = copy.open_existing()?;
    migrate::refuse_foreign(&mut conn, &copy)?;
    refuse_empty(&mut conn, from)?;
    // A dashboard that resumes by an offset of before is told that it is of another log.
    diesel::update(meta::table.find("epoch"))
        .set(meta::value.eq(migrate::new_epoch()?))
        .execute(&mut conn)?;
    running::clear(&mut conn)?;
    drop(conn);
    let findings = check::whole(&copy)?;
    refuse_faults("the backup", &findings.faults)?;
    sync(&unfinished.0).map_err(|err| said("sync", &unfinished.0, &err))?;

    let kept = put_aside(database, now)?;
    std::fs::rename(&unfinished.0, database.path()).map_err(|err| said("rename", &unfinished.0, &err))?;
    sync_directory_of(database.path()).map_err(|err| said("sync the directory of", database.path(), &err))?;
    Ok(Restored { findings, kept })
}

fn refuse_empty(conn: &mut super::database::Conn, from: &Path) -> Result<(), StorageError> {
    let epoch: Result<String, _> = meta::table.find("epoch").select(meta::value).first(conn);
    match epoch {
        Ok(_) => Ok(()),
        Err(_) => Err(StorageError::Unusable(format!("{} holds no database of watchpost", from.display()))),
    }
}

/// Gives the old database a second name. Its own is then taken over by a rename, so that there is a
/// whole database under it at every instant.
fn put_aside(database: &Database, now: UtcMillis) -> Result<Option<PathBuf>, StorageError> {
    let path = database.path();
    if !path.exists() {
        return Ok(None);
    }
    // The log of the old file would be taken for that of the new one. Closing moves it into the file.
    if let Ok(mut conn) = database.open_existing() {
        let _ = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn);
    }
    let time = chrono::DateTime::from_timestamp_millis(now.0).unwrap_or_default();
    let kept = beside(path, &format!(".before-restore-{}", time.format("%Y%m%dT%H%M%S%3fZ")));
    let failed = |err: std::io::Error| {
        StorageError::Unusable(format!("keep the old database as {}: {err}", kept.display()))
    };
    let (log, index) = (beside(path, "-wal"), beside(path, "-shm"));
    if log.exists() {
        // It could not be moved: the old database is damaged, and its two files stay together.
        std::fs::rename(path, &kept).map_err(failed)?;
        std::fs::rename(&log, beside(&kept, "-wal")).map_err(failed)?;
    } else {
        std::fs::hard_link(path, &kept).or_else(|_| std::fs::rename(path, &kept)).map_err(failed)?;
    }
    match std::fs::remove_file(&index) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    sync_directory_of(path).map_err(failed)?;
    Ok(Some(kept))
}
