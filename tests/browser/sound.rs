//! The alarm: what leaves the page, and the warning while the browser lets nothing out.

use serde_json::json;

use super::page::Page;
use super::scene::Scene;

/// An ear at the exit of the browser's own sound, and a list of what repeats every 1.6 s.
const EAR: &str = r"
    window.contexts = [];
    window.repeating = new Set();
    const Sound = window.AudioContext;
    window.AudioContext = class extends Sound {
        constructor() { super(); this.ear = this.createAnalyser(); window.contexts.push(this); }
    };
    const connect = AudioNode.prototype.connect;
    AudioNode.prototype.connect = function (to, ...rest) {
        if (to === this.context.destination) connect.call(this, this.context.ear);
        return connect.call(this, to, ...rest);
    };
    window.loudness = () => Math.max(0, ...window.contexts.map(({ ear }) => {
        const samples = new Float32Array(ear.fftSize);
        ear.getFloatTimeDomainData(samples);
        return Math.max(...samples.map(Math.abs));
    }));
    const begin = window.setInterval;
    window.setInterval = (run, ms, ...rest) => {
        const timer = begin(run, ms, ...rest);
        if (ms === 1600) window.repeating.add(timer);
        return timer;
    };
    const end = window.clearInterval;
    window.clearInterval = (timer) => { window.repeating.delete(timer); end(timer); };
";
const HEARD: &str = "window.loudness() > 0.01";

/// A window that is signed in and that nobody has touched.
fn untouched(scene: &Scene) -> Page {
    let page = scene.window();
    page.before_load(EAR);
    let credentials = json!({"token": scene.token}).to_string();
    page.eval(&format!(
        "fetch('/api/v1/session', {{method: 'POST', headers: {{'content-type': 'application/json'}}, \
         body: {}}}).then((answer) => {{ localStorage.setItem('watchpost.signed_in', 'true'); return answer.status; }})",
        json!(credentials)
    ));
    page.reload();
    page.until_live();
    page
}

#[test]
fn a_page_that_may_not_be_heard_says_so_until_it_is_and_then_the_alarm_sounds() {
    let scene = Scene::start();
    let page = untouched(&scene);
    page.until_seen(".banner.sound");
    assert!(page.text(".banner.sound").contains("alarms are silent"), "{}", page.text(".banner.sound"));
    scene.sos("W1");
    page.until_seen("dialog.popup[data-armed]");
    // The bar is behind the pop-up, which is all that a phone shows.
    assert!(page.text("dialog.popup .muted").contains("alarms are silent"));
    // What no person does is no permission: the browser keeps the page silent.
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'x'}))");
    page.until("a context", "window.contexts.length === 1");
    assert_eq!(page.eval("window.contexts[0].state"), "suspended");
    assert_eq!(page.count(".banner.sound"), 1);

    page.press("x");
    page.until("the browser to let it sound", "window.contexts[0].state === 'running'");
    page.until_gone(".banner.sound");
    page.until_gone("dialog.popup .muted");
    page.until("the alarm to be heard", HEARD);
    // Put aside, the emergency still waits, and the alarm goes on.
    page.press("Escape");
    page.until_gone("dialog.popup");
    assert_eq!(page.eval("window.repeating.size"), 1);
    page.until("the alarm to be heard", HEARD);
    page.click(".emergency .act button");
    page.until_gone(".emergency");
    assert_eq!(page.eval("window.repeating.size"), 0);
    page.until("silence", "window.loudness() === 0");
}

#[test]
fn sound_that_was_switched_off_stays_off_and_the_page_says_so() {
    let scene = Scene::start();
    let page = untouched(&scene);
    page.click(".tools [aria-pressed]");
    page.until(
        "the page to say so",
        "document.querySelector('.banner.sound')?.innerText.includes('Sound is off')",
    );
    scene.sos("W1");
    page.until_seen("dialog.popup[data-armed]");
    assert_eq!(page.eval("window.repeating.size"), 0);
    page.reload();
    page.until_live();
    assert!(page.text(".banner.sound").contains("Sound is off"));
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_gone("dialog.popup");
    page.click(".banner.sound button");
    page.until_gone(".banner.sound");
    page.until("the alarm to be heard", HEARD);
}
