//! What was decided for a device is stored in the order in which it was decided.

use tokio::sync::oneshot;
use watchpost::device::messages::Act;
use watchpost::domain::alert::{ActionKind, OperatorAction, Transition};
use watchpost::writer::lanes::Lanes;
use watchpost::writer::messages::WriteBatch;

use super::bench::{Bench, sn};
use super::tools::{event, vitals};

#[test]
fn an_operators_resolve_does_not_overtake_a_waiting_repeat() {
    let mut bench = Bench::new();
    let mut lanes = Lanes::default();
    bench.send(&event("A", "STRESS_HIGH_ALERT", 1));
    bench.load();
    let alert_id = bench.written[0].alert_id.expect("an alert");
    bench.commit();
    // The repeat is not urgent, and waits in the writer behind what is no change.
    bench.send(&vitals("A", 2));
    bench.send(&event("A", "STRESS_HIGH_ALERT", 3));
    let waiting = std::mem::take(&mut bench.written);
    assert_eq!(waiting.len(), 2);
    assert!(lanes.push(WriteBatch { shard: 0, urgent: false, items: waiting }).is_empty());

    let action = OperatorAction {
        alert_id,
        kind: ActionKind::Resolve,
        command_id: "c1".into(),
        actor: "ann".into(),
        note: None,
        outcome: None,
        said_at: None,
    };
    let (reply, _answer) = oneshot::channel();
    bench.shard.act(Act { device_sn: sn("A"), action, resolved: None, reply }, bench.now);
    bench.collect();
    let resolve = std::mem::take(&mut bench.written);
    assert_eq!(resolve.len(), 1);
    assert!(lanes.push(WriteBatch { shard: 0, urgent: true, items: resolve }).is_empty());

    let taken = lanes.take(2, usize::MAX);
    let stored: Vec<(Transition, u32)> = taken
        .iter()
        .flat_map(|queued| &queued.item.changes)
        .map(|change| (change.transition, change.alert.count))
        .collect();
    assert_eq!(stored, [(Transition::Repeated, 2), (Transition::Resolved, 2)]);
    assert_eq!(lanes.len(), 1, "vital signs stay behind");
}
