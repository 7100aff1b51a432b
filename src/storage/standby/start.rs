//! A start with a main database that may be away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{FILE, Mode, Standby, fill, guarded, journal, salvage, torn};
use crate::config::StorageConfig;
use crate::domain::rule::Rule;
use crate::domain::time::UtcMillis;
use crate::storage::conn::write_transaction;
use crate::storage::database::{Conn, Database, StorageError};
use crate::storage::migrate::{self, Opened};
use crate::storage::schema::meta;
use crate::supervision::outage::OutageKind;

/// Of the note that says where a damaged file is kept whose spool is still to be taken.
const SALVAGE: &str = "salvage";
/// Of the note that names who began to write to the main database with this file beside it.
const ANNOUNCED: &str = "announced";
/// So many of them are known, the last.
const ANNOUNCED_MAX: usize = 32;

/// What the file says about itself.
struct Found {
    opened: Opened,
    /// It has had everything once.
    filled: bool,
    spooling: bool,
    unsure: bool,
    /// Which process wrote to the main database when this was up to date.
    holder: Option<String>,
    /// What a damaged file had spooled is still to be taken from there.
    salvage: Option<PathBuf>,
}

/// Prepares a database that may go away, and the file beside it. Without the main database it goes
/// on from the file, if that has ever been up to date.
pub fn prepare(
    main: Database,
    config: &StorageConfig,
    seeds: &[Rule],
    now: UtcMillis,
) -> Result<(Database, Opened), StorageError> {
    let file = Database::from_config(&StorageConfig {
        database_url: format!("sqlite:{}", absolute(&config.data_dir).join(FILE).display()),
        ..config.clone()
    })?;
    let put_aside = put_aside_if_damaged(&file, now)?;
    let found = look(&file, now, put_aside.as_deref())?;
    announce(&main, &file)?;
    let prepared = migrate::prepare(&main, seeds, now);
    let (opened, found) = match prepared {
        Ok(opened) => (Some(opened), found),
        Err(err @ StorageError::Away { .. }) if found.filled && found.salvage.is_none() => {
            tracing::warn!(
                "{err}; this server starts with what {} knows, and hands on what comes when the \
                 database is back",
                file.name()
            );
            (None, found)
        }
        Err(StorageError::Away { name, message }) => {
            let file = file.name();
            let why = match &found.salvage {
                Some(damaged) => format!("what {} holds is not in {file} yet", damaged.display()),
                None => format!("{file} has never been up to date"),
            };
            let message = format!("{message}; {why}, so this server cannot start without its database");
            return Err(StorageError::Away { name, message });
        }
        Err(err) => return Err(err),
    };
    let away = opened.is_none();
    let (mode, opened, unsure) = match opened {
        Some(opened) if found.salvage.is_some() => {
            let epoch = salvage(&main, &file, &found, now, config)?;
            (Mode::Spooling, Opened { epoch: epoch.unwrap_or(opened.epoch), ..opened }, true)
        }
        Some(opened) if !found.spooling => {
            let known = found.filled && found.holder.is_some() && found.holder == opened.holder_before;
            refresh(&main, &file, now, config, !known)?;
            (Mode::Mirroring, opened, false)
        }
        Some(opened) => {
            // Its log goes on in the file.
            let unsure = found.unsure || found.holder != opened.holder_before;
            let stopped_uncleanly = found.opened.stopped_uncleanly;
            (Mode::Spooling, Opened { epoch: found.opened.epoch, stopped_uncleanly, ..opened }, unsure)
        }
        None => {
            let opened = alone(&file, found.opened, found.spooling)?;
            let unsure = found.unsure || opened.stopped_uncleanly;
            (Mode::Spooling, opened, unsure)
        }
    };
    note(&file, main.holder().filter(|_| mode == Mode::Mirroring), unsure)?;
    let standby = Standby::new(file, config, mode, opened.epoch.clone());
    standby.unsure.store(unsure, Ordering::Release);
    standby.unprepared.store(away, Ordering::Release);
    if mode == Mode::Spooling {
        standby.set_rows(spooled(&standby.file)?);
        standby.set_mode(mode, Some("it was spooling when it started".into()));
    }
    Ok((main.beside(Arc::new(standby)), opened))
}

/// What a start without the main database left undone: its schema, and whose it is. Refused if another
/// server has written there since.
pub fn prepare_late(main: &Database, file: &Database) -> Result<(), StorageError> {
    let mut conn = main.open_beside()?;
    let present: Option<String> =
        meta::table.find(migrate::HOLDER).select(meta::value).first(&mut conn).optional()?;
    drop(conn);
    let Conn::Sqlite(mut conn) = file.open_reader()? else { return Ok(()) };
    let is_ours =
        |present: &str| Ok::<_, StorageError>(announced(file)?.iter().any(|known| known == present));
    if present != journal::note(&mut conn, "holder")? && !present.as_deref().map_or(Ok(false), is_ours)? {
        return Err(StorageError::Superseded { name: main.name() });
    }
    drop(conn);
    announce(main, file)?;
    migrate::prepare(main, &[], UtcMillis(chrono::Utc::now().timestamp_millis()))?;
    Ok(())
}

