//! Copies of events that have not committed yet: they wait for that commit.

use std::collections::HashMap;

use crate::domain::ids::{AlertId, DeviceSn, EventId};
use crate::supervision::permits::{Outcome, Ticket};

/// Bounded by the permits in the tickets. A ticket that is dropped here says "not promised".
#[derive(Debug, Default)]
pub struct Duplicates(HashMap<DeviceSn, Vec<(EventId, Ticket)>>);

impl Duplicates {
    pub fn push(&mut self, device: DeviceSn, event_id: EventId, ticket: Ticket) {
        self.0.entry(device).or_default().push((event_id, ticket));
    }

    pub fn committed(&mut self, device: &DeviceSn, event_id: EventId, alert_id: Option<AlertId>) {
        let Some(copies) = self.0.get_mut(device) else { return };
        for (_, ticket) in copies.extract_if(.., |(id, _)| *id == event_id) {
            answer(ticket, event_id, alert_id);
        }
        if copies.is_empty() {
            self.0.remove(device);
        }
    }

    pub fn drop_device(&mut self, device: &DeviceSn) {
        self.0.remove(device);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Tells the sender of a copy what the first was told. The room comes back first.
pub fn answer(ticket: Ticket, event_id: EventId, alert_id: Option<AlertId>) {
    drop(ticket.permit);
    ticket.receipt.answer(Outcome::Stored { event_id: Some(event_id), alert_id, duplicate: true });
}
