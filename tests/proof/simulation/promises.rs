//! What must hold: at every answer and frame, and when everything has come to rest.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use testkit::truth::File;
use watchpost::domain::alert::Alert;
use watchpost::domain::ids::{AlertId, Offset};
use watchpost::session::filter::View;
use watchpost::storage::device_state;

use super::chance::trace;
use super::shards::shard_of;
use super::watches::{DEVICES, Ids, sn};
use super::world::{World, len};

/// A row of the log.
pub struct Change {
    pub offset: Offset,
    pub quiet: bool,
    pub alert: Alert,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    change_offset: i64,
    #[diesel(sql_type = Text)]
    transition: String,
    #[diesel(sql_type = Text)]
    cause: String,
    #[diesel(sql_type = Bool)]
    quiet: bool,
    #[diesel(sql_type = Text)]
    body: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// The change that a view is to be shown next.
pub fn expected_after<'a>(log: &'a [Change], view: &View, after: Offset) -> Option<&'a Change> {
    let shown = |change: &&Change| change.offset > after && !change.quiet && shows(view, &change.alert);
    log.iter().find(shown)
}

fn shows(view: &View, alert: &Alert) -> bool {
    view.shows(alert)
}

/// The open alerts of a view as they were at `offset`, by the log alone.
pub fn open_at(log: &[Change], view: &View, offset: Offset) -> BTreeMap<AlertId, Alert> {
    let mut open = BTreeMap::new();
    for Change { alert, .. } in log.iter().filter(|change| change.offset <= offset) {
        open.insert(alert.alert_id, alert.clone());
    }
    open.retain(|_, alert| alert.state.is_open() && shows(view, alert));
    open
}

impl World {
    /// Takes in what has been committed since. Nothing in the log ever changes or goes.
    pub fn read_log(&mut self) {
        let last = self.log.len() as Offset;
        let rows: Vec<Row> = diesel::sql_query(
            "SELECT change_offset, transition, cause, quiet, body FROM alert_change \
             WHERE change_offset > ? ORDER BY change_offset",
        )
        .bind::<BigInt, _>(last)
        .load(&mut self.conn)
        .expect("the log");
        for Row { change_offset: offset, transition, cause, quiet, body } in rows {
            assert_eq!(offset, self.log.len() as Offset + 1, "offsets without a gap");
            let alert: Alert = serde_json::from_str(&body).expect("an alert");
            trace::note(format!(
                "  log {offset}: {transition} {} of {}, {:?}, count {}, {cause}",
                alert.alert_id, alert.device_sn, alert.state, alert.count
            ));
            self.log.push(Change { offset, quiet, alert });
        }
    }

    fn number(&mut self, query: &str) -> i64 {
        let query = format!("SELECT ({query}) AS value");
        diesel::sql_query(query).get_result::<Number>(&mut self.conn).expect("a number").value
    }

    /// What a 200 names is in the file now.
    pub fn assert_stored(&mut self, report: usize, ids: &Ids) {
        for (event_id, alert_id) in ids {
            let Some(event_id) = event_id else { continue };
            let hex: String = event_id.0.iter().map(|byte| format!("{byte:02X}")).collect();
            let alert = alert_id.map_or("IS NULL".into(), |id| format!("= {}", id.0));
            let query =
                format!("SELECT count(*) FROM event WHERE hex(event_id) = '{hex}' AND alert_id {alert}");
            assert_eq!(self.number(&query), 1, "report {report} was told 200 and {event_id} is not stored");
        }
    }

    pub fn is_settled(&self) -> bool {
        self.unrest().is_empty()
    }

