//! One watch: a value that is told the time and the answers, and hands out requests.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use crate::body::{Body, wall_clock};
use crate::exchange::{Answer, Method, Purpose, Request, RequestId};
use crate::occurrence::{Chance, Filter, Occurrence};
use crate::profile::Profile;
use crate::record::{Kind, Left, Record};
use crate::ring::{Ring, Waiting};
use crate::settings::Settings;
use crate::timer::Timer;

/// For every upload, in milliseconds.
pub(crate) const UPLOAD_TIMEOUT_MS: i64 = 10_000;
/// For the settings, in milliseconds.
const SETTINGS_TIMEOUT_MS: i64 = 2_000;
/// The change of the wear state is reported this long after its event begins, in milliseconds.
const WEAR_REPORT_AFTER_MS: i64 = 200;
/// From the start until there is a pulse, in milliseconds.
const FIRST_PULSE_AFTER_MS: i64 = 10_000;

/// An upload that a thread of its own makes, once it comes to it.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    kind: Kind,
    waiting: Waiting,
}

/// A smart-watch without a clock and without I/O. Times are milliseconds since 1970.
///
/// Call [`Watch::advance`] when [`Watch::wakes_at`] has come, send what [`Watch::next_request`] hands
/// out, and give each of these requests exactly one [`Watch::answer`], in whichever order they come.
/// Time never goes back. The same seed and the same calls make the same watch.
#[derive(Debug, Clone)]
pub struct Watch {
    pub(crate) profile: Profile,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now_ms: i64,
    /// In force since the start of the service.
    pub(crate) settings: Settings,
    pub(crate) rings: [Ring; 3],
    pub(crate) record: Record,
    pub(crate) body: Body,
    pub(crate) timer: Timer,
    /// False until there are settings that allow uploads over HTTP.
    pub(crate) is_running: bool,
    settings_request: Option<RequestId>,
    settings_next_ms: i64,
    filter: Filter,
    chance: Chance,
    /// Threads that wait for an answer: the items of the request, and what comes after it.
    threads: BTreeMap<RequestId, (Upload, VecDeque<Upload>)>,
    /// Threads that begin later.
    delayed: Vec<(i64, Upload)>,
    outbox: VecDeque<Request>,
    requests: u64,
}

impl Watch {
    /// A watch whose app starts at `start_ms`. Its first request asks for the settings.
    pub fn new(profile: Profile, seed: u64, start_ms: i64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let settings = Settings::default();
        Self {
            rings: [0; 3].map(|_| Ring::new(settings.cache_max_count)),
            body: Body::new(&profile, start_ms + profile.clock_offset_ms + FIRST_PULSE_AFTER_MS, &mut rng),
            chance: Chance::new(profile.rates, start_ms, &mut rng),
            now_ms: start_ms,
            record: Record::default(),
            timer: Timer::new(start_ms),
            is_running: false,
            settings_request: None,
            settings_next_ms: start_ms,
            filter: Filter::default(),
            threads: BTreeMap::new(),
            delayed: Vec::new(),
            outbox: VecDeque::new(),
            requests: 0,
            profile,
            rng,
            settings,
        }
    }

    pub fn serial(&self) -> &str {
        &self.profile.serial
    }

    /// What it has made so far, and what became of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// How many items of a kind wait in their ring.
    pub fn waiting(&self, kind: Kind) -> usize {
        self.rings[kind.index()].len()
    }

    /// Nothing happens to its wearer by itself any more; uploads go on.
    pub fn quieten(&mut self) {
        self.chance.stop();
    }

    /// When it has to do something next, if no answer comes before.
    pub fn wakes_at(&self) -> i64 {
        let settings = self.settings_request.is_none().then_some(self.settings_next_ms);
        let timer = self.is_running.then(|| self.timer.wakes_at()).flatten();
        let delayed = self.delayed.iter().map(|(at_ms, _)| *at_ms);
        let own = [settings, timer, self.chance.next_ms()].into_iter().flatten();
        own.chain(delayed).min().unwrap_or(i64::MAX)
    }

