//! Many alerts at once.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::scale::{count, figure};

use super::page::Page;
use super::scene::Scene;

const PER_SECOND: u64 = 60;
/// Ten times what a screen takes for a frame, ms.
const FRAME_MAX_MS: f64 = 167.0;
/// Ten times what a person takes for at once.
const KEY_MAX: Duration = Duration::from_secs(1);

/// One batch of high alerts of as many watches, by REST.
pub fn raise(scene: &Scene, from: usize, to: usize) {
    let items: Vec<_> = (from..to)
        .map(|watch| json!({"device_sn": format!("S{watch}"), "event_type": "GEOFENCE_EXIT", "event_id": format!("e{watch}")}))
        .collect();
    for items in items.chunks(500) {
        let (status, answer) = scene.rest("POST /api/v1/events", &items.into());
        assert!(status < 300, "{answer}");
    }
}

#[test]
fn a_thousand_open_alerts_and_sixty_more_a_second_are_taken_in_as_they_come() {
    let scene = Scene::start();
    raise(&scene, 0, 1000);
    let page = scene.operator();
    page.until("all of them", "document.body.dataset.open === '1000'");
    let rows = page.count("[data-alert]");
    assert!((30..=400).contains(&rows), "{rows} rows are in the document of 1,000 alerts");

    page.run(
        "window.gaps = []; let before = performance.now(); \
         const tick = (now) => { window.gaps.push(now - before); before = now; requestAnimationFrame(tick); }; \
         requestAnimationFrame(tick); window.long = []; \
         new PerformanceObserver((list) => window.long.push(...list.getEntries().map((entry) => entry.duration))) \
         .observe({type: 'longtask'})",
    );
    let seconds = count(3, 20) as u64;
    let begun = Instant::now();
    let (mut raised, mut most_behind) = (1000, 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let due = 1000 + (begun.elapsed().as_millis() as u64 * PER_SECOND / 1000) as usize;
        if due > raised {
            raise(&scene, raised, due);
            raised = due;
        }
        let shown: usize =
            page.eval("Number(document.body.dataset.open)").as_u64().expect("a count") as usize;
        most_behind = most_behind.max(raised - shown);
    }
    let waited = page.until("the last of them", &format!("document.body.dataset.open === '{raised}'"));
    let gaps = page.eval("(() => { const all = window.gaps.slice(1).sort((a, b) => a - b); \
        return [all.length, all[Math.floor(all.length / 2)], all[Math.floor(all.length * 0.99)], all.at(-1)]; })()");
    figure("alerts raised at 60/s over 1,000 open", raised - 1000);
    figure("most alerts that were stored and not yet in the document", most_behind);
    figure("after the last one, ms until all were in the document", waited.as_millis());
    let median = gaps[1].as_f64().expect("a time");
    figure("frames; median, p99 and longest gap between them, ms", gaps);
    figure("tasks that took the page longer than 50 ms, ms each", page.eval("window.long"));
    assert!(median < FRAME_MAX_MS, "{median} ms between frames");
    // Newest first, as they were raised, and none twice.
    let order = "(() => { const rows = [...document.querySelectorAll('[data-alert]')]; \
        const times = rows.map((row) => row.querySelector('.when time').dateTime); \
        return [new Set(rows.map((row) => row.dataset.alert)).size === rows.length, times.every((time, at) => at === 0 || time <= times[at - 1])]; })()";
    assert_eq!(page.eval(order), json!([true, true]));
    page.press("j");
    page.until_seen(".alert.selected");
    // Without the way of the key through the test.
    let next = "new Promise((resolve) => { const begun = performance.now(); \
        const before = document.querySelector('.alert.selected').dataset.alert; \
        new MutationObserver(() => { if (document.querySelector('.alert.selected')?.dataset.alert !== before) resolve(performance.now() - begun); }) \
        .observe(document.body, {subtree: true, attributeFilter: ['class']}); \
        document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'j', bubbles: true})); })";
    let moved = Duration::from_secs_f64(page.eval(next).as_f64().expect("a time") / 1000.0);
    figure("from a key to the next of all these being selected, ms", moved.as_millis());
    assert!(moved < KEY_MAX, "{moved:?}");
    assert!(most_behind < PER_SECOND as usize * 10, "{most_behind} behind");

    // With the next frame the page scrolls to the alert that the key has selected, wherever it stands then.
    page.eval("new Promise((drawn) => requestAnimationFrame(drawn))");
    to_the_end(&page);
    page.until("more rows", &format!("document.querySelectorAll('[data-alert]').length > {rows}"));
}

/// Scrolls, once, to where the list says how many more there are.
fn to_the_end(page: &Page) {
    page.run("document.querySelector('.rest').scrollIntoView()");
}

#[test]
fn the_list_grows_below_an_alert_that_was_opened_far_down() {
    let scene = Scene::start();
    raise(&scene, 0, 500);
    let page = scene.operator();
    page.until("all of them", "document.body.dataset.open === '500'");
    // As a link to it does: the list reaches as far as the alert that is open, whatever was scrolled to.
    let (_, alerts) = scene.rest("GET /api/v1/alerts?limit=200", &serde_json::Value::Null);
    let alert = alerts["items"].as_array().and_then(|items| items.last()).expect("alerts");
    page.show(&format!("alerts/{}", alert["alert_id"].as_str().expect("an id")));
    page.until_seen(".alert.selected");
    let rows = page.count("[data-alert]");
    assert!(rows > 180, "{rows} rows");
    to_the_end(&page);
    page.until("more rows", &format!("document.querySelectorAll('[data-alert]').length > {rows}"));
}

#[test]
fn sixty_emergencies_at_once_wait_in_line_and_a_key_takes_one_at_a_time() {
    let scene = Scene::start();
    let page = scene.operator();
    let items: Vec<_> = (0..PER_SECOND)
        .map(|watch| json!({"device_sn": format!("E{watch}"), "event_type": "SOS_EVENT", "event_id": format!("e{watch}")}))
        .collect();
    let (status, answer) = scene.rest("POST /api/v1/events", &items.into());
    assert!(status < 300, "{answer}");
    page.until("all of them", "document.querySelector('.popup-more')?.innerText.startsWith('59 more')");
    let waiting = "SELECT count(*) FROM alert WHERE state = 'raised'";
    let mut file = testkit::truth::File::of(scene.dir.path());
    for left in (56..PER_SECOND as i64).rev() {
        page.until_seen("dialog.popup[data-armed]");
        let first = page.eval("document.querySelector('dialog.popup').dataset.popup");
        page.press("a");
        page.until(
            "the next one",
            &format!("![{first}, undefined].includes(document.querySelector('dialog.popup')?.dataset.popup)"),
        );
        assert_eq!(file.number(waiting), left);
    }
}
