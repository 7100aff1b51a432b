//! What waits for the next transaction.
//!
//! Three lanes: emergencies of bound devices and operators' actions, emergencies of unbound
//! devices, everything else. An urgent item takes along, in order, all waiting items of its device
//! that carry alert changes, so that changes of a device never overtake each other; vitals stay
//! behind.

use std::collections::{HashMap, HashSet, VecDeque};

use super::messages::{WriteBatch, WriteItem};
use crate::domain::ids::DeviceSn;
use crate::supervision::permits::Priority;

const LANES: usize = 3;

/// An item and the shard that it came from.
#[derive(Debug)]
pub struct Queued {
    pub shard: usize,
    pub item: WriteItem,
}

impl Queued {
    /// What it weighs at admission.
    pub fn weight_bytes(&self) -> usize {
        weight_bytes(&self.item)
    }
}

#[derive(Debug, Default)]
struct Lane {
    items: VecDeque<Queued>,
    /// Per device, how many items here keep their order.
    changing: HashMap<DeviceSn, usize>,
}

impl Lane {
    fn push(&mut self, queued: Queued) {
        if queued.item.keeps_order() {
            *self.changing.entry(queued.item.device_sn.clone()).or_default() += 1;
        }
        self.items.push_back(queued);
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.items.pop_front()?;
        self.uncount(&queued);
        Some(queued)
    }

    fn uncount(&mut self, queued: &Queued) {
        if !queued.item.keeps_order() {
            return;
        }
        if let Some(count) = self.changing.get_mut(&queued.item.device_sn) {
            *count -= 1;
            if *count == 0 {
                self.changing.remove(&queued.item.device_sn);
            }
        }
    }

    /// Takes out, in order, what `wanted` names. Only called where there is something to take.
    fn extract(&mut self, wanted: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        let (taken, kept): (Vec<Queued>, Vec<Queued>) =
            std::mem::take(&mut self.items).into_iter().partition(|queued| wanted(queued));
        self.items = kept.into();
        for queued in &taken {
            self.uncount(queued);
        }
        taken
    }
}

/// The writer's queue. Bounded by the permits that its items carry.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: [Lane; LANES],
    /// Devices of a batch that was given up, with their shard: nothing of theirs is taken until their shard has
    /// forgotten what it thought was on its way.
    refused: HashMap<DeviceSn, usize>,
    /// Shards that may not know yet that the writer has lost what it held: what they send may be
    /// built on that.
    refused_shards: HashSet<usize>,
    per_shard: HashMap<usize, usize>,
}

impl Lanes {
    /// Empty, after all that was held is lost: nothing is taken of a shard before its barrier.
    pub fn after_loss(shards: usize) -> Self {
        Self { refused_shards: (0..shards).collect(), ..Self::default() }
    }

    /// Queues a batch and returns what is refused.
    pub fn push(&mut self, batch: WriteBatch) -> Vec<WriteItem> {
        if self.refused_shards.contains(&batch.shard) {
            return batch.items;
        }
        let mut refused = Vec::new();
        for item in batch.items {
            if self.refused.contains_key(&item.device_sn) {
                refused.push(item);
                continue;
            }
            let lane = if batch.urgent { urgent_lane(&item) } else { LANES - 1 };
            self.pull_forward(&item.device_sn, lane);
            *self.per_shard.entry(batch.shard).or_default() += 1;
            self.lanes[lane].push(Queued { shard: batch.shard, item });
        }
        refused
    }

    /// Moves the device's waiting changes from the lanes behind `lane` into it.
    fn pull_forward(&mut self, device: &DeviceSn, lane: usize) {
        for behind in lane + 1..LANES {
            if self.lanes[behind].changing.contains_key(device) {
                let earlier = self.lanes[behind]
                    .extract(|queued| queued.item.device_sn == *device && queued.item.keeps_order());
                for queued in earlier {
                    self.lanes[lane].push(queued);
                }
            }
        }
    }

