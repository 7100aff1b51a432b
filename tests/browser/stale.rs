//! What is old never looks live, and what happened meanwhile is told.

use serde_json::{Value, json};
use testkit::truth::File;

use super::page::Page;
use super::pages;
use super::scene::Scene;

/// A clock that the test sets forward: `ahead`, milliseconds.
const CLOCK: &str =
    "const real = Date.now.bind(Date); window.ahead = 0; Date.now = () => real() + window.ahead";

fn with_a_clock(scene: &Scene) -> Page {
    let page = scene.operator();
    page.before_load(CLOCK);
    page.reload();
    page.until_live();
    page
}

/// How old the red bar says that everything is, seconds.
const AGE: &str = "Number(/, (\\d+) s ago/.exec(document.querySelector('.banner.lost')?.innerText)?.[1])";

fn age(page: &Page) -> f64 {
    page.until("an age", &format!("{AGE} >= 0"));
    page.eval(AGE).as_f64().expect("an age")
}

#[test]
fn a_server_that_falls_silent_is_noticed_and_the_age_of_what_is_shown_counts_on() {
    let scene = Scene::start();
    let page = with_a_clock(&scene);
    page.show("overview");
    page.until_seen(".tiles b");
    let server = scene.server.as_ref().expect("a server");
    // The connection stays open; nothing comes any more.
    server.signal("-STOP");
    page.run("window.ahead = 14_000");
    page.until_seen("[data-link=silent]");
    page.until_seen(".banner.lost");
    assert!(page.holds("document.body.classList.contains('stale')"));
    assert!(page.text(".banner.lost").contains("silent"), "{}", page.text(".banner.lost"));
    let before = age(&page);
    assert!(before >= 13.0, "{before}");
    page.run("window.ahead = 44_000");
    page.until(
        "the age to count on",
        &format!("parseInt(document.querySelector('.link-age').innerText) >= {}", before + 29.0),
    );
    // What was asked for by REST is not younger than it is either.
    page.run("window.ahead = 59_000");
    page.until_seen(".freshness.old");

    page.run("dispatchEvent(new Event('online'))");
    server.signal("-CONT");
    page.until_live();
    page.until("it to look live", "!document.body.classList.contains('stale')");
    page.until_gone(".banner.lost");
}

/// A way to the server that carries no sockets until it is `open`, as a proxy may.
const NO_SOCKETS: &str = "const Real = WebSocket; window.open = false; \
    window.WebSocket = function (url) { \
      if (window.open) return new Real(url); \
      const socket = { readyState: 3, close() {}, send() {} }; \
      setTimeout(() => socket.onclose({ code: 1006, reason: '' })); \
      return socket; }";

#[test]
fn a_server_that_has_not_been_reached_yet_is_not_said_to_have_been() {
    let scene = Scene::start();
    let page = scene.operator();
    page.before_load(NO_SOCKETS);
    page.reload();
    page.until_seen(".banner.lost");
    let said = page.text(".banner.lost");
    assert!(said.contains("has not been reached yet") && !said.contains("ago"), "{said}");
    assert_eq!(page.count(".link-age"), 0, "nothing has an age");
    page.run("window.open = true");
    page.click(".banner.lost button");
    page.until_live();
    page.until_gone(".banner.lost");

    // From here on it has been.
    page.run("window.open = false");
    let mut scene = scene;
    scene.kill();
    page.until_seen(".banner.lost");
    let said = page.text(".banner.lost");
    assert!(said.contains("As of") && said.contains("ago"), "{said}");
}

#[test]
fn without_a_server_every_page_looks_old_and_what_one_wrote_is_not_lost() {
    let mut scene = Scene::start();
    pages::furnish(&scene);
    let late = scene.window();
    late.until_seen("#token");
    let page = with_a_clock(&scene);
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_gone("dialog.popup");
    pages::visit(&page, "alert");
    let alert = page.eval("document.querySelector('[data-detail]').dataset.detail");
    let alert = alert.as_str().expect("an id").to_owned();

    scene.kill();
    page.until_seen(".banner.lost");
    assert!(page.text(".banner.lost").contains("What you see is old"));
    page.type_into(".comment textarea", "calling her");
    page.click(".comment button");
    page.until(
        "it to say that nothing was done",
        "document.querySelector('.comment .told')?.innerText.includes('cannot be reached')",
    );
    assert_eq!(page.eval("document.querySelector('.comment textarea').value"), "calling her");
    for place in ["alerts", "devices", "overview", "system"] {
        page.show(place);
        page.until(
            place,
            &format!("location.hash === '#/{place}' && document.querySelector('main h1') !== null"),
        );
        // Nothing was fetched yet, or what was fetched is called old.
        let said = "document.querySelector('.freshness.old, .nothing, .skeleton') !== null";
        page.until(&format!("{place} to say that it is old"), said);
        assert!(page.holds("document.body.classList.contains('stale')"), "{place}");
        assert_eq!(page.count(".freshness:not(.old)"), 0, "{place}");
    }
    let before = age(&page);
    page.run("window.ahead += 30_000");
    page.until("the age to count on", &format!("{AGE} >= {}", before + 30.0));
    page.run("window.ahead = 0");
    late.type_into("#token", &scene.token);
    late.press("Enter");
    late.until("it to say why", "document.querySelector('.error')?.innerText.includes('cannot be reached')");

    scene.restart();
    page.until_live();
    page.until("it to look live", "!document.body.classList.contains('stale')");
    page.show(&format!("alerts/{alert}"));
    // What is loaded moves what is below it, and a click would miss.
    page.until_seen(&format!("[data-detail='{alert}'] .timeline li"));
    page.type_into(".comment textarea", "calling her");
    page.click(".comment button");
    page.until("the comment", "document.querySelectorAll('.timeline .commented').length === 1");
    let stored = "SELECT count(*) FROM alert_change WHERE transition = 'commented'";
    assert_eq!(File::of(scene.dir.path()).number(stored), 1);
}

