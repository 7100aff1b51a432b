//! What the watches know, held against what is in the file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use chrono::NaiveDateTime;
use testkit::scale::figure;
use testkit::truth::File;
use watch_simulator::{Item, Kind, Left, VirtualClock, Watch};

use super::fleet::{ON_ITS_WAY_MS, Plan};

/// Watches write the wall clock of Shanghai.
const ZONE_MS: i64 = 8 * 3_600_000;
/// Requests of one watch that a report of a loss shows.
const STORY_LINES: usize = 40;

pub struct Tally {
    pub plan: Plan,
    pub made: usize,
    pub sent: u64,
    /// Events that no file holds and no watch has any more, by the trouble in which they were made.
    pub lost: BTreeMap<&'static str, usize>,
    pub lost_in_all: usize,
    /// Lost because the ring was full.
    pub dropped: usize,
    /// Cleared by a replay that was over before they had reached the server. No answer prevents that.
    pub by_replay: usize,
    /// Lengths of the gaps in which events were lost, in milliseconds.
    pub gaps_ms: Vec<i64>,
    /// What each of the first losses was, for people.
    pub stories: Vec<String>,
}

/// What an event is known by: device, last segment of its type, value, time.
fn key(watch: &Watch, item: &Item) -> String {
    let (event_type, value) = item.event.as_ref().expect("an event");
    let short = event_type.rsplit('.').next().unwrap_or_default().to_lowercase();
    format!("{}|{short}|{value}|{}", watch.serial(), utc_ms(&item.device_time))
}

fn utc_ms(wall_clock: &str) -> i64 {
    let wall = NaiveDateTime::parse_from_str(wall_clock, "%Y-%m-%d %H:%M:%S").expect("a wall clock");
    wall.and_utc().timestamp_millis() - ZONE_MS
}

impl Tally {
    /// Asserts everything that must hold with and without the guard.
    pub fn of(plan: Plan, clock: &VirtualClock, data_dir: &Path) -> Self {
        let mut file = File::of(data_dir);
        file.assert_consistent();
        assert_alerted_once(&mut file);
        let rows = file.texts(
            "SELECT device_sn || '|' || type_key || '|' || coalesce(value, '') || '|' || occurred_ms \
             AS value FROM event",
        );
        let stored: HashSet<&String> = rows.iter().collect();
        assert_eq!(stored.len(), rows.len(), "no event is stored twice");
        assert_vitals(&mut file, clock);
        let mut tally = Self {
            plan,
            made: 0,
            sent: 0,
            lost: BTreeMap::new(),
            lost_in_all: 0,
            dropped: 0,
            by_replay: 0,
            gaps_ms: Vec::new(),
            stories: Vec::new(),
        };
        for (index, watch) in clock.watches.iter().enumerate() {
            assert_eq!(watch.waiting(Kind::Event), 0, "{} has sent everything in the end", watch.serial());
            for item in watch.record().of(Kind::Event) {
                tally.made += 1;
                tally.sent += u64::from(item.sent);
                if stored.contains(&key(watch, item)) {
                    continue;
                }
                assert!(item.confirmed_ms.is_none(), "answered 200 and not stored: {item:?}");
                let trouble = plan.trouble(&clock.network, index, item.made_ms);
                *tally.lost.entry(trouble).or_default() += 1;
                tally.lost_in_all += 1;
                match item.left.map(|(_, why)| why) {
                    Some(Left::DroppedOldest) => tally.dropped += 1,
                    Some(Left::ClearedByReplay) => tally.by_replay += 1,
                    Some(Left::ClearedByLive) | None => {}
                }
                let gap = |ms| clock.network.gap_at(index, item.made_ms + ms);
                let gap = ON_ITS_WAY_MS.into_iter().find_map(gap);
                tally.gaps_ms.extend(gap.map(|gap| gap.until_ms - gap.from_ms));
                if tally.stories.len() < 3 {
                    tally.stories.push(story(clock, index, item, trouble));
                }
            }
        }
        assert_eq!(tally.made - tally.lost_in_all, rows.len(), "nothing is stored that no watch made");
        tally
    }

    pub fn print(&self) {
        let Plan { seed, guard_silence_s, gaps_only, .. } = self.plan;
        let troubles = if gaps_only { "gaps only" } else { "all troubles" };
        let guard = match guard_silence_s {
            None => "off".to_string(),
            Some(silence_s) => format!("on, silence {silence_s} s"),
        };
        figure(
            &format!("events lost by the watches' own clearing, {troubles}, ring guard {guard}, seed {seed}"),
            format!(
                "{} of {} {:?}, of these {} by full rings and {} by a finished replay",
                self.lost_in_all, self.made, self.lost, self.dropped, self.by_replay
            ),
        );
        figure(
            &format!("requests per event, {troubles}, ring guard {guard}, seed {seed}"),
            format!("{:.2}", self.sent as f64 / self.made as f64),
        );
    }
}

/// An emergency is in the log of alerts once, whether it came once or five times.
fn assert_alerted_once(file: &mut File) {
    let wrong = file.texts(
        "SELECT lower(hex(event_id)) AS value FROM event e \
         WHERE type_key IN ('sos_event', 'falldown_event', 'one_key_alarm') AND 1 != \
         (SELECT count(*) FROM alert_change c WHERE transition IN ('raised', 'repeated') AND \
          replace(c.cause, '-', '') = 'event:' || lower(hex(e.event_id)))",
    );
    assert!(wrong.is_empty(), "emergencies without exactly one alert: {wrong:?}");
}

/// Every health record that was answered 200 is in the file.
fn assert_vitals(file: &mut File, clock: &VirtualClock) {
    let rows = file.texts("SELECT device_sn || '|' || measured_ms AS value FROM vitals");
    let stored: HashSet<String> = rows.into_iter().collect();
    let answered = clock.watches.iter().flat_map(|watch| {
        let items = watch.record().of(Kind::Health).filter(|item| item.confirmed_ms.is_some());
        items.map(|item| format!("{}|{}", watch.serial(), utc_ms(&item.device_time)))
    });
    let missing: Vec<String> = answered.filter(|key| !stored.contains(key)).collect();
    assert!(missing.is_empty(), "{} health records, first {:?}", missing.len(), missing.first());
}

/// The lost event and the events of its watch around it.
fn story(clock: &VirtualClock, index: usize, lost: &Item, trouble: &str) -> String {
    let at = |ms: i64| format!("{:+.1}", (ms - lost.made_ms) as f64 / 1_000.0);
    let watch = &clock.watches[index];
    let mut lines = vec![format!("watch {index} lost, made in {trouble}; seconds from then:")];
    for item in watch.record().of(Kind::Event) {
        if (item.made_ms - lost.made_ms).abs() > 300_000 || lines.len() > STORY_LINES {
            continue;
        }
        let name = item.event.as_ref().map_or("", |(name, _)| name.rsplit('.').next().unwrap_or(name));
        lines.push(format!(
            "  {name} made {} ({}), sent {}, 200 {}, left {:?}",
            at(item.made_ms),
            clock
                .network
                .trouble_at(index, item.made_ms)
                .map_or("ok".into(), |trouble| format!("{trouble:?}")),
            item.sent,
            item.confirmed_ms.map_or("never".into(), at),
            item.left.map(|(ms, why)| (at(ms), why)),
        ));
    }
    lines.join("\n")
}