    /// The next batch: at least one item if there is any, else up to both limits.
    pub fn take(&mut self, rows_max: usize, bytes_max: usize) -> Vec<Queued> {
        let (mut taken, mut bytes) = (Vec::new(), 0usize);
        for lane in &mut self.lanes {
            while taken.len() < rows_max
                && let Some(next) = lane.items.front()
            {
                let weight = weight_bytes(&next.item);
                if !taken.is_empty() && bytes + weight > bytes_max {
                    return self.counted_out(taken);
                }
                bytes += weight;
                taken.extend(lane.pop());
            }
        }
        self.counted_out(taken)
    }

    fn counted_out(&mut self, taken: Vec<Queued>) -> Vec<Queued> {
        for queued in &taken {
            self.uncount_shard(queued.shard);
        }
        taken
    }

    fn uncount_shard(&mut self, shard: usize) {
        if let Some(count) = self.per_shard.get_mut(&shard) {
            *count -= 1;
        }
    }

    /// A batch with these devices was given up: everything that waits for them goes with it, and
    /// they are refused until [`Lanes::accept`].
    pub fn give_up(&mut self, devices: &HashMap<DeviceSn, usize>) -> Vec<Queued> {
        let mut dropped = Vec::new();
        for lane in &mut self.lanes {
            dropped.extend(lane.extract(|queued| devices.contains_key(&queued.item.device_sn)));
        }
        for queued in &dropped {
            self.uncount_shard(queued.shard);
        }
        self.refused.extend(devices.iter().map(|(device, shard)| (device.clone(), *shard)));
        dropped
    }

    /// The shard has forgotten these devices, or with `None` all of its own.
    pub fn accept(&mut self, shard: usize, devices: Option<&[DeviceSn]>) {
        match devices {
            None => {
                self.refused.retain(|_, of| *of != shard);
                self.refused_shards.remove(&shard);
            }
            Some(devices) => self.refused.retain(|device, _| !devices.contains(device)),
        }
    }

    pub fn holds_of_shard(&self, shard: usize) -> bool {
        self.per_shard.get(&shard).is_some_and(|count| *count > 0)
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.items.is_empty())
    }

    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.items.len()).sum()
    }
}

fn urgent_lane(item: &WriteItem) -> usize {
    match &item.ticket {
        Some(ticket) if ticket.priority == Priority::CriticalUnbound => 1,
        _ => 0,
    }
}

