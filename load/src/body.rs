//! What watches post: whole requests as bytes, made once per kind; only the serial number and the
//! time are put in for each one sent.

use std::net::SocketAddr;

use chrono::{DateTime, Datelike, Timelike};
use clap::ValueEnum;
use serde_json::{Value, json};

/// As long as the serial numbers of real watches.
pub const SERIAL: &str = "################";
/// Length of a serial number.
pub const SERIAL_CHARS: usize = SERIAL.len();
const SERIAL_PREFIX: &[u8] = b"BENCH";
/// As long as `yyyy-MM-dd HH:mm:ss`.
pub const TIME: &str = "@@@@@@@@@@@@@@@@@@@";
/// As long as seconds since 1970.
pub const EPOCH: &str = "$$$$$$$$$$";
/// Watches write the wall clock of China without its offset.
const SHANGHAI_OFFSET_S: i64 = 8 * 3_600;

/// One kind of upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An event that no rule makes an alert of.
    Event,
    /// A critical event.
    Sos,
    Vitals,
    /// Device information.
    Device,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Event, Kind::Sos, Kind::Vitals, Kind::Device];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Sos => "sos",
            Kind::Vitals => "vitals",
            Kind::Device => "device",
        }
    }

    fn route(self) -> &'static str {
        match self {
            Kind::Event | Kind::Sos => "/upload_common_event",
            Kind::Vitals => "/upload_health_data",
            Kind::Device => "/upload_device_info",
        }
    }

    /// The body, with [`SERIAL`] and [`TIME`] where serial number and time belong.
    pub fn json(self) -> Value {
        match self {
            Kind::Event => event("com.tdtech.ohos.action.CALL_STATE"),
            Kind::Sos => event("com.tdtech.ohos.health.action.SOS_EVENT"),
            Kind::Vitals => json!({ "data": health("wifi", "null", "null") }),
            Kind::Device => device(),
        }
    }
}

/// What a run posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Events with a health record that raise no alert
    Event,
    /// SOS events with a health record: each is a critical alert or a repeat of one
    Sos,
    /// Health records
    Vitals,
    /// Device information
    Device,
    /// As a fleet does: of twenty uploads 14 vitals, 3 device information, 2 events, 1 SOS
    Mix,
}

impl Workload {
    /// Kind of the `nth` upload of a device.
    pub fn kind(self, nth: u64) -> Kind {
        match self {
            Workload::Event => Kind::Event,
            Workload::Sos => Kind::Sos,
            Workload::Vitals => Kind::Vitals,
            Workload::Device => Kind::Device,
            Workload::Mix => match nth % 20 {
                3 | 9 | 16 => Kind::Device,
                6 | 13 => Kind::Event,
                19 => Kind::Sos,
                _ => Kind::Vitals,
            },
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Workload::Mix => "mix",
            // A workload of one kind.
            _ => self.kind(0).name(),
        }
    }
}

/// A request to one server, ready but for serial number and time.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    body_at: usize,
    serials_at: Vec<usize>,
    times_at: Vec<usize>,
    epochs_at: Vec<usize>,
}

impl Template {
    /// With the headers that a watch sends.
    pub fn new(kind: Kind, server: SocketAddr) -> Self {
        let body = kind.json().to_string();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json; charset=UTF-8\r\n\
             Accept: application/json\r\nAuthorization: Basic ZGVtbzpkZW1v\r\nContent-Length: {}\r\n\r\n",
            kind.route(),
            body.len(),
        );
        Self::from_parts(&head, &body)
    }

    /// Any request with [`SERIAL`], [`TIME`] and [`EPOCH`] in it.
    pub fn from_parts(head: &str, body: &str) -> Self {
        let text = format!("{head}{body}");
        let positions = |slot: &str| text.match_indices(slot).map(|(at, _)| at).collect();
        Self {
            serials_at: positions(SERIAL),
            times_at: positions(TIME),
            epochs_at: positions(EPOCH),
            body_at: head.len(),
            bytes: text.into_bytes(),
        }
    }

    /// How long the body is, without the head.
    pub fn body_bytes(&self) -> usize {
        self.bytes.len() - self.body_at
    }

    /// Puts the whole request into `out`. `at_s`: seconds since 1970.
    pub fn write(&self, device: u64, at_s: i64, out: &mut Vec<u8>) {
        self.write_as(&serial(device), at_s, out);
    }

    /// As [`Template::write`], for a device with this serial number.
    pub fn write_as(&self, serial: &[u8; SERIAL_CHARS], at_s: i64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for at in &self.serials_at {
            out[*at..at + serial.len()].copy_from_slice(serial);
        }
        let epoch = u64::try_from(at_s).unwrap_or_default();
        for at in &self.epochs_at {
            digits(&mut out[*at..at + EPOCH.len()], epoch);
        }
        let time = wall_clock(at_s);
        for at in &self.times_at {
            out[*at..at + time.len()].copy_from_slice(&time);
        }
    }
}

