//! An emergency on the screen, and what is done about it.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::DEADLINE;
use testkit::scale::figure;
use testkit::truth::File;

use super::page::Page;
use super::scene::{Scene, ago, sos};

/// An SOS must be on the screen within one second; ten times that on a machine with other work.
const POP_UP_MAX: Duration = Duration::from_secs(10);

fn state_of(scene: &Scene, alert: &str) -> Value {
    scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null).1["state"].clone()
}

#[test]
fn an_sos_pops_up_is_confirmed_as_shown_and_is_acknowledged_by_keyboard() {
    let scene = Scene::start();
    scene.bind("CRFTQ23409001890", "Li Wei", "North shaft");
    let page = scene.operator();
    let begun = Instant::now();
    let alert = scene.sos("CRFTQ23409001890");
    let answered = begun.elapsed();
    page.until_seen(&format!("dialog.popup[data-popup='{alert}']"));
    let seen = begun.elapsed();
    figure("an SOS posted, its answer, ms", answered.as_millis());
    figure("an SOS posted, its pop-up visible, ms", seen.as_millis());
    assert!(seen < POP_UP_MAX, "{seen:?}");
    let text = page.text("dialog.popup");
    for part in ["SOS", "Li Wei", "North shaft", "22.54036", "118 bpm", "93 %", "36.9 °C"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(page.eval("document.title").as_str().is_some_and(|title| title.starts_with("(1) EMERGENCY")));
    assert!(page.eval("document.activeElement.matches('dialog.popup')") == true, "the pop-up has the focus");

    let mut file = File::of(scene.dir.path());
    let begun = Instant::now();
    while file.number("SELECT count(*) FROM alert_shown") == 0 {
        assert!(begun.elapsed() < DEADLINE, "it is confirmed as shown");
        std::thread::park_timeout(Duration::from_millis(20));
    }

    page.until_seen("dialog.popup[data-armed]");
    page.press("a");
    page.until_gone("dialog.popup");
    assert_eq!(state_of(&scene, &alert), "acknowledged");
    page.until_seen(".alert.acknowledged .taken");
    assert!(page.text(".alert.acknowledged").contains("admin has it"));
}

#[test]
fn a_key_that_was_meant_for_something_else_acknowledges_nothing() {
    let scene = Scene::start();
    let page = scene.operator();
    scene.post("/upload_common_event", &super::scene::event("W1", "GEOFENCE_EXIT"));
    page.until_seen("input[data-search]");
    page.run("document.querySelector('input[data-search]').focus()");
    // Whoever types does not stop at once. From inside the page, where no busy machine comes between the
    // pop-up and the keys: this timer is due before the one that arms it.
    page.run(
        "window.typed = null; new MutationObserver((_, watcher) => { \
           if (!document.querySelector('dialog.popup[open]')) return; \
           watcher.disconnect(); \
           setTimeout(() => { \
             for (const key of ['a', 'l', 'a', 'r', 'm', 'Enter']) document.activeElement.dispatchEvent( \
               new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true })); \
             window.typed = document.querySelector('dialog.popup[data-armed]') === null; \
           }, 20); \
         }).observe(document, { childList: true, subtree: true, attributes: true })",
    );
    let alert = scene.sos("W2");
    page.until("the keys", "window.typed !== null");
    assert!(page.holds("window.typed"), "they came before it was armed");
    page.until_seen("dialog.popup[data-armed]");
    assert_eq!(state_of(&scene, &alert), "raised");
}

#[test]
fn an_emergency_put_aside_stays_in_sight_and_pops_up_when_it_happens_again() {
    let scene = Scene::start();
    let page = scene.operator();
    scene.sos("W1");
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_gone("dialog.popup");
    assert!(page.text(".banner.critical").contains("1 emergency waits"));
    page.show("devices");
    page.until_seen(".banner.critical");
    let again = sos("W1");
    let again = super::scene::with(again, "timestamp", ago(-1).into());
    scene.post("/upload_common_event", &again);
    page.until_seen("dialog.popup");
    assert!(page.text("dialog.popup").contains("2 times"), "{}", page.text("dialog.popup"));
}

/// The words of `page` for a time of a watch's wall clock.
fn clock(page: &Page, wall: &str) -> String {
    let at = format!("new Date({}.replace(' ', 'T') + '+08:00')", serde_json::json!(wall));
    let two = "hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false";
    let text = page.eval(&format!("{at}.toLocaleTimeString('en-GB', {{ {two} }})"));
    text.as_str().expect("a time").to_owned()
}

#[test]
fn a_repeated_emergency_is_dated_by_its_last_time_and_says_when_it_was_first() {
    let mut scene = Scene::start();
    let [first, last] = [30, 5].map(ago);
    scene.post("/upload_common_event", &super::scene::with(sos("W1"), "timestamp", first.as_str().into()));
    // It came ten minutes ago.
    scene.kill();
    let mut file = File::of(scene.dir.path());
    let raised = file.texts("SELECT json_extract(body, '$.raised_at') AS value FROM alert").remove(0);
    let raised =
        chrono::DateTime::parse_from_rfc3339(&raised).expect("a time") - chrono::TimeDelta::minutes(10);
    let raised = raised.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    for table in ["alert", "alert_change"] {
        let body = format!("json_set(body, '$.raised_at', '{raised}', '$.last_at', '{raised}')");
        file.execute(&format!("UPDATE {table} SET body = {body}"));
    }
    scene.restart();
    let page = scene.operator();
    page.until_seen("dialog.popup[data-armed]");
    let text = page.text("dialog.popup");
    assert!(text.contains("20 min late") && text.contains("10 min"), "{text}");
    assert!(text.contains(&clock(&page, &first)) && !text.contains("first at"), "{text}");

    let alert =
        scene.post("/upload_common_event", &super::scene::with(sos("W1"), "timestamp", last.as_str().into()));
    page.until("the second time", "document.querySelector('dialog.popup').innerText.includes('2 times')");
    let text = page.text("dialog.popup");
    assert!(text.contains(&format!("{} · first at ", clock(&page, &last))), "{text}");
    assert!(text.contains("5 min late") && text.contains(&clock(&page, &first)), "{text}");
    page.until("since when it was last", "/^\\d+ s$/.test(document.querySelector('.popup-since').innerText)");
    page.press("Escape");
    page.until_gone("dialog.popup");
    assert!(page.text(".alert.emergency").contains("5 min late"), "{}", page.text(".alert.emergency"));
    page.show(&format!("alerts/{}", alert["alert_id"].as_str().expect("an alert")));
    page.until_seen(".vitals-table small");
    assert_eq!(page.text(".vitals-table small"), clock(&page, &last), "what was measured then");
    let facts = page.text(".detail .fields");
    assert!(facts.contains(&clock(&page, &first)) && facts.contains("5 min late"), "{facts}");
}

#[test]
fn what_came_late_says_how_late_and_no_filter_hides_an_emergency() {
    let scene = Scene::start();
    let page = scene.operator();
    let late = super::scene::with(sos("W1"), "timestamp", ago(12).into());
    scene.post("/upload_common_event", &late);
    scene.post("/upload_common_event", &super::scene::event("W2", "GEOFENCE_EXIT"));
    page.until_seen("dialog.popup[data-armed]");
    assert!(page.text("dialog.popup").contains("12 min late"), "{}", page.text("dialog.popup"));
    page.press("Escape");
    page.until_seen(".alert.high");
    page.type_into("input[data-search]", "nobody of this name");
    page.until_gone(".alert.high");
    assert_eq!(page.count(".alert.emergency"), 1);
}

#[test]
fn an_alert_is_commented_and_resolved_with_an_outcome_and_its_timeline_tells_it_all() {
    let scene = Scene::start();
    let page = scene.operator();
    let answer = scene.post("/upload_common_event", &super::scene::event("W1", "GEOFENCE_EXIT"));
    let alert = answer["alert_id"].as_str().expect("an alert").to_owned();
    page.show(&format!("alerts/{alert}"));
    page.until_seen(&format!("[data-detail='{alert}'] .timeline .raised"));
    page.type_into(".comment textarea", "calling <b>her</b>");
    page.click(".comment button");
    page.until(
        "the comment",
        "document.querySelector('.timeline .commented .note')?.innerText === 'calling <b>her</b>'",
    );
    page.run("const choice = document.querySelector('.resolve select'); choice.value = 'false_alarm'; choice.dispatchEvent(new Event('input', {bubbles: true}))");
    page.type_into(".resolve textarea", "she is back");
    page.click(".resolve button");
    page.until(
        "it to be resolved",
        "document.querySelector('.detail .outcome strong')?.innerText === 'False alarm'",
    );
    page.until("the list to be empty", "document.body.dataset.open === '0'");
    page.until_seen(".timeline .resolved .note");
    let (_, stored) = scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null);
    assert_eq!(stored["state"], "resolved");
    assert_eq!(stored["outcome"], "false_alarm");
}

#[test]
fn a_comment_that_is_sent_twice_at_once_is_one_comment() {
    let scene = Scene::start();
    let page = scene.operator();
    let answer = scene.post("/upload_common_event", &super::scene::event("W1", "GEOFENCE_EXIT"));
    let alert = answer["alert_id"].as_str().expect("an alert").to_owned();
    page.show(&format!("alerts/{alert}"));
    page.until_seen(&format!("[data-detail='{alert}'] .timeline .raised"));
    let twice =
        "const form = document.querySelector('form.comment'); form.requestSubmit(); form.requestSubmit()";
    for (count, note) in [(1, "calling her"), (2, "she is on her way")] {
        page.until("room for a note", "document.querySelector('.comment textarea').value === ''");
        page.type_into(".comment textarea", note);
        page.run(twice);
        let shown = format!("document.querySelectorAll('.timeline .commented').length >= {count}");
        page.until("the comment", &shown);
    }
    // The first was answered before the second was sent.
    let (_, stored) = scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null);
    let changes = stored["changes"].as_array().expect("changes").iter();
    let notes: Vec<_> = changes.filter_map(|change| change["note"].as_str()).collect();
    assert_eq!(notes.iter().filter(|note| **note == "calling her").count(), 1, "{notes:?}");
}