/// Said here before it is said there: a process that ended in between, or before it was up to date, was
/// no stranger.
fn announce(main: &Database, file: &Database) -> Result<(), StorageError> {
    let Some(holder) = main.holder() else { return Ok(()) };
    let mut known = announced(file)?;
    if known.iter().any(|known| known == holder) {
        return Ok(());
    }
    known.push(holder.to_owned());
    known.drain(..known.len().saturating_sub(ANNOUNCED_MAX));
    let Conn::Sqlite(mut conn) = file.open_writer()? else { return Ok(()) };
    Ok(journal::set_note(&mut conn, ANNOUNCED, &known.join(" "))?)
}

fn announced(file: &Database) -> Result<Vec<String>, StorageError> {
    let Conn::Sqlite(mut conn) = file.open_reader()? else { return Ok(Vec::new()) };
    let known = journal::note(&mut conn, ANNOUNCED)?.unwrap_or_default();
    Ok(known.split_whitespace().map(str::to_owned).collect())
}

/// The URL of a file is read without the directory that a program runs in.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf())
}

fn spooled(file: &Database) -> Result<u64, StorageError> {
    let Conn::Sqlite(mut conn) = file.open_reader()? else { return Ok(0) };
    Ok(journal::length(&mut conn)?.unsigned_abs())
}

fn look(file: &Database, now: UtcMillis, put_aside: Option<&Path>) -> Result<Found, StorageError> {
    let opened = migrate::prepare(file, &[], now)?;
    let Conn::Sqlite(mut conn) = file.open_writer()? else {
        return Err(StorageError::Unusable("the standby is no file".into()));
    };
    journal::make(&mut conn)?;
    if let Some(damaged) = put_aside {
        // Known until it is done: the main database may be away, or the server killed meanwhile.
        journal::set_note(&mut conn, SALVAGE, &damaged.to_string_lossy())?;
    }
    let is = |note: Option<String>, value: &str| note.as_deref() == Some(value);
    Ok(Found {
        opened,
        filled: journal::note(&mut conn, "filled")?.is_some(),
        spooling: is(journal::note(&mut conn, "mode")?, "spooling") || journal::length(&mut conn)? > 0,
        unsure: is(journal::note(&mut conn, "unsure")?, "yes"),
        holder: journal::note(&mut conn, "holder")?,
        salvage: journal::note(&mut conn, SALVAGE)?.map(PathBuf::from),
    })
}

/// A file that was damaged begins anew, with what can be read of what it had spooled. Answers the
/// epoch of its log.
fn salvage(
    main: &Database,
    file: &Database,
    found: &Found,
    now: UtcMillis,
    config: &StorageConfig,
) -> Result<Option<String>, StorageError> {
    let quietly = |work: fn(&mut SqliteConnection) -> QueryResult<()>| match file.open_writer()? {
        Conn::Sqlite(mut conn) => Ok::<_, StorageError>(work(&mut conn)?),
        Conn::Postgres(_) => Ok(()),
    };
    quietly(journal::end)?;
    refresh(main, file, now, config, true)?;
    let epoch = match found.salvage.as_ref().filter(|damaged| damaged.exists()) {
        Some(damaged) => salvage::take(main, file, damaged, now)?,
        None => None,
    };
    quietly(|conn| journal::forget_note(conn, SALVAGE))?;
    Ok(epoch)
}

fn refresh(
    main: &Database,
    file: &Database,
    now: UtcMillis,
    config: &StorageConfig,
    anew: bool,
) -> Result<(), StorageError> {
    let keep_ms = i64::from(config.mirror_hours) * 3_600_000;
    match (main.open_beside()?, file.open_writer()?) {
        (Conn::Postgres(mut main), Conn::Sqlite(mut file)) => {
            fill::bring_up_to_date(&mut main, &mut file, now, keep_ms, anew, None)
        }
        _ => Ok(()),
    }
}

