//! What a watch says about itself: the vendor's device information, enriched by the watch app.

use std::net::Ipv4Addr;

use super::DecodeOptions;
use super::alias::{
    BATTERY, BLUETOOTH_ADDRESS, CHARGING, DEVICE_NAME, IMEI, IP_ADDRESS, NETWORK_MODE, Names,
    SOFTWARE_VERSION, STATUS, TIME, VOLTAGE, WIFI_ADDRESS, WORN,
};
use super::identity::is_placeholder;
use super::object::{RawObject, Reading, read_number, read_text};
use super::time;
use crate::domain::status::{Charging, DeviceStatus};

/// True if the object has a key that only device information has.
pub(super) fn is_device_info(object: &RawObject<'_>) -> bool {
    [
        BATTERY,
        WORN,
        CHARGING,
        SOFTWARE_VERSION,
        WIFI_ADDRESS,
        BLUETOOTH_ADDRESS,
        IP_ADDRESS,
        NETWORK_MODE,
        DEVICE_NAME,
        IMEI,
    ]
    .iter()
    .any(|names| object.has_any(names))
}

/// Takes everything that device information says but the serial and claims.
pub(super) fn read(object: &mut RawObject<'_>, options: &DecodeOptions) -> DeviceStatus {
    let software_version = described(object, SOFTWARE_VERSION);
    DeviceStatus {
        time: time::pick(object, TIME, options.zone).at(),
        battery_percent: battery(object),
        voltage_mv: voltage(object),
        charging: charging(object),
        worn: worn(object),
        model: software_version.as_deref().and_then(model),
        software_version,
        device_name: described(object, DEVICE_NAME),
        imei: described(object, IMEI),
        wifi_address: described(object, WIFI_ADDRESS),
        bluetooth_address: described(object, BLUETOOTH_ADDRESS),
        ip_address: ip_address(object),
        network_mode: described(object, NETWORK_MODE),
        status: described(object, STATUS),
    }
}

/// A text that is not the placeholder for "unknown".
fn described(object: &mut RawObject<'_>, names: Names) -> Option<Box<str>> {
    let text = object.pick(names, |raw| {
        read_text(raw)
            .and_then(|text| if is_placeholder(&text) { Reading::Blank } else { Reading::Value(text) })
    });
    text.map(Box::from)
}

fn battery(object: &mut RawObject<'_>) -> Option<u8> {
    object.pick(BATTERY, |raw| {
        read_text(raw).and_then(|text| {
            let number = text.trim().trim_end_matches(['%', '％']).trim_end();
            match number.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Reading::Value(percent.round() as u8),
                Err(_) if is_placeholder(&text) => Reading::Blank,
                _ => Reading::Unusable("unusable_value"),
            }
        })
    })
}

fn voltage(object: &mut RawObject<'_>) -> Option<i32> {
    object.pick(VOLTAGE, |raw| {
        read_number(raw).and_then(|millivolts| {
            if millivolts.abs() <= f64::from(i32::MAX) {
                Reading::Value(millivolts.round() as i32)
            } else {
                Reading::Unusable("unusable_value")
            }
        })
    })
}

fn charging(object: &mut RawObject<'_>) -> Option<Charging> {
    object.pick(CHARGING, |raw| {
        read_text(raw).and_then(|text| match text.trim().to_ascii_uppercase().as_str() {
            "CHARGING" | "ENABLE" | "FULL" | "1" | "TRUE" => Reading::Value(Charging::Charging),
            "NOT_CHARGING" | "NONE" | "DISABLE" | "0" | "FALSE" => Reading::Value(Charging::NotCharging),
            "UNKNOWN" | "未知" => Reading::Blank,
            _ => Reading::Unusable("unusable_value"),
        })
    })
}

fn worn(object: &mut RawObject<'_>) -> Option<bool> {
    object.pick(WORN, |raw| {
        read_text(raw).and_then(|text| match text.trim().to_ascii_uppercase().as_str() {
            "1" | "1.0" | "TRUE" | "WORN" => Reading::Value(true),
            "0" | "0.0" | "FALSE" | "NOT_WORN" => Reading::Value(false),
            "UNKNOWN" | "未知" => Reading::Blank,
            _ => Reading::Unusable("unusable_value"),
        })
    })
}

/// The first IPv4 address; where the text holds more than that, it is also kept in `extra`.
fn ip_address(object: &mut RawObject<'_>) -> Option<Box<str>> {
    let text = described(object, IP_ADDRESS)?;
    match ipv4(&text) {
        Some(address) if address.len() < text.trim().len() => {
            object.restore(IP_ADDRESS);
            Some(address.into())
        }
        Some(address) => Some(address.into()),
        None => Some(text),
    }
}

fn ipv4(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find(|part| part.parse::<Ipv4Addr>().is_ok())
}

/// A model like `ARC-AL00`: letters, a hyphen, two letters, two digits.
fn model(version: &str) -> Option<Box<str>> {
    const LETTERS: std::ops::RangeInclusive<usize> = 2..=6;
    version.match_indices('-').find_map(|(hyphen, _)| {
        let bytes = version.as_bytes();
        let letters = bytes.get(..hyphen)?.iter().rev().take_while(|byte| byte.is_ascii_uppercase()).count();
        let tail = bytes.get(hyphen + 1..hyphen + 5)?;
        let fits = LETTERS.contains(&letters)
            && tail.iter().take(2).all(u8::is_ascii_uppercase)
            && tail.iter().skip(2).all(u8::is_ascii_digit);
        if fits { version.get(hyphen - letters..hyphen + 5).map(Box::from) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_in_the_software_version() {
        assert_eq!(model("ARC-AL00CN 4.0.0.900(SP41C700E104R412P100)").as_deref(), Some("ARC-AL00"));
        assert_eq!(model("v-1 (FARADAY-AL00)").as_deref(), None);
        assert_eq!(model("版本-GLL-AL01").as_deref(), Some("GLL-AL01"));
        assert_eq!(model("-"), None);
    }

    #[test]
    fn the_first_ipv4_address_is_found() {
        assert_eq!(ipv4("192.168.31.192\nfe80::1"), Some("192.168.31.192"));
        assert_eq!(ipv4("fe80::1 999.1.1.1"), None);
    }
}
