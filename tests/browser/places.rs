//! The way there and back: what one opens is read from its top, and a list comes back as it was left.

use serde_json::json;

use super::page::Page;
use super::scene::{Scene, now};
use super::storm::raise;

const ROWS: &str = "document.querySelectorAll('table.devices tbody tr').length";

/// Scrolls down by so much; where the page then stands.
fn scroll(page: &Page, to: u32) -> f64 {
    page.run(&format!("scrollTo(0, {to})"));
    page.until("it to have scrolled", &format!("scrollY > {}", to / 2));
    page.eval("scrollY").as_f64().expect("pixels")
}

/// Opens the first link of the kind that is in sight, without the scrolling that `click` does.
fn open_in_sight(page: &Page, links: &str) {
    let in_sight = "(link) => link.getBoundingClientRect().top > 100";
    page.run(&format!("[...document.querySelectorAll('{links}')].find({in_sight}).click()"));
}

#[test]
fn on_a_phone_an_alert_is_read_from_its_top_and_the_list_comes_back_where_it_stood() {
    let scene = Scene::start();
    raise(&scene, 0, 40);
    let page = scene.operator();
    page.size(390, 844);
    page.until("all of them", "document.querySelectorAll('[data-alert]').length === 40");
    let stood = scroll(&page, 2500);
    open_in_sight(&page, "[data-alert] a.open");
    page.until_seen(".detail .timeline li");
    // Below the head of the page, which stays.
    let top = "document.querySelector('.detail h2').getBoundingClientRect().top";
    page.until("its heading to be in sight", &format!("{top} > 54 && {top} < 400"));
    page.until("its heading to have the focus", "document.activeElement.matches('.detail h2')");
    page.run("history.back()");
    let back = format!("!document.querySelector('[data-detail]') && Math.abs(scrollY - {stood}) < 300");
    page.until("the list where it stood", &back);
}

#[test]
fn the_list_of_watches_comes_back_as_it_was_left_and_no_row_is_older_than_it_says() {
    let scene = Scene::start();
    raise(&scene, 0, 120);
    let page = scene.operator();
    // The list is renewed more often than every 15 s.
    page.before_load(
        "const real = window.setInterval; \
         window.setInterval = (call, ms) => real(call, ms === 15000 ? 300 : ms)",
    );
    page.reload();
    page.until_live();
    page.show("devices");
    page.until("a page of them", &format!("{ROWS} === 100"));
    page.click("button.more");
    page.until("all of them", &format!("{ROWS} === 120"));
    let last = page.eval("[...document.querySelectorAll('table.devices a')].at(-1).getAttribute('href')");
    let serial = last.as_str().and_then(|last| last.strip_prefix("#/devices/")).expect("a watch").to_owned();
    scene.post(
        "/upload_device_info",
        &json!({"SerialNumber": serial, "batteryLevel": "7%", "timestamp": now()}),
    );
    let battery = "[...document.querySelectorAll('table.devices tbody tr')].at(-1).innerText.includes('7%')";
    page.until("the last row to be renewed too", battery);

    let stood = scroll(&page, 4000);
    open_in_sight(&page, "table.devices a");
    let there = "document.querySelector('[data-serial]') !== null";
    page.until("the watch, from its top", &format!("{there} && scrollY === 0"));
    page.until("its heading to have the focus", "document.activeElement.matches('main h1')");
    page.run("history.back()");
    page.until("all where they stood", &format!("{ROWS} === 120 && Math.abs(scrollY - {stood}) < 100"));

    page.type_into("input[data-search]", &serial);
    page.until("one of them", &format!("{ROWS} === 1"));
    page.run("document.querySelector('table.devices a').click()");
    page.until("the watch", there);
    page.run("history.back()");
    let kept = format!("document.querySelector('input[data-search]')?.value === {}", json!(serial));
    page.until("what was searched for", &format!("{kept} && {ROWS} === 1"));
}
