//! Watches that post until they are answered 200, as watches do, and an operator at work.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use awc::http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::bodies::{EVENTS, HEALTH, SOS, WEAR, event, heart_rate};
use testkit::{DEADLINE, TestApp, eventually};
use watchpost::domain::ids::DeviceSn;
use watchpost::ingest::router::shard_index;

/// Watches of each shard; the first of each is bound.
const PER_SHARD: usize = 3;
pub const SHARDS: usize = 2;
/// Between a report and the next: a load, not a flood.
const PAUSE: Duration = Duration::from_millis(15);
/// What a watch waits before it sends the same again. Real ones take 120 s.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Events that the server remembers of a device, and some: older ones it has to look up.
const REMEMBERED: i64 = 140;

/// What was answered 200.
#[derive(Default)]
pub struct Answered {
    pub events: Vec<String>,
    /// Serial and device time, milliseconds since 1970.
    pub vitals: Vec<String>,
    /// Causes of operators' actions.
    pub actions: Vec<String>,
}

#[derive(Default)]
struct Shared {
    paused: Cell<bool>,
    /// Tasks in the middle of a report.
    busy: Cell<usize>,
    answered: RefCell<Answered>,
    reports: Cell<usize>,
    refused: Cell<usize>,
}

pub struct Load {
    shared: Rc<Shared>,
    tasks: Vec<actix_web::rt::task::JoinHandle<()>>,
}

#[derive(Clone)]
struct Sender {
    base: String,
    admin: String,
    client: awc::Client,
    shared: Rc<Shared>,
}

/// A serial of that shard.
pub fn serial(prefix: &str, shard: usize, number: usize) -> String {
    let of_shard = |name: &String| shard_index(&DeviceSn::parse(name).expect("a serial"), SHARDS) == shard;
    (0..).map(|n| format!("{prefix}{n}")).filter(of_shard).nth(number).expect("endless")
}

impl Load {
    /// Binds some of the watches and begins to post.
    pub async fn start(app: &TestApp) -> Self {
        let shared = Rc::new(Shared::default());
        let sender = || Sender {
            base: app.url(""),
            admin: app.admin.clone(),
            client: awc::Client::builder().timeout(DEADLINE).finish(),
            shared: shared.clone(),
        };
        let mut tasks = Vec::new();
        for shard in 0..SHARDS {
            app.bind(&serial("W", shard, 0), &json!({"customer_id": "7"})).await;
            for number in 0..PER_SHARD {
                tasks.push(actix_web::rt::spawn(sender().watch(serial("W", shard, number))));
            }
        }
        let old: Vec<Value> = (0..REMEMBERED).map(|n| event("OLD", "BOOT", "1", -80_000 + n)).collect();
        app.stored("/batch/upload_common_event", &json!(old)).await;
        tasks.push(actix_web::rt::spawn(sender().late_watch()));
        let rule = json!({ "rule_id": "door", "name": "Door", "severity": "low",
                           "condition": { "kind": "event", "event_type": "DOOR" } });
        let made = app.api(Method::POST, "/api/v1/rules", Some(&rule)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        tasks.push(actix_web::rt::spawn(sender().operator()));
        Self { shared, tasks }
    }

    pub fn answered(&self) -> std::cell::Ref<'_, Answered> {
        self.shared.answered.borrow()
    }

    pub fn refused(&self) -> usize {
        self.shared.refused.get()
    }

    /// Waits until so many more were answered 200.
    pub async fn progress(&self, reports: usize) {
        let goal = self.shared.reports.get() + reports;
        let what = format!("{reports} more reports are answered 200");
        eventually(&what, || async { (self.shared.reports.get() >= goal).then_some(()) }).await;
    }

    /// Waits until every report that was begun has been answered 200, and begins no more.
    pub async fn pause(&self) {
        self.shared.paused.set(true);
        eventually("every report is answered 200 in the end", || async {
            (self.shared.busy.get() == 0).then_some(())
        })
        .await;
    }

    pub fn resume(&self) {
        self.shared.paused.set(false);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|task| task.abort());
    }
}

impl Sender {
    /// Between two reports: here it can be paused.
    async fn begin(&self) {
        actix_web::rt::time::sleep(PAUSE).await;
        while self.shared.paused.get() {
            actix_web::rt::time::sleep(RETRY_PAUSE).await;
        }
        self.shared.busy.set(self.shared.busy.get() + 1);
    }

    fn end(&self) {
        self.shared.busy.set(self.shared.busy.get() - 1);
        self.shared.reports.set(self.shared.reports.get() + 1);
    }

