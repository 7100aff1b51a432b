//! The doors of the watch API behind their routes: bytes that have been read become what is
//! stored, or a reason. A retry from quarantine takes the same way.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::quarantine_desk::{Kept, QuarantineDesk, names_emergency};
use super::ring::Ring;
use super::state::ApiState;
use crate::device::messages::QUARANTINE_ROUTE;
use crate::domain::event::{DeviceReport, ReportBody, ReportedTime, Warning};
use crate::domain::identity;
use crate::domain::kept;
use crate::storage::command::{Command, NewDeviceMessage, NewWatchLog};
use crate::supervision::permits::Outcome;
use crate::wire::{self, DecodeOptions, RecordFault};

/// Results listed one by one in an answer; the counts cover all.
const RESULTS_SHOWN_MAX: usize = 100;

/// A kind of body, and how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Events, vital signs, device information.
    Reports,
    /// Lines of a watch's own log.
    Log,
    /// Replies to messages.
    Reply,
    /// A report that panicked in its shard. Open to retries only.
    Device,
}

/// Every route that takes bodies of watches.
pub const ROUTES: [(&str, Door); 7] = [
    ("/upload_common_event", Door::Reports),
    ("/upload_health_data", Door::Reports),
    ("/upload_device_info", Door::Reports),
    ("/batch/upload_common_event", Door::Reports),
    ("/batch/upload-common-event", Door::Reports),
    ("/upload_watch_log", Door::Log),
    ("/DeviceMessage/send", Door::Reply),
];

/// What became of a body.
#[derive(Debug)]
pub enum Taken {
    /// All of it is committed, but for `quarantined` reports that panicked.
    Stored {
        /// What the sender is told.
        answer: Value,
        records: usize,
        quarantined: bool,
    },
    /// Committed, and to be answered 503 so that its watch keeps its ring.
    Guarded { answer: Value },
    /// No report at all; why.
    Unreadable(String),
    /// Not promised; why.
    Busy(String),
}

impl Door {
    /// The route and the door of a quarantined copy.
    pub fn of(route: &str) -> Option<(&'static str, Door)> {
        ROUTES.into_iter().chain([(QUARANTINE_ROUTE, Door::Device)]).find(|(known, _)| *known == route)
    }

    /// Decodes a body and stores what it says. Records at fault go to quarantine under `route`; a
    /// body that is unreadable as a whole is left to the caller.
    pub async fn take(
        self,
        route: &'static str,
        body: &[u8],
        state: &ApiState,
        desk: &QuarantineDesk,
    ) -> Taken {
        let taken = match self {
            Door::Reports => reports(route, body, state, desk).await,
            Door::Log => log(route, body, state, desk).await,
            Door::Reply => reply(body, state).await,
            Door::Device => match kept::from_bytes(body) {
                Ok(report) => submit(vec![report], body.len(), Vec::new(), state, desk, None).await,
                Err(err) => Err(Taken::Unreadable(err.to_string())),
            },
        };
        taken.unwrap_or_else(|refused| refused)
    }
}

async fn reports(
    route: &'static str,
    body: &[u8],
    state: &ApiState,
    desk: &QuarantineDesk,
) -> Result<Taken, Taken> {
    let decoded = wire::decode(body, &decode_options(state)).map_err(unreadable)?;
    let ring = Ring::of(state, &decoded.reports);
    let taken = store(route, body, decoded, state, desk, &ring).await;
    if let Err(Taken::Busy(_)) = &taken {
        ring.refused();
    }
    taken
}

async fn store(
    route: &'static str,
    body: &[u8],
    decoded: wire::Decoded,
    state: &ApiState,
    desk: &QuarantineDesk,
    ring: &Ring<'_>,
) -> Result<Taken, Taken> {
    let mut warnings = decoded.warnings;
    put_aside(&decoded.faults, route, desk).await?;
    warnings.extend(
        decoded
            .faults
            .iter()
            .map(|_| Warning::new("quarantined", "a record without a device is kept in quarantine")),
    );
    warnings.extend(decoded.reports.iter().flat_map(|report| report.warnings.iter().cloned()));
    submit(decoded.reports, body.len(), warnings, state, desk, Some(ring)).await
}

