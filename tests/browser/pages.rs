//! Every page as people see it: pictures, both languages, the keys.

use serde_json::{Value, json};

use super::page::Page;
use super::scene::{Scene, ago, event, sos, with};

/// Where there is something to see; the alert and the watch are filled in by [`visit`].
pub const PLACES: [&str; 6] = ["alerts", "alert", "devices", "device", "overview", "system"];

const TEAM: [(&str, &str, &str); 8] = [
    ("CRFTQ23409001890", "Li Wei", "North shaft"),
    ("CRFTQ23409001891", "Zhang Min", "North shaft"),
    ("CRFTQ23409001892", "Wang Fang", "Loading bay"),
    ("CRFTQ23409001893", "Chen Jie", "Loading bay"),
    ("CRFTQ23409001894", "Liu Yang", "Conveyor line 2"),
    ("CRFTQ23409001895", "Zhao Lei", "Conveyor line 2"),
    ("CRFTQ23409001896", "Sun Li", "Workshop"),
    ("CRFTQ23409001897", "Zhou Qiang", "Workshop"),
];

/// A small works with some hours behind it.
pub fn furnish(scene: &Scene) {
    for (number, (serial, person, org)) in TEAM.into_iter().enumerate() {
        scene.bind(serial, person, org);
        let info = json!({"SerialNumber": serial, "System Software Version": "ARC-AL00CN 4.0.0.130(C00M01)",
            "batteryLevel": format!("{}%", 96 - number * 11), "wearState": if number == 5 { "0" } else { "1" },
            "chargingStatus": if number == 3 { "CHARGING" } else { "NONE" }, "timestamp": ago(1)});
        scene.post("/upload_device_info", &info);
    }
    let (serial, ..) = TEAM[0];
    let records: Vec<Value> = (0..140)
        .map(|step| {
            let wave = f64::from(step) / 9.0;
            json!({"deviceSn": serial, "timestamp": ago(i64::from(step) * 10 + 2), "upload_method": "wifi",
                "heart_rate": (78.0 + 14.0 * wave.sin() + 4.0 * (wave * 3.7).cos()).round(),
                "blood_oxygen": (97.0 + (wave * 1.3).sin()).round(),
                "body_temperature": format!("{:.1}", 36.5 + 0.2 * (wave / 2.0).sin())})
        })
        .collect();
    for records in records.chunks(70) {
        scene.post("/upload_health_data", &json!({ "data": records }));
    }
    for step in 0..12 {
        let place = |body: Value| {
            let along = f64::from(step) / 12.0;
            let body = with(body, "latitude", (22.5403 + 0.004 * along).into());
            with(body, "longitude", (114.0151 + 0.006 * along * (2.0 - along)).into())
        };
        let body = with(event(serial, "CALL_STATE"), "timestamp", ago(i64::from(step) * 9 + 5).into());
        scene.post("/upload_common_event", &place(body));
    }
    for (number, kind) in [
        (1, "HEARTRATE_HIGH_EVENT"),
        (2, "GEOFENCE_EXIT"),
        (5, "WEAR_STATUS_CHANGED"),
        (6, "BLOOD_PRESSURE_ABNORMAL"),
    ] {
        let mut body = event(TEAM[number].0, kind);
        body["eventValue"] = if number == 5 { "0" } else { "142" }.into();
        scene.post("/upload_common_event", &body);
    }
    let fall = with(sos(TEAM[4].0), "eventType", "com.tdtech.ohos.health.action.FALL_EVENT".into());
    let taken = scene.post("/upload_common_event", &with(fall, "timestamp", ago(6).into()));
    let taken = taken["alert_id"].as_str().expect("an alert");
    let note = json!({"note": "Called him: slipped on the stairs, first aid is with him."});
    assert_eq!(scene.rest(&format!("POST /api/v1/alerts/{taken}/acknowledge"), &note).0, 200);
    scene.sos(TEAM[0].0);
}

