//! Commands that work on a database while no server runs on it.

use super::{AppError, lock};
use crate::config::Config;
use crate::domain::rule_seeds;
use crate::storage::database::Database;
use crate::storage::migrate;
use crate::supervision::clock::Clock;

/// Makes the database or brings it to this version's schema, as a starting server does.
pub fn migrate(config: &Config) -> Result<String, AppError> {
    config.validate()?;
    let _lock = lock::DataDirLock::take(&config.storage.data_dir)?;
    let database = Database::from_config(&config.storage)?;
    let opened = migrate::prepare(&database, &rule_seeds::seeds(), Clock::System.now())?;
    let what = if opened.newly_created { "made" } else { "up to date" };
    Ok(format!("{}: {what}, epoch {}", database.name(), opened.epoch))
}

/// Copies `from` (sqlite:PATH) to `to` (postgres://...). `report` gets a line to show for each portion.
#[cfg(feature = "postgres")]
pub fn copy(config: &Config, from: &str, to: &str, mut report: impl FnMut(&str)) -> Result<String, AppError> {
    use crate::storage::upkeep;
    let at = |url: &str| {
        Database::from_config(&crate::config::StorageConfig {
            database_url: url.into(),
            ..config.storage.clone()
        })
    };
    let (source, target) = (at(from)?, at(to)?);
    // A server that runs on the file would go on writing to it.
    let _lock = match source.path().parent() {
        Some(dir) if dir.join(lock::LOCK_FILE).exists() => Some(lock::DataDirLock::take(dir)?),
        _ => None,
    };
    if !source.path().exists() {
        let message = "there is no such file".into();
        return Err(
            crate::storage::database::StorageError::Open { path: source.path().into(), message }.into()
        );
    }
    let counted =
        upkeep::copy_database(&source, &target, Clock::System.now(), |progress| report(&bar(progress)))?;
    let rows: u64 = counted.iter().map(|table| table.rows).sum();
    Ok(format!("{} tables, {rows} rows: the counts of both sides agree", counted.len()))
}

#[cfg(feature = "postgres")]
fn bar(progress: crate::storage::upkeep::Progress) -> String {
    const WIDTH: u64 = 30;
    let crate::storage::upkeep::Progress { table, copied, total } = progress;
    let filled = (copied * WIDTH).checked_div(total).unwrap_or(WIDTH).min(WIDTH);
    let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
    format!("{table:<15} [{bar}] {copied} of {total} rows")
}

/// Drops the months of events and vital signs before `date` (YYYY-MM-DD), whole months only.
#[cfg(feature = "postgres")]
pub fn drop_months(config: &Config, date: chrono::NaiveDate) -> Result<String, AppError> {
    let database = Database::from_config(&config.storage)?;
    let start = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    let before = crate::domain::time::UtcMillis(start);
    let dropped = crate::storage::upkeep::drop_months(&database, before)?;
    Ok(match dropped.is_empty() {
        true => "no whole month is that old".into(),
        false => format!("dropped {}", dropped.join(", ")),
    })
}
