//! Much where little is usual, and little where much is.

use serde_json::{Value, json};

use super::pages::fits;
use super::scene::Scene;

#[test]
fn however_long_a_name_and_small_a_screen_an_emergency_is_taken_without_scrolling() {
    let scene = Scene::start();
    let long = "Maximiliane Wilhelmina von Hohenzollern ".repeat(5);
    let names = json!({"customer_id": "7", "org_id": "o", "org_name": long.trim(), "person_id": "p", "person_name": long.trim()});
    let (status, answer) = scene.rest("PUT /api/v1/devices/W1/binding", &names);
    assert_eq!(status, 200, "{answer}");
    let page = scene.operator();
    scene.sos("W1");
    page.until_seen("dialog.popup[data-armed]");
    scene.sos("W2");
    page.until_seen("dialog.popup .popup-more");
    for (width, height) in [(1440, 900), (390, 640), (844, 390)] {
        page.size(width, height);
        let outside = "[...document.querySelectorAll('dialog.popup h2, dialog.popup .popup-who, dialog.popup button')] \
            .filter((it) => { const box = it.getBoundingClientRect(); \
            return box.top < 0 || box.left < 0 || box.bottom > innerHeight || box.right > innerWidth; })";
        page.until(&format!("all at {width} x {height}"), &format!("{outside}.length === 0"));
        let covered = "[...document.querySelectorAll('dialog.popup button')].some((it) => { const box = it.getBoundingClientRect(); \
            return !it.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)); })";
        assert_eq!(page.eval(covered), false, "a button is covered at {width} x {height}");
        fits(&page, &format!("the pop-up at {width} x {height}"));
    }
}

#[test]
fn a_lonely_measurement_stands_at_its_time() {
    let scene = Scene::start();
    scene.sos("W1");
    let page = scene.operator();
    page.before_load(
        "const draw = CanvasRenderingContext2D.prototype.fillText; window.drawn = []; \
         CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) { \
           window.drawn.push(text); return draw.call(this, text, ...rest); }",
    );
    page.reload();
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.show("devices/W1");
    page.until("its charts", "document.querySelectorAll('.plot canvas').length === 3");
    let times = "[...new Set(window.drawn.filter((text) => /^\\d\\d:\\d\\d$/.test(text)))]";
    page.until("a scale", &format!("{times}.length > 0"));
    let times = page.eval(times);
    assert!(times.as_array().map(Vec::len) > Some(1), "the ticks have one name: {times}");
    assert_eq!(
        page.eval("document.querySelector('.chart figcaption span').innerText.includes('NaN')"),
        Value::Bool(false)
    );
}
