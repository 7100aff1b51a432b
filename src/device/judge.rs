//! One report in its device's state: known already, to be asked about, or decided.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::bindings::Bindings;
use super::decide::{self, Circumstances, Decision, EvaluateEvent};
use super::messages::Ingest;
use super::strangers::Strangers;
use crate::config::DeviceConfig;
use crate::domain::alert::Transition;
use crate::domain::device::DeviceState;
use crate::domain::event::{DeviceReport, ReportBody};
use crate::domain::identity::{self, EventIdentity};
use crate::domain::ids::{AlertId, DeviceSn, EventId};
use crate::domain::owner::Owner;
use crate::domain::recent::{Lookup, SeenEvent};
use crate::domain::rule::Severity;
use crate::rules::set::{Published, RuleSet};
use crate::supervision::clock::Clock;
use crate::supervision::guard::panic_text;
use crate::supervision::permits::{Admitted, Ticket};
use crate::telemetry::Metrics;
use crate::writer::messages::WriteItem;

/// Under this serial the emergencies of all devices beyond `devices_unbound_max` share one alert.
pub const UNREGISTERED_SN: &str = "watchpost:unregistered";

/// What a shard is given.
pub struct ShardDeps {
    pub config: DeviceConfig,
    /// Shards of this server; limits are divided by it.
    pub shards: usize,
    /// Items that may be with the writer before the shard collects.
    pub batch_rows: usize,
    pub rules: Published,
    /// The built-in emergencies, for when evaluation fails.
    pub built_in: RuleSet,
    pub bindings: Arc<Bindings>,
    pub strangers: Arc<Strangers>,
    /// Numbers barriers, over all incarnations of all shards.
    pub tokens: AtomicU64,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub evaluate_event: EvaluateEvent,
}

/// An item for the writer, and whether it is urgent.
pub struct Decided {
    pub item: WriteItem,
    pub urgent: bool,
}

/// What is known about an event besides the state that it is judged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// The state says whether it is new, or that storage has to be asked.
    AsRemembered,
    /// Storage has been asked, and does not have it.
    SurelyNew,
    /// There is no time to ask: the transaction that stores it looks first.
    Unasked,
}

/// A report that is not written now.
pub enum NotDecided {
    /// A copy of what is stored.
    Stored {
        ticket: Ticket,
        event_id: EventId,
        alert_id: Option<AlertId>,
    },
    /// A copy of what is on its way.
    Uncommitted {
        device: DeviceSn,
        ticket: Ticket,
        event_id: EventId,
    },
    /// Older than what memory knows.
    Ask {
        ingest: Box<Ingest>,
        identity: EventIdentity,
    },
    Panicked {
        report: Box<DeviceReport>,
        ticket: Ticket,
        panic: String,
    },
}

impl ShardDeps {
    /// Decides about one report.
    pub fn judge(
        &self,
        state: &mut DeviceState,
        ingest: Ingest,
        owner: &Arc<Owner>,
        certainty: Certainty,
    ) -> Result<Decided, Box<NotDecided>> {
        let Ingest { report: Admitted { value: mut report, ticket }, received_at, arrived } = ingest;
        let identity = match &report.body {
            ReportBody::Event(event) => Some(identity::identify(&report, event, received_at)),
            _ => None,
        };
        if let Some(identity) = &identity {
            match state.events.lookup(identity, received_at) {
                Lookup::Duplicate { event_id, seen: SeenEvent { alert_id, committed: true } } => {
                    return Err(NotDecided::Stored { ticket, event_id, alert_id }.into());
                }
                Lookup::Duplicate { event_id, .. } => {
                    return Err(NotDecided::Uncommitted { device: report.device_sn, ticket, event_id }.into());
                }
                Lookup::AskStorage if certainty == Certainty::AsRemembered => {
                    let report = Admitted { value: report, ticket };
                    let ingest = Box::new(Ingest { report, received_at, arrived });
                    return Err(NotDecided::Ask { ingest, identity: identity.clone() }.into());
                }
                Lookup::AskStorage | Lookup::New => {}
            }
        }
        let rules = self.rules.load();
        let given = Circumstances {
            rules: &rules,
            built_in: &self.built_in,
            owner,
            received_at,
            evaluate_event: self.evaluate_event,
        };
        let work = || match &identity {
            Some(identity) => decide::event(state, &mut report, identity, &given),
            None => Some(decide::other(state, &report, &given)),
        };
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Some(decision)) => {
                let event_id = identity.as_ref().map(|identity| identity.new_id);
                let mut decided = self.to_item(decision, ticket, event_id, arrived);
                decided.item.unasked = identity.filter(|_| certainty == Certainty::Unasked);
                Ok(decided)
            }
            Ok(None) => unreachable!("only an event has an identity"),
            Err(panic) => {
                let panic = panic_text(&*panic);
                Err(NotDecided::Panicked { report: Box::new(report), ticket, panic }.into())
            }
        }
    }

    /// The same for a device beyond the limit on strangers: it is stored, no state is kept, and
    /// its emergency goes to the one shared alert. Storage makes each further one a repeat.
    pub fn judge_unregistered(&self, ingest: Ingest, owner: &Arc<Owner>) -> Result<Decided, Box<NotDecided>> {
        let serial = ingest.report.value.device_sn.clone();
        let mut decided = self.judge(&mut DeviceState::default(), ingest, owner, Certainty::Unasked)?;
        if let Some(records) = &mut decided.item.records {
            records.touch_device = false;
        }
        let shared = DeviceSn::parse(UNREGISTERED_SN).expect("the constant is a valid serial");
        decided.item.changes.retain_mut(|change| {
            change.alert.device_sn = shared.clone();
            change.alert.value = Some(serial.as_str().into());
            change.alert.severity == Severity::Critical && change.transition == Transition::Raised
        });
        // Nobody is told of an alert that is not stored.
        let kept = decided.item.changes.first().map(|change| change.alert.alert_id);
        decided.item.alert_id = kept;
        if let Some(event) = decided.item.records.as_mut().and_then(|records| records.event.as_mut()) {
            event.alert_id = kept;
        }
        Ok(decided)
    }

    fn to_item(
        &self,
        decision: Decision,
        ticket: Ticket,
        event_id: Option<EventId>,
        arrived: Instant,
    ) -> Decided {
        if decision.evaluation_panicked {
            Metrics::count(&self.metrics.panics, "evaluation");
            tracing::error!(
                device = %decision.records.device_sn,
                "rule evaluation panicked; the report is stored and only the built-in rules applied"
            );
        }
        let urgent = decision.urgent || ticket.priority.is_critical();
        let item = WriteItem {
            device_sn: decision.records.device_sn.clone(),
            records: Some(decision.records),
            changes: decision.changes,
            incarnation: 0,
            event_id,
            unasked: None,
            alert_id: decision.alert_id,
            ticket: Some(ticket),
            acted: None,
            arrived,
        };
        Decided { item, urgent }
    }
}
