//! What somebody has typed and not sent.

use serde_json::{Value, json};

use super::page::Page;
use super::scene::{Scene, event};

/// An alert that nobody has taken, and no emergency: its pop-up would lie over the form.
fn alert(scene: &Scene) -> String {
    let answer = scene.post("/upload_common_event", &event("W1", "GEOFENCE_EXIT"));
    answer["alert_id"].as_str().expect("an alert").to_owned()
}

fn open(page: &Page, alert: &str) {
    page.show(&format!("alerts/{alert}"));
    // What is loaded moves what is below it, and a click would miss.
    page.until_seen(&format!("[data-detail='{alert}'] .timeline li"));
}

/// What is in the forms: the comment, the note and the outcome.
fn typed(page: &Page) -> Value {
    page.until_seen(".detail .timeline li");
    page.eval("['.comment textarea', '.resolve textarea', '.resolve select'].map((field) => document.querySelector(field).value)")
}

#[test]
fn what_was_typed_outlasts_the_sign_in_and_the_page_and_is_its_writers_alone() {
    let mut scene = Scene::start();
    let alert = alert(&scene);
    let page = scene.operator_as(&scene.token_of("ann"));
    open(&page, &alert);
    page.type_into(".comment textarea", "calling <b>her</b>");
    page.run(
        "const choice = document.querySelector('.resolve select'); choice.value = 'false_alarm'; \
         choice.dispatchEvent(new Event('input', {bubbles: true}))",
    );
    page.type_into(".resolve textarea", "she is back");
    assert_eq!(page.count(".kept"), 0, "whoever types it knows that it is there");
    let written = json!(["calling <b>her</b>", "she is back", "false_alarm"]);
    assert_eq!(typed(&page), written);
    // It is another alert's turn, and this one's again.
    page.press("Escape");
    page.show("alerts");
    page.until_gone(".detail:not(.none)");
    open(&page, &alert);
    assert_eq!(typed(&page), written);

    scene.revoke("ann");
    page.until_seen("#token");
    Scene::sign_in(&page, &scene.token_of("bob"));
    assert_eq!(typed(&page), json!(["", "", ""]), "Bob sees and sends nothing of Ann's");
    page.type_into(".comment textarea", "Bob's own");
    scene.revoke("bob");
    page.until_seen("#token");

    Scene::sign_in(&page, &scene.token_of("ann"));
    page.until_seen(".kept");
    assert_eq!(typed(&page), written);
    page.reload();
    page.until_live();
    assert_eq!(typed(&page), written);
    scene.kill();
    page.until_seen(".banner.lost");
    scene.restart();
    page.until_live();
    page.reload();
    page.until_live();
    assert_eq!(typed(&page), written);
    assert!(page.text(".kept").starts_with("Not sent yet: written at"), "{}", page.text(".kept"));

    page.click(".comment button[type=submit]");
    page.until(
        "the comment",
        "document.querySelector('.timeline .commented .note')?.innerText === 'calling <b>her</b>'",
    );
    page.until("its form to be empty", "document.querySelector('.comment textarea').value === ''");
    page.click(".resolve .kept button");
    page.until("the other one to be discarded", "document.querySelector('.kept') === null");
    page.reload();
    page.until_live();
    assert_eq!(typed(&page), json!(["", "", ""]));
    let (_, stored) = scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null);
    let changes = stored["changes"].as_array().expect("changes").iter();
    let comments: Vec<_> = changes.filter(|change| change["transition"] == "commented").collect();
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert_eq!(comments[0]["actor"], "ann");
}

#[test]
fn who_signs_out_by_choice_leaves_nothing_behind() {
    let scene = Scene::start();
    let alert = alert(&scene);
    let page = scene.operator();
    open(&page, &alert);
    page.type_into(".comment textarea", "calling her");
    page.click("button[title='Sign out']");
    page.until_seen("#token");
    assert!(page.holds("!JSON.stringify(sessionStorage).includes('calling')"));
    Scene::sign_in(&page, &scene.token);
    assert_eq!(typed(&page), json!(["", "", ""]));
}

#[test]
fn a_note_on_an_alert_that_somebody_else_has_resolved_becomes_a_comment() {
    let scene = Scene::start();
    let alert = alert(&scene);
    let page = scene.operator_as(&scene.token_of("ann"));
    open(&page, &alert);
    page.type_into(".resolve textarea", "she is back");
    let resolved = scene.rest(&format!("POST /api/v1/alerts/{alert}/resolve"), &json!({"outcome": "test"}));
    assert_eq!(resolved.0, 200);
    page.until_gone(".resolve");
    page.until("her words", "document.querySelector('.comment textarea').value === 'she is back'");
    page.until_seen(".comment .kept");
    page.click(".comment button[type=submit]");
    page.until("the comment", "document.querySelectorAll('.timeline .commented').length === 1");
}