/// Shows one of [`PLACES`] and waits until it is there.
pub fn visit(page: &Page, place: &str) {
    match place {
        "alert" => {
            page.show("alerts");
            page.until_seen("[data-alert] a.open");
            page.run("location.hash = document.querySelector('[data-alert] a.open').getAttribute('href')");
            page.until_seen(".detail .timeline li");
        }
        "device" => {
            page.show(&format!("devices/{}", TEAM[0].0));
            page.until("the watch", "document.querySelector('main h1')?.innerText === 'Li Wei'");
            page.until("its charts", "document.querySelectorAll('.plot canvas').length >= 3");
            page.until("its map", "document.querySelectorAll('.map path').length > 5");
        }
        "alerts" => {
            page.show("alerts");
            page.until(
                "the list alone",
                "document.querySelector('[data-alert]') && !document.querySelector('.detail:not(.none)')",
            );
        }
        other => {
            page.show(other);
            let ready = match other {
                "devices" => "table.devices tbody tr",
                "overview" => ".tiles b",
                _ => ".pipeline .stage",
            };
            page.until_seen(ready);
        }
    }
}

/// Nothing must be scrolled to from side to side.
pub fn fits(page: &Page, place: &str) {
    let wide = page.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert!(wide.as_i64().is_some_and(|wide| wide <= 0), "{place} is {wide} pixels too wide");
}

#[test]
fn pictures_of_every_page_in_both_themes_and_sizes() {
    let scene = Scene::start();
    furnish(&scene);
    let window = scene.window();
    window.until_seen("#token");
    let page = scene.operator();
    page.until_seen("dialog.popup[data-armed]");
    for theme in ["light", "dark"] {
        for (width, height) in [(1440, 900), (390, 844)] {
            for each in [&window, &page] {
                each.size(width, height);
                each.scheme(theme);
            }
            window.picture(&format!("sign-in-{width}-{theme}"));
            page.until_seen("dialog.popup[data-armed]");
            page.picture(&format!("pop-up-{width}-{theme}"));
            page.press("Escape");
            page.until_gone("dialog.popup");
            for place in PLACES {
                visit(&page, place);
                page.run("document.querySelector('.banner.sound button')?.click(); scrollTo(0, 0)");
                page.picture(&format!("{place}-{width}-{theme}"));
                fits(&page, &format!("{place} at {width}"));
            }
            page.click(".banner.critical button");
        }
    }
    // A line of them, and one that somebody else has taken.
    let (first, second) = (scene.sos(TEAM[6].0), scene.sos(TEAM[7].0));
    page.until("the line", "document.querySelector('.popup-more')?.innerText.startsWith('2 more')");
    for (width, height) in [(1440, 900), (390, 844)] {
        page.size(width, height);
        page.picture(&format!("pop-up-line-{width}"));
        fits(&page, &format!("the line at {width}"));
    }
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    for alert in [first, second] {
        page.until_seen(&format!("dialog.popup[data-popup='{alert}'][data-armed]"));
        assert_eq!(scene.rest(&format!("POST /api/v1/alerts/{alert}/acknowledge"), &json!({})).0, 200);
        page.until_seen(&format!("dialog.popup.taken[data-popup='{alert}']"));
        page.picture(&format!(
            "pop-up-taken-{}",
            if page.count(".popup-more") > 0 { "line" } else { "alone" }
        ));
    }
}