    /// What is left to do.
    pub fn unrest(&self) -> String {
        let mut left = Vec::new();
        let mut note = |is: bool, what: String| {
            if is {
                left.push(what);
            }
        };
        let untold = self.watches.reports.iter().filter(|report| report.told.is_none()).count();
        note(untold > 0, format!("{untold} reports without 200"));
        note(self.watches.waiting() > 0, "receipts without an answer".into());
        note(!self.operators.is_quiet(), "operators without an answer".into());
        note(!self.server.writer.is_idle(), "the writer has work".into());
        for (index, shard) in self.server.shards.iter().enumerate() {
            note(!shard.core.is_drained() || !shard.loads.is_empty(), format!("shard {index} has work"));
            note(len(&shard.notices) > 0, format!("shard {index} has notices"));
        }
        let last = self.log.len() as Offset;
        let registry = self.server.registry.core.last();
        note(registry != last, format!("the registry is at {registry} of {last}"));
        for (index, screen) in self.screens.iter().enumerate() {
            note(screen.cursor != Some(last), format!("screen {index} is at {:?} of {last}", screen.cursor));
        }
        left.join(", ")
    }

    /// At rest.
    pub fn assert_promises(&mut self) {
        File::open(self.database.path()).assert_consistent();
        assert_eq!(self.server.pool.used_kib(), 0, "all permits have come back");
        assert_eq!(self.server.writer.hand_overs(), 0, "all hand-overs have come back");
        for index in 0..self.watches.reports.len() {
            let ids = self.watches.reports[index].told.clone().expect("settled");
            self.assert_stored(index, &ids);
        }
        self.assert_vitals();
        self.assert_actions();
        self.assert_states();
        for (index, screen) in self.screens.iter().enumerate() {
            let state = |alert: &Alert| (alert.alert_id, alert.state);
            let shown: Vec<_> = screen.picture.values().map(state).collect();
            let open: Vec<_> = open_at(&self.log, &screen.view, Offset::MAX).values().map(state).collect();
            assert_eq!(shown, open, "screen {index} shows what is open");
        }
        let open = self.number("SELECT count(*) FROM alert WHERE is_open");
        assert_eq!(self.server.registry.core.open_alerts() as i64, open, "the registry holds what is open");
    }

    /// Every health record is there, under its device and time.
    fn assert_vitals(&mut self) {
        let mut wanted = std::collections::BTreeSet::new();
        for report in &self.watches.reports {
            let body: serde_json::Value = serde_json::from_str(&report.body).expect("JSON");
            let data = match &body["data"] {
                serde_json::Value::Array(records) => records.clone(),
                serde_json::Value::Object(_) => vec![body["data"].clone()],
                _ => vec![],
            };
            wanted
                .extend(data.iter().map(|record| format!("{} {}", record["deviceSn"], record["timestamp"])));
        }
        assert_eq!(self.number("SELECT count(*) FROM vitals"), wanted.len() as i64, "each record once");
    }

    /// One change for each command that was answered 200.
    fn assert_actions(&mut self) {
        for index in 0..self.operators.actions.len() {
            let action = &self.operators.actions[index];
            let (id, done) = (action.action.command_id.clone(), action.done);
            let transition = action.transition().name();
            let query = format!(
                "SELECT count(*) FROM alert_change WHERE cause = 'action:{id}' AND transition = '{transition}'"
            );
            let stored = self.number(&query);
            assert!(stored <= 1 && (!done || stored == 1), "action {index}, done {done}: {stored} changes");
        }
    }

    /// What the shards have in memory is what they would load.
    fn assert_states(&mut self) {
        for device in DEVICES {
            let device = sn(device);
            let Some(known) = self.server.shards[shard_of(&device)].core.state(&device) else { continue };
            let mut loaded =
                device_state::load(&mut self.conn, std::slice::from_ref(&device)).expect("a state");
            let loaded = loaded.remove(0).state;
            let sorted = |alerts: &[Alert]| {
                let by_id: BTreeMap<AlertId, Alert> =
                    alerts.iter().map(|alert| (alert.alert_id, alert.clone())).collect();
                by_id
            };
            let (known_open, stored_open) = (sorted(&known.open_alerts), sorted(&loaded.open_alerts));
            assert_eq!(known_open, stored_open, "{device}: open alerts in memory and in the file");
            assert_eq!(known.wear, loaded.wear, "{device}: worn or not, in memory and in the file");
        }
    }
}
