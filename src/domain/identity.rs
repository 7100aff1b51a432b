//! When two reports are the same event.
//!
//! An event is (device, last segment of the type in lower case, value, wall clock, client's id).
//! The wall clock counts if it is near the time of arrival; otherwise the bytes of the report are
//! the identity, for a while. The event id is made from the identity, so a retry finds the first
//! answer without any coordinator, on every node and after every restart.

use sha2::{Digest, Sha256};

use super::event::{DeviceReport, EventReport, ReportedTime};
use super::ids::{AlertId, EventId, RuleId};
use super::time::UtcMillis;

/// A device time older than this is not an identity (and not believed).
pub const TIME_PAST_MAX_MS: i64 = 31 * 24 * 3_600_000;
/// A device time further ahead than this likewise.
pub const TIME_FUTURE_MAX_MS: i64 = 24 * 3_600_000;
/// This near to either limit a retry may fall on the other side, so both identities are looked up.
pub const TIME_EDGE_MS: i64 = 24 * 3_600_000;
/// The same bytes again within this are a replay, if they carry a time that does not count.
pub const HASH_WINDOW_MS: i64 = 24 * 3_600_000;
/// The same bytes again within this are a replay, if they carry no time at all. Counted from the
/// first arrival, not from the last.
pub const HASH_WINDOW_TIMELESS_MS: i64 = 300_000;

/// Under what an event is looked up, and under what it is stored if it is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventIdentity {
    /// The id by wall clock; `Some` if the clock counts, or nearly does.
    pub timed: Option<EventId>,
    /// The hash of the bytes and how long it is a replay; `Some` if the clock does not count, or
    /// only just does.
    pub hashed: Option<HashIdentity>,
    /// The id to store a new event under.
    pub new_id: EventId,
    /// The hash to store with it, so that the next copy is found.
    pub new_hash: Option<[u8; 32]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashIdentity {
    pub hash: [u8; 32],
    pub window_ms: i64,
}

/// Works out the identity of an event that arrived at `now`.
pub fn identify(report: &DeviceReport, event: &EventReport, now: UtcMillis) -> EventIdentity {
    let age_ms = event.time.at().map(|time| now.ms_since(time.utc));
    let counts = age_ms.is_some_and(|age| (-TIME_FUTURE_MAX_MS..=TIME_PAST_MAX_MS).contains(&age));
    let may_have_counted = age_ms.is_some_and(|age| {
        (-TIME_FUTURE_MAX_MS - TIME_EDGE_MS..=TIME_PAST_MAX_MS + TIME_EDGE_MS).contains(&age)
    });
    let surely_counted = age_ms.is_some_and(|age| {
        (-TIME_FUTURE_MAX_MS + TIME_EDGE_MS..=TIME_PAST_MAX_MS - TIME_EDGE_MS).contains(&age)
    });

    let timed = if may_have_counted { timed_id(report, event) } else { None };
    let window_ms =
        if event.time == ReportedTime::Missing { HASH_WINDOW_TIMELESS_MS } else { HASH_WINDOW_MS };
    let hashed = (!surely_counted).then(|| HashIdentity { hash: report_hash(report, event), window_ms });
    match (timed, hashed) {
        (Some(id), _) if counts => EventIdentity { timed, hashed, new_id: id, new_hash: None },
        (_, hashed) => {
            // What does not count is never sure to count, so the hash is there.
            let hash = hashed.map_or_else(|| report_hash(report, event), |hashed| hashed.hash);
            EventIdentity { timed, hashed, new_id: hashed_id(&hash, now), new_hash: Some(hash) }
        }
    }
}

/// True if a device time near arrival is to be believed; otherwise arrival time stands in.
pub fn time_counts(time: UtcMillis, now: UtcMillis) -> bool {
    (-TIME_FUTURE_MAX_MS..=TIME_PAST_MAX_MS).contains(&now.ms_since(time))
}

fn timed_id(report: &DeviceReport, event: &EventReport) -> Option<EventId> {
    let wall_ms = event.time.at()?.wall_as_utc_ms();
    let mut hasher = Sha256::new();
    hasher.update(b"event/1");
    field(&mut hasher, Some(report.device_sn.as_str()));
    field(&mut hasher, Some(&event.short_type().to_lowercase()));
    field(&mut hasher, event.value.as_deref());
    hasher.update(wall_ms.to_be_bytes());
    field(&mut hasher, event.client_event_id.as_deref());
    Some(uuid_v8(wall_ms, &hasher.finalize()))
}

/// The device is part of it: two watches may well send the same bytes in a body that names the
/// device elsewhere.
fn report_hash(report: &DeviceReport, event: &EventReport) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"body/1");
    field(&mut hasher, Some(report.device_sn.as_str()));
    field(&mut hasher, event.client_event_id.as_deref());
    hasher.update(report.body_hash);
    hasher.finalize().into()
}

