//! What a request of a simulated watch carries, read from its bytes: the rows that a 200 promises.

use chrono::NaiveDateTime;
use serde_json::Value;
use watch_simulator::{Purpose, Request};

use super::super::request::{Fleet, Key, Kind};

/// Watches write the wall clock of China without its offset.
const SHANGHAI_OFFSET_MS: i64 = 8 * 3_600_000;

/// A request, as the ledger counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// What it is counted as.
    pub first: Key,
    /// Rows that are stored if it is answered 200.
    pub rows: Vec<Key>,
    /// The event among them.
    pub event: Option<Key>,
}

impl Carried {
    pub fn read(request: &Request, device: u32, fleet: &Fleet) -> Self {
        let body = request.body.as_deref().and_then(|body| serde_json::from_str::<Value>(body).ok());
        let body = body.unwrap_or_default();
        let serial = String::from_utf8_lossy(&fleet.serial(device)).into_owned();
        let row = |kind, record: &Value| fleet.key(kind, &serial, utc_ms(&record["timestamp"])?);
        let none = |kind| Self { first: Key::new(kind, device, 0), rows: Vec::new(), event: None };
        match request.purpose {
            Purpose::Settings => none(Kind::Config),
            Purpose::Poll | Purpose::Reply => none(Kind::Messages),
            Purpose::Health | Purpose::HealthBatch => {
                let records = match &body["data"] {
                    Value::Array(records) => records.as_slice(),
                    record => std::slice::from_ref(record),
                };
                let rows: Vec<Key> = records.iter().filter_map(|record| row(Kind::Vitals, record)).collect();
                Self { first: Key::new(Kind::Vitals, device, 0), rows, event: None }
            }
            Purpose::Device | Purpose::DeviceReplay => {
                let rows = row(Kind::Device, &body).into_iter().collect();
                Self { first: Key::new(Kind::Device, device, 0), rows, event: None }
            }
            Purpose::Event | Purpose::EventReplay => {
                let type_key = body["eventType"].as_str().and_then(|name| name.rsplit('.').next());
                let type_key = type_key.unwrap_or_default().to_lowercase();
                let at_ms = utc_ms(&body["timestamp"]);
                let event = at_ms.and_then(|at_ms| fleet.event_key(&type_key, &serial, at_ms));
                let vitals = row(Kind::Vitals, &body["healthData"]["data"]);
                let first = event.unwrap_or(Key::new(Kind::Event, device, 0));
                Self { first, rows: event.into_iter().chain(vitals).collect(), event }
            }
        }
    }
}

/// `yyyy-MM-dd HH:mm:ss` in Shanghai as milliseconds since 1970.
fn utc_ms(wall_clock: &Value) -> Option<i64> {
    let wall = NaiveDateTime::parse_from_str(wall_clock.as_str()?, "%Y-%m-%d %H:%M:%S").ok()?;
    Some(wall.and_utc().timestamp_millis() - SHANGHAI_OFFSET_MS)
}

#[cfg(test)]
mod tests {
    use watch_simulator::{Answer, Occurrence, Profile, Watch};

    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    #[test]
    fn what_a_watch_sends_is_found_in_its_bytes() {
        let fleet = Fleet::new(NOW_MS);
        let serial = String::from_utf8_lossy(&fleet.serial(7)).into_owned();
        let mut now_ms = fleet.at_s(0) * 1_000;
        let mut watch = Watch::new(Profile::new(serial), 3, now_ms);
        let mut carried = Vec::new();
        watch.advance(now_ms);
        while let Some(request) = watch.next_request() {
            carried.push((request.purpose, Carried::read(&request, 7, &fleet)));
            watch.answer(now_ms, request.id, &Answer::Failed);
        }
        now_ms += 20_000;
        watch.advance(now_ms);
        watch.happen(now_ms, Occurrence::Fall);
        while let Some(request) = watch.next_request() {
            carried.push((request.purpose, Carried::read(&request, 7, &fleet)));
            watch.answer(now_ms, request.id, &Answer::Failed);
        }
        let of = |purpose| {
            let found = carried.iter().rev().find(|(known, _)| *known == purpose);
            found.map(|(_, carried)| carried.clone()).expect("a request")
        };
        assert_eq!((of(Purpose::Settings).first.kind(), of(Purpose::Settings).rows), (Kind::Config, vec![]));
        let health = of(Purpose::Health);
        assert_eq!(health.rows, [Key::new(Kind::Vitals, 7, 0)]);
        assert_eq!(of(Purpose::Device).rows, [Key::new(Kind::Device, 7, 0)]);
        let fall = of(Purpose::Event);
        assert_eq!(fall.first.kind(), Kind::Sos);
        assert_eq!((fall.first.device(), fall.first.nth()), (7, 20));
        assert_eq!(fall.event, Some(fall.first));
        // By then it has a pulse, and the event brings a health record.
        assert_eq!(fall.rows.len(), 2);
    }
}
