//! The write path: one transaction for one batch.
//!
//! Everything in it can be replayed: records are inserted unless they are there, vitals fill what
//! was not measured, and a change is applied only if its cause is new for its alert.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::prelude::*;

use super::apply::{Applied, apply_change};
use super::command::{self, Command, CommandError, CommandReply};
use super::conn::write_transaction;
use super::database::{Conn, Database, StorageError};
use super::device_state::find_event;
use super::rows::{device_binds, fill_vitals, insert_event, insert_status, insert_vitals};
use super::schema::alert_change;
use super::slow;
use super::statement::Statement;
use crate::domain::alert::{AlertChange, LoggedChange};
use crate::domain::identity::EventIdentity;
use crate::domain::ids::{AlertId, DeviceSn, EventId, Offset};
use crate::domain::record::{EventRecord, Records, VitalsRecord};
use crate::domain::time::UtcMillis;

pub use super::token::WriteToken;

/// A connection that writes, and the offset allocator with it.
pub(super) struct Session {
    pub(super) conn: Conn,
    pub(super) last_offset: Offset,
    /// Until then the months that PostgreSQL keeps apart have been made.
    #[cfg(feature = "postgres")]
    months_until: UtcMillis,
    slow_statement: Duration,
    slow_statements: u64,
}

/// One report, or one operator's action, as the transaction takes it.
pub struct Entry<'a> {
    pub records: Option<&'a Records>,
    pub changes: &'a [AlertChange],
    /// Identity of an event that nobody has looked up: if it is stored already, nothing is written.
    pub unasked: Option<&'a EventIdentity>,
    pub arrived: Instant,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is written; its event names this alert, where that is not the one that was decided.
    New { alert_id: Option<AlertId> },
    /// The event was stored before.
    Known { event_id: EventId, alert_id: Option<AlertId> },
}

/// What a committed batch has done.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// In order, with the offsets that they got.
    pub changes: Vec<LoggedChange>,
    /// For each entry.
    pub stored: Vec<Stored>,
    /// Devices where a raise met an open alert that the shard did not know, or an action itself.
    pub merged: Vec<DeviceSn>,
}

impl Session {
    /// Opens the write connection and reads the last offset from the log.
    pub fn open(database: &Database) -> Result<Self, StorageError> {
        let mut conn = database.open_writer()?;
        super::migrate::refuse_superseded(&mut conn, database)?;
        let last: Option<Offset> =
            alert_change::table.select(diesel::dsl::max(alert_change::change_offset)).first(&mut conn)?;
        Ok(Self {
            conn,
            last_offset: last.unwrap_or(0),
            slow_statement: database.slow_statement(),
            slow_statements: 0,
            #[cfg(feature = "postgres")]
            months_until: UtcMillis(0),
        })
    }