async fn submit(
    reports: Vec<DeviceReport>,
    wire_bytes: usize,
    warnings: Vec<Warning>,
    state: &ApiState,
    desk: &QuarantineDesk,
    ring: Option<&Ring<'_>>,
) -> Result<Taken, Taken> {
    let begun = Instant::now();
    let told: Vec<(String, Option<String>)> = reports
        .iter()
        .map(|report| {
            let event_type = match &report.body {
                ReportBody::Event(event) => Some(event.short_type().to_string()),
                _ => None,
            };
            (report.device_sn.to_string(), event_type)
        })
        .collect();
    let hashes: Vec<[u8; 32]> = reports.iter().map(|report| report.body_hash).collect();
    crate::fail_point!("api::submit");
    let submitted = state.admission.submit(reports, wire_bytes).await;
    crate::fail_point!("api::answer");
    let outcomes = submitted.map_err(busy)?;
    for (((device_sn, event_type), hash), outcome) in told.iter().zip(hashes).zip(&outcomes) {
        // Its shard has panicked over it, so no alert says that somebody may be in need.
        if let (Outcome::Quarantined, Some(event_type)) = (outcome, event_type)
            && names_emergency(event_type.as_bytes())
        {
            desk.raise_undecided(device_sn, event_type, hash).await.map_err(busy)?;
        }
    }
    if ring.is_some_and(|ring| ring.holds(&outcomes)) {
        return Ok(Taken::Guarded { answer: guarded(&outcomes) });
    }
    Ok(Taken::Stored {
        answer: stored(&told, &outcomes, &warnings, begun),
        records: told.len(),
        quarantined: outcomes.contains(&Outcome::Quarantined),
    })
}

async fn log(
    route: &'static str,
    body: &[u8],
    state: &ApiState,
    desk: &QuarantineDesk,
) -> Result<Taken, Taken> {
    let decoded = wire::decode_watch_log(body, &decode_options(state)).map_err(unreadable)?;
    put_aside(&decoded.faults, route, desk).await?;
    let now = state.clock.now();
    let logs: Vec<NewWatchLog> = decoded
        .entries
        .into_iter()
        .map(|entry| {
            let time = match &entry.time {
                ReportedTime::At(time) => time.wall.to_string(),
                _ => String::new(),
            };
            let (level, content) = (entry.level.as_deref().unwrap_or_default(), &entry.content);
            let key = format!("{}\n{time}\n{level}\n{content}", entry.device_sn);
            NewWatchLog {
                log_key: identity::sha256(key.as_bytes()),
                device_sn: entry.device_sn,
                logged_at: entry.time.at().map_or(now, |time| time.utc),
                level: entry.level.map(Into::into),
                content: entry.content.into(),
            }
        })
        .collect();
    let records = logs.len();
    if records > 0 {
        state.writer.execute(Command::StoreWatchLogs(logs)).await.map_err(busy)?;
    }
    Ok(accepted(records))
}

async fn reply(body: &[u8], state: &ApiState) -> Result<Taken, Taken> {
    let replies = wire::decode_message_reply(body, &decode_options(state)).map_err(unreadable)?;
    let records = replies.len();
    for reply in replies {
        let command = Command::StoreDeviceMessage(NewDeviceMessage {
            message_key: identity::sha256(format!("{}\n{}", reply.device_sn, reply.original).as_bytes()),
            device_sn: reply.device_sn,
            message_id: reply.message_id.map(Into::into),
            body: reply.original.into(),
        });
        state.writer.execute(command).await.map_err(busy)?;
    }
    Ok(accepted(records))
}

