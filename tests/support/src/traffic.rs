//! Watches and operators that go on whatever becomes of their server: a watch repeats the same bytes
//! until it is told 200, and keeps what it was told.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::DEADLINE;
use crate::process::{self, Answer, connect, request_as, whole_answer};
use crate::truth::File;

const EVENTS: &str = "POST /upload_common_event";
const VITALS: &str = "POST /upload_health_data";
/// Devices of one watch thread; those with an even number are bound to somebody.
const DEVICES: u64 = 4;
/// A device writes times of the last day, one second after the other.
const DAY_S: i64 = 86_400;
/// How many of the last answered items are sent once more on a new connection.
const REPEATED: usize = 4;
/// Of refusals so many are kept in their own words.
const REFUSALS_KEPT: usize = 20;
/// Before a refused item is sent again.
const PAUSE: Duration = Duration::from_millis(2);

/// What the world was told, and where it is.
#[derive(Default)]
pub struct Traffic {
    addr: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
    answered: AtomicU64,
    record: Mutex<Record>,
    sent: Mutex<Sent>,
}

/// Everything that was sent, whatever was answered.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// `device type value occurred_ms` of each event.
    events: HashSet<String>,
    /// `device measured_ms` of each vital sign.
    vitals: HashSet<String>,
    /// `alert_id transition` of each action.
    actions: HashSet<String>,
}

/// Everything that was answered 200.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Event ids.
    pub events: Vec<String>,
    /// Alert ids that the answers named.
    pub alerts: Vec<String>,
    /// `device measured_ms` of each vital sign.
    pub vitals: Vec<String>,
    /// `alert_id transition` of each action.
    pub actions: Vec<String>,
    /// Items that were answered neither 200 nor 503 with `Retry-After`: `status body answer`.
    pub odd: Vec<String>,
    /// Requests without a whole answer.
    pub unanswered: u64,
    /// Requests that were answered 503.
    pub refused: u64,
    /// What the first of them were told.
    pub refusals: Vec<String>,
    /// Copies of what had been answered before that were answered again, with the same ids.
    pub repeated: u64,
}

/// Something that a watch sends until it is stored.
#[derive(Debug, Clone)]
struct Item {
    route: &'static str,
    body: String,
    /// Of an event, as [`Sent`] has it.
    event: Option<String>,
    /// Of vital signs, `device measured_ms`.
    vitals: Vec<String>,
    /// What the first 200 said: event and alert.
    told: Option<(Value, Value)>,
}

