//! A report as the bytes of a quarantined copy, and back.

use serde::{Deserialize, Serialize};

use super::event::DeviceReport;

/// A report with its identity, which its own JSON leaves out.
#[derive(Serialize, Deserialize)]
struct Kept<R> {
    body_hash: [u8; 32],
    report: R,
}

/// The whole report as JSON. Fails only if a number in it cannot be written.
pub fn to_bytes(report: &DeviceReport) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Kept { body_hash: report.body_hash, report })
}

/// What [`to_bytes`] wrote, fit to be decided about again.
pub fn from_bytes(bytes: &[u8]) -> Result<DeviceReport, serde_json::Error> {
    let Kept { body_hash, report } = serde_json::from_slice::<Kept<DeviceReport>>(bytes)?;
    Ok(DeviceReport { body_hash, ..report })
}