    /// Does what is due. May be called too early or too late.
    pub fn advance(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.settings_request.is_none() && self.settings_next_ms <= self.now_ms {
            self.ask_for_settings();
        }
        while let Some(occurrence) = self.chance.take(self.now_ms, self.body.worn, &mut self.rng) {
            self.occur(occurrence);
        }
        let (due, later) =
            mem::take(&mut self.delayed).into_iter().partition(|(at_ms, _)| *at_ms <= self.now_ms);
        self.delayed = later;
        for (_, upload) in Vec::from_iter::<Vec<(i64, Upload)>>(due) {
            self.run_thread(VecDeque::from([upload]));
        }
        self.run_timer();
    }

    /// Makes something happen to the watch.
    pub fn happen(&mut self, now_ms: i64, occurrence: Occurrence) {
        self.now_ms = self.now_ms.max(now_ms);
        self.occur(occurrence);
    }

    /// The body of one upload with what it measured at these times, in milliseconds since 1970 and in
    /// order, as it comes from a watch that was without coverage. It is in no ring and no record: the
    /// caller posts it to `/upload_health_data`.
    pub fn late_records(&mut self, times_ms: impl IntoIterator<Item = i64>) -> String {
        let mut records = Vec::new();
        for time_ms in times_ms {
            let clock_ms = time_ms + self.profile.clock_offset_ms;
            self.body.has_pulse_since(clock_ms);
            records.push(self.body.record(clock_ms, &self.settings, &mut self.rng).0.to_string());
        }
        format!("{{\"data\":[{}]}}", records.join(","))
    }

    /// The same for something that happened, for `/upload_common_event`.
    pub fn late_event(&mut self, time_ms: i64, occurrence: Occurrence) -> String {
        let clock_ms = time_ms + self.profile.clock_offset_ms;
        self.body.has_pulse_since(clock_ms);
        let value = occurrence.value(&self.profile.serial, &mut self.rng);
        self.body.event((&occurrence.event_type(), &value), clock_ms, &self.settings, &mut self.rng)
    }

    /// Goes on from what another watch measured last, as the same wrist with another battery.
    pub fn go_on_from(&mut self, past: &Self) {
        self.body.go_on_from(&past.body);
    }

    /// The next request to send, oldest first.
    pub fn next_request(&mut self) -> Option<Request> {
        self.outbox.pop_front()
    }

