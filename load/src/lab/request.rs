//! What is sent: requests that are ready but for serial number and time, and the key by which
//! each is found again in what the server stored.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::body;

/// The first upload of every device is dated this long ago: in the past, as real ones are, and
/// well within the 31 days in which the server believes a device's clock.
const START_BEFORE_NOW_S: i64 = 7 * 24 * 3_600;
const PREFIX_CHARS: usize = 8;
/// The largest number of a device in a [`Key`].
const DEVICES_MAX: u32 = 0xff_ffff;

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An event that no rule makes an alert of.
    Event,
    /// A critical event.
    Sos,
    Vitals,
    /// Device information.
    Device,
    /// A poll for messages.
    Messages,
    /// A question for settings.
    Config,
    /// A body of `tests/corpus`.
    Corpus,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Event, Kind::Sos, Kind::Vitals, Kind::Device, Kind::Messages, Kind::Config, Kind::Corpus];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Sos => "sos",
            Kind::Vitals => "vitals",
            Kind::Device => "device",
            Kind::Messages => "messages",
            Kind::Config => "config",
            Kind::Corpus => "corpus",
        }
    }

    /// Whether 200 promises a row under a [`Key`].
    pub fn is_stored(self) -> bool {
        matches!(self, Kind::Event | Kind::Sos | Kind::Vitals | Kind::Device)
    }
}

/// Kind, type of event, device and number of an upload of a run: 3, 5, 24 and 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

/// Types of events that a watch may have in the same second as others of their kind. The type of a
/// [`Kind`] that is not here has no number of its own.
const TYPES: [&str; 11] = [
    "one_key_alarm",
    "falldown_event",
    "wear_status_changed",
    "boot_completed",
    "fun_double_click",
    "ui_settings_changed",
    "stress_high_alert",
    "spo2_low_alert",
    "heartrate_high_alert",
    "heartrate_low_alert",
    "temperature_high_alert",
];

impl Key {
    pub fn new(kind: Kind, device: u32, nth: u32) -> Self {
        Self((kind as u64) << 61 | u64::from(device & DEVICES_MAX) << 32 | u64::from(nth))
    }

    /// Of an event. `type_key`: the last segment of its type, in lower case.
    fn of_event(type_key: &str, device: u32, nth: u32) -> Self {
        let critical = ["sos", "fall", "one_key"].iter().any(|name| type_key.starts_with(name));
        let kind = if critical { Kind::Sos } else { Kind::Event };
        let number = TYPES.iter().position(|name| *name == type_key).map_or(0, |at| at as u64 + 1);
        Self(Self::new(kind, device, nth).0 | number << 56)
    }

    pub fn kind(self) -> Kind {
        Kind::ALL[(self.0 >> 61) as usize % Kind::ALL.len()]
    }

    pub fn device(self) -> u32 {
        (self.0 >> 32) as u32 & DEVICES_MAX
    }

    /// Seconds of device time after the first; for a body of the corpus, which.
    pub fn nth(self) -> u32 {
        self.0 as u32
    }
}

/// The watches of one run: their serial numbers begin alike and differ from those of other runs.
#[derive(Debug, Clone)]
pub struct Fleet {
    prefix: [u8; PREFIX_CHARS],
    start_s: i64,
    /// Devices from this number on are simulated watches, whose events may come without a health
    /// record of the same second.
    pub simulated_from: u32,
}

