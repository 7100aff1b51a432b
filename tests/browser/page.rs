//! One window of the browser: what a person can do, and what they would see.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testkit::DEADLINE;

use super::cdp::Browser;

pub struct Page {
    browser: Rc<RefCell<Browser>>,
    session: String,
    addr: SocketAddr,
}

impl Page {
    pub fn open(browser: &Rc<RefCell<Browser>>, addr: SocketAddr) -> Self {
        let session = {
            let mut browser = browser.borrow_mut();
            let context = browser.call("", "Target.createBrowserContext", json!({}));
            let target = json!({"url": "about:blank", "browserContextId": context["browserContextId"]});
            let target = browser.call("", "Target.createTarget", target);
            let attach = json!({"targetId": target["targetId"], "flatten": true});
            let attached = browser.call("", "Target.attachToTarget", attach);
            attached["sessionId"].as_str().expect("a session").to_owned()
        };
        let page = Self { browser: browser.clone(), session, addr };
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        // Each window believes that it is the one in front.
        page.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
        page.size(1440, 900);
        page.go("/");
        page
    }

    pub fn call(&self, method: &str, params: Value) -> Value {
        self.browser.borrow_mut().call(&self.session, method, params)
    }

    /// Runs a script in each document that this window loads from now on, before its own.
    pub fn before_load(&self, script: &str) {
        let source = format!("(() => {{ {script} }})()");
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source }));
    }

    /// Opens a path of the server and waits until it has loaded.
    pub fn go(&self, path: &str) {
        let url = format!("http://{}{path}", self.addr);
        // From one fragment to another nothing would be loaded.
        self.call("Page.navigate", json!({"url": "about:blank"}));
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        let loaded =
            format!("location.href.startsWith('http://{}') && document.readyState === 'complete'", self.addr);
        self.until("the page to load", &loaded);
    }

    /// Goes to another page of the screen, as its links do.
    pub fn show(&self, page: &str) {
        self.run(&format!("location.hash = '#/{page}'"));
    }

    pub fn reload(&self) {
        self.run("window.beforeReload = true");
        self.call("Page.reload", json!({}));
        self.until("the page to load again", "!window.beforeReload && document.readyState === 'complete'");
    }

    /// The value of an expression, promises awaited. The error is what it threw, or that the page went
    /// away meanwhile.
    fn try_eval(&self, expression: &str) -> Result<Value, String> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.browser.borrow_mut().try_call(&self.session, "Runtime.evaluate", params)?;
        match &answer["exceptionDetails"] {
            Value::Null => Ok(answer["result"]["value"].clone()),
            thrown => Err(thrown.to_string()),
        }
    }

    /// Waits for the browser to tell of `method` in this window; what it told.
    pub fn until_told(&self, method: &str) -> Value {
        let begun = Instant::now();
        loop {
            let told = self.browser.borrow().told(&self.session, method);
            if let Some(params) = told {
                return params;
            }
            assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} for {method}");
            // Takes in what the browser has told. The page itself may be held.
            self.browser.borrow_mut().call("", "Browser.getVersion", json!({}));
        }
    }

    pub fn eval(&self, expression: &str) -> Value {
        self.try_eval(expression).unwrap_or_else(|err| panic!("{expression}: {err}"))
    }

    pub fn run(&self, statement: &str) {
        self.eval(&format!("{{ {statement}; }}"));
    }

    pub fn holds(&self, condition: &str) -> bool {
        self.try_eval(condition).is_ok_and(|value| value == true)
    }

    /// Waits for a condition; how long it took.
    pub fn until(&self, what: &str, condition: &str) -> Duration {
        let begun = Instant::now();
        while !self.holds(condition) {
            if begun.elapsed() > DEADLINE {
                let text = self.try_eval("document.body.innerText").unwrap_or_default();
                panic!("waited {DEADLINE:?} for {what}: {condition}\nthe page says: {text}");
            }
            std::thread::park_timeout(Duration::from_millis(3));
        }
        begun.elapsed()
    }

    pub fn until_live(&self) {
        self.until("the page to be live", "document.querySelector('[data-link=live]') !== null");
    }

    pub fn until_seen(&self, selector: &str) -> Duration {
        self.until(selector, &seen(selector))
    }

    pub fn until_gone(&self, selector: &str) {
        self.until(&format!("{selector} to go"), &format!("!({})", seen(selector)));
    }

    /// What a person reads there.
    pub fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.innerText ?? ''", json!(selector)));
        text.as_str().unwrap_or_default().to_owned()
    }

    pub fn count(&self, selector: &str) -> u64 {
        let found = self.eval(&format!("document.querySelectorAll({}).length", json!(selector)));
        found.as_u64().expect("a count")
    }

    /// Clicks with the mouse, where a person would.
    pub fn click(&self, selector: &str) {
        self.until_seen(selector);
        let expression = format!(
            "(() => {{ const it = document.querySelector({}); it.scrollIntoView({{block: 'center'}}); \
             const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        );
        let at = self.eval(&expression);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses a key: a character, or `Enter`, `Escape`, `Tab`.
    pub fn press(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "Tab" => (9, ""),
            "?" => (191, "?"),
            "/" => (191, "/"),
            letter => (letter.to_uppercase().bytes().next().map_or(0, i64::from), letter),
        };
        let mut event = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code});
        if !text.is_empty() {
            event["text"] = text.into();
        }
        self.call("Page.bringToFront", json!({}));
        self.call("Input.dispatchKeyEvent", event);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}),
        );
    }

    pub fn type_into(&self, selector: &str, text: &str) {
        self.until_seen(selector);
        self.run(&format!("document.querySelector({}).focus()", json!(selector)));
        self.call("Input.insertText", json!({ "text": text }));
    }

    pub fn size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// `dark` or `light`, as the system says it.
    pub fn scheme(&self, scheme: &str) {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]});
        self.call("Emulation.setEmulatedMedia", feature);
        self.until("the theme", &format!("document.documentElement.dataset.theme === '{scheme}'"));
    }

    /// Keeps a picture in `target/screenshots`.
    pub fn picture(&self, name: &str) {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let data = answer["data"].as_str().expect("a picture");
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/screenshots"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let bytes = BASE64_STANDARD.decode(data).expect("base64");
        std::fs::write(folder.join(format!("{name}.png")), bytes).expect("room");
    }
}

fn seen(selector: &str) -> String {
    let selector = json!(selector);
    format!(
        "document.querySelector({selector})?.checkVisibility({{visibilityProperty: true, opacityProperty: true}}) === true"
    )
}