fn weight_bytes(item: &WriteItem) -> usize {
    item.ticket.as_ref().map_or(1024, |ticket| ticket.permit.weight_kib() as usize * 1024)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::config::AdmissionConfig;
    use crate::domain::alert::{Alert, AlertChange, Cause, Occurrence};
    use crate::domain::owner::Owner;
    use crate::domain::rule_seeds;
    use crate::domain::time::UtcMillis;
    use crate::supervision::permits::{PermitPool, Receipt, Ticket};
    use crate::telemetry::Metrics;

    fn change(device: &DeviceSn, command: &str) -> AlertChange {
        let rule = &rule_seeds::emergencies()[0];
        let what = Occurrence {
            cause: Cause::Action(command.into()),
            occurred_at: UtcMillis(0),
            received_at: UtcMillis(0),
            event_id: None,
            event_type: None,
            value: None,
            location: None,
            vitals: None,
            verified: true,
        };
        Alert::raise(rule, device, &Owner::unbound(), what)
    }

    struct Maker {
        pool: Arc<PermitPool>,
    }

    impl Maker {
        fn new() -> Self {
            Self { pool: PermitPool::new(&AdmissionConfig::default(), Arc::new(Metrics::register().0)) }
        }

        fn item(&self, sn: &str, name: &str, changes: bool, priority: Priority) -> WriteItem {
            let device_sn = DeviceSn::parse(sn).expect("a serial");
            let (mut receipts, _) = Receipt::for_request(1);
            WriteItem {
                changes: if changes { vec![change(&device_sn, name)] } else { vec![] },
                device_sn,
                records: None,
                incarnation: 0,
                event_id: None,
                alert_id: None,
                unasked: None,
                ticket: Some(Ticket {
                    permit: self.pool.acquire(priority, 1024).expect("room"),
                    receipt: receipts.remove(0),
                    priority,
                }),
                acted: None,
                arrived: Instant::now(),
            }
        }
    }

    fn causes(taken: &[Queued]) -> Vec<String> {
        let name = |queued: &Queued| {
            let device = queued.item.device_sn.to_string();
            queued.item.changes.first().map_or(device, |change| change.cause.key())
        };
        taken.iter().map(name).collect()
    }

    #[test]
    fn an_emergency_takes_along_the_waiting_changes_of_its_device_and_leaves_vitals_behind() {
        let (make, mut lanes) = (Maker::new(), Lanes::default());
        let normal = vec![
            make.item("A", "a1", true, Priority::Event),
            make.item("A", "", false, Priority::Vitals),
            make.item("B", "b1", true, Priority::Event),
            make.item("A", "a2", true, Priority::Event),
        ];
        lanes.push(WriteBatch { shard: 0, urgent: false, items: normal });
        let urgent = vec![make.item("A", "sos", true, Priority::CriticalBound)];
        lanes.push(WriteBatch { shard: 0, urgent: true, items: urgent });
        let taken = lanes.take(100, usize::MAX);
        assert_eq!(causes(&taken), ["action:a1", "action:a2", "action:sos", "A", "action:b1"]);
    }

    #[test]
    fn bound_devices_come_first() {
        let (make, mut lanes) = (Maker::new(), Lanes::default());
        let items = vec![
            make.item("U", "unbound", true, Priority::CriticalUnbound),
            make.item("B", "bound", true, Priority::CriticalBound),
        ];
        lanes.push(WriteBatch { shard: 0, urgent: true, items });
        assert_eq!(causes(&lanes.take(100, usize::MAX)), ["action:bound", "action:unbound"]);
    }

    #[test]
    fn a_batch_is_bounded_in_rows_and_bytes_but_never_empty() {
        let (make, mut lanes) = (Maker::new(), Lanes::default());
        let items = (0..5).map(|_| make.item("A", "", false, Priority::Vitals)).collect();
        lanes.push(WriteBatch { shard: 0, urgent: false, items });
        assert_eq!(lanes.take(2, usize::MAX).len(), 2);
        assert_eq!(lanes.take(100, 1).len(), 1);
        assert_eq!(lanes.take(100, 2 * 1024).len(), 2);
        assert!(lanes.take(100, 1).is_empty());
    }

    #[test]
    fn giving_up_drops_what_waits_for_the_devices_and_refuses_them_until_the_barrier() {
        let (make, mut lanes) = (Maker::new(), Lanes::default());
        let (a, b) = (DeviceSn::parse("A").expect("a serial"), DeviceSn::parse("B").expect("a serial"));
        for urgent in [false, true] {
            let items = vec![
                make.item("A", "a", true, Priority::CriticalBound),
                make.item("B", "b", true, Priority::CriticalBound),
            ];
            lanes.push(WriteBatch { shard: 3, urgent, items });
        }
        assert_eq!(lanes.give_up(&HashMap::from([(a.clone(), 3)])).len(), 2);
        let refused = lanes.push(WriteBatch {
            shard: 3,
            urgent: true,
            items: vec![make.item("A", "late", true, Priority::CriticalBound)],
        });
        assert_eq!(refused.len(), 1);
        assert!(lanes.take(9, usize::MAX).iter().all(|queued| queued.item.device_sn == b));
        assert!(!lanes.holds_of_shard(3));
        lanes.accept(3, Some(&[a]));
        let items = vec![make.item("A", "again", true, Priority::CriticalBound)];
        assert!(lanes.push(WriteBatch { shard: 3, urgent: true, items }).is_empty());
        drop(lanes);
        assert_eq!(make.pool.used_kib(), 1, "only the refused item still holds its permit");
        drop(refused);
        assert_eq!(make.pool.used_kib(), 0);
    }
}
