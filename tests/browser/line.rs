//! The line of emergencies: one on the screen, the others behind it, and none kept off it.

use serde_json::{Value, json};

use super::page::Page;
use super::scene::Scene;

fn acknowledge(scene: &Scene, alert: &str) {
    let (status, answer) = scene.rest(&format!("POST /api/v1/alerts/{alert}/acknowledge"), &json!({}));
    assert_eq!(status, 200, "{answer}");
}

fn state_of(scene: &Scene, alert: &str) -> Value {
    scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null).1["state"].clone()
}

/// The pop-up of this alert, taking keys.
fn until_armed(page: &Page, alert: &str) {
    page.until_seen(&format!("dialog.popup[data-popup='{alert}'][data-armed]"));
}

/// Alerts of so many watches, in the order in which they were raised.
fn emergencies(scene: &Scene, page: &Page, watches: usize) -> Vec<String> {
    let alerts: Vec<String> = (1..=watches).map(|watch| scene.sos(&format!("W{watch}"))).collect();
    page.until("all of them", &format!("document.body.dataset.open === '{watches}'"));
    alerts
}

#[test]
fn what_somebody_else_has_taken_keeps_no_other_emergency_off_the_screen() {
    let scene = Scene::start();
    let page = scene.operator();
    let alerts = emergencies(&scene, &page, 2);
    until_armed(&page, &alerts[0]);
    // Nobody is at this screen: no key, no mouse.
    acknowledge(&scene, &alerts[0]);
    page.until_seen(&format!("dialog.popup.taken[data-popup='{}']", alerts[0]));
    assert!(page.text(".popup-taken").contains("admin has it"), "{}", page.text(".popup-taken"));
    until_armed(&page, &alerts[1]);
    assert!(page.eval("document.activeElement.matches('dialog.popup')") == true, "it has the focus");

    // Alone, it stays to be read, until the next one comes.
    acknowledge(&scene, &alerts[1]);
    page.until_seen(&format!("dialog.popup.taken[data-popup='{}']", alerts[1]));
    let third = scene.sos("W3");
    until_armed(&page, &third);

    // Or closes by itself.
    acknowledge(&scene, &third);
    page.until_seen(&format!("dialog.popup.taken[data-popup='{third}']"));
    page.until("it to close", "document.querySelector('dialog.popup') === null");
    assert_eq!(page.count(".banner.critical"), 0);
}

#[test]
fn taken_and_raised_again_while_it_is_on_the_screen_it_stays() {
    let scene = Scene::start();
    let page = scene.operator();
    // When the page plans to leave it for the one behind it, milliseconds.
    page.run(
        "window.planned = []; const begin = setTimeout, end = clearTimeout; \
         window.setTimeout = (run, ms, ...rest) => { const timer = begin(run, ms, ...rest); \
           if (ms > 2000 && ms <= 2500) window.planned.push(timer); return timer; }; \
         window.clearTimeout = (timer) => { window.planned = window.planned.filter((one) => one !== timer); end(timer); }",
    );
    let alerts = emergencies(&scene, &page, 2);
    let alert = &alerts[0];
    until_armed(&page, alert);
    acknowledge(&scene, alert);
    page.until("its end to be planned", "window.planned.length === 1");
    let again = super::scene::with(super::scene::sos("W1"), "timestamp", super::scene::ago(-1).into());
    scene.post("/upload_common_event", &again);
    page.until_seen(&format!("dialog.popup:not(.taken)[data-popup='{alert}']"));
    page.until("its end to be called off", "window.planned.length === 0");
    assert_eq!(state_of(&scene, alert), "raised");
}

#[test]
fn escape_and_details_put_one_aside_and_the_next_one_is_on_the_screen() {
    let scene = Scene::start();
    let page = scene.operator();
    let alerts = emergencies(&scene, &page, 3);
    until_armed(&page, &alerts[0]);
    assert!(page.text(".popup-more").starts_with("2 more"), "{}", page.text(".popup-more"));
    page.press("Escape");
    until_armed(&page, &alerts[1]);
    assert!(page.text(".popup-more").starts_with("1 more"), "{}", page.text(".popup-more"));
    page.press("d");
    until_armed(&page, &alerts[2]);
    assert_eq!(page.eval("location.hash"), format!("#/alerts/{}", alerts[1]));
    assert_eq!(page.count(".popup-more"), 0, "it is the last");
    // There is nothing behind it that it could lead to.
    page.press("l");
    assert_eq!(page.eval("document.querySelector('dialog.popup').open"), true);
    assert_eq!(page.eval("document.documentElement.lang"), "en");
    page.press("Escape");
    page.until_gone("dialog.popup");
    assert!(
        page.text(".banner.critical").contains("3 emergencies wait"),
        "{}",
        page.text(".banner.critical")
    );
    assert!(alerts.iter().all(|alert| state_of(&scene, alert) == "raised"));
}

#[test]
fn the_line_leads_to_the_list_where_all_of_it_is_on_top() {
    let scene = Scene::start();
    super::storm::raise(&scene, 0, 100);
    let page = scene.operator();
    page.until("the list", "document.body.dataset.open === '100'");
    page.run("scrollTo(0, document.body.scrollHeight)");
    let mut alerts: Vec<String> = (1..=3).map(|watch| scene.sos(&format!("W{watch}"))).collect();
    alerts.reverse();
    let on_top = "[...document.querySelectorAll('[data-alert]')].slice(0, 3).map((row) => row.dataset.alert)";
    for by_mouse in [false, true] {
        page.until_seen("dialog.popup[data-armed]");
        page.until("the line", "document.querySelector('.popup-more')?.innerText.startsWith('2 more')");
        if by_mouse {
            page.show(&format!("alerts/{}", alerts[2]));
            page.click(".popup-more");
        } else {
            page.press("l");
        }
        page.until_gone("dialog.popup");
        page.until("the list", "location.hash === '#/alerts'");
        assert!(page.text(".banner.critical").contains("3 emergencies wait"));
        assert_eq!(page.eval(on_top), json!(alerts), "the newest first");
        page.until("the top of it", "scrollY === 0");
        page.click(".banner.critical button");
    }
    assert!(alerts.iter().all(|alert| state_of(&scene, alert) == "raised"));
}

#[test]
fn what_the_browser_closes_by_itself_is_there_again() {
    let scene = Scene::start();
    let page = scene.operator();
    let alert = scene.sos("W1");
    until_armed(&page, &alert);
    // As a browser does that is asked to close it, by the button "back" of a phone say, and nobody has touched the page.
    let closed = "new Promise((done) => { const popUp = document.querySelector('dialog.popup'); \
        popUp.addEventListener('close', () => setTimeout(() => done(popUp.isConnected && popUp.matches(':modal')))); popUp.close(); })";
    for _ in 0..3 {
        assert_eq!(page.eval(closed), true, "it is in front again");
    }
    assert!(page.eval("document.activeElement.matches('dialog.popup')") == true, "it has the focus");
    assert_eq!(state_of(&scene, &alert), "raised");
    page.press("a");
    page.until_gone("dialog.popup");
    assert_eq!(state_of(&scene, &alert), "acknowledged");

    // What somebody has taken may go.
    let second = scene.sos("W2");
    until_armed(&page, &second);
    acknowledge(&scene, &second);
    page.until_seen("dialog.popup.taken");
    assert_eq!(page.eval(closed), false);
    page.until("it to be gone", "document.querySelector('dialog.popup') === null");
}