#[test]
fn pictures_of_pages_that_have_nothing_to_show_and_of_pages_without_a_server() {
    let mut scene = Scene::start();
    let page = scene.operator();
    let pictures = |page: &Page, what: &str, places: &[&str]| {
        for (width, height, theme) in [(1440, 900, "light"), (390, 844, "dark")] {
            page.size(width, height);
            page.scheme(theme);
            for place in places {
                page.show(place);
                page.until_gone(".skeleton");
                page.until("something", "document.querySelector('main').innerText.length > 20");
                page.picture(&format!("{what}-{}-{width}-{theme}", place.replace('/', "-")));
                fits(page, &format!("{what} {place} at {width}"));
            }
        }
    };
    let places = ["alerts", "devices", "overview", "system"];
    pictures(&page, "nothing", &places);
    page.show("alerts");
    let says = |text: &str| format!("document.querySelector('.list').innerText.includes('{text}')");
    page.until("good news", &says("Everybody is fine"));
    // Without what it has loaded before.
    let page = scene.operator();
    scene.kill();
    page.until_seen(".banner.lost");
    pictures(&page, "away", &[places.as_slice(), &["alerts/1", "devices/NOBODY"]].concat());
    page.show("alerts");
    page.until("no good news", &says("What has happened since is not known"));
    assert!(!page.holds(&says("Everybody is fine")), "a page that knows nothing says that all is well");
}

#[test]
fn both_languages_have_every_text_and_are_a_key_away() {
    let scene = Scene::start();
    let page = scene.operator();
    let import = |name: &str| {
        format!("(await import(document.querySelector('script').src.replace('app.js', '{name}'))).default")
    };
    let differ = format!(
        "(async () => {{ const [en, zh] = [{}, {}]; const places = (text) => (text.match(/\\{{\\w+\\}}/g) ?? []).sort().join(); \
         return [...new Set([...Object.keys(en), ...Object.keys(zh)])].filter((key) => \
         en[key] === undefined || zh[key] === undefined || places(en[key]) !== places(zh[key])); }})()",
        import("text-en.js"),
        import("text-zh.js")
    );
    assert_eq!(page.eval(&differ), json!([]), "texts that differ in key or {{places}}");
    assert_eq!(page.eval("document.documentElement.lang"), "en");
    page.press("l");
    page.until(
        "Chinese",
        "document.documentElement.lang === 'zh-CN' && document.querySelector('main h1').innerText === '告警'",
    );
    page.reload();
    page.until("the choice to be kept", "document.querySelector('main h1')?.innerText === '告警'");
}

#[test]
fn the_keyboard_reaches_everything() {
    let scene = Scene::start();
    scene.post("/upload_common_event", &event("W1", "GEOFENCE_EXIT"));
    scene.post("/upload_common_event", &event("W2", "GEOFENCE_EXIT"));
    let page = scene.operator();
    page.until_seen("[data-alert]");
    page.press("j");
    page.until_seen(".alert.selected");
    page.until_seen(".detail .timeline li");
    page.press("a");
    page.until_seen(".alert.selected.acknowledged");
    page.press("Escape");
    page.until_gone(".alert.selected");
    for (key, name) in [("d", "Devices"), ("o", "Overview"), ("s", "System"), ("a", "Alerts")] {
        page.press("g");
        page.press(key);
        page.until(name, &format!("document.querySelector('main h1')?.innerText === '{name}'"));
    }
    page.press("?");
    page.until_seen("dialog.help");
    page.press("Escape");
    page.until_gone("dialog.help");
    page.until("the focus to be back", "document.activeElement.matches('main h1')");
    page.press("/");
    page.until("the search to have the focus", "document.activeElement.matches('input[data-search]')");
}

#[test]
fn where_frames_are_late_the_focus_comes_back_to_the_page_all_the_same() {
    let scene = Scene::start();
    let page = scene.operator();
    // As late as can be: what waits for a frame waits for ever, what has a time limit goes on.
    page.run("window.requestAnimationFrame = () => 0");
    page.show("overview");
    page.until("the page", "document.querySelector('main h1')?.innerText === 'Overview'");
    page.press("?");
    page.until_seen("dialog.help");
    page.press("Escape");
    page.until_gone("dialog.help");
    page.until("the focus to be on the page", "document.activeElement.matches('main h1')");
    scene.sos("W1");
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_gone("dialog.popup");
    page.until("the focus to be on the page", "document.activeElement.matches('main h1')");
}
