//! What one report means, given its device's state: the records to store and the changes to make.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::domain::alert::{Alert, AlertChange, Cause, Occurrence};
use crate::domain::device::DeviceState;
use crate::domain::event::{DeviceReport, EventReport, ReportBody};
use crate::domain::identity::{self, EventIdentity, HASH_WINDOW_MS, HASH_WINDOW_TIMELESS_MS};
use crate::domain::ids::{AlertId, CustomerId, DeviceSn};
use crate::domain::owner::Owner;
use crate::domain::recent::{Sample, SeenEvent};
use crate::domain::record::{EventRecord, Records, StatusRecord, TimeSource, VitalsRecord};
use crate::domain::rule::{Rule, Severity};
use crate::domain::time::{DeviceTime, UtcMillis};
use crate::domain::vitals::{Metrics, VitalsSample};
use crate::rules::evaluate::{self, Finding};
use crate::rules::set::RuleSet;

/// How event rules are evaluated; tests put a panicking one in.
pub type EvaluateEvent = fn(&RuleSet, &DeviceState, &EventReport, UtcMillis, &CustomerId) -> Vec<Finding>;

/// All that a decision depends on besides the report and the state.
pub struct Circumstances<'a> {
    pub rules: &'a RuleSet,
    /// The built-in emergencies, for when evaluation fails.
    pub built_in: &'a RuleSet,
    pub owner: &'a Arc<Owner>,
    pub received_at: UtcMillis,
    pub evaluate_event: EvaluateEvent,
}

/// What is to be written for a report.
#[derive(Debug)]
pub struct Decision {
    pub records: Records,
    pub changes: Vec<AlertChange>,
    /// What the sender is told: the first alert that was raised or repeated.
    pub alert_id: Option<AlertId>,
    /// A critical alert was raised or repeated.
    pub urgent: bool,
    /// The evaluation panicked; only the built-in rules were applied.
    pub evaluation_panicked: bool,
}

/// Decides about an event that is new under `identity`, and lets the state know of it. Moves what
/// it stores out of `report`, last of all: a panic before leaves it whole.
pub fn event(
    state: &mut DeviceState,
    report: &mut DeviceReport,
    identity: &EventIdentity,
    given: &Circumstances<'_>,
) -> Option<Decision> {
    let ReportBody::Event(event) = &mut report.body else { return None };
    let received_at = given.received_at;
    let (occurred_at, time_source) = believed(event.time.at(), received_at, received_at);
    let mut decision = Decision::empty(&report.device_sn, given);

    let findings = evaluated(state, event, occurred_at, given, &mut decision);
    if evaluate::is_wear_report(event)
        && let Some(worn) = evaluate::worn_by_value(event)
        && state.wear.report(worn, occurred_at)
    {
        decision.records.worn = Some((worn, occurred_at));
    }

    let time_of = |sample: &VitalsSample| believed(sample.time, received_at, occurred_at).0;
    let first = event.vitals.first();
    let vitals_at = first.map(time_of);
    let occurrence = Occurrence {
        cause: Cause::Event(identity.new_id),
        occurred_at,
        received_at,
        event_id: Some(identity.new_id),
        event_type: Some(event.event_type.clone()),
        value: event.value.clone(),
        location: event.location,
        vitals: first.map(|sample| sample.metrics).filter(|metrics| !metrics.is_empty()),
        verified: given.owner.is_bound(),
    };
    apply(state, &report.device_sn, findings, &occurrence, given, &mut decision);
    for sample in &event.vitals {
        let at = time_of(sample);
        let measured = Measured { sample: sample.clone(), at, identity_hash: None, extra: None };
        take_sample(state, &report.device_sn, measured, given, &mut decision);
    }

    state.events.insert(
        identity.new_id,
        identity.new_hash.map(|hash| (hash, received_at)),
        SeenEvent { alert_id: decision.alert_id, committed: false },
    );
    // Codes and short texts: nothing in it that could fail to be written.
    let warnings = (!report.warnings.is_empty())
        .then(|| serde_json::to_string(&report.warnings).unwrap_or_default().into_boxed_str());
    decision.records.event = Some(EventRecord {
        event_id: identity.new_id,
        device_sn: report.device_sn.clone(),
        owner: given.owner.clone(),
        event: EventReport {
            event_type: std::mem::take(&mut event.event_type),
            value: event.value.take(),
            time: event.time.clone(),
            client_event_id: event.client_event_id.take(),
            level: event.level.take(),
            description: event.description.take(),
            location: event.location,
            vitals: Vec::new(),
        },
        claims: std::mem::take(&mut report.claims),
        extra: report.extra.take(),
        warnings,
        occurred_at,
        time_source,
        received_at,
        identity_hash: identity.new_hash,
        alert_id: decision.alert_id,
        vitals_at,
        evaluated: !decision.evaluation_panicked,
    });
    decision.records.touch_device = state.touch(received_at, decision.records.worn.is_some());
    Some(decision)
}

