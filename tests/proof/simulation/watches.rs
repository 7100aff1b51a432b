//! Watches: they send the same bytes until they are told 200, and sometimes after that.

use serde_json::{Value, json};
use testkit::bodies::{self, EXAMPLE_MS};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use watchpost::device::messages::Ingest;
use watchpost::domain::event::ReportBody;
use watchpost::domain::ids::{AlertId, CustomerId, DeviceSn, EventId};
use watchpost::supervision::permits::{Admitted, Outcome, Priority, Receipt, Ticket};
use watchpost::wire::{self, DecodeOptions};

use super::chance::trace;
use super::shards::shard_of;
use super::world::World;

pub const DEVICES: [&str; 4] = ["W1", "W2", "W3", "W4"];
const REPORTS_MAX: usize = 60;
const ACTION: &str = "com.tdtech.ohos.health.action";

/// What an answer of 200 names, for each record of the body.
pub type Ids = Vec<(Option<EventId>, Option<AlertId>)>;

pub struct Report {
    pub body: String,
    waiting: Vec<oneshot::Receiver<Vec<Outcome>>>,
    /// What the first 200 named.
    pub told: Option<Ids>,
}

#[derive(Default)]
pub struct Watches {
    pub reports: Vec<Report>,
}

impl Watches {
    pub fn may_send_new(&self) -> bool {
        self.reports.len() < REPORTS_MAX
    }

    /// Not answered 200, and not sent more than twice at a time.
    pub fn may_retry(&self) -> Vec<usize> {
        let wants = |report: &Report| report.told.is_none() && report.waiting.len() < 2;
        self.indexes(wants)
    }

    pub fn may_duplicate(&self) -> Vec<usize> {
        self.indexes(|report| report.told.is_some() && report.waiting.is_empty())
    }

    pub fn unanswered(&self) -> Vec<usize> {
        self.indexes(|report| report.told.is_none() && report.waiting.is_empty())
    }

    pub fn waiting(&self) -> usize {
        self.reports.iter().map(|report| report.waiting.len()).sum()
    }

    fn indexes(&self, wanted: impl Fn(&Report) -> bool) -> Vec<usize> {
        let all = self.reports.iter().enumerate();
        all.filter(|(_, report)| wanted(report)).map(|(index, _)| index).collect()
    }
}

impl World {
    pub fn send_new(&mut self) {
        let body = self.new_body().to_string();
        trace::note(format!("  report {}: {body}", self.watches.reports.len()));
        self.watches.reports.push(Report { body, waiting: Vec::new(), told: None });
        self.send(self.watches.reports.len() - 1);
    }

    /// Device clocks are up to half a minute off either way, so that reports come out of order.
    fn new_body(&mut self) -> Value {
        let device = self.chance.of(&DEVICES);
        let now_s = (self.clock.now().0 - EXAMPLE_MS) / 1_000;
        let at = now_s - 30 + self.chance.below(60) as i64;
        let beats = if self.chance.percent(75) { 190 } else { 70 + self.chance.below(3) as u32 };
        let event = |name: &str, value: &str| bodies::event(device, &format!("{ACTION}.{name}"), value, at);
        match self.chance.below(12) {
            0..=2 => event("SOS_EVENT", device),
            3 => event("FALL_EVENT", "1"),
            4 => event("GEOFENCE_EXIT", "1"),
            5 => event("STEPS_REACHED", "1"),
            6 | 7 => {
                let worn = if self.chance.percent(50) { "1" } else { "0" };
                bodies::event(device, bodies::WEAR, worn, at)
            }
            8 => {
                // No time at all: its bytes are its identity.
                let mut body = event("SOS_EVENT", &self.chance.below(1_000).to_string());
                body.as_object_mut().expect("an object").remove("timestamp");
                body
            }
            9 => {
                let record = |at: i64| bodies::heart_rate(device, at, beats)["data"].clone();
                json!({"data": [record(at), record(at + 1), record(at + 2)]})
            }
            _ => bodies::heart_rate(device, at, beats),
        }
    }

    /// As `ingest::admission` does it; nothing is refused here.
    pub fn send(&mut self, index: usize) {
        let report = &mut self.watches.reports[index];
        let decoded = wire::decode(report.body.as_bytes(), &DecodeOptions::default()).expect("a body");
        assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
        let (receipts, answer) = Receipt::for_request(decoded.reports.len());
        report.waiting.push(answer);
        for (value, receipt) in decoded.reports.into_iter().zip(receipts) {
            let bound = self.server.deps.bindings.bound_customer(&value.device_sn);
            let customer = bound.clone().unwrap_or_else(CustomerId::default_customer);
            let priority = match &value.body {
                ReportBody::Event(event) if self.server.rules.load().is_critical(event, &customer) => {
                    if bound.is_some() { Priority::CriticalBound } else { Priority::CriticalUnbound }
                }
                ReportBody::Event(_) => Priority::Event,
                _ => Priority::Vitals,
            };
            let permit = self.server.pool.acquire(priority, value.decoded_bytes()).expect("room");
            let ticket = Ticket { permit, receipt, priority };
            let shard = shard_of(&value.device_sn);
            let report = Admitted { value, ticket };
            let (received_at, arrived) = (self.clock.now(), self.now);
            self.server.shards[shard].reports.push_back(Ingest { report, received_at, arrived });
            // The longest waiting goes first; none waits as long as another.
            self.pass(std::time::Duration::from_nanos(100));
        }
    }

    pub fn hear_answers(&mut self) {
        for index in 0..self.watches.reports.len() {
            let mut waiting = std::mem::take(&mut self.watches.reports[index].waiting);
            waiting.retain_mut(|answer| match answer.try_recv() {
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Closed) => panic!("the receipt of report {index} was never answered"),
                Ok(outcomes) => {
                    self.answered(index, &outcomes);
                    false
                }
            });
            self.watches.reports[index].waiting = waiting;
        }
        self.hear_operators();
    }

    fn answered(&mut self, index: usize, outcomes: &[Outcome]) {
        let ids: Option<Ids> = outcomes
            .iter()
            .map(|outcome| match outcome {
                // A second record of the same vitals raises nothing, so only events name an alert for good.
                Outcome::Stored { event_id: None, .. } => Some((None, None)),
                Outcome::Stored { event_id, alert_id, .. } => Some((*event_id, *alert_id)),
                _ => None,
            })
            .collect();
        let Some(ids) = ids else { return trace::note(format!("  report {index}: 503")) };
        trace::note(format!("  report {index}: 200 {ids:?}"));
        self.assert_stored(index, &ids);
        match &self.watches.reports[index].told {
            Some(first) => assert_eq!(*first, ids, "report {index}: a retry is told what the first was told"),
            None => self.watches.reports[index].told = Some(ids),
        }
    }

    pub fn send_what_is_unanswered(&mut self) {
        for index in self.watches.unanswered() {
            self.send(index);
        }
        self.repeat_unanswered_actions();
    }
}

/// The serial as the server has it.
pub fn sn(device: &str) -> DeviceSn {
    DeviceSn::parse(device).expect("a serial")
}
