//! Two people at two screens.

use serde_json::{Value, json};

use super::scene::Scene;

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
