//! What a shard has decided and not handed on, and what of it is with the writer.

use std::collections::HashMap;

use super::effects::Effect;
use super::judge::Decided;
use crate::domain::ids::DeviceSn;
use crate::writer::messages::WriteItem;

/// Bounded by the permits that the items carry.
#[derive(Debug, Default)]
pub struct Outbox {
    buffer: Vec<WriteItem>,
    urgent: Vec<WriteItem>,
    in_writer: InWriter,
    /// Tells items of this incarnation of the shard from those of an earlier one, whose commits may
    /// still be reported.
    incarnation: u64,
}

impl Outbox {
    /// Forgets everything; what is handed on from now on belongs to `incarnation`.
    pub fn begin(&mut self, incarnation: u64) {
        *self = Self { incarnation, ..Self::default() };
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.urgent.is_empty() && self.in_writer.total == 0
    }

    /// Something of the device is on its way.
    pub fn holds(&self, device: &DeviceSn) -> bool {
        self.in_writer.by_device.contains_key(device)
            || self.buffer.iter().any(|item| item.device_sn == *device)
    }

    pub fn push(&mut self, decided: Decided) {
        let Decided { item, urgent } = decided;
        if !urgent {
            return self.buffer.push(item);
        }
        // The device's vitals may stay behind.
        let goes_along =
            |waiting: &mut WriteItem| waiting.device_sn == item.device_sn && waiting.keeps_order();
        self.urgent.extend(self.buffer.extract_if(.., goes_along));
        self.urgent.push(item);
    }

    /// Urgent always goes; the rest unless `rows_max` items of this shard are with the writer.
    pub fn hand_on(&mut self, rows_max: usize) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (urgent, items) in [(true, &mut self.urgent), (false, &mut self.buffer)] {
            if items.is_empty() || (!urgent && self.in_writer.total >= rows_max) {
                continue;
            }
            let mut items = std::mem::take(items);
            for item in &mut items {
                item.incarnation = self.incarnation;
                self.in_writer.handed_on(&item.device_sn);
            }
            effects.push(Effect::Write { urgent, items });
        }
        effects
    }

    /// False if it was handed on by an earlier incarnation, and is none of this one's business.
    pub fn committed(&mut self, device: &DeviceSn, incarnation: u64) -> bool {
        let own = incarnation == self.incarnation;
        if own {
            self.in_writer.committed(device);
        }
        own
    }

    /// All of the device's items were given up.
    pub fn given_up(&mut self, device: &DeviceSn) {
        self.buffer.retain(|item| item.device_sn != *device);
        self.in_writer.given_up(device);
    }
}

/// Items with the writer, per device: of strangers and of emergencies decided without a state there
/// is no other trace here.
#[derive(Debug, Default)]
struct InWriter {
    by_device: HashMap<DeviceSn, usize>,
    total: usize,
}

impl InWriter {
    fn handed_on(&mut self, device: &DeviceSn) {
        self.total += 1;
        *self.by_device.entry(device.clone()).or_default() += 1;
    }

    fn committed(&mut self, device: &DeviceSn) {
        let Some(count) = self.by_device.get_mut(device) else { return };
        self.total -= 1;
        *count -= 1;
        if *count == 0 {
            self.by_device.remove(device);
        }
    }

    fn given_up(&mut self, device: &DeviceSn) {
        self.total -= self.by_device.remove(device).unwrap_or(0);
    }
}
