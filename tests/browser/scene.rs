//! A server as a process, a browser, and watches that post.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::disk::Disk;
use testkit::process::{Process, admin_token, connect, request, request_as};

use super::cdp::Browser;
use super::page::Page;

pub struct Scene {
    pub dir: TempDir,
    pub server: Option<Process>,
    pub addr: SocketAddr,
    pub token: String,
    /// Where pictures may come from besides the server, and nothing else.
    tiles: Option<String>,
    killed: bool,
    browser: Rc<RefCell<Browser>>,
    watch: RefCell<Option<TcpStream>>,
}

/// A socket that was opened to a server which is gone before it answers.
const CUT_SHORT: &str = "Connection closed before receiving a handshake response";

impl Scene {
    pub fn start() -> Self {
        Self::begin(|dir| Process::start_with(dir, &[]), None)
    }

    /// With map tiles from `{origin}/tiles`.
    pub fn start_with_tiles(origin: &str) -> Self {
        let setting = format!("dashboard.tile_url={origin}/tiles/{{z}}/{{x}}/{{y}}.png");
        Self::begin(|dir| Process::start_with(dir, &[&setting]), Some(origin.to_owned()))
    }

    /// On a disk that can be made to fail.
    pub fn start_on(disk: &Disk) -> Self {
        Self::begin(|dir| disk.start(dir, &[]), None)
    }

    fn begin(start: impl FnOnce(&Path) -> Process, tiles: Option<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = start(dir.path());
        let token = admin_token(dir.path());
        let browser = Rc::new(RefCell::new(Browser::start()));
        let (addr, watch) = (server.addr, RefCell::new(None));
        Self { addr, server: Some(server), token, tiles, killed: false, dir, browser, watch }
    }

    /// A browser window of its own, with cookies of its own, at the start page.
    pub fn window(&self) -> Page {
        Page::open(&self.browser, self.addr)
    }

    /// A window that is signed in as the administrator and live.
    pub fn operator(&self) -> Page {
        self.operator_as(&self.token)
    }

    pub fn operator_as(&self, token: &str) -> Page {
        let page = self.window();
        Self::sign_in(&page, token);
        page
    }

    /// With the form that is there, or comes.
    pub fn sign_in(page: &Page, token: &str) {
        page.until("the form to sign in", "document.querySelector('#token') !== null");
        page.run(&format!("document.querySelector('#token').value = {}", json!(token)));
        page.click("form button[type=submit]");
        page.until_live();
    }

    /// Ends the server as a power cut would.
    pub fn kill(&mut self) {
        *self.watch.get_mut() = None;
        self.killed = true;
        self.server.take().expect("a server").kill();
    }

    /// A new process on the same file and address.
    pub fn restart(&mut self) {
        self.server = Some(Process::start_at(self.dir.path(), self.addr));
    }

    /// Sends what a watch sends; the answer, which must be 200.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let mut watch = self.watch.borrow_mut();
        let stream = watch.get_or_insert_with(|| connect(self.addr).expect("a connection"));
        let answer = request(stream, &format!("POST {path}"), &body.to_string());
        let (status, text) = answer.expect("an answer");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// An SOS as a watch sends it now; the id of its alert.
    pub fn sos(&self, serial: &str) -> String {
        let answer = self.post("/upload_common_event", &sos(serial));
        answer["alert_id"].as_str().expect("an alert").to_owned()
    }