#[test]
fn what_happened_while_the_connection_was_lost_is_told() {
    let mut scene = Scene::start();
    let page = scene.operator();
    scene.kill();
    page.until_seen(".banner.lost");
    // The page cannot come back before it shall.
    page.call("Debugger.enable", json!({}));
    page.call("Debugger.pause", json!({}));
    page.until_told("Debugger.paused");
    scene.restart();
    scene.bind("W1", "Li Wei", "North shaft");
    // No emergency: its pop-up would lie over the list.
    let answer = scene.post("/upload_common_event", &super::scene::event("W1", "GEOFENCE_EXIT"));
    let alert = answer["alert_id"].as_str().expect("an alert").to_owned();
    assert_eq!(
        scene.rest(&format!("POST /api/v1/alerts/{alert}/resolve"), &json!({"outcome": "test"})).0,
        200
    );
    for watch in 2..=15 {
        scene.post("/upload_common_event", &super::scene::event(&format!("W{watch}"), "GEOFENCE_EXIT"));
    }
    page.call("Debugger.disable", json!({}));
    page.until_live();
    page.until_seen(".away");
    let text = page.text(".away");
    for part in ["15 raised", "14 still waiting", "1 resolved", "and 3 more"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(page.count(".away li"), 12);
    page.click(".away button");
    page.until_gone(".away");
}

/// `hidden` or `visible`, as the browser says it.
fn become_visible(page: &Page, state: &str) {
    page.run(&format!(
        "Object.defineProperty(document, 'visibilityState', {{value: '{state}', configurable: true}}); \
         document.dispatchEvent(new Event('visibilitychange'))"
    ));
}

#[test]
fn what_is_told_of_an_absence_stays_through_the_next_and_tells_of_older_alerts_too() {
    let scene = Scene::start();
    let post = |watch: &str| {
        let answer = scene.post("/upload_common_event", &super::scene::event(watch, "GEOFENCE_EXIT"));
        answer["alert_id"].as_str().expect("an alert").to_owned()
    };
    let act = |alert: &str, verb: &str| {
        assert_eq!(scene.rest(&format!("POST /api/v1/alerts/{alert}/{verb}"), &json!({})).0, 200);
    };
    let older = post("W1");
    let page = with_a_clock(&scene);
    page.until_seen(&format!("[data-alert='{older}']"));
    become_visible(&page, "hidden");
    act(&older, "acknowledge");
    let raised = post("W2");
    page.until(
        "both to be known",
        "document.querySelector('.alert.acknowledged') && document.body.dataset.open === '2'",
    );
    page.run("window.ahead = 61_000");
    become_visible(&page, "visible");
    page.until_seen(".away");
    let told = ["1 raised", "1 older one changed", "1 still waiting", "1 in hand", "0 resolved"];
    for part in told {
        assert!(page.text(".away").contains(part), "no {part} in {}", page.text(".away"));
    }

    let begin = page.text(".away-when").split('–').next().map(str::to_owned).expect("a time");
    let again = |ahead: u32| {
        let before = page.text(".away-when");
        page.run(&format!("window.ahead = {ahead}"));
        become_visible(&page, "visible");
        let differs = format!("document.querySelector('.away-when')?.innerText !== {}", json!(before));
        page.until("another answer", &differs);
    };
    // Nothing happens in the next.
    become_visible(&page, "hidden");
    again(130_000);
    let text = page.text(".away");
    assert!(told.iter().all(|part| text.contains(part)) && text.contains(&begin), "{text}");
    // In the one after it somebody deals with what was raised in the first.
    become_visible(&page, "hidden");
    act(&raised, "resolve");
    page.until("it to be known", "document.body.dataset.open === '1'");
    again(200_000);
    let text = page.text(".away");
    for part in ["1 raised", "1 older one changed", "0 still waiting", "1 in hand", "1 resolved"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(page.count(".away li"), 2);
    page.click(".away button");
    page.until_gone(".away");
}

#[test]
fn what_happened_while_nobody_looked_is_told_when_somebody_does() {
    let scene = Scene::start();
    let page = with_a_clock(&scene);
    let look = |state: &str| become_visible(&page, state);
    look("hidden");
    let answer = scene.post("/upload_common_event", &super::scene::event("W1", "GEOFENCE_EXIT"));
    let alert = answer["alert_id"].as_str().expect("an alert").to_owned();
    page.until("it to be known", "document.body.dataset.open === '1'");
    page.run("window.ahead = 61_000");
    let shown = || scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null).1["shown"].clone();
    assert_eq!(shown(), json!([]), "nobody has seen it");
    look("visible");
    page.until_seen(".away");
    let text = page.text(".away");
    assert!(text.contains("1 raised") && text.contains("Left the allowed area"), "{text}");
    let begun = std::time::Instant::now();
    while shown().as_array().is_none_or(Vec::is_empty) {
        assert!(begun.elapsed() < testkit::DEADLINE, "now that somebody looks it is confirmed");
    }
}
