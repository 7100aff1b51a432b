//! Many alerts at once.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::scale::{count, figure};

use super::scene::Scene;

const PER_SECOND: u64 = 60;

/// One batch of high alerts of as many watches, by REST.
fn raise(scene: &Scene, from: usize, to: usize) {
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
         requestAnimationFrame(tick)",
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
    figure("frames; median, p99 and longest gap between them, ms", gaps);
    assert!(most_behind < PER_SECOND as usize * 10, "{most_behind} behind");

    page.run("document.querySelector('.rest').scrollIntoView()");
    page.until(
        "more rows when the end comes near",
        &format!("document.querySelectorAll('[data-alert]').length > {rows}"),
    );
}
