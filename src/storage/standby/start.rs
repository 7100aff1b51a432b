//! A start with a main database that may be away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{FILE, Mode, Standby, fill, guarded, journal, torn};
use crate::config::StorageConfig;
use crate::domain::rule::Rule;
use crate::domain::time::UtcMillis;
use crate::storage::conn::write_transaction;
use crate::storage::database::{Conn, Database, StorageError};
use crate::storage::migrate::{self, Opened};
use crate::storage::schema::meta;
use crate::supervision::outage::OutageKind;

/// What the file says about itself.
struct Found {
    opened: Opened,
    /// It has had everything once.
    filled: bool,
    spooling: bool,
    unsure: bool,
    /// Which process wrote to the main database when this was up to date.
    holder: Option<String>,
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
    let salvaged = put_aside_if_damaged(&file, now)?;
    let found = look(&file, now)?;
    let prepared = migrate::prepare(&main, seeds, now);
    let (opened, found) = match prepared {
        Ok(opened) => (Some(opened), found),
        Err(err @ StorageError::Away { .. }) if found.filled && salvaged.is_none() => {
            tracing::warn!(
                "{err}; this server starts with what {} knows, and hands on what comes when the \
                 database is back",
                file.name()
            );
            (None, found)
        }
        Err(StorageError::Away { name, message }) => {
            let file = file.name();
            let message = format!(
                "{message}; {file} has never been up to date, so this server cannot start without its database"
            );
            return Err(StorageError::Away { name, message });
        }
        Err(err) => return Err(err),
    };
    let away = opened.is_none();
    let (mode, opened, unsure) = match opened {
        Some(opened) if !found.spooling => {
            let known = found.filled && found.holder.is_some() && found.holder == opened.holder_before;
            refresh(&main, &file, now, config, !known)?;
            match &salvaged {
                None => (Mode::Mirroring, opened, false),
                Some(damaged) => {
                    spool_again(&file, damaged)?;
                    (Mode::Spooling, opened, true)
                }
            }
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
    if present != journal::note(&mut conn, "holder")? && present.as_deref() != main.holder() {
        return Err(StorageError::Superseded { name: main.name() });
    }
    migrate::prepare(main, &[], UtcMillis(chrono::Utc::now().timestamp_millis()))?;
    Ok(())
}

/// The URL of a file is read without the directory that a program runs in.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf())
}

fn spooled(file: &Database) -> Result<u64, StorageError> {
    let Conn::Sqlite(mut conn) = file.open_reader()? else { return Ok(0) };
    Ok(journal::length(&mut conn)?.unsigned_abs())
}

fn look(file: &Database, now: UtcMillis) -> Result<Found, StorageError> {
    let opened = migrate::prepare(file, &[], now)?;
    let Conn::Sqlite(mut conn) = file.open_writer()? else {
        return Err(StorageError::Unusable("the standby is no file".into()));
    };
    journal::make(&mut conn)?;
    let is = |note: Option<String>, value: &str| note.as_deref() == Some(value);
    Ok(Found {
        opened,
        filled: journal::note(&mut conn, "filled")?.is_some(),
        spooling: is(journal::note(&mut conn, "mode")?, "spooling"),
        unsure: is(journal::note(&mut conn, "unsure")?, "yes"),
        holder: journal::note(&mut conn, "holder")?,
    })
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
            fill::bring_up_to_date(&mut main, &mut file, now, keep_ms, anew)
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
    let torn = torn::frames(&beside(file.path(), "-wal")).map_err(failed)?;
    if torn > 0 {
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
    let Some(fault) = fault(file)? else { return Ok(None) };
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

/// What is wrong with the file.
fn fault(file: &Database) -> Result<Option<String>, StorageError> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text)]
        value: String,
    }
    let check = || -> Result<Vec<Line>, StorageError> {
        let mut conn = file.open_existing()?;
        Ok(diesel::sql_query("SELECT quick_check AS value FROM pragma_quick_check LIMIT 5")
            .load(&mut conn)?)
    };
    match check() {
        Ok(lines) => Ok(lines.into_iter().map(|line| line.value).find(|value| value != "ok")),
        Err(err) if err.outage() == Some(OutageKind::Damaged) => Ok(Some(err.to_string())),
        Err(err) => Err(err),
    }
}

/// Puts what a damaged file had spooled into a new one, row by row, as if it had just come.
fn spool_again(file: &Database, damaged: &Path) -> Result<(), StorageError> {
    let base = {
        let mut conn = file.open_writer()?;
        let base = crate::storage::alert_log::last_offset(&mut conn)?;
        guarded::begin_journal(&mut conn, base)?;
        base
    };
    let Conn::Sqlite(mut conn) = file.open_writer()? else { return Ok(()) };
    conn.batch_execute("PRAGMA foreign_keys = OFF")?;
    diesel::sql_query("ATTACH DATABASE ? AS damaged")
        .bind::<Text, _>(damaged.to_string_lossy())
        .execute(&mut conn)?;
    let (mut kept, mut lost) = (0u64, 0u64);
    for table in journal::TABLES.iter().filter(|table| table.by_rowid && table.name != "meta") {
        for row in logged(&mut conn, table.code) {
            let verb = if table.name == "alert" { "REPLACE" } else { "IGNORE" };
            let copied = diesel::sql_query(format!(
                "INSERT OR {verb} INTO main.{0} SELECT * FROM damaged.{0} WHERE rowid = {row}",
                table.name
            ))
            .execute(&mut conn);
            match copied {
                Ok(_) => kept += 1,
                Err(_) => lost += 1,
            }
        }
    }
    conn.batch_execute("DETACH DATABASE damaged; PRAGMA foreign_keys = ON")?;
    tracing::error!(
        "of what was spooled {kept} rows are kept and {lost} could not be read (after offset {base})"
    );
    Ok(())
}

/// Rows of a table that the log of a damaged file names, from both of its ends.
fn logged(conn: &mut SqliteConnection, code: i64) -> Vec<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        seq: i64,
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        row_id: i64,
    }
    let mut found = Vec::new();
    for (order, compare, mut from) in [("ASC", ">", i64::MIN), ("DESC", "<", i64::MAX)] {
        loop {
            let part: Result<Vec<Row>, _> = diesel::sql_query(format!(
                "SELECT seq, row AS row_id FROM damaged.spool_log WHERE seq {compare} {from} AND tab = {code} \
                 AND row IS NOT NULL ORDER BY seq {order} LIMIT 100"
            ))
            .load(conn);
            let Ok(part) = part else { break };
            let Some(last) = part.last() else { break };
            from = last.seq;
            found.extend(part.iter().map(|row| row.row_id));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