/// Decides about a health record of its own, or device information. Leaves `report` whole.
pub fn other(state: &mut DeviceState, report: &DeviceReport, given: &Circumstances<'_>) -> Decision {
    let received_at = given.received_at;
    let mut decision = Decision::empty(&report.device_sn, given);
    match &report.body {
        ReportBody::Vitals(sample) => {
            let (at, identity_hash) = match believed(sample.time, received_at, received_at) {
                (at, TimeSource::Device) => (at, None),
                (_, TimeSource::Arrival) => {
                    // A replay of a record without a time lands where the first one did.
                    let hash = report.body_hash;
                    let window_ms =
                        if sample.time.is_some() { HASH_WINDOW_MS } else { HASH_WINDOW_TIMELESS_MS };
                    let known = state.samples.stored_by_hash(&hash, received_at, window_ms);
                    let at = known.unwrap_or_else(|| state.samples.free_time(received_at));
                    state.samples.remember_hash(hash, at);
                    (at, Some(hash))
                }
            };
            let measured =
                Measured { sample: sample.clone(), at, identity_hash, extra: report.extra.clone() };
            take_sample(state, &report.device_sn, measured, given, &mut decision);
        }
        ReportBody::Status(status) => {
            let (reported_at, _) = believed(status.time, received_at, received_at);
            if let Some(worn) = status.worn
                && state.wear.report(worn, reported_at)
            {
                decision.records.worn = Some((worn, reported_at));
            }
            decision.records.status = Some(StatusRecord {
                device_sn: report.device_sn.clone(),
                reported_at,
                received_at,
                status: status.clone(),
                extra: report.extra.clone(),
            });
        }
        // Events are decided above, once their identity is known.
        ReportBody::Event(_) => {}
    }
    decision.records.touch_device = state.touch(received_at, decision.records.worn.is_some());
    decision
}

impl Decision {
    fn empty(device: &DeviceSn, given: &Circumstances<'_>) -> Self {
        Decision {
            records: Records {
                device_sn: device.clone(),
                customer_id: given.owner.customer_id.clone(),
                received_at: given.received_at,
                touch_device: false,
                worn: None,
                event: None,
                vitals: Vec::new(),
                status: None,
            },
            changes: Vec::new(),
            alert_id: None,
            urgent: false,
            evaluation_panicked: false,
        }
    }
}

/// The device's time if it can be believed, else `otherwise`.
fn believed(
    time: Option<DeviceTime>,
    received_at: UtcMillis,
    otherwise: UtcMillis,
) -> (UtcMillis, TimeSource) {
    match time.filter(|time| identity::time_counts(time.utc, received_at)) {
        Some(time) => (time.utc, TimeSource::Device),
        None => (otherwise, TimeSource::Arrival),
    }
}

/// The findings of the rules; a panic in them is caught for this report.
fn evaluated(
    state: &DeviceState,
    event: &EventReport,
    at: UtcMillis,
    given: &Circumstances<'_>,
    decision: &mut Decision,
) -> Vec<Finding> {
    let customer = &given.owner.customer_id;
    let evaluate = || (given.evaluate_event)(given.rules, state, event, at, customer);
    match catch_unwind(AssertUnwindSafe(evaluate)) {
        Ok(findings) => findings,
        Err(_) => {
            decision.evaluation_panicked = true;
            given.built_in.raising(event, customer).cloned().map(Finding::Fires).into_iter().collect()
        }
    }
}