    /// How a request ended. What a request of another watch or an unknown one got is ignored.
    pub fn answer(&mut self, now_ms: i64, id: RequestId, answer: &Answer) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.settings_request == Some(id) {
            self.settings_request = None;
            self.take_settings(answer);
        } else if let Some((upload, rest)) = self.threads.remove(&id) {
            if answer.is_ok() {
                self.record.confirmed(&[upload.waiting.item], self.now_ms);
                self.clear(upload.kind, Left::ClearedByLive);
            }
            self.run_thread(rest);
        } else {
            self.timer_answer(id, answer);
        }
        self.run_timer();
    }

    /// What the watch's own clock shows.
    pub(crate) fn clock_ms(&self) -> i64 {
        self.now_ms + self.profile.clock_offset_ms
    }

    fn ask_for_settings(&mut self) {
        let target = format!("/fetch_health_data_config?customer_id=0&deviceSn={}", self.profile.serial);
        let id = self.send(Purpose::Settings, target, None, SETTINGS_TIMEOUT_MS, Vec::new());
        self.settings_request = Some(id);
    }

    /// A failure falls back to the settings at hand. Another status than 200 does not: without a
    /// service before, there is none until the next try.
    fn take_settings(&mut self, answer: &Answer) {
        let fetched = match answer {
            Answer::Status { status: 200, body } => Settings::parse(body).ok(),
            Answer::Status { .. } => {
                self.settings_next_ms = self.now_ms + seconds(self.settings.settings_interval_s);
                return;
            }
            Answer::Failed => None,
        };
        // Changes apply after a restart of the app.
        if !self.is_running {
            let settings = fetched.unwrap_or_else(|| self.settings.clone());
            self.start(settings);
        }
        self.settings_next_ms = self.now_ms + seconds(self.settings.settings_interval_s);
    }

    fn start(&mut self, mut settings: Settings) {
        if let Some(interval_s) = self.profile.health_interval_s {
            settings.health_interval_s = interval_s;
        }
        self.is_running = settings.upload_method == "wifi";
        self.rings = [0; 3].map(|_| Ring::new(settings.cache_max_count));
        self.settings = settings;
        self.timer = Timer::new(self.now_ms);
        if self.is_running {
            self.occur(Occurrence::Boot);
        }
    }

    fn occur(&mut self, occurrence: Occurrence) {
        if let Occurrence::Wear(worn) = occurrence {
            self.body.worn = worn;
        }
        if !self.is_running {
            return;
        }
        let (clock_ms, event_type) = (self.clock_ms(), occurrence.event_type());
        if occurrence == Occurrence::Fall && !self.profile.sends_falls {
            self.filter.hold_unsent(&event_type);
            return;
        }
        let value = occurrence.value(&self.profile.serial, &mut self.rng);
        if !self.filter.passes(&event_type, &value, &self.profile.serial, clock_ms) {
            self.record.suppressed += 1;
            return;
        }
        let json = self.body.event((&event_type, &value), clock_ms, &self.settings, &mut self.rng);
        let event = self.make(Kind::Event, Some((event_type, value)), json);
        if !matches!(occurrence, Occurrence::Wear(_)) {
            return self.run_thread(VecDeque::from([event]));
        }
        let before = self.body.device(clock_ms, &self.settings, true);
        let before = self.make(Kind::Device, None, before);
        let after = self.body.device(clock_ms + WEAR_REPORT_AFTER_MS, &self.settings, false);
        let after = self.make(Kind::Device, None, after);
        self.delayed.push((self.now_ms + WEAR_REPORT_AFTER_MS, after));
        self.run_thread(VecDeque::from([before, event]));
    }

    fn make(&mut self, kind: Kind, event: Option<(String, String)>, json: String) -> Upload {
        let time = wall_clock(self.clock_ms());
        let item = self.record.add(kind, self.now_ms, time, event);
        Upload { kind, waiting: Waiting { item, json } }
    }

    /// A fresh thread makes its uploads one after the other, whatever becomes of each.
    fn run_thread(&mut self, mut uploads: VecDeque<Upload>) {
        let Some(upload) = uploads.pop_front() else { return };
        let id = self.upload_live(upload.kind, &upload.waiting);
        self.threads.insert(id, (upload, uploads));
    }

    /// Into the ring first, then onto the network.
    pub(crate) fn upload_live(&mut self, kind: Kind, waiting: &Waiting) -> RequestId {
        if let Some(dropped) = self.rings[kind.index()].push(waiting.clone()) {
            self.record.left(&[dropped], self.now_ms, Left::DroppedOldest);
        }
        let purpose = match kind {
            Kind::Health => Purpose::Health,
            Kind::Device => Purpose::Device,
            Kind::Event => Purpose::Event,
        };
        let json = match kind {
            Kind::Health => format!("{{\"data\":{}}}", waiting.json),
            Kind::Device | Kind::Event => waiting.json.clone(),
        };
        self.post(purpose, json, vec![waiting.item])
    }

    pub(crate) fn post(&mut self, purpose: Purpose, json: String, items: Vec<usize>) -> RequestId {
        let target = match purpose {
            Purpose::Health | Purpose::HealthBatch => self.settings.health_path.clone(),
            Purpose::Device | Purpose::DeviceReplay => self.settings.device_path.clone(),
            Purpose::Reply => format!("{}/send", self.settings.message_path),
            _ => self.settings.event_path.clone(),
        };
        self.send(purpose, target, Some(json), UPLOAD_TIMEOUT_MS, items)
    }

    pub(crate) fn send(
        &mut self,
        purpose: Purpose,
        target: String,
        body: Option<String>,
        timeout_ms: i64,
        items: Vec<usize>,
    ) -> RequestId {
        let id = RequestId(self.requests);
        self.requests += 1;
        self.record.sent(&items);
        let authorization = self.settings.authorization.clone();
        let method = if body.is_some() { Method::Post } else { Method::Get };
        self.outbox.push_back(Request {
            id,
            purpose,
            method,
            target,
            authorization,
            body,
            timeout_ms,
            items,
        });
        id
    }

    /// A 200 empties the whole ring, also of what was never sent.
    pub(crate) fn clear(&mut self, kind: Kind, why: Left) {
        let items = self.rings[kind.index()].clear();
        self.record.left(&items, self.now_ms, why);
    }
}

pub(crate) fn seconds(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 2_000).min(i64::MAX / 2_000) * 1_000
}
