//! What the ring guard is told of a body, and what it says to the answer.

use super::state::ApiState;
use crate::domain::event::DeviceReport;
use crate::domain::ids::DeviceSn;
use crate::ingest::ring_guard::{Candidate, RingGuard};
use crate::supervision::permits::Outcome;

/// One body on its way, as the guard sees it. Empty if there is no guard.
pub struct Ring<'a> {
    guard: Option<&'a RingGuard>,
    state: &'a ApiState,
    devices: Vec<DeviceSn>,
    live: Option<Candidate>,
}

impl<'a> Ring<'a> {
    pub fn of(state: &'a ApiState, reports: &[DeviceReport]) -> Self {
        let mut ring = Self { guard: state.ring_guard.as_ref(), state, devices: Vec::new(), live: None };
        if let Some(guard) = ring.guard {
            ring.live = guard.received(reports, state.clock.now());
            ring.devices = reports.iter().map(|report| report.device_sn.clone()).collect();
        }
        ring
    }

    /// The body was answered 503.
    pub fn refused(&self) {
        if let Some(guard) = self.guard {
            guard.refused(&self.devices, self.state.clock.now());
        }
    }

    /// Whether what was stored is to be answered 503 all the same.
    pub fn holds(&self, outcomes: &[Outcome]) -> bool {
        let (Some(guard), Some(live)) = (self.guard, &self.live) else { return false };
        let held = match outcomes {
            [Outcome::Stored { event_id: Some(event_id), duplicate, .. }] => {
                guard.holds(live, *event_id, *duplicate, self.state.clock.now())
            }
            _ => false,
        };
        if held {
            self.state.metrics.ring_guarded.inc();
        }
        held
    }
}