impl Fleet {
    /// `now_ms`: since 1970.
    pub fn new(now_ms: i64) -> Self {
        let mut prefix = *b"LAB00000";
        let mut rest = now_ms.unsigned_abs() / 100;
        for digit in prefix[3..].iter_mut().rev() {
            *digit = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(rest % 36) as usize];
            rest /= 36;
        }
        Self { prefix, start_s: now_ms / 1_000 - START_BEFORE_NOW_S, simulated_from: u32::MAX }
    }

    pub fn prefix(&self) -> &str {
        std::str::from_utf8(&self.prefix).unwrap_or_default()
    }

    pub fn serial(&self, device: u32) -> [u8; body::SERIAL_CHARS] {
        let mut serial = body::serial(u64::from(device));
        serial[..PREFIX_CHARS].copy_from_slice(&self.prefix);
        serial
    }

    /// Seconds since 1970 of a device's upload.
    pub fn at_s(&self, nth: u32) -> i64 {
        self.start_s + i64::from(nth)
    }

    /// The key of a stored row, if it is one of this run. `at_ms`: since 1970.
    pub fn key(&self, kind: Kind, serial: &str, at_ms: i64) -> Option<Key> {
        let (device, nth) = self.place(serial, at_ms)?;
        Some(Key::new(kind, device, nth))
    }

    /// The same of an event. `type_key`: the last segment of its type, in lower case.
    pub fn event_key(&self, type_key: &str, serial: &str, at_ms: i64) -> Option<Key> {
        let (device, nth) = self.place(serial, at_ms)?;
        Some(Key::of_event(type_key, device, nth))
    }

    fn place(&self, serial: &str, at_ms: i64) -> Option<(u32, u32)> {
        let device = serial.strip_prefix(self.prefix())?.parse().ok()?;
        Some((device, u32::try_from(at_ms / 1_000 - self.start_s).ok()?))
    }

    /// How a person finds an upload again.
    pub fn name(&self, key: Key) -> String {
        let serial = self.serial(key.device());
        format!("{} {}+{}", key.kind().name(), String::from_utf8_lossy(&serial), key.nth())
    }
}

/// Every request of a run as bytes.
pub struct Requests {
    fleet: Fleet,
    uploads: Vec<body::Template>,
    questions: [Vec<u8>; 2],
    questions_serial_at: [usize; 2],
    corpus: Vec<Vec<u8>>,
}

impl Requests {
    pub fn new(fleet: Fleet, server: SocketAddr, corpus: &[CorpusBody]) -> Self {
        let question = |path: &str| {
            let text = format!("GET {path}?deviceSn= HTTP/1.1\r\nHost: {server}\r\n\r\n");
            let at = text.find("deviceSn=").unwrap_or_default() + "deviceSn=".len();
            let (head, rest) = text.split_at(at);
            let serial = "0".repeat(body::SERIAL_CHARS);
            (format!("{head}{serial}{rest}").into_bytes(), at)
        };
        let (messages, messages_at) = question("/DeviceMessage/receive");
        let (config, config_at) = question("/fetch_health_data_config");
        let corpus = corpus.iter().map(|body| body.request(server)).collect();
        Self {
            fleet,
            uploads: body::Kind::ALL.map(|kind| body::Template::new(kind, server)).into(),
            questions: [messages, config],
            questions_serial_at: [messages_at, config_at],
            corpus,
        }
    }

    /// Puts the whole request into `out`.
    pub fn write(&self, key: Key, out: &mut Vec<u8>) {
        let serial = self.fleet.serial(key.device());
        match key.kind() {
            Kind::Event | Kind::Sos | Kind::Vitals | Kind::Device => {
                self.uploads[key.kind() as usize].write_as(&serial, self.fleet.at_s(key.nth()), out);
            }
            kind @ (Kind::Messages | Kind::Config) => {
                let which = usize::from(kind == Kind::Config);
                out.clear();
                out.extend_from_slice(&self.questions[which]);
                let at = self.questions_serial_at[which];
                out[at..at + serial.len()].copy_from_slice(&serial);
            }
            Kind::Corpus => {
                out.clear();
                out.extend_from_slice(&self.corpus[key.nth() as usize % self.corpus.len().max(1)]);
            }
        }
    }
}

/// A body of `tests/corpus`.
#[derive(Debug, Clone)]
pub struct CorpusBody {
    pub name: String,
    bytes: Vec<u8>,
}