    async fn once(&self, method: &Method, path: &str, body: &[u8]) -> Option<(StatusCode, Value)> {
        let request = self.client.request(method.clone(), format!("{}{path}", self.base));
        let request = request.bearer_auth(&self.admin).content_type("application/json");
        let mut response = request.send_body(body.to_vec()).await.ok()?;
        let bytes = response.body().limit(16 << 20).await.ok()?;
        Some((response.status(), serde_json::from_slice(&bytes).ok()?))
    }

    /// The same bytes until the answer is one of `final_codes`.
    async fn until(&self, method: Method, path: &str, body: &Value, final_codes: &[u16]) -> (u16, Value) {
        let (begun, bytes) = (Instant::now(), body.to_string().into_bytes());
        loop {
            match self.once(&method, path, &bytes).await {
                Some((status, answer)) if final_codes.contains(&status.as_u16()) => {
                    return (status.as_u16(), answer);
                }
                Some((status, answer)) => {
                    assert!(status.is_server_error(), "{path} {body} was answered {status}: {answer}");
                }
                // The connection was lost.
                None => {}
            }
            self.shared.refused.set(self.shared.refused.get() + 1);
            assert!(begun.elapsed() < DEADLINE, "{path} {body} is answered 200 within {DEADLINE:?}");
            actix_web::rt::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn event(&self, body: &Value) {
        let (_, answer) = self.until(Method::POST, EVENTS, body, &[200]).await;
        let event_id = answer["event_id"].as_str().unwrap_or_else(|| panic!("{body} got {answer}"));
        if body["eventType"] == SOS {
            assert!(answer["alert_id"].is_string(), "an SOS has an alert: {answer}");
        }
        self.shared.answered.borrow_mut().events.push(event_id.to_owned());
    }

    /// SOS, wearing, something ordinary, vital signs; now and then of a watch that is new.
    async fn watch(self, sn: String) {
        for number in 0i64.. {
            self.begin().await;
            let at = -70_000 + number;
            match number % 6 {
                0 | 3 => self.event(&event(&sn, SOS, &sn, at)).await,
                1 => self.event(&event(&sn, WEAR, if number % 12 == 1 { "0" } else { "1" }, at)).await,
                2 => self.event(&event(&sn, "CALL_STATE", "1", at)).await,
                4 => {
                    let record = heart_rate(&sn, at, 70);
                    self.until(Method::POST, HEALTH, &record, &[200]).await;
                    let measured_ms = testkit::bodies::EXAMPLE_MS + at * 1_000;
                    self.shared.answered.borrow_mut().vitals.push(format!("{sn} {measured_ms}"));
                }
                _ => self.event(&event(&format!("{sn}-{number}"), "BOOT", "1", at)).await,
            }
            self.end();
        }
    }

    /// Comes out of a cellar: each of its events is older than all that the server remembers.
    async fn late_watch(self) {
        for number in 1i64.. {
            self.begin().await;
            self.event(&event("OLD", "BOOT", "1", -80_000 - number)).await;
            self.end();
        }
    }

    /// Takes care of alerts and changes a rule.
    async fn operator(self) {
        for number in 0usize.. {
            self.begin().await;
            match number % 3 {
                0 => self.change_rule(number).await,
                kind => self.act(if kind == 1 { "acknowledge" } else { "resolve" }, number).await,
            }
            self.end();
        }
    }

    async fn change_rule(&self, number: usize) {
        let path = "/api/v1/rules/door";
        let (_, mut rule) = self.until(Method::GET, path, &Value::Null, &[200]).await;
        rule["severity"] = json!(if number.is_multiple_of(2) { "low" } else { "medium" });
        // 409: an earlier try was stored and its answer lost.
        self.until(Method::PUT, path, &rule, &[200, 409]).await;
    }

    async fn act(&self, action: &str, number: usize) {
        let open = "/api/v1/alerts?open=true&limit=1";
        let (_, found) = self.until(Method::GET, open, &Value::Null, &[200]).await;
        let Some(alert_id) = found["items"][0]["alert_id"].as_str() else { return };
        let command_id = format!("command-{number}");
        let path = format!("/api/v1/alerts/{alert_id}/{action}");
        let (status, _) =
            self.until(Method::POST, &path, &json!({"command_id": command_id}), &[200, 404, 409]).await;
        if status == 200 {
            self.shared.answered.borrow_mut().actions.push(format!("action:{command_id}"));
        }
    }
}