/// Ends the load when it is dropped: also when a test fails.
pub struct UntilDropped<'a>(&'a Traffic);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Traffic {
    /// Stops when this is dropped.
    pub fn until_dropped(&self) -> UntilDropped<'_> {
        UntilDropped(self)
    }

    /// Where the server is from now on; `None` while it is away.
    pub fn point_to(&self, addr: Option<SocketAddr>) {
        *self.addr.lock().expect("no panic") = addr;
    }

    /// Everybody ends after the request that is in work.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no panic")
    }

    /// Answers with 200 to watches so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// Waits until so many more requests of watches were answered 200.
    pub fn until(&self, more: u64) {
        let (begun, wanted) = (Instant::now(), self.answered() + more);
        while self.answered() < wanted {
            assert!(begun.elapsed() < DEADLINE, "{more} items are stored within {DEADLINE:?}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().expect("no panic")
    }

    /// Nothing of these watches and operators is stored that was not sent. `names` are those of the
    /// watches.
    pub fn assert_only_sent(&self, names: &[&str], file: &mut File) {
        self.sent().assert_all_of(names, file);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// A connection to wherever the server is; `None` when it is time to stop.
    fn reconnect(&self) -> Option<(TcpStream, SocketAddr)> {
        while !self.stopped() {
            let addr = *self.addr.lock().expect("no panic");
            if let Some(addr) = addr
                && let Some(stream) = connect(addr)
            {
                return Some((stream, addr));
            }
            std::thread::park_timeout(PAUSE);
        }
        None
    }

    /// Some watches behind one connection: emergencies, wear changes, ordinary events and batches of
    /// vital signs. `name` begins their serials. Returns when told to stop.
    pub fn watch(&self, name: &str) {
        let mut number = 0;
        let mut sent: Vec<Item> = Vec::new();
        let mut waiting: Option<Item> = None;
        while let Some((mut stream, _)) = self.reconnect() {
            // A watch that comes back sends its ring again, also what it has an answer for.
            let again = sent.split_off(sent.len().saturating_sub(REPEATED));
            if !again.iter().all(|item| self.send(&mut stream, &mut item.clone()) == Some(200)) {
                sent.extend(again);
                continue;
            }
            sent = again;
            while !self.stopped() {
                let mut item = waiting.take().unwrap_or_else(|| {
                    number += 1;
                    let item = item(name, number);
                    self.sent().events.extend(item.event.clone());
                    self.sent().vitals.extend(item.vitals.iter().cloned());
                    item
                });
                match self.send(&mut stream, &mut item) {
                    Some(200) => sent.push(item),
                    Some(_) => {
                        waiting = Some(item);
                        std::thread::park_timeout(PAUSE);
                    }
                    None => {
                        waiting = Some(item);
                        break;
                    }
                }
            }
        }
    }

    /// The status; `None` without a whole answer.
    fn send(&self, stream: &mut TcpStream, item: &mut Item) -> Option<u16> {
        let sent = process::send(stream, "", item.route, &item.body);
        let Some(Answer { status, retry_after, body: answer }) = sent.and_then(|()| whole_answer(stream))
        else {
            self.record().unanswered += 1;
            return None;
        };
        let told: Value = serde_json::from_str(&answer).unwrap_or_default();
        let mut record = self.record();
        match status {
            200 => {
                let ids = (told["event_id"].clone(), told["alert_id"].clone());
                if let Some(first) = &item.told {
                    assert_eq!(*first, ids, "a copy gets the ids of the first: {}", item.body);
                    record.repeated += 1;
                } else {
                    record.events.extend(ids.0.as_str().map(str::to_owned));
                    record.alerts.extend(ids.1.as_str().map(str::to_owned));
                    record.vitals.extend(item.vitals.iter().cloned());
                    item.told = Some(ids);
                    self.answered.fetch_add(1, Ordering::AcqRel);
                }
            }
            503 if retry_after.is_some() => record.refuse(answer.to_string()),
            other => record.odd.push(format!("{other} {} {answer}", item.body)),
        }
        Some(status)
    }

    /// An operator who takes care of whatever is open. Returns when told to stop.
    pub fn operate(&self, name: &str, token: &str) {
        const OPEN: &str = "GET /api/v1/alerts?open=true&limit=8";
        let mut number = 0u64;
        while let Some((mut stream, _)) = self.reconnect() {
            while !self.stopped() {
                let page = match request_as(&mut stream, token, OPEN, "") {
                    Some((200, page)) => page,
                    Some(_) => {
                        std::thread::park_timeout(PAUSE);
                        continue;
                    }
                    None => break,
                };
                let page: Value = serde_json::from_str(&page).expect("JSON");
                for alert in page["items"].as_array().expect("alerts") {
                    number += 1;
                    let (action, transition) = match number % 3 {
                        0 => ("resolve", "resolved"),
                        _ => ("acknowledge", "acknowledged"),
                    };
                    let id = alert["alert_id"].as_str().expect("an alert id");
                    let head = format!("POST /api/v1/alerts/{id}/{action}");
                    let body = json!({"command_id": format!("{name}-{number}")}).to_string();
                    self.sent().actions.insert(format!("{id} {transition}"));
                    let Some((status, answer)) = request_as(&mut stream, token, &head, &body) else { break };
                    let mut record = self.record();
                    match status {
                        200 => record.actions.push(format!("{id} {transition}")),
                        // Somebody else was there first.
                        409 => {}
                        // In memory: somebody may resolve the alert before that is stored.
                        202 => {}
                        503 => record.refuse(format!("{head} {answer}")),
                        other => record.odd.push(format!("{other} {head} {answer}")),
                    }
                }
                std::thread::park_timeout(PAUSE);
            }
        }
    }
}

/// The serials that `name` has; the bound ones first.
pub fn serials(name: &str) -> (Vec<String>, Vec<String>) {
    (0..DEVICES).map(|device| (device, format!("{name}-{device}"))).fold(
        (Vec::new(), Vec::new()),
        |(mut bound, mut unbound), (device, serial)| {
            if device % 2 == 0 {
                bound.push(serial)
            } else {
                unbound.push(serial)
            }
            (bound, unbound)
        },
    )
}

/// Gives those watches to somebody.
pub fn bind(addr: SocketAddr, token: &str, names: &[&str]) {
    let mut stream = connect(addr).expect("a connection");
    for serial in names.iter().flat_map(|name| serials(name).0) {
        let head = format!("PUT /api/v1/devices/{serial}/binding");
        let body = json!({"customer_id": "7", "person_id": serial}).to_string();
        let bound = request_as(&mut stream, token, &head, &body).expect("an answer");
        assert_eq!(bound.0, 200, "{}", bound.1);
    }
}

fn item(name: &str, number: u64) -> Item {
    // Yesterday, on the wall clock of China; no two items share a second.
    let midnight = (Utc::now() + TimeDelta::hours(8) - TimeDelta::seconds(DAY_S)).date_naive();
    let second = TimeDelta::seconds(i64::try_from(number).expect("a small number") % DAY_S);
    let local = midnight.and_hms_opt(0, 0, 0).expect("midnight") + second;
    let wall = local.format("%Y-%m-%d %H:%M:%S").to_string();
    let measured_ms = (local - TimeDelta::hours(8)).and_utc().timestamp_millis();
    let device = format!("{name}-{}", number % DEVICES);
    let event = |space: &str, kind: &str, value: String| {
        let body = json!({"eventType": format!("com.tdtech.ohos.{space}.{kind}"), "eventValue": value,
            "deviceSn": device, "timestamp": wall});
        let key = format!("{device} {} {value} {measured_ms}", kind.to_lowercase());
        Item { route: EVENTS, body: body.to_string(), event: Some(key), vitals: vec![], told: None }
    };
    match number % 7 {
        0 | 4 => event("health.action", "SOS_EVENT", device.clone()),
        1 => event("action", "WEAR_STATUS_CHANGED", (number / 7 % 2).to_string()),
        2 | 5 => event("action", "CALL_STATE", number.to_string()),
        6 => event("health.action", "STRESS_HIGH_ALERT", number.to_string()),
        _ => {
            let record = |of: u64| json!({"deviceSn": format!("{name}-{of}"), "heart_rate": 60 + number % 60, "timestamp": wall});
            let stored = |of: u64| format!("{name}-{of} {measured_ms}");
            let body = json!({"data": (0..DEVICES).map(record).collect::<Vec<_>>()}).to_string();
            let vitals = (0..DEVICES).map(stored).collect();
            Item { route: VITALS, body, event: None, vitals, told: None }
        }
    }
}

impl Sent {
    fn assert_all_of(&self, names: &[&str], file: &mut File) {
        let of = |name: &&str| format!("device_sn LIKE '{name}-%'");
        let ours = names.iter().map(of).collect::<Vec<_>>().join(" OR ");
        let stored = [
            (
                "an event",
                "device_sn || ' ' || type_key || ' ' || value || ' ' || occurred_ms",
                "event",
                &self.events,
            ),
            ("vital signs", "device_sn || ' ' || measured_ms", "vitals", &self.vitals),
            ("an action", "alert_id || ' ' || transition", "alert_change", &self.actions),
        ];
        for (what, key, table, sent) in stored {
            let acted = if table == "alert_change" { "AND actor IS NOT NULL" } else { "" };
            let rows = file.texts(&format!("SELECT {key} AS value FROM {table} WHERE ({ours}) {acted}"));
            let foreign: Vec<&String> = rows.iter().filter(|row| !sent.contains(*row)).take(3).collect();
            assert!(foreign.is_empty(), "{what} is stored that nobody has sent: {foreign:?}");
        }
    }
}

impl Record {
    fn refuse(&mut self, what: String) {
        self.refused += 1;
        if self.refusals.len() < REFUSALS_KEPT {
            self.refusals.push(what);
        }
    }

    /// Everything that was answered 200 is in the file, and nothing odd was answered.
    pub fn assert_stored(&self, file: &mut File) {
        assert!(self.odd.is_empty(), "odd answers: {:?}", &self.odd[..self.odd.len().min(3)]);
        file.assert_holds(&self.events);
        let counted = |texts: &[String]| {
            let mut counts: HashMap<String, usize> = HashMap::new();
            for text in texts {
                *counts.entry(text.clone()).or_default() += 1;
            }
            counts
        };
        let missing = |what: &str, told: &[String], stored: Vec<String>| {
            let stored = counted(&stored);
            for (text, count) in counted(told) {
                let there = stored.get(&text).copied().unwrap_or_default();
                assert!(
                    there >= count,
                    "{what} {text:?} was answered 200 {count} times and is there {there} times"
                );
            }
        };
        let vitals = file.texts("SELECT device_sn || ' ' || measured_ms AS value FROM vitals");
        missing("vital sign", &self.vitals, vitals);
        let actions = file
            .texts("SELECT alert_id || ' ' || transition AS value FROM alert_change WHERE actor IS NOT NULL");
        missing("action", &self.actions, actions);
        let alerts = file.texts("SELECT alert_id AS value FROM alert");
        let mut named = self.alerts.clone();
        named.sort_unstable();
        named.dedup();
        missing("alert", &named, alerts);
    }
}