    /// A REST request as the administrator; status and body.
    pub fn rest(&self, head: &str, body: &Value) -> (u16, Value) {
        let mut stream = connect(self.addr).expect("a connection");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = request_as(&mut stream, &self.token, head, &body).expect("an answer");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub fn bind(&self, serial: &str, person: &str, org: &str) {
        let body = json!({"customer_id": "7", "org_id": org, "org_name": org, "person_id": serial, "person_name": person});
        let (status, answer) = self.rest(&format!("PUT /api/v1/devices/{serial}/binding"), &body);
        assert_eq!(status, 200, "{answer}");
    }

    /// The token of another operator.
    pub fn token_of(&self, name: &str) -> String {
        let (status, answer) = self.rest("POST /api/v1/tokens", &json!({ "name": name }));
        assert_eq!(status, 201, "{answer}");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// From now on the token of that name is nobody's.
    pub fn revoke(&self, name: &str) {
        let (_, tokens) = self.rest("GET /api/v1/tokens", &Value::Null);
        let mut tokens = tokens["items"].as_array().expect("tokens").iter();
        let token = tokens.find(|token| token["name"] == name).expect("a token of that name");
        let id = token["token_id"].as_str().expect("an id");
        assert_eq!(self.rest(&format!("DELETE /api/v1/tokens/{id}"), &Value::Null).0, 204);
    }

    /// Every complaint of the browser in any window since the start, one a line.
    fn complaints(&self) -> Vec<String> {
        let own = format!("http://{}/", self.addr);
        let events = self.browser.borrow_mut().take_events();
        let is_tile = |event: &&Value| {
            let (params, tiles) = (&event["params"], self.tiles.as_deref());
            let url = params["request"]["url"].as_str().unwrap_or_default();
            params["type"] == "Image" && tiles.is_some_and(|tiles| url.starts_with(tiles))
        };
        let mut found: Vec<String> = events
            .iter()
            .filter(|event| !is_tile(event))
            .filter_map(|event| complaint(event, &own))
            .collect();
        // A killed server's listener may outlive its connections by a moment.
        found.retain(|line| !(self.killed && line.contains(CUT_SHORT)));
        found
    }
}

/// Every test ends here.
impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let complaints = self.complaints();
            assert!(complaints.is_empty(), "the browser complains:\n  {}", complaints.join("\n  "));
        }
    }
}

/// What is wrong about an event, if anything. That an answer was 401 or 409 or that the server was
/// away is the network's own note on what the tests do.
fn complaint(event: &Value, own: &str) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(format!("exception: {}", params["exceptionDetails"])),
        "Runtime.consoleAPICalled" if ["error", "assert", "warning"].contains(&params["type"].as_str()?) => {
            Some(format!("console: {}", params["args"]))
        }
        "Log.entryAdded" if params["entry"]["level"] == "error" => {
            let text = params["entry"]["text"].as_str().unwrap_or_default();
            let expected = [
                "status of 401",
                "status of 409",
                "ERR_CONNECTION_REFUSED",
                "ERR_CONNECTION_RESET",
                "ERR_EMPTY_RESPONSE",
            ];
            let network =
                params["entry"]["source"] == "network" || text.starts_with("WebSocket connection to");
            let known = network && expected.iter().any(|part| text.contains(part));
            (!known).then(|| format!("log: {text} {}", params["entry"]["url"]))
        }
        "Audits.issueAdded" if params["issue"]["code"] == "ContentSecurityPolicyIssue" => {
            Some(format!("content security policy: {}", params["issue"]["details"]))
        }
        "Network.requestWillBeSent" => {
            let url = params["request"]["url"].as_str()?;
            let inside = url.starts_with(own) || url.starts_with("data:") || url.starts_with("blob:");
            (!inside && url != "about:blank").then(|| format!("request elsewhere: {url}"))
        }
        "Network.webSocketCreated" => {
            let url = params["url"].as_str()?;
            (!url.starts_with(&own.replacen("http", "ws", 1))).then(|| format!("socket elsewhere: {url}"))
        }
        _ => None,
    }
}

/// What a watch sends when its wearer presses the button, now, with what it measured.
pub fn sos(serial: &str) -> Value {
    let at = now();
    json!({
        "eventType": "com.tdtech.ohos.health.action.SOS_EVENT", "eventValue": serial, "deviceSn": serial,
        "customerId": "0", "orgId": "", "userId": "", "timestamp": at,
        "latitude": 22.540363, "longitude": 114.015181, "altitude": 0.0,
        "healthData": {"data": {"deviceSn": serial, "heart_rate": 118, "blood_oxygen": 93,
            "body_temperature": "36.9", "upload_method": "common_event", "timestamp": at}},
    })
}

/// The wall clock of a watch.
pub fn now() -> String {
    ago(0)
}

/// That wall clock so many minutes ago.
pub fn ago(minutes: i64) -> String {
    let at = chrono::Utc::now() + chrono::TimeDelta::hours(8) - chrono::TimeDelta::minutes(minutes);
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// An event of a watch, now.
pub fn event(serial: &str, event_type: &str) -> Value {
    json!({"eventType": event_type, "eventValue": "1", "deviceSn": serial, "timestamp": now()})
}

/// The same body with another value of one key.
pub fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}
