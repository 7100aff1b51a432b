//! How a simulated watch behaves, one test per habit.

mod clocks;
mod events;
mod rings;
mod settings;
mod timer;

use serde_json::{Value, json};
use watch_simulator::{Answer, Profile, Purpose, Request, Watch};

/// 2025-09-10 13:05:30 in Shanghai.
pub const START_MS: i64 = 1_757_480_730_000;
pub const SERIAL: &str = "CRFTQ23409001890";

/// Settings of which everything but the given keys is as a server sends it.
pub fn settings(health_s: u64, device_s: u64, message_s: u64) -> Value {
    let entry = |path: &str, s: u64| json!(format!("http://10.0.0.10:5001{path};{s};1;DEMO_API;Basic eHl6"));
    json!({
        "customer_name": "x", "customer_id": "1939964806110937090", "org_id": 7, "upload_method": "wifi",
        "enable_resume": 1, "upload_retry_count": 3, "cache_max_count": 100, "upload_retry_interval": 5,
        "is_support_license": 0, "license_key": 400, "health_data": {"heart_rate": "20:1:1:100.0:60.0:5"},
        "interface_data": {
            "平台消息交互接口": entry("/DeviceMessage", message_s), "事件上传接口": entry("/upload_common_event", 5),
            "设备信息上传接口": entry("/upload_device_info", device_s),
            "健康数据上传接口": entry("/upload_health_data", health_s),
            "配置获取接口": entry("/fetch_health_data_config", 36_000),
        },
    })
}

pub fn ok(body: &Value) -> Answer {
    Answer::Status { status: 200, body: body.to_string().into_bytes() }
}

/// A watch and the requests that nobody has answered yet.
pub struct World {
    pub watch: Watch,
    pub now_ms: i64,
    pub open: Vec<Request>,
}

impl World {
    /// Everything it does at its start is over and was answered 200; the boot event too.
    pub fn with(profile: Profile, settings: &Value) -> Self {
        let mut world = Self { watch: Watch::new(profile, 1, START_MS), now_ms: START_MS, open: Vec::new() };
        world.pass(0);
        let request = world.take(Purpose::Settings);
        world.reply(&request, &ok(settings));
        while let Some(request) = world.open.first().cloned() {
            world.open.remove(0);
            world.reply(&request, &Answer::status(200));
        }
        world
    }

    /// No regular uploads within the first hours.
    pub fn quiet() -> Self {
        Self::with(Profile::new(SERIAL), &settings(36_000, 36_000, 36_000))
    }

    /// Lets time pass, and collects what the watch sends.
    pub fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        loop {
            self.now_ms = self.watch.wakes_at().clamp(self.now_ms, end_ms);
            self.watch.advance(self.now_ms);
            self.collect();
            if self.watch.wakes_at() > end_ms {
                break;
            }
        }
        self.now_ms = end_ms;
    }

    pub fn collect(&mut self) {
        self.open.extend(std::iter::from_fn(|| self.watch.next_request()));
    }

    pub fn reply(&mut self, request: &Request, answer: &Answer) {
        self.watch.answer(self.now_ms, request.id, answer);
        self.collect();
    }

    /// The only open request of a purpose.
    #[track_caller]
    pub fn take(&mut self, purpose: Purpose) -> Request {
        let found: Vec<usize> = (0..self.open.len()).filter(|at| self.open[*at].purpose == purpose).collect();
        assert_eq!(found.len(), 1, "one {purpose:?} of {:?}", self.purposes());
        self.open.remove(found[0])
    }

    /// Answers the only open request of a purpose with a status without a body.
    #[track_caller]
    pub fn finish(&mut self, purpose: Purpose, status: u16) -> Request {
        let request = self.take(purpose);
        self.reply(&request, &Answer::status(status));
        request
    }

    pub fn happen(&mut self, occurrence: watch_simulator::Occurrence) {
        self.watch.happen(self.now_ms, occurrence);
        self.collect();
    }

    pub fn purposes(&self) -> Vec<Purpose> {
        self.open.iter().map(|request| request.purpose).collect()
    }
}

pub fn body(request: &Request) -> Value {
    serde_json::from_str(request.body.as_deref().expect("a body")).expect("JSON")
}