fn hashed_id(hash: &[u8; 32], now: UtcMillis) -> EventId {
    let mut hasher = Sha256::new();
    hasher.update(b"arrival/1");
    hasher.update(hash);
    hasher.update(now.0.to_be_bytes());
    uuid_v8(now.0, &hasher.finalize())
}

/// RFC 9562 version 8: 48 bits of Unix milliseconds as in version 7, the rest from the hash.
fn uuid_v8(ms: i64, hash: &[u8]) -> EventId {
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&hash[..10]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    EventId(bytes)
}

/// The alert that `rule` raises because of `cause` (see [`super::alert::Cause::key`]).
pub fn alert_id(cause_key: &str, rule: &RuleId) -> AlertId {
    let mut hasher = Sha256::new();
    hasher.update(b"alert/1");
    field(&mut hasher, Some(cause_key));
    field(&mut hasher, Some(rule.as_str()));
    let hash = hasher.finalize();
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&hash[..8]);
    AlertId(i64::from_be_bytes(bytes) & i64::MAX)
}

/// SHA-256 of raw bytes, for quarantine and tokens.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Length first, so that no two lists of fields run together to the same bytes.
fn field(hasher: &mut Sha256, text: Option<&str>) {
    match text {
        None => hasher.update(u64::MAX.to_be_bytes()),
        Some(text) => {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Claims, ReportBody};
    use crate::domain::ids::DeviceSn;
    use crate::domain::time::DeviceTime;

    const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

    fn report(time: ReportedTime) -> (DeviceReport, EventReport) {
        let event = EventReport {
            event_type: "com.tdtech.ohos.health.action.SOS_EVENT".into(),
            value: Some("SN1".into()),
            time,
            client_event_id: None,
            level: None,
            description: None,
            location: None,
            vitals: vec![],
        };
        let report = DeviceReport {
            device_sn: DeviceSn::parse("SN1").expect("a serial"),
            claims: Claims::default(),
            body: ReportBody::Event(event.clone()),
            extra: None,
            warnings: vec![],
            body_hash: [7; 32],
        };
        (report, event)
    }

    fn at(ms: i64) -> ReportedTime {
        let wall = chrono::DateTime::from_timestamp_millis(ms).expect("in range").naive_utc();
        ReportedTime::At(DeviceTime { wall, utc: UtcMillis(ms) })
    }

    #[test]
    fn the_id_is_a_version_8_uuid_that_begins_with_the_wall_clock() {
        let (report, event) = report(at(NOW.0 - 5_000));
        let id = identify(&report, &event, NOW).new_id;
        assert_eq!(id.time_ms(), NOW.0 - 5_000);
        let uuid = uuid::Uuid::from_bytes(id.0);
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
    }

    #[test]
    fn arrival_time_does_not_change_the_id_of_a_timed_event() {
        let (report, event) = report(at(NOW.0));
        let later = NOW.saturating_add_ms(3_600_000);
        assert_eq!(identify(&report, &event, NOW).new_id, identify(&report, &event, later).new_id);
    }

    #[test]
    fn type_is_compared_by_its_last_segment_and_without_case() {
        let (report, event) = report(at(NOW.0));
        let short = EventReport { event_type: "sos_event".into(), ..event.clone() };
        assert_eq!(identify(&report, &event, NOW).new_id, identify(&report, &short, NOW).new_id);
    }

    #[test]
    fn a_clock_out_of_range_makes_the_bytes_the_identity() {
        let (report, event) = report(at(NOW.0 - TIME_PAST_MAX_MS - TIME_EDGE_MS - 1));
        let identity = identify(&report, &event, NOW);
        assert_eq!(identity.timed, None);
        assert_eq!(identity.hashed.map(|hashed| hashed.window_ms), Some(HASH_WINDOW_MS));
        assert_eq!(identity.new_id.time_ms(), NOW.0);
    }

    #[test]
    fn a_retry_that_crosses_the_edge_still_finds_the_first() {
        let time = NOW.0 - TIME_PAST_MAX_MS + 1_000;
        let (report, event) = report(at(time));
        let first = identify(&report, &event, NOW);
        let retry = identify(&report, &event, NOW.saturating_add_ms(120_000));
        assert_eq!(first.new_hash, None);
        assert!(retry.new_hash.is_some());
        assert_eq!(retry.timed, Some(first.new_id));

        let (report, event) = report_ahead();
        let first = identify(&report, &event, NOW);
        let retry = identify(&report, &event, NOW.saturating_add_ms(120_000));
        assert_eq!(retry.hashed.map(|hashed| hashed.hash), first.new_hash);
    }

    fn report_ahead() -> (DeviceReport, EventReport) {
        report(at(NOW.0 + TIME_FUTURE_MAX_MS + 1_000))
    }

    #[test]
    fn a_body_without_any_time_is_a_replay_for_300_s_only() {
        let (report, event) = report(ReportedTime::Missing);
        let identity = identify(&report, &event, NOW);
        assert_eq!(identity.hashed.map(|hashed| hashed.window_ms), Some(HASH_WINDOW_TIMELESS_MS));
    }
}
