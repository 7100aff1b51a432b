//! A copy of the database while a server writes to it, or not: one read, a whole file, checked
//! before it gets its name.

use std::fs::File;
use std::path::{Path, PathBuf};

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::check::{self, Counts, Findings};
use super::database::{Database, StorageError};
use super::{migrate, running};

/// A copy and what is in it.
#[derive(Debug)]
pub struct Copied {
    pub findings: Findings,
    pub size_bytes: u64,
}

/// Copies into `to`, which must not exist. Blocking; takes as long as the disk needs for the file,
/// and as long the server's log cannot begin anew. After an error nothing is left behind.
pub fn backup(database: &Database, to: &Path) -> Result<Copied, StorageError> {
    let said = |what: &str, err: &dyn std::fmt::Display| {
        StorageError::Unusable(format!("{what} {}: {err}", to.display()))
    };
    refuse_existing(to)?;
    let mut conn = database.open_existing()?;
    migrate::refuse_foreign(&mut conn, database)?;
    let unfinished = Unfinished(beside(to, &format!(".unfinished-{}", std::process::id())));
    let path = unfinished.0.to_string_lossy().into_owned();
    let before = check::counts(&mut conn)?;
    diesel::sql_query("VACUUM INTO ?")
        .bind::<Text, _>(&path)
        .execute(&mut conn)
        .map_err(|err| said("write the backup", &err))?;
    let after = check::counts(&mut conn)?;
    let copy = Database::at(unfinished.0.clone());
    running::clear(&mut copy.open_existing()?)?;
    let findings = check::whole(&copy)?;
    verify(&before, &findings, &after)?;
    // SQLite does not sync what VACUUM INTO has written.
    sync(&unfinished.0).map_err(|err| said("sync the backup", &err))?;
    refuse_existing(to)?;
    std::fs::rename(&unfinished.0, to).map_err(|err| said("rename the backup to", &err))?;
    sync_directory_of(to).map_err(|err| said("sync the directory of", &err))?;
    let size_bytes = std::fs::metadata(to).map_err(|err| said("look at", &err))?.len();
    Ok(Copied { findings, size_bytes })
}

fn refuse_existing(to: &Path) -> Result<(), StorageError> {
    match to.symlink_metadata() {
        Ok(_) => Err(StorageError::Unusable(format!(
            "{} exists already and is not overwritten; choose another name",
            to.display()
        ))),
        Err(_) => Ok(()),
    }
}

/// No fault, and as many rows as there were at some instant of the copying.
fn verify(before: &Counts, copy: &Findings, after: &Counts) -> Result<(), StorageError> {
    let mut faults = copy.faults.clone();
    for (((name, least), (_, found)), (_, most)) in before.iter().zip(&copy.counts).zip(after) {
        if found < least || found > most {
            faults
                .push(format!("{name} has {found} rows in the copy, and {least} to {most} in the database"));
        }
    }
    refuse_faults("the copy", &faults)
}

pub(super) fn refuse_faults(what: &str, faults: &[String]) -> Result<(), StorageError> {
    match faults {
        [] => Ok(()),
        [first, ..] => Err(StorageError::Unusable(format!(
            "{what} is not sound ({} faults, the first: {first}); `watchpost check` lists those of a database",
            faults.len()
        ))),
    }
}

/// `path` with more at the end of its name.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

pub(super) fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a new name in it last.
pub(super) fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(directory.unwrap_or(Path::new(".")))
}

/// A file that is removed unless it was renamed.
pub(super) struct Unfinished(pub PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for more in ["", "-journal", "-wal", "-shm"] {
            // Most are not there.
            let _ = std::fs::remove_file(beside(&self.0, more));
        }
    }
}