impl CorpusBody {
    /// All of them, in the order of their names.
    pub fn read_all() -> anyhow::Result<Vec<Self>> {
        let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus");
        let context =
            || format!("read the corpus at {} (`corpus` in `mix` needs the checkout)", dir.display());
        let mut bodies = Vec::new();
        for entry in std::fs::read_dir(&dir).with_context(context)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                bodies.push(Self { name, bytes: std::fs::read(&path).with_context(context)? });
            }
        }
        ensure!(!bodies.is_empty(), "there are no bodies at {}", dir.display());
        bodies.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(bodies)
    }

    fn request(&self, server: SocketAddr) -> Vec<u8> {
        let route = if self.name.contains("-log-") {
            "/upload_watch_log"
        } else if self.name.contains("-reply-") {
            "/DeviceMessage/send"
        } else {
            "/upload_common_event"
        };
        let head = format!(
            "POST {route} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.bytes.len()
        );
        [head.as_bytes(), &self.bytes].concat()
    }
}

/// A UUID as a number, wherever its dashes are. `None` if it is none.
pub fn uuid(text: &[u8]) -> Option<u128> {
    let mut digits = 0;
    let mut number = 0;
    for byte in text.iter().filter(|byte| **byte != b'-') {
        number = number << 4 | u128::from(char::from(*byte).to_digit(16)?);
        digits += 1;
    }
    (digits == 32).then_some(number)
}

pub fn uuid_text(number: u128) -> String {
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_in_what_is_stored() {
        let fleet = Fleet::new(1_790_000_000_123);
        let serial = fleet.serial(1_234);
        let serial = std::str::from_utf8(&serial).expect("text");
        for kind in [Kind::Event, Kind::Sos, Kind::Vitals, Kind::Device] {
            let key = Key::new(kind, 1_234, 77);
            assert_eq!((key.kind(), key.device(), key.nth()), (kind, 1_234, 77));
            assert_eq!(fleet.key(kind, serial, fleet.at_s(77) * 1_000), Some(key));
        }
        // Types of the same kind and second are told apart, but not those that phases send.
        let of = |type_key| fleet.event_key(type_key, serial, fleet.at_s(77) * 1_000).expect("a key");
        assert_eq!(of("call_state"), Key::new(Kind::Event, 1_234, 77));
        assert_eq!(of("sos_event"), Key::new(Kind::Sos, 1_234, 77));
        assert_eq!((of("falldown_event").kind(), of("one_key_alarm").kind()), (Kind::Sos, Kind::Sos));
        assert_ne!(of("falldown_event"), of("one_key_alarm"));
        assert_eq!((of("boot_completed").device(), of("boot_completed").nth()), (1_234, 77));
        assert_eq!(Fleet::new(1_790_000_009_123).key(Kind::Sos, serial, fleet.at_s(77) * 1_000), None);
        assert_eq!(fleet.key(Kind::Sos, "CRFTQ23409001890", 0), None);
    }

    #[test]
    fn requests_carry_serial_time_and_length() {
        let fleet = Fleet::new(1_790_000_000_123);
        let corpus = CorpusBody::read_all().expect("a corpus");
        assert!(corpus.len() > 100);
        let requests = Requests::new(fleet.clone(), SocketAddr::from(([127, 0, 0, 1], 9)), &corpus);
        let mut out = Vec::new();
        for kind in Kind::ALL {
            requests.write(Key::new(kind, 5, 1), &mut out);
            let text = String::from_utf8_lossy(&out).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let serial = String::from_utf8_lossy(&fleet.serial(5)).into_owned();
            assert_eq!(text.contains(&serial), kind != Kind::Corpus, "{text}");
            assert_eq!(head.starts_with("GET "), matches!(kind, Kind::Messages | Kind::Config));
            if head.starts_with("POST ") {
                assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            }
        }
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = "01a206b7-c2e0-8438-9321-4a9e5a7a95ed";
        assert_eq!(uuid(id.as_bytes()).map(uuid_text).as_deref(), Some(id));
        assert_eq!(uuid(b"01a2"), None);
    }
}
