//! What a watch says about itself: battery, network, worn or not.

use serde::{Deserialize, Serialize};

use super::time::DeviceTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charging {
    Charging,
    NotCharging,
}

/// A device-info upload. Keyed (device, time) in storage. Texts are as sent; `None` for absent,
/// empty and the placeholder 未知.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DeviceStatus {
    pub time: Option<DeviceTime>,
    /// 0 to 100; `"85%"` is 85.
    pub battery_percent: Option<u8>,
    pub voltage_mv: Option<i32>,
    /// `None` if absent or a word that says neither.
    pub charging: Option<Charging>,
    pub worn: Option<bool>,
    pub software_version: Option<Box<str>>,
    /// From the software version, for example `ARC-AL00`.
    pub model: Option<Box<str>>,
    pub device_name: Option<Box<str>>,
    pub imei: Option<Box<str>>,
    pub wifi_address: Option<Box<str>>,
    pub bluetooth_address: Option<Box<str>>,
    /// First IPv4 address in the text, else the text.
    pub ip_address: Option<Box<str>>,
    pub network_mode: Option<Box<str>>,
    /// Vendor's word, for example `ACTIVE`.
    pub status: Option<Box<str>>,
}
