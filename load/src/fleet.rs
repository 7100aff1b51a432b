//! Which device sends what next, so that nothing sent in a run is a duplicate.

use crate::body::{Kind, Workload};

/// The first upload of every device is dated this long ago: in the past, as real ones are, and
/// well within the 31 days in which the server believes a device's clock.
const START_BEFORE_NOW_S: i64 = 7 * 24 * 3_600;

/// The devices of one connection and how far they have come. Each upload of a device is one
/// second of device time later than its last.
#[derive(Debug, Clone)]
pub struct Lane {
    first: u64,
    stride: u64,
    devices: u64,
    sent: u64,
    start_s: i64,
    mix: Workload,
}

/// One upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    pub kind: Kind,
    pub device: u64,
    /// Seconds since 1970.
    pub at_s: i64,
}

/// Lanes for `connections` connections that share out `devices`, at least one each.
pub fn lanes(connections: u64, devices: u64, mix: Workload, now_s: i64) -> Vec<Lane> {
    let devices_of = |first: u64| (devices.max(connections) - first).div_ceil(connections);
    (0..connections)
        .map(|first| Lane {
            first,
            stride: connections,
            devices: devices_of(first),
            sent: 0,
            start_s: now_s - START_BEFORE_NOW_S,
            mix,
        })
        .collect()
}

impl Lane {
    /// From now on it sends something else; times go on.
    pub fn change_to(&mut self, mix: Workload) {
        self.mix = mix;
    }

    pub fn next(&mut self) -> Upload {
        let (step, index) = (self.sent / self.devices, self.sent % self.devices);
        self.sent += 1;
        Upload {
            // Devices are not in step, and none sends the same kind for ever.
            kind: self.mix.kind(step + index),
            device: self.first + index * self.stride,
            at_s: self.start_s + i64::try_from(step).unwrap_or(i64::MAX / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const NOW_S: i64 = 1_757_480_724;

    #[test]
    fn no_device_sends_twice_in_a_second_and_all_send() {
        for (connections, devices) in [(4, 10), (7, 7), (3, 2_000), (20, 400)] {
            let mut times: HashMap<u64, Vec<i64>> = HashMap::new();
            for mut lane in lanes(connections, devices, Workload::Mix, NOW_S) {
                for _ in 0..3_000 {
                    let upload = lane.next();
                    times.entry(upload.device).or_default().push(upload.at_s);
                }
            }
            assert_eq!(times.len() as u64, devices);
            assert!(times.values().all(|times| times.windows(2).all(|pair| pair[0] < pair[1])));
            assert!(times.values().flatten().all(|at| *at < NOW_S));
        }
    }

    #[test]
    fn every_device_sends_every_kind() {
        let mut kinds: HashMap<u64, HashSet<&str>> = HashMap::new();
        let mut lane = lanes(1, 20, Workload::Mix, NOW_S).remove(0);
        for _ in 0..20 * 20 {
            let upload = lane.next();
            kinds.entry(upload.device).or_default().insert(upload.kind.name());
        }
        assert!(kinds.values().all(|kinds| kinds.len() == 4));
    }
}