/// Goes on without the main database. Whoever was killed may have pushed what is not here: offsets
/// of before are not to be trusted.
fn alone(file: &Database, found: Opened, spooling: bool) -> Result<Opened, StorageError> {
    let mut conn = file.open_writer()?;
    if !spooling {
        let base = crate::storage::alert_log::last_offset(&mut conn)?;
        guarded::begin_journal(&mut conn, base)?;
    }
    // While it spooled everything was here before it was pushed.
    if !found.stopped_uncleanly || spooling {
        return Ok(Opened { newly_created: false, ..found });
    }
    let epoch = migrate::new_epoch()?;
    write_transaction(&mut conn, |conn| {
        diesel::update(meta::table.find("epoch")).set(meta::value.eq(&epoch)).execute(conn)
    })?;
    Ok(Opened { epoch, newly_created: false, ..found })
}

fn note(file: &Database, holder: Option<&str>, unsure: bool) -> Result<(), StorageError> {
    let Conn::Sqlite(mut conn) = file.open_writer()? else { return Ok(()) };
    if let Some(holder) = holder {
        journal::set_note(&mut conn, "holder", holder)?;
    }
    journal::set_note(&mut conn, "unsure", if unsure { "yes" } else { "no" })?;
    Ok(())
}

/// A file that is not sound gets another name, and is kept.
fn put_aside_if_damaged(file: &Database, now: UtcMillis) -> Result<Option<PathBuf>, StorageError> {
    if !file.path().exists() {
        return Ok(None);
    }
    let time = chrono::DateTime::from_timestamp_millis(now.0).unwrap_or_default();
    let mut kept = file.path().as_os_str().to_owned();
    kept.push(format!(".damaged-{}", time.format("%Y%m%dT%H%M%S%3fZ")));
    let kept = PathBuf::from(kept);
    let failed = |err: std::io::Error| {
        StorageError::Unusable(format!("keep the damaged {} as {}: {err}", file.name(), kept.display()))
    };
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    // SQLite would go on without what comes after, and without a word.
    let log = torn::look(&beside(file.path(), "-wal")).map_err(failed)?;
    let short = torn::short(file.path(), &log).map_err(failed)?;
    let torn = log.torn;
    if torn > 0 && short.is_none() {
        for end in ["", "-wal"] {
            std::fs::copy(beside(file.path(), end), beside(&kept, end)).map_err(failed)?;
        }
        tracing::error!(
            "the log of {} ends in {torn} pages that are not whole: a transaction that lost its power, which \
             nobody was told of, or damage; what precedes them is used, and both files are kept as {}",
            file.name(),
            kept.display()
        );
    }
    let fault = short.map_or_else(|| fault(file), |short| Ok(Some(short)))?;
    let Some(fault) = fault else { return Ok(None) };
    std::fs::rename(file.path(), &kept).map_err(failed)?;
    for end in ["-wal", "-shm"] {
        match std::fs::rename(beside(file.path(), end), beside(&kept, end)) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(err)),
            _ => {}
        }
    }
    tracing::error!(
        "{} is damaged ({fault}); it is kept as {}, and what can be read of what it had spooled is stored",
        file.name(),
        kept.display()
    );
    Ok(Some(kept))
}

/// Besides the notes of the file itself.
fn is_small(table: &str) -> bool {
    let known = journal::TABLES.iter().find(|known| known.name == table);
    known.map_or(table == "standby", |known| known.code < journal::LARGE || table == "alert")
}

/// What is wrong with the file.
fn fault(file: &Database) -> Result<Option<String>, StorageError> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text)]
        value: String,
    }
    let check = || -> Result<Option<String>, StorageError> {
        let mut conn = file.open_existing()?;
        let mut ask = |query: &str| -> QueryResult<Option<String>> {
            let lines: Vec<Line> = diesel::sql_query(query).load(&mut conn)?;
            Ok(lines.into_iter().map(|line| line.value).find(|value| value != "ok"))
        };
        if let Some(fault) = ask("SELECT quick_check AS value FROM pragma_quick_check LIMIT 5")? {
            return Ok(Some(fault));
        }
        // What is small is compared with its indexes too: who is looked up there decides what is stored.
        let present = "SELECT name AS value FROM sqlite_schema WHERE type = 'table'";
        let present: Vec<Line> = diesel::sql_query(present).load(&mut file.open_existing()?)?;
        for Line { value } in present.iter().filter(|table| is_small(&table.value)) {
            let query =
                format!("SELECT integrity_check AS value FROM pragma_integrity_check('{value}') LIMIT 5");
            if let Some(fault) = ask(&query)? {
                return Ok(Some(fault));
            }
        }
        let orphan = "SELECT 'a row of ' || \"table\" || ' refers to none of ' || parent AS value \
                      FROM pragma_foreign_key_check LIMIT 1";
        Ok(ask(orphan)?)
    };
    match check() {
        Ok(fault) => Ok(fault),
        Err(err) if err.outage() == Some(OutageKind::Damaged) => Ok(Some(err.to_string())),
        Err(err) => Err(err),
    }
}
