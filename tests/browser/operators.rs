//! Two people at two screens.

use serde_json::{Value, json};
use testkit::disk::{Disk, Fault};

use super::scene::{Scene, sos};

#[test]
fn of_two_operators_one_is_first_and_the_other_is_told_who() {
    let scene = Scene::start();
    let ann = scene.operator_as(&scene.token_of("ann"));
    let bob = scene.operator_as(&scene.token_of("bob"));
    // Before there is anything to acknowledge: what is sent right behind it may not be held yet.
    bob.call("Fetch.enable", json!({"patterns": [{"urlPattern": "*/acknowledge"}]}));
    let alert = scene.sos("W1");
    ann.until_seen("dialog.popup[data-armed]");
    bob.until_seen("dialog.popup[data-armed]");

    // Bob's command is held on its way, and Ann's overtakes it.
    bob.press("a");
    let request = bob.until_told("Fetch.requestPaused")["requestId"].clone();
    ann.press("a");
    ann.until_gone("dialog.popup");
    bob.call("Fetch.continueRequest", json!({ "requestId": request }));
    bob.until("Bob to be told", "document.querySelector('dialog.popup .told') !== null");
    let told = bob.text("dialog.popup");
    assert!(told.contains("ann was first") && told.contains("ann has it"), "{told}");
    bob.press("Enter");
    bob.until_gone("dialog.popup");

    let (_, stored) = scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null);
    assert_eq!(stored["acknowledged_by"], "ann");
    let acknowledged = stored["changes"].as_array().expect("changes").iter();
    assert_eq!(acknowledged.filter(|change| change["transition"] == "acknowledged").count(), 1);
}

#[test]
fn while_the_disk_is_full_everybody_sees_who_has_an_alert_and_that_it_is_not_stored() {
    let disk = Disk::below("watchpost.db");
    let scene = Scene::start_on(&disk);
    let (ann, bob) = (scene.token_of("ann"), scene.token_of("bob"));
    let (ann, bob) = (scene.operator_as(&ann), scene.operator_as(&bob));
    let alert = scene.sos("W1");
    ann.until_seen("dialog.popup[data-armed]");
    bob.until_seen("dialog.popup[data-armed]");
    disk.begin(Fault::Full);
    // A report that cannot be stored lets the server know.
    let (status, _) = scene.rest("POST /upload_common_event", &sos("W2"));
    assert_eq!(status, 503);

    ann.press("a");
    for page in [&ann, &bob] {
        page.until_seen("dialog.popup.taken .badge.warn");
        let told = page.text("dialog.popup");
        assert!(told.contains("ann has it") && told.contains("not stored yet"), "{told}");
    }
    ann.picture("not-stored-popup");
    ann.press("Enter");
    ann.until_gone("dialog.popup");
    // Whoever comes later sees it too.
    bob.reload();
    bob.until_live();
    let row = format!(".alert.acknowledged[data-alert='{alert}'] .taken");
    for page in [&ann, &bob] {
        page.until_seen(&row);
        // Not what is painted: rows of a list are painted later (`content-visibility`).
        let told = page.eval(&format!("document.querySelector(\"{row}\").textContent"));
        assert!(told.as_str().is_some_and(|told| told.contains("not stored yet")), "{told}");
    }
    bob.picture("not-stored-list");
    let (_, stored) = scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null);
    assert_eq!(stored["state"], "raised", "what is stored is what is read");

    disk.end(Fault::Full);
    for page in [&ann, &bob] {
        page.until(
            "it is stored",
            &format!("!document.querySelector(\"{row}\").textContent.includes('not stored')"),
        );
    }
    let (_, stored) = scene.rest(&format!("GET /api/v1/alerts/{alert}"), &Value::Null);
    assert_eq!(stored["acknowledged_by"], "ann");
}

#[test]
fn what_was_not_stored_before_a_crash_waits_for_somebody_again() {
    let disk = Disk::below("watchpost.db");
    let mut scene = Scene::start_on(&disk);
    let (ann, bob) = (scene.token_of("ann"), scene.token_of("bob"));
    let (ann, bob) = (scene.operator_as(&ann), scene.operator_as(&bob));
    // Before there is anything to acknowledge: what is sent right behind it may not be held yet.
    bob.call("Fetch.enable", json!({"patterns": [{"urlPattern": "*/acknowledge"}]}));
    scene.sos("W1");
    ann.until_seen("dialog.popup[data-armed]");
    bob.until_seen("dialog.popup[data-armed]");
    disk.begin(Fault::Full);
    assert_eq!(scene.rest("POST /upload_common_event", &sos("W2")).0, 503);
    // Bob is second, and told so.
    bob.press("a");
    let request = bob.until_told("Fetch.requestPaused")["requestId"].clone();
    ann.press("a");
    ann.until_seen("dialog.popup.taken .badge.warn");
    bob.call("Fetch.continueRequest", json!({ "requestId": request }));
    bob.until("Bob to be told", "document.querySelector('dialog.popup .told') !== null");
    assert!(bob.text("dialog.popup").contains("not stored yet"), "{}", bob.text("dialog.popup"));
    bob.call("Fetch.disable", json!({}));

    scene.kill();
    disk.end(Fault::Full);
    scene.restart();
    for page in [&ann, &bob] {
        page.until_live();
        page.until_seen("dialog.popup:not(.taken)");
    }
    bob.press("a");
    bob.until_gone("dialog.popup");
    ann.until_seen("dialog.popup.taken");
    assert!(ann.text("dialog.popup").contains("bob has it"), "{}", ann.text("dialog.popup"));
}
