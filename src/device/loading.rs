//! What a shard reads of its devices.

use std::collections::HashMap;

use super::effects::Loaded;
use crate::domain::ids::DeviceSn;
use crate::domain::owner::Owner;
use crate::storage::database::{Conn, StorageError};
use crate::storage::device_state::{self, LoadedDevice};
use crate::storage::owners;

/// Reads the owners of `devices` and the states of those that are `unknown`, in the caller's read
/// transaction; the answer to [`super::effects::Effect::Load`].
pub fn read_devices(
    conn: &mut Conn,
    devices: &[DeviceSn],
    unknown: &[DeviceSn],
) -> Result<Vec<Loaded>, StorageError> {
    crate::fail_point!("shard::load", |_| Err(StorageError::Busy));
    let mut owners: HashMap<DeviceSn, Owner> = owners::owners(conn, devices)?.into_iter().collect();
    let mut states: HashMap<DeviceSn, LoadedDevice> = if unknown.is_empty() {
        HashMap::new()
    } else {
        let loaded = device_state::load(conn, unknown)?;
        loaded.into_iter().map(|loaded| (loaded.device_sn.clone(), loaded)).collect()
    };
    let loaded = devices.iter().map(|device_sn| Loaded {
        owner: owners.remove(device_sn),
        device: states.remove(device_sn),
        device_sn: device_sn.clone(),
    });
    Ok(loaded.collect())
}