/// Keeps copies of records that cannot be attributed, beside others that can.
async fn put_aside(faults: &[RecordFault], route: &'static str, desk: &QuarantineDesk) -> Result<(), Taken> {
    for fault in faults {
        match desk.keep(&fault.original, route, fault.reason.to_string()).await {
            Ok(Kept::NoRoom) => return Err(Taken::Busy("there is no room in quarantine now".into())),
            Ok(Kept::First { .. } | Kept::Again) => {}
            Err(err) => return Err(busy(err)),
        }
    }
    Ok(())
}

fn unreadable(err: wire::DecodeError) -> Taken {
    Taken::Unreadable(err.to_string())
}

fn busy(err: impl std::fmt::Display) -> Taken {
    Taken::Busy(err.to_string())
}

fn accepted(records: usize) -> Taken {
    let answer = json!({ "status": "success", "success": true, "message": "stored" });
    Taken::Stored { answer, records, quarantined: false }
}

fn decode_options(state: &ApiState) -> DecodeOptions {
    let watch = &state.config.watch;
    DecodeOptions { zone: state.zone, records_max: watch.records_max, depth_max: watch.depth_max }
}

/// What a sender is told when all is committed.
fn stored(
    told: &[(String, Option<String>)],
    outcomes: &[Outcome],
    warnings: &[Warning],
    begun: Instant,
) -> Value {
    let elapsed = begun.elapsed();
    let mut answer = Map::new();
    answer.insert("status".into(), "success".into());
    answer.insert("success".into(), true.into());
    answer.insert("message".into(), "stored".into());
    // The event, if there is one, is what the sender asks about; otherwise the first record.
    let index = told.iter().position(|(_, event_type)| event_type.is_some()).unwrap_or(0);
    if let (Some((device_sn, event_type)), Some(outcome)) = (told.get(index), outcomes.get(index)) {
        answer.insert("device_sn".into(), device_sn.as_str().into());
        answer.insert("event_type".into(), event_type.clone().into());
        answer.extend(ids(outcome));
    }
    if told.len() > 1 {
        answer.insert("processed".into(), told.len().into());
        let results =
            told.iter().zip(outcomes).take(RESULTS_SHOWN_MAX).map(|((device_sn, event_type), outcome)| {
                let mut result = ids(outcome);
                result.insert("device_sn".into(), device_sn.as_str().into());
                result.insert("event_type".into(), event_type.clone().into());
                Value::Object(result)
            });
        answer.insert("results".into(), results.collect());
    }
    if !warnings.is_empty() {
        answer.insert("warnings".into(), json!(warnings.iter().take(RESULTS_SHOWN_MAX).collect::<Vec<_>>()));
    }
    answer.insert("processing_time".into(), json!(format!("{:.6}s", elapsed.as_secs_f64())));
    answer.insert("processing_time_ms".into(), json!((elapsed.as_secs_f64() * 1e6).round() / 1e3));
    answer.into()
}

/// What a sender is told whose watch shall keep its ring.
fn guarded(outcomes: &[Outcome]) -> Value {
    let mut answer = outcomes.first().map(ids).unwrap_or_default();
    answer.insert("status".into(), "error".into());
    answer.insert("success".into(), false.into());
    answer.insert("stored".into(), true.into());
    answer.insert("message".into(), "stored; send your whole cache again".into());
    answer.into()
}

fn ids(outcome: &Outcome) -> Map<String, Value> {
    let mut ids = Map::new();
    match outcome {
        Outcome::Stored { event_id, alert_id, duplicate } => {
            ids.insert("event_id".into(), json!(event_id));
            ids.insert("alert_id".into(), json!(alert_id));
            ids.insert("duplicate".into(), (*duplicate).into());
        }
        Outcome::Quarantined | Outcome::NotPromised => {
            ids.insert("event_id".into(), Value::Null);
            ids.insert("alert_id".into(), Value::Null);
            ids.insert("quarantined".into(), (*outcome == Outcome::Quarantined).into());
        }
    }
    ids
}
