//! What is done with the database file itself, beside a server or instead of one. Each answers the
//! text to print.

use std::path::Path;

use super::AppError;
use super::lock::DataDirLock;
use crate::config::Config;
use crate::storage::check::Findings;
use crate::storage::database::{Database, StorageError};
use crate::storage::{backup, check, restore};
use crate::supervision::clock::Clock;

/// Copies the database into `to`, whether a server runs on it or not. Blocking.
pub fn back_up(config: &Config, to: &Path) -> Result<String, AppError> {
    let database = file_of(config)?;
    let copied = backup::backup(&database, to)?;
    Ok(format!("{}\nwrote {}, {} bytes, checked", summary(&copied.findings), to.display(), copied.size_bytes))
}

/// Puts a backup in the place of the database. Refused while a server runs on the data directory.
/// Blocking.
pub fn restore(config: &Config, from: &Path) -> Result<String, AppError> {
    let _lock = DataDirLock::take(&config.storage.data_dir)?;
    let database = file_of(config)?;
    let restored = restore::restore(&database, from, Clock::System.now())?;
    let kept = match &restored.kept {
        Some(kept) => format!("the old database is kept as {}", kept.display()),
        None => "there was no database before".into(),
    };
    Ok(format!(
        "{}\nrestored {} to {}; {kept}",
        summary(&restored.findings),
        from.display(),
        database.path().display()
    ))
}

/// Looks for faults, whether a server runs or not: the text, and whether all is well. Blocking.
pub fn check(config: &Config) -> Result<(String, bool), AppError> {
    let database = file_of(config)?;
    let findings = check::whole(&database)?;
    let mut text = format!("{}\n{}", database.path().display(), summary(&findings));
    for fault in &findings.faults {
        text.push_str("\nfault: ");
        text.push_str(fault);
    }
    let verdict = match findings.faults.len() {
        0 => "sound: pages, indexes, references, offsets and alerts".to_owned(),
        count => format!("NOT SOUND: {count} faults; keep the file, and restore a backup"),
    };
    Ok((format!("{text}\n{verdict}"), findings.faults.is_empty()))
}

fn summary(findings: &Findings) -> String {
    let counts: Vec<String> = findings.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!(
        "{}; {} alerts open, last offset {}, epoch {}",
        counts.join(", "),
        findings.open_alerts,
        findings.last_offset,
        findings.epoch
    )
}

/// These are for files; PostgreSQL has tools of its own for its databases.
fn file_of(config: &Config) -> Result<Database, AppError> {
    let database = Database::from_config(&config.storage)?;
    match database.is_shared() {
        true => Err(StorageError::Unusable(format!(
            "{} is not an SQLite file; use PostgreSQL's pg_dump, pg_restore and pg_amcheck",
            database.name()
        ))
        .into()),
        false => Ok(database),
    }
}
