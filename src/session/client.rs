//! What a session remembers of its client: how far it has got, what has been on its screen, and
//! the vitals that wait for the next second.

use std::collections::HashMap;
use std::sync::Arc;

use super::delivery::Passed;
use super::messages::VitalsUpdate;
use super::seen::Seen;
use crate::domain::ids::{AlertId, DeviceSn, Offset};
use crate::domain::time::UtcMillis;

/// Frames that are none, until the socket is closed.
pub const BAD_FRAMES_MAX: u32 = 100;
/// Binary frames, until the socket is closed.
pub const BINARY_FRAMES_MAX: u32 = 3;

#[derive(Debug)]
struct Current {
    serial: u64,
    id: Arc<str>,
    /// Up to here everything has been written.
    written: Offset,
    passed: Passed,
}

#[derive(Debug, Default)]
pub struct Client {
    current: Option<Current>,
    serial: u64,
    /// Served before the present subscription had its first answer.
    served_before: Offset,
    seen: Seen,
    vitals: HashMap<DeviceSn, Arc<VitalsUpdate>>,
    vitals_outstanding: bool,
    bad_frames: u32,
    binary_frames: u32,
}

impl Client {
    /// Served up to here although nothing was asked for yet: what `hello` says.
    pub fn greeted(&mut self, offset: Offset) {
        self.served_before = offset;
    }

    /// A new subscription in place of the old: its serial, and where the registry notes what it
    /// passes over. What comes after the offset that it resumes from has not been served yet,
    /// whatever `hello` said.
    pub fn subscribe(&mut self, id: &str, resumes_from: Option<Offset>) -> (u64, Passed) {
        self.served_before = resumes_from.map_or(self.served(), |from| from.min(self.served()));
        self.serial += 1;
        self.vitals.clear();
        self.seen.forget_after(self.served());
        let passed = Passed::default();
        self.current =
            Some(Current { serial: self.serial, id: id.into(), written: 0, passed: passed.clone() });
        (self.serial, passed)
    }

    /// The id of the subscription if it is the present one.
    pub fn id_of(&self, serial: u64) -> Option<&Arc<str>> {
        self.current.as_ref().filter(|current| current.serial == serial).map(|current| &current.id)
    }

    pub fn written(&mut self, serial: u64, cursor: Offset) {
        if let Some(current) = self.current.as_mut().filter(|current| current.serial == serial) {
            current.written = cursor;
        }
    }

    /// Everything up to here that passes the filter of the present subscription has been written; 0
    /// until it has been answered, since what it missed before may still be on its way.
    pub fn sent_up_to(&self) -> Offset {
        self.current.as_ref().map_or(0, |current| current.written.max(current.passed.get()))
    }

    /// The same, but before the first answer what the subscription before it had, or `hello` said.
    pub fn served(&self) -> Offset {
        let here = self.sent_up_to();
        if here > 0 { here } else { self.served_before }
    }

    /// These alerts go to the client, each with the offset of its frame.
    pub fn sending(&mut self, alerts: impl Iterator<Item = (Offset, AlertId)>) {
        alerts.for_each(|(offset, alert_id)| self.seen.send(offset, alert_id));
    }

    /// The viewer's screen has shown everything up to `offset`. False if that was never sent.
    pub fn show(&mut self, offset: Offset, now: UtcMillis) -> bool {
        let sent = (1..=self.served()).contains(&offset);
        if sent {
            self.seen.confirm(offset, now);
        }
        sent
    }

    /// The alerts to record now.
    pub fn take_shown(&mut self) -> Option<Vec<(AlertId, UtcMillis)>> {
        self.seen.take()
    }

    /// Keeps the newest of each device.
    pub fn keep_vitals(&mut self, update: Arc<VitalsUpdate>) {
        let kept = self.vitals.entry(update.device_sn.clone()).or_insert_with(|| update.clone());
        if kept.measured_at <= update.measured_at {
            *kept = update;
        }
    }

    /// What to write now: nothing while the last ones are still being written.
    pub fn take_vitals(&mut self) -> Option<Vec<Arc<VitalsUpdate>>> {
        if self.vitals_outstanding || self.vitals.is_empty() {
            return None;
        }
        self.vitals_outstanding = true;
        Some(self.vitals.drain().map(|(_, update)| update).collect())
    }

    pub fn vitals_written(&mut self) {
        self.vitals_outstanding = false;
    }

    /// True when there were too many.
    pub fn bad_frame(&mut self) -> bool {
        self.bad_frames += 1;
        self.bad_frames > BAD_FRAMES_MAX
    }

    /// True when there were too many.
    pub fn binary_frame(&mut self) -> bool {
        self.binary_frames += 1;
        self.binary_frames > BINARY_FRAMES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::CustomerId;

    #[test]
    fn served_is_what_was_written_or_passed_over_and_survives_a_new_subscription() {
        let mut client = Client::default();
        client.greeted(5);
        assert_eq!((client.served(), client.sent_up_to()), (5, 0));
        let (serial, passed) = client.subscribe("a", None);
        assert_eq!((client.served(), client.sent_up_to()), (5, 0));
        client.written(serial, 8);
        passed.set(9);
        assert_eq!(client.served(), 9);
        client.written(serial, 12);
        assert_eq!(client.served(), 12);
        let (newer, _) = client.subscribe("b", None);
        client.written(serial, 20);
        assert_eq!((client.served(), client.sent_up_to()), (12, 0));
        assert!(client.id_of(serial).is_none() && client.id_of(newer).is_some());
    }

    #[test]
    fn what_a_resume_has_still_to_bring_is_not_served() {
        let mut client = Client::default();
        client.greeted(50);
        let (serial, _) = client.subscribe("a", Some(7));
        assert_eq!(client.served(), 7);
        client.written(serial, 20);
        assert_eq!(client.served(), 20);
        client.subscribe("b", Some(90));
        assert_eq!(client.served(), 20);
    }

    #[test]
    fn only_what_was_written_can_have_been_shown() {
        let mut client = Client::default();
        let (serial, _) = client.subscribe("a", None);
        client.sending([(10, AlertId(1)), (11, AlertId(2))].into_iter());
        client.written(serial, 10);
        assert!(!client.show(11, UtcMillis(1)));
        assert!(client.show(10, UtcMillis(2)));
        assert_eq!(client.take_shown(), Some(vec![(AlertId(1), UtcMillis(2))]));
        client.written(serial, 20);
        assert!(client.show(13, UtcMillis(3)) && client.show(17, UtcMillis(4)));
        assert_eq!(client.take_shown(), Some(vec![(AlertId(2), UtcMillis(3))]));
        assert_eq!(client.take_shown(), None);
    }

    #[test]
    fn only_the_newest_vitals_of_a_device_wait_and_only_one_batch_is_being_written() {
        let update = |at| {
            Arc::new(VitalsUpdate {
                device_sn: DeviceSn::parse("w1").unwrap(),
                customer_id: CustomerId::default_customer(),
                measured_at: UtcMillis(at),
                metrics: crate::domain::vitals::Metrics::default(),
                worn: true,
            })
        };
        let mut client = Client::default();
        for at in [2, 3, 1] {
            client.keep_vitals(update(at));
        }
        let batch = client.take_vitals().unwrap();
        assert_eq!((batch.len(), batch[0].measured_at), (1, UtcMillis(3)));
        client.keep_vitals(update(4));
        assert!(client.take_vitals().is_none());
        client.vitals_written();
        assert!(client.take_vitals().is_some());
    }
}
