//! Whose vitals which sessions want.

use std::collections::{HashMap, HashSet};

use super::delivery::SessionId;
use crate::domain::ids::DeviceSn;

#[derive(Debug, Default)]
pub struct Interest {
    by_device: HashMap<DeviceSn, HashSet<SessionId>>,
    by_session: HashMap<SessionId, Vec<DeviceSn>>,
    changed: bool,
}

impl Interest {
    /// Replaces what a session wants.
    pub fn set<'a>(&mut self, session: SessionId, devices: impl Iterator<Item = &'a DeviceSn>) {
        for device in self.by_session.remove(&session).unwrap_or_default() {
            if let Some(sessions) = self.by_device.get_mut(&device) {
                sessions.remove(&session);
                if sessions.is_empty() {
                    self.by_device.remove(&device);
                    self.changed = true;
                }
            }
        }
        let devices: Vec<DeviceSn> = devices.cloned().collect();
        if devices.is_empty() {
            return;
        }
        for device in &devices {
            let sessions = self.by_device.entry(device.clone()).or_default();
            self.changed |= sessions.is_empty();
            sessions.insert(session);
        }
        self.by_session.insert(session, devices);
    }

    pub fn sessions(&self, device: &DeviceSn) -> impl Iterator<Item = &SessionId> {
        self.by_device.get(device).into_iter().flatten()
    }

    /// All devices, if they have changed since the last call.
    pub fn take_changed(&mut self) -> Option<HashSet<DeviceSn>> {
        std::mem::take(&mut self.changed).then(|| self.by_device.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_wanted_as_long_as_one_session_wants_it() {
        let (one, two) = (SessionId::from_u128(1), SessionId::from_u128(2));
        let device = DeviceSn::parse("w1").unwrap();
        let mut interest = Interest::default();
        interest.set(one, std::iter::once(&device));
        assert_eq!(interest.take_changed(), Some(HashSet::from([device.clone()])));
        interest.set(two, std::iter::once(&device));
        interest.set(one, std::iter::empty());
        assert_eq!(interest.take_changed(), None);
        assert_eq!(interest.sessions(&device).collect::<Vec<_>>(), vec![&two]);
        interest.set(two, std::iter::empty());
        assert_eq!(interest.take_changed(), Some(HashSet::new()));
    }
}