/// Serial number of a device of the run.
pub fn serial(device: u64) -> [u8; SERIAL.len()] {
    let mut text = [b'0'; SERIAL.len()];
    text[..SERIAL_PREFIX.len()].copy_from_slice(SERIAL_PREFIX);
    digits(&mut text[SERIAL_PREFIX.len()..], device);
    text
}

/// `yyyy-MM-dd HH:mm:ss` in Shanghai. Written by hand: the generator shares the cores with what
/// it measures.
fn wall_clock(at_s: i64) -> [u8; TIME.len()] {
    let wall = DateTime::from_timestamp(at_s + SHANGHAI_OFFSET_S, 0).unwrap_or_default();
    let mut text = *b"0000-00-00 00:00:00";
    let year = u64::try_from(wall.year()).unwrap_or_default();
    digits(&mut text[0..4], year);
    let rest = [wall.month(), wall.day(), wall.hour(), wall.minute(), wall.second()];
    for (index, value) in rest.into_iter().enumerate() {
        let at = 5 + 3 * index;
        digits(&mut text[at..at + 2], u64::from(value));
    }
    text
}

fn digits(text: &mut [u8], mut value: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn event(event_type: &str) -> Value {
    let sleep = r#"{"code":0,"data":[{"startTimeStamp":1757430120000,"endTimeStamp":1757443020000,"type":1},{"startTimeStamp":1757443020000,"endTimeStamp":1757452320000,"type":2}],"name":"sleep","type":"history"}"#;
    let workout = r#"{"code":0,"data":[{"calorie":208,"distance":5449,"startTimeStamp":1757467320000,"endTimeStamp":1757470920000,"workoutType":10,"recordId":7}],"name":"workout","type":"history"}"#;
    json!({
        "eventType": event_type,
        "eventValue": SERIAL,
        "deviceSn": SERIAL,
        "customerId": "1939964806110937090",
        "orgId": "1939964806110937090",
        "userId": "1940034533382479873",
        "latitude": 22.540363,
        "longitude": 114.015181,
        "altitude": 0.0,
        "timestamp": TIME,
        "healthData": { "data": health("common_event", sleep, workout) },
    })
}

fn health(upload_method: &str, sleep: &str, workout: &str) -> Value {
    json!({
        "deviceSn": SERIAL,
        "customerId": "1939964806110937090",
        "orgId": "1939964806110937090",
        "userId": "1940034533382479873",
        "heart_rate": 84,
        "blood_oxygen": 97,
        "body_temperature": "36.6",
        "step": 3121,
        "distance": "2104.0",
        "calorie": "98452.0",
        "latitude": "22.540363",
        "longitude": "114.015181",
        "altitude": "0.0",
        "stress": 32,
        "upload_method": upload_method,
        "blood_pressure_systolic": 125,
        "blood_pressure_diastolic": 86,
        "sleepData": sleep,
        "exerciseDailyData": "null",
        "exerciseWeekData": "null",
        "scientificSleepData": "null",
        "workoutData": workout,
        "timestamp": TIME,
    })
}

fn device() -> Value {
    json!({
        "System Software Version": "ARC-AL00CN 4.0.0.900(SP41C700E104R412P100)",
        "Wifi Address": "f0:fa:c7:ed:6c:17",
        "Bluetooth Address": "B0:FE:E5:8F:FD:D6",
        "IP Address": "192.168.31.192",
        "Network Access Mode": 2,
        "SerialNumber": SERIAL,
        "Device Name": "HUAWEI WATCH 4-DD6",
        "IMEI": "861600078000000",
        "batteryLevel": 63,
        "voltage": 3995,
        "chargingStatus": "NONE",
        "status": "ACTIVE",
        "timestamp": TIME,
        "wearState": 1,
        "customerId": "1939964806110937090",
        "orgId": "1939964806110937090",
        "userId": "1940034533382479873",
    })
}

#[cfg(test)]
mod tests {
    use watchpost::domain::event::{DeviceReport, ReportBody};
    use watchpost::domain::vitals::Metric;
    use watchpost::wire::{self, DecodeOptions};

    use super::*;

    /// 2025-09-10 13:05:24 in Shanghai.
    const AT_S: i64 = 1_757_480_724;

    fn body(kind: Kind, device: u64, at_s: i64) -> Vec<u8> {
        let template = Template::new(kind, SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut request = Vec::new();
        template.write(device, at_s, &mut request);
        request.split_off(request.len() - template.body_bytes())
    }

    fn decoded(kind: Kind) -> DeviceReport {
        let mut decoded = wire::decode(&body(kind, 12, AT_S), &DecodeOptions::default()).expect("a body");
        assert!(decoded.faults.is_empty() && decoded.warnings.is_empty(), "{decoded:?}");
        assert_eq!(decoded.reports.len(), 1);
        let report = decoded.reports.remove(0);
        assert!(report.warnings.is_empty(), "{report:?}");
        assert_eq!(report.device_sn.as_str(), "BENCH00000000012");
        report
    }

    #[test]
    fn events_decode_to_what_is_meant() {
        for (kind, short_type) in [(Kind::Event, "CALL_STATE"), (Kind::Sos, "SOS_EVENT")] {
            let report = decoded(kind);
            let ReportBody::Event(event) = report.body else { panic!("{report:?}") };
            assert_eq!(event.short_type(), short_type);
            assert_eq!(event.value.as_deref(), Some("BENCH00000000012"));
            assert_eq!(event.time.at().map(|time| time.utc.0), Some(AT_S * 1_000));
            let [vitals] = &event.vitals[..] else { panic!("{event:?}") };
            assert_eq!(vitals.time.map(|time| time.utc.0), Some(AT_S * 1_000));
            assert_eq!(vitals.metrics.get(Metric::HeartRate), Some(84.0));
            assert!(vitals.history.sleep.is_some() && vitals.history.workout.is_some());
            assert!(event.location.is_some());
        }
    }

    #[test]
    fn vitals_and_device_information_decode_to_what_is_meant() {
        let report = decoded(Kind::Vitals);
        let ReportBody::Vitals(vitals) = report.body else { panic!("{report:?}") };
        assert_eq!(vitals.time.map(|time| time.utc.0), Some(AT_S * 1_000));
        assert_eq!(vitals.metrics.get(Metric::BloodOxygen), Some(97.0));
        let report = decoded(Kind::Device);
        let ReportBody::Status(status) = report.body else { panic!("{report:?}") };
        assert_eq!(status.time.map(|time| time.utc.0), Some(AT_S * 1_000));
        assert_eq!(status.worn, Some(true));
    }

    #[test]
    fn the_head_says_how_long_the_body_is_and_slots_are_filled() {
        for kind in Kind::ALL {
            let template = Template::new(kind, SocketAddr::from(([127, 0, 0, 1], 5001)));
            let mut request = Vec::new();
            template.write(7, AT_S, &mut request);
            let text = String::from_utf8(request).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert!(head.starts_with(&format!("POST {} HTTP/1.1\r\n", kind.route())));
            assert!(!text.contains('#') && !text.contains('@'), "{text}");
        }
        let bytes = |kind| body(kind, 1, AT_S).len();
        assert!((1_300..1_500).contains(&bytes(Kind::Sos)), "{}", bytes(Kind::Sos));
        assert!((450..700).contains(&bytes(Kind::Vitals)), "{}", bytes(Kind::Vitals));
    }

    #[test]
    fn a_mix_has_its_shares() {
        let count = |kind| (0..200).filter(|nth| Workload::Mix.kind(*nth) == kind).count();
        assert_eq!(Kind::ALL.map(count), [20, 10, 140, 30]);
        assert!(
            Workload::value_variants()
                .iter()
                .all(|mix| { mix.to_possible_value().is_some_and(|value| value.get_name() == mix.name()) })
        );
    }
}