/// A health record with the time that it is stored under.
struct Measured {
    sample: VitalsSample,
    at: UtcMillis,
    identity_hash: Option<[u8; 32]>,
    extra: Option<Box<str>>,
}

fn take_sample(
    state: &mut DeviceState,
    device: &DeviceSn,
    measured: Measured,
    given: &Circumstances<'_>,
    decision: &mut Decision,
) {
    let Measured { sample, at, identity_hash, extra } = measured;
    let before = state.wear;
    let worn = state.wear.judge_sample(at, &sample.metrics, state.samples.heart_rate_before(at));
    if state.wear != before {
        decision.records.worn = Some((true, at));
    }
    let fresh = state.samples.merge(at, Sample { metrics: sample.metrics, worn });
    if let Some(fresh) = fresh.filter(|_| worn) {
        let findings = metric_findings(state, &fresh, given, decision);
        let occurrence = Occurrence {
            cause: Cause::Vitals(device.clone(), at),
            occurred_at: at,
            received_at: given.received_at,
            event_id: None,
            event_type: None,
            value: None,
            location: sample.location,
            vitals: Some(sample.metrics),
            verified: given.owner.is_bound(),
        };
        apply(state, device, findings, &occurrence, given, decision);
    }
    decision.records.vitals.push(VitalsRecord {
        device_sn: device.clone(),
        owner: given.owner.clone(),
        measured_at: at,
        received_at: given.received_at,
        metrics: sample.metrics,
        location: sample.location,
        upload_method: sample.upload_method,
        history: sample.history,
        extra,
        worn,
        identity_hash,
    });
}

fn metric_findings(
    state: &DeviceState,
    fresh: &Metrics,
    given: &Circumstances<'_>,
    decision: &mut Decision,
) -> Vec<Finding> {
    let evaluate = || evaluate::sample(given.rules, state, fresh, &given.owner.customer_id);
    catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or_else(|_| {
        decision.evaluation_panicked = true;
        Vec::new()
    })
}

/// Turns findings into changes of alerts, one open alert per rule and wearer.
fn apply(
    state: &mut DeviceState,
    device: &DeviceSn,
    findings: Vec<Finding>,
    what: &Occurrence,
    given: &Circumstances<'_>,
    decision: &mut Decision,
) {
    let binding = given.owner.binding_id;
    for finding in findings {
        match finding {
            Finding::Fires(rule) => {
                let change = fire(state, device, &rule, what, given);
                decision.alert_id = decision.alert_id.or(Some(change.alert.alert_id));
                decision.urgent |= change.alert.severity == Severity::Critical;
                decision.changes.push(change);
            }
            Finding::Resolves(rule) => {
                if let Some(open) = state.open_alert_mut(&rule.rule_id, binding) {
                    decision.changes.push(open.resolve_by_device(what.cause.clone(), what.received_at));
                }
            }
            Finding::BackToNormal(rule) => {
                if let Some(open) = state.open_alert_mut(&rule.rule_id, binding)
                    && open.back_to_normal_at.is_none()
                {
                    decision.changes.push(open.back_to_normal(what.cause.clone(), what.received_at));
                }
            }
        }
    }
    state.forget_closed();
}

fn fire(
    state: &mut DeviceState,
    device: &DeviceSn,
    rule: &Rule,
    what: &Occurrence,
    given: &Circumstances<'_>,
) -> AlertChange {
    match state.open_alert_mut(&rule.rule_id, given.owner.binding_id) {
        Some(open) => open.repeat(what.clone()),
        None => {
            let change = Alert::raise(rule, device, given.owner, what.clone());
            // Most devices have one at most; left to itself the list makes room for four.
            state.open_alerts.reserve_exact(1);
            state.open_alerts.push(change.alert.clone());
            change
        }
    }
}

/// True for a report that one of the three emergency rules would raise.
pub fn is_emergency(report: &DeviceReport, built_in: &RuleSet) -> bool {
    match &report.body {
        ReportBody::Event(event) => built_in.is_critical(event, &CustomerId::default_customer()),
        _ => false,
    }
}
