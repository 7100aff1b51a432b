//! Event to screen: from when an SOS was due to when each dashboard had its alert.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::ledger::{Promised, since};
use super::scenario::Behaviour;
use super::screens::Watched;
use crate::stats::Latencies;

/// Times from event to screen of one run.
pub struct Shown {
    /// Of dashboards that were connected, and read.
    pub live: Latencies,
    /// The same by phase of the event.
    pub phases: Vec<Latencies>,
    /// From the event to the last of all dashboards that read, by phase of the event; what a
    /// dashboard missed and got later counts, and what it never got as the longest there is.
    pub all_screens: Vec<Latencies>,
    /// By group of dashboards, live pushes.
    pub groups: Vec<Latencies>,
    /// p50, p99 and largest in ms by second of arrival, of those in `live`.
    pub seconds: BTreeMap<u32, [f32; 3]>,
}

/// `measured` says of each phase whether it counts in the total; `groups`: the behaviours.
pub fn shown(critical: &[Promised], watched: &Watched, measured: &[bool], groups: &[Behaviour]) -> Shown {
    let due: HashMap<u128, &Promised> = critical.iter().map(|event| (event.event_id, event)).collect();
    let event_of: HashMap<u64, &Promised> =
        watched.causes.iter().filter_map(|(offset, event)| Some((*offset, *due.get(event)?))).collect();
    let mut shown = Shown {
        live: Latencies::new(),
        phases: vec![Latencies::new(); measured.len()],
        all_screens: vec![Latencies::new(); measured.len()],
        groups: vec![Latencies::new(); groups.len()],
        seconds: BTreeMap::new(),
    };
    let mut by_second: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
    let mut last_screen: HashMap<u64, (usize, Duration)> = HashMap::new();
    let mut screens = 0;
    for life in &watched.lives {
        let reads = groups.get(life.group).is_some_and(|behaviour| *behaviour != Behaviour::Stalled);
        screens += usize::from(reads);
        for seen in &life.seen {
            let Some(event) = event_of.get(&seen.offset) else { continue };
            let latency = since(event.due_ns, seen.at_ns);
            if reads {
                let (count, last) = last_screen.entry(seen.offset).or_default();
                (*count, *last) = (*count + 1, latency.max(*last));
            }
            if !seen.live {
                continue;
            }
            shown.groups[life.group].record(latency);
            if !reads {
                continue;
            }
            let phase = usize::from(event.phase);
            shown.phases[phase].record(latency);
            if measured[phase] {
                shown.live.record(latency);
            }
            let second = u32::try_from(seen.at_ns / 1_000_000_000).unwrap_or(u32::MAX);
            by_second.entry(second).or_default().push(latency.as_secs_f32() * 1e3);
        }
    }
    for (offset, (count, last)) in last_screen {
        let last = if count < screens { Duration::MAX } else { last };
        shown.all_screens[usize::from(event_of[&offset].phase)].record(last);
    }
    for (second, mut latencies) in by_second {
        latencies.sort_unstable_by(f32::total_cmp);
        let at = |quantile: f64| latencies[((latencies.len() - 1) as f64 * quantile).round() as usize];
        shown.seconds.insert(second, [at(0.5), at(0.99), at(1.0)]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::request::{Key, Kind};
    use super::super::screens::{Life, Seen};
    use super::*;

    #[test]
    fn only_live_pushes_to_dashboards_that_read_are_timed() {
        let ms = |ms: u64| ms * 1_000_000;
        let key = Key::new(Kind::Sos, 1, 1);
        let event = Promised { key, event_id: 5, due_ns: ms(1_000), phase: 1 };
        let life = |group, at, live| Life {
            group,
            seen: vec![Seen { offset: 9, at_ns: ms(at), live }],
            ..Life::default()
        };
        let watched = Watched {
            lives: vec![life(0, 1_010, true), life(0, 9_000, false), life(1, 5_000, true)],
            causes: HashMap::from([(9, 5)]),
        };
        let groups = [Behaviour::Reconnect, Behaviour::Stalled];
        let shown = shown(&[event], &watched, &[false, true], &groups);
        let summary = shown.live.summary(Duration::from_secs(1));
        assert_eq!(summary.count, 1);
        assert!((summary.p50_ms - 10.0).abs() < 0.1, "{summary:?}");
        let count = |latencies: &Latencies| latencies.summary(Duration::from_secs(1)).count;
        assert_eq!(shown.phases.iter().map(count).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(shown.groups.iter().map(count).collect::<Vec<_>>(), [1, 1]);
        // The last of the two that read was away, and had it 8 s after the event.
        let last = shown.all_screens[1].summary(Duration::from_secs(1));
        assert_eq!(last.count, 1);
        assert!((last.max_ms - 8_000.0).abs() < 10.0, "{last:?}");
        assert_eq!(shown.seconds.keys().collect::<Vec<_>>(), [&1]);
    }
}
