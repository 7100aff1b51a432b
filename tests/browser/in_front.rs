//! An emergency is recorded as "on the screen" once it has been in front of somebody, and not before.

use std::time::Instant;

use testkit::DEADLINE;
use testkit::truth::File;

use super::page::Page;
use super::scene::{Scene, event};

struct Records(File);

impl Records {
    fn of(scene: &Scene) -> Self {
        Self(File::of(scene.dir.path()))
    }

    /// How many alerts have been on the screen of this viewer.
    fn count(&mut self, viewer: &str) -> i64 {
        self.0.number(&format!("SELECT count(*) FROM alert_shown WHERE viewer = '{viewer}'"))
    }

    fn until(&mut self, viewer: &str, count: i64) {
        let begun = Instant::now();
        while self.count(viewer) < count {
            assert!(begun.elapsed() < DEADLINE, "{} of {count} are recorded", self.count(viewer));
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        assert_eq!(self.count(viewer), count);
    }

    /// When the first one was on a screen, besides this alert.
    fn first_ms(&mut self, besides: &str) -> i64 {
        self.0.number(&format!("SELECT min(shown_ms) FROM alert_shown WHERE alert_id != {besides}"))
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Lets the page paint, and tell what it has to tell.
fn paint(page: &Page) {
    page.eval("(async () => { for (let frame = 0; frame < 8; frame += 1) await new Promise(requestAnimationFrame); })()");
}

fn until_armed(page: &Page, alert: &str) {
    page.until_seen(&format!("dialog.popup[data-popup='{alert}'][data-armed]"));
}

#[test]
fn of_a_snapshot_nothing_is_recorded_before_all_its_emergencies_have_been_in_front() {
    let scene = Scene::start();
    let mut records = Records::of(&scene);
    let (first, second) = (scene.sos("W1"), scene.sos("W2"));
    scene.post("/upload_common_event", &event("W3", "GEOFENCE_EXIT"));
    let page = scene.operator_as(&scene.token_of("ann"));
    until_armed(&page, &first);
    paint(&page);
    let before_second = now_ms();
    page.press("Escape");
    until_armed(&page, &second);
    records.until("ann", 3);
    assert!(records.first_ms("0") >= before_second, "the second had not been in front");

    // What Ann has had in front, the next one has not.
    page.press("Escape");
    page.until_gone("dialog.popup");
    page.click("button[title='Sign out']");
    let token = scene.token_of("bob");
    Scene::sign_in(&page, &token);
    until_armed(&page, &first);
    paint(&page);
    let before_second = now_ms();
    page.press("Escape");
    until_armed(&page, &second);
    records.until("bob", 3);
    let first_of_bob = "SELECT min(shown_ms) FROM alert_shown WHERE viewer = 'bob'";
    assert!(records.0.number(first_of_bob) >= before_second, "Bob had not had the second in front");
}

#[test]
fn an_emergency_that_waits_behind_another_one_is_not_on_the_screen_nor_what_came_after_it() {
    let scene = Scene::start();
    let mut records = Records::of(&scene);
    let page = scene.operator();
    let first = scene.sos("W1");
    until_armed(&page, &first);
    records.until("admin", 1);
    let second = scene.sos("W2");
    let answer = scene.post("/upload_common_event", &event("W3", "GEOFENCE_EXIT"));
    let third = answer["alert_id"].as_str().expect("an alert").to_owned();
    // A comment on it is a later change of the same alert.
    let note = serde_json::json!({"note": "Who is this?"});
    assert_eq!(scene.rest(&format!("POST /api/v1/alerts/{second}/comment"), &note).0, 200);
    // Their rows are in the document and in sight, but for the pop-up over them.
    page.until_seen(&format!("[data-alert='{second}'].emergency"));
    page.until_seen(&format!("[data-alert='{third}']"));
    paint(&page);
    assert_eq!(records.count("admin"), 1);
    let before_second = now_ms();
    page.press("Escape");
    until_armed(&page, &second);
    records.until("admin", 3);
    assert!(records.first_ms(&first) >= before_second, "the second had not been in front");
}

#[test]
fn put_aside_unseen_an_emergency_is_on_the_screen_when_its_row_is_in_sight() {
    let scene = Scene::start();
    let mut records = Records::of(&scene);
    let page = scene.operator();
    page.size(390, 844);
    let first = scene.sos("W1");
    until_armed(&page, &first);
    records.until("admin", 1);
    // The newest is on top of the list, the second of twelve far down.
    let later: Vec<String> = (2..=12).map(|watch| scene.sos(&format!("W{watch}"))).collect();
    page.until("all of them", "document.body.dataset.open === '12'");
    page.click(".popup-more");
    page.until_gone("dialog.popup");
    let look_at = |alert: &str| {
        page.run(&format!(
            "document.querySelector('[data-alert=\"{alert}\"]').scrollIntoView({{block: 'end'}})"
        ));
        paint(&page);
    };
    for alert in later[1..].iter().rev() {
        look_at(alert);
    }
    assert_eq!(records.count("admin"), 1);
    let before_second = now_ms();
    look_at(&later[0]);
    records.until("admin", 12);
    assert!(records.first_ms(&first) >= before_second, "the second had not been in sight");
}

#[test]
fn an_emergency_that_nobody_could_see_and_that_was_taken_holds_nothing_back() {
    let scene = Scene::start();
    let mut records = Records::of(&scene);
    let page = scene.operator();
    let first = scene.sos("W1");
    until_armed(&page, &first);
    records.until("admin", 1);
    let second = scene.sos("W2");
    scene.post("/upload_common_event", &event("W3", "GEOFENCE_EXIT"));
    page.until("all of them", "document.body.dataset.open === '3'");
    paint(&page);
    let before = now_ms();
    let acknowledge = format!("POST /api/v1/alerts/{second}/acknowledge");
    assert_eq!(scene.rest(&acknowledge, &serde_json::json!({})).0, 200);
    records.until("admin", 3);
    assert!(records.first_ms(&first) >= before);
}