    /// Makes the months ahead in which what comes now will be kept. Without them it is stored all
    /// the same, in the partition for the rest.
    #[cfg(feature = "postgres")]
    fn make_months(&mut self, entries: &[Entry<'_>]) {
        const AHEAD_MS: i64 = 35 * 24 * 3_600_000;
        let Conn::Postgres(conn) = &mut self.conn else { return };
        let received = entries.iter().filter_map(|entry| entry.records).map(|records| records.received_at);
        let Some(newest) = received.max() else { return };
        if newest.0 + AHEAD_MS < self.months_until.0 {
            return;
        }
        match super::postgres::partitions::make_ahead(conn, newest) {
            Ok(until) => self.months_until = until,
            Err(err) => {
                tracing::warn!("the partitions of the next months could not be made: {err}");
                self.months_until = UtcMillis(newest.0 + AHEAD_MS + 3_600_000);
            }
        }
    }

    pub fn last_offset(&self) -> Offset {
        self.last_offset
    }

    /// Stores a batch in one transaction. After an error nothing of it is stored, and the same
    /// batch may be tried again.
    pub fn commit(&mut self, entries: &[Entry<'_>]) -> Result<Committed, StorageError> {
        crate::fail_point!("storage::begin", |_| Err(StorageError::Unusable("a fail point".into())));
        #[cfg(feature = "postgres")]
        self.make_months(entries);
        let start = self.last_offset;
        let (committed, last) = write_transaction(&mut self.conn, |conn| {
            let mut committed = Committed::default();
            let mut last = start;
            let mut renamed: HashMap<AlertId, AlertId> = HashMap::new();
            let mut batch = Batch::default();
            for entry in entries {
                if entry.unasked.is_some() {
                    batch.store_events(conn)?;
                }
                if let Some(known) = look_up(conn, entry)? {
                    committed.stored.push(known);
                    continue;
                }
                for change in entry.changes {
                    let applied = apply_change(conn, change, last + 1, entry.arrived)?;
                    if let Applied::Merged { into, .. } = &applied {
                        renamed.insert(change.alert.alert_id, *into);
                        committed.merged.push(change.alert.device_sn.clone());
                    }
                    // An action that is stored already, and was decided upon a state that did not know of it.
                    if matches!(applied, Applied::Known) && entry.records.is_none() {
                        committed.merged.push(change.alert.device_sn.clone());
                    }
                    if let Applied::Logged(logged) | Applied::Merged { logged: Some(logged), .. } = applied {
                        last += 1;
                        committed.changes.push(logged);
                    }
                }
                let alert_id = batch.take(conn, entry, &renamed)?;
                committed.stored.push(Stored::New { alert_id });
            }
            crate::fail_point!("storage::transaction", |_| Err(StorageError::Unusable(
                "a fail point".into()
            )));
            batch.store(conn)?;
            crate::fail_point!("storage::commit", |_| Err(StorageError::Unusable("a fail point".into())));
            Ok::<_, StorageError>((committed, last))
        })?;
        crate::fail_point!("storage::committed", |_| Err(StorageError::Unusable("a fail point".into())));
        self.last_offset = last;
        Ok(committed)
    }

    /// Runs an administrative command in a transaction of its own.
    pub fn execute(&mut self, command: Command, now: UtcMillis) -> Result<CommandReply, CommandError> {
        let (result, slow) = slow::watched(&mut self.conn, self.slow_statement, |conn| {
            write_transaction(conn, |conn| {
                crate::fail_point!("storage::command");
                command::execute(conn, command, now)
            })
        });
        self.slow_statements += slow;
        result
    }

    /// A transaction that takes so long is slow; zero if nobody wants to know.
    pub fn slow_statement(&self) -> Duration {
        self.slow_statement
    }

    /// How many statements of commands were slow since this was asked last.
    pub fn take_slow_statements(&mut self) -> u64 {
        std::mem::take(&mut self.slow_statements)
    }
}

/// Asks for the event of an entry that was decided without asking.
fn look_up(conn: &mut Conn, entry: &Entry<'_>) -> Result<Option<Stored>, StorageError> {
    let (Some(identity), Some(records)) = (entry.unasked, entry.records) else { return Ok(None) };
    let found = find_event(conn, &records.device_sn, identity, records.received_at)?;
    Ok(found.map(|(event_id, alert_id)| Stored::Known { event_id, alert_id }))
}

/// What is written once per batch and key, whatever the number of reports.
#[derive(Default)]
pub(super) struct Batch<'a> {
    /// Events that go into PostgreSQL together.
    #[cfg(feature = "postgres")]
    events: Vec<(&'a EventRecord, Option<AlertId>)>,
    #[cfg(not(feature = "postgres"))]
    events: std::marker::PhantomData<&'a EventRecord>,
    devices: HashMap<DeviceSn, Records>,
    samples: Vec<VitalsRecord>,
    sample_index: HashMap<(DeviceSn, UtcMillis), usize>,
}

impl<'a> Batch<'a> {
    /// Stores an event, or keeps it for [`Batch::store_events`].
    fn event(
        &mut self,
        conn: &mut Conn,
        event: &'a EventRecord,
        alert_id: Option<AlertId>,
    ) -> QueryResult<()> {
        #[cfg(feature = "postgres")]
        if let Conn::Postgres(_) = conn {
            self.events.push((event, alert_id));
            return Ok(());
        }
        insert_event(conn, event, alert_id).map(|_| ())
    }

    /// Stores the events that wait: before somebody looks for one of them, and at the end.
    fn store_events(&mut self, conn: &mut Conn) -> QueryResult<()> {
        #[cfg(feature = "postgres")]
        if let Conn::Postgres(conn) = conn {
            super::postgres::rows::insert_events(conn, &std::mem::take(&mut self.events))?;
        }
        let _ = conn;
        Ok(())
    }

    /// Stores the event of an entry and keeps the rest for later. Answers the alert that the event
    /// now names.
    pub(super) fn take(
        &mut self,
        conn: &mut Conn,
        entry: &Entry<'a>,
        renamed: &HashMap<AlertId, AlertId>,
    ) -> Result<Option<AlertId>, StorageError> {
        let Some(records) = entry.records else { return Ok(None) };
        let mut alert_id = None;
        if let Some(event) = &records.event {
            alert_id = event.alert_id.map(|id| renamed.get(&id).copied().unwrap_or(id));
            self.event(conn, event, alert_id)?;
        }
        for sample in &records.vitals {
            merge_sample(&mut self.samples, &mut self.sample_index, sample);
        }
        if let Some(status) = &records.status {
            insert_status(conn, status)?;
        }
        if records.touch_device {
            self.touch(records);
        }
        Ok(alert_id)
    }

    fn touch(&mut self, records: &Records) {
        self.devices
            .entry(records.device_sn.clone())
            .and_modify(|known| {
                known.received_at = known.received_at.max(records.received_at);
                if records.worn.map(|(_, at)| at) >= known.worn.map(|(_, at)| at) {
                    known.worn = records.worn;
                }
            })
            .or_insert_with(|| Records { event: None, vitals: vec![], status: None, ..records.clone() });
    }

    pub(super) fn store(&mut self, conn: &mut Conn) -> Result<(), StorageError> {
        self.store_events(conn)?;
        #[cfg(feature = "postgres")]
        if let Conn::Postgres(conn) = conn {
            super::postgres::rows::store_vitals(conn, &self.samples)?;
            super::postgres::rows::upsert_devices(conn, self.devices.values())?;
            return Ok(());
        }
        for sample in &self.samples {
            store_vitals(conn, sample)?;
        }
        for records in self.devices.values() {
            upsert_device(conn, records)?;
        }
        Ok(())
    }
}

/// Merges samples of one key before the insert, so that each key is written once a batch.
fn merge_sample(
    samples: &mut Vec<VitalsRecord>,
    index: &mut HashMap<(DeviceSn, UtcMillis), usize>,
    sample: &VitalsRecord,
) {
    match index.entry((sample.device_sn.clone(), sample.measured_at)) {
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(samples.len());
            samples.push(sample.clone());
        }
        std::collections::hash_map::Entry::Occupied(taken) => {
            let known = &mut samples[*taken.get()];
            known.metrics.fill_from(&sample.metrics);
            known.location = known.location.or(sample.location);
            let (mine, theirs) = (&mut known.history, &sample.history);
            for (mine, theirs) in [
                (&mut mine.sleep, &theirs.sleep),
                (&mut mine.exercise_daily, &theirs.exercise_daily),
                (&mut mine.exercise_week, &theirs.exercise_week),
                (&mut mine.scientific_sleep, &theirs.scientific_sleep),
                (&mut mine.workout, &theirs.workout),
                (&mut known.extra, &sample.extra),
            ] {
                if mine.is_none() {
                    mine.clone_from(theirs);
                }
            }
        }
    }
}

/// Inserts, or fills what is empty where the key is taken.
fn store_vitals(conn: &mut Conn, record: &VitalsRecord) -> QueryResult<usize> {
    match insert_vitals(conn, record)? {
        0 => fill_vitals(conn, record),
        inserted => Ok(inserted),
    }
}

/// The owner is not touched: only a binding changes it. Nor is a newer wear report: an urgent one may
/// have overtaken this.
fn upsert_device(conn: &mut Conn, records: &Records) -> QueryResult<usize> {
    struct UpsertDevice;
    const SQL: &str = "INSERT INTO device (device_sn, customer_id, first_seen_ms, last_seen_ms, worn, worn_ms) \
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device_sn) DO UPDATE SET last_seen_ms = excluded.last_seen_ms, \
        worn = CASE WHEN excluded.worn IS NULL \
        OR (device.worn IS NOT NULL AND excluded.worn_ms < device.worn_ms) \
        THEN device.worn ELSE excluded.worn END, \
        worn_ms = CASE WHEN excluded.worn IS NULL \
        OR (device.worn IS NOT NULL AND excluded.worn_ms < device.worn_ms) \
        THEN device.worn_ms ELSE excluded.worn_ms END";
    Statement::<UpsertDevice>::new(SQL, &device_binds(records)).execute(conn)
}

/// Devices among `committed` whose shard has to reload them, each once.
pub fn distinct(devices: Vec<DeviceSn>) -> Vec<DeviceSn> {
    let unique: HashSet<DeviceSn> = devices.into_iter().collect();
    unique.into_iter().collect()
}

/// The alert as JSON: the body of its rows.
pub(super) fn alert_json(change: &AlertChange) -> Result<String, StorageError> {
    serde_json::to_string(&change.alert)
        .map_err(|err| StorageError::Corrupt { what: "alert", message: err.to_string() })
}

pub(super) fn logged(change: &AlertChange, offset: Offset, cause: String, arrived: Instant) -> LoggedChange {
    LoggedChange {
        offset,
        transition: change.transition,
        cause: cause.into(),
        at: change.at,
        actor: change.actor.clone(),
        note: change.note.clone(),
        quiet: change.quiet,
        alert: Arc::new(change.alert.clone()),
        arrived: Some(arrived),
    }
}
