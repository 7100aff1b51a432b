//! Admission: a permit for every report, by importance, or a clear "not now".

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::router::Router;
use crate::device::messages::Ingest;
use crate::domain::event::{DeviceReport, ReportBody};
use crate::domain::ids::{CustomerId, DeviceSn};
use crate::rules::set::Published;
use crate::supervision::clock::Clock;
use crate::supervision::outage::{Outage, OutageKind};
use crate::supervision::permits::{Admitted, Full, Outcome, Permit, PermitPool, Priority, Receipt, Ticket};
use crate::telemetry::events::{EventOutcome, EventType};
use crate::telemetry::{KindLabels, Metrics};

/// Answers whether a device is bound, from memory only: the gate never waits.
pub type BoundLookup = Arc<dyn Fn(&DeviceSn) -> Option<CustomerId> + Send + Sync>;

/// The way in to the pipeline, for every door. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    pub pool: Arc<PermitPool>,
    pub rules: Published,
    pub router: Arc<Router>,
    pub bound: BoundLookup,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub receipt_timeout: Duration,
    pub outage: Outage,
}

/// Why a request's reports were not all promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPromised {
    #[error(transparent)]
    Full(#[from] Full),
    /// Nothing can be written; it goes on by itself.
    #[error("{0}; nothing can be stored now")]
    Outage(OutageKind),
    /// Admitted, and not answered in time. They go on to commit.
    #[error("the reports are not stored yet")]
    TimedOut,
    /// At least one was dropped on its way, by a restart or a write that was given up.
    #[error("the reports could not be stored now")]
    Dropped,
}

impl Admission {
    /// Admits the reports of one request and waits until all have committed. The outcomes are in
    /// the order of the reports. Either all are admitted or none: a body is one promise.
    pub async fn submit(
        &self,
        reports: Vec<DeviceReport>,
        wire_bytes: usize,
    ) -> Result<Vec<Outcome>, NotPromised> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let types: Vec<Option<EventType>> = reports.iter().map(event_type).collect();
        let receipt = self.admit(reports, wire_bytes).inspect_err(|_| {
            self.count(&types, |_| EventOutcome::Refused);
        })?;
        let outcome = tokio::time::timeout(self.receipt_timeout, receipt).await;
        self.count(&types, |at| match &outcome {
            Err(_) => EventOutcome::TimedOut,
            Ok(outcomes) => event_outcome(outcomes.as_ref().ok().and_then(|outcomes| outcomes.get(at))),
        });
        let (kind, result) = match outcome {
            Err(_) => ("timed_out", Err(NotPromised::TimedOut)),
            Ok(Err(_)) => ("not_promised", Err(NotPromised::Dropped)),
            Ok(Ok(outcomes)) if outcomes.contains(&Outcome::NotPromised) => {
                ("not_promised", Err(NotPromised::Dropped))
            }
            Ok(Ok(outcomes)) => ("stored", Ok(outcomes)),
        };
        Metrics::count(&self.metrics.receipts, kind);
        result
    }

    fn count(&self, types: &[Option<EventType>], outcome: impl Fn(usize) -> EventOutcome) {
        for (at, event_type) in types.iter().enumerate() {
            if let Some(event_type) = event_type {
                self.metrics.events.count(*event_type, outcome(at));
            }
        }
    }

    fn admit(
        &self,
        reports: Vec<DeviceReport>,
        wire_bytes: usize,
    ) -> Result<oneshot::Receiver<Vec<Outcome>>, NotPromised> {
        let urgent = || reports.iter().any(|report| self.priority(report) >= Priority::CriticalUnbound);
        if let Some(outage) = self.outage.current()
            // The last of the room is for emergencies.
            && !(outage == OutageKind::SpoolFull && urgent())
        {
            Metrics::count(&self.metrics.refused, "storage");
            return Err(NotPromised::Outage(outage));
        }
        let (received_at, arrived) = (self.clock.now(), Instant::now());
        let priorities: Vec<Priority> = reports.iter().map(|report| self.priority(report)).collect();
        let decoded: Vec<usize> = reports.iter().map(DeviceReport::decoded_bytes).collect();
        let permits = self.permits(&priorities, &decoded, wire_bytes, arrived)?;
        let (receipts, done) = Receipt::for_request(reports.len());
        let parts = reports.into_iter().zip(permits).zip(receipts).zip(priorities);
        for (((report, permit), mut receipt), priority) in parts {
            receipt
                .traced_by(tracing::debug_span!("report", device = %report.device_sn, kind = kind(&report)));
            self.metrics.records.get_or_create(&KindLabels { kind: kind(&report) }).inc();
            let ticket = Ticket { permit, receipt, priority };
            let message = Ingest { report: Admitted { value: report, ticket }, received_at, arrived };
            crate::fail_point!("admission::hand_on");
            self.router.ingest(message);
        }
        Ok(done)
    }

    /// One permit per report. The body as a whole is weighed by its most important report: an SOS
    /// is not refused because vitals came with it.
    fn permits(
        &self,
        priorities: &[Priority],
        decoded: &[usize],
        wire_bytes: usize,
        arrived: Instant,
    ) -> Result<Vec<Permit>, Full> {
        let priority = priorities.iter().copied().max().unwrap_or(Priority::Vitals);
        let decoded_kib: Vec<u64> = decoded.iter().map(|bytes| (*bytes as u64).div_ceil(1024)).collect();
        let total = (decoded_kib.iter().sum::<u64>() * 1024).max(wire_bytes as u64);
        let whole = self.pool.acquire_for(priority, total as usize, arrived).inspect_err(|full| {
            Metrics::count(&self.metrics.refused, full.name());
        });
        let mut rest = whole?;
        let mut permits: Vec<Permit> =
            decoded_kib.iter().skip(1).map(|weight_kib| rest.split(*weight_kib)).collect();
        // What the bytes on the wire weigh beyond the decoded reports stays with the first.
        permits.insert(0, rest);
        Ok(permits)
    }

    fn priority(&self, report: &DeviceReport) -> Priority {
        let ReportBody::Event(event) = &report.body else { return Priority::Vitals };
        let owner = (self.bound)(&report.device_sn);
        let bound = owner.is_some();
        let customer = owner.unwrap_or_else(CustomerId::default_customer);
        match self.rules.load().is_critical(event, &customer) {
            false => Priority::Event,
            true if bound => Priority::CriticalBound,
            true => Priority::CriticalUnbound,
        }
    }
}

fn event_type(report: &DeviceReport) -> Option<EventType> {
    match &report.body {
        ReportBody::Event(event) => Some(EventType::of(event.short_type())),
        ReportBody::Vitals(_) | ReportBody::Status(_) => None,
    }
}

fn event_outcome(outcome: Option<&Outcome>) -> EventOutcome {
    match outcome {
        Some(Outcome::Stored { duplicate: false, .. }) => EventOutcome::Stored,
        Some(Outcome::Stored { duplicate: true, .. }) => EventOutcome::Duplicate,
        Some(Outcome::Quarantined) => EventOutcome::Quarantined,
        Some(Outcome::NotPromised) | None => EventOutcome::NotPromised,
    }
}

fn kind(report: &DeviceReport) -> &'static str {
    match report.body {
        ReportBody::Event(_) => "event",
        ReportBody::Vitals(_) => "vitals",
        ReportBody::Status(_) => "status",
    }
}
