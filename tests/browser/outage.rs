//! The server goes away and comes back.

use serde_json::Value;
use testkit::truth::File;

use super::scene::Scene;

#[test]
fn killed_and_started_again_the_page_says_so_recovers_and_misses_nothing() {
    let mut scene = Scene::start();
    let page = scene.operator();
    let first = scene.sos("W1");
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_seen(&format!("[data-alert='{first}']"));

    for round in 0..3 {
        scene.kill();
        page.until_seen(".banner.lost");
        page.until("it to look old", "document.body.classList.contains('stale')");
        assert_eq!(page.text(".link .link-name"), "Disconnected");
        scene.restart();
        // Somebody else takes the oldest, and others call.
        let (status, answer) =
            scene.rest(&format!("POST /api/v1/alerts/{first}/acknowledge"), &serde_json::json!({}));
        assert!(status == 200 || round > 0, "{answer}");
        for watch in 0..5 {
            scene.sos(&format!("R{round}W{watch}"));
        }
        page.until_live();
        let open = 1 + 5 * (round + 1);
        page.until("everything to be there", &format!("document.body.dataset.open === '{open}'"));
        page.until("it to look live", "!document.body.classList.contains('stale')");
        page.until_gone(".banner.lost");
        page.until_seen("dialog.popup[data-armed]");
        page.until("the others", "document.querySelector('.popup-more')?.innerText.startsWith('4 more')");
        page.press("l");
        page.until_gone("dialog.popup");
    }
    page.until_seen(&format!("[data-alert='{first}'].acknowledged"));
    let shown = page
        .eval("[...document.querySelectorAll('[data-alert]')].map((row) => row.dataset.alert).sort().join()");
    let mut stored = File::of(scene.dir.path()).texts("SELECT alert_id AS value FROM alert WHERE is_open");
    stored.sort();
    assert_eq!(shown, Value::from(stored.join(",")));
}

#[test]
fn what_happened_while_the_browser_was_closed_is_told() {
    let scene = Scene::start();
    let page = scene.operator();
    // As a page keeps it that was closed ten minutes ago.
    page.until("the page to note the time", "localStorage.getItem('watchpost.seen') !== null");
    page.run(
        "const seen = JSON.parse(localStorage.getItem('watchpost.seen')); seen.at -= 600000; \
         window.seen = JSON.stringify(seen)",
    );
    let alert = scene.sos("W1");
    let (status, _) = scene.rest(&format!("POST /api/v1/alerts/{alert}/resolve"), &serde_json::json!({}));
    assert_eq!(status, 200);
    page.run("addEventListener('pagehide', () => localStorage.setItem('watchpost.seen', window.seen))");
    page.reload();
    page.until_seen(".away");
    let text = page.text(".away");
    assert!(text.contains("SOS") && text.contains("resolved by admin"), "{text}");
}
