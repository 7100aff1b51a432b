//! The ways in and out.

use serde_json::{Value, json};
use testkit::process::{command, connect, request_as, run};
use testkit::truth::File;

use super::scene::Scene;

/// What `watchpost login-link` prints.
fn link(scene: &Scene) -> String {
    let url = format!("http://{}", scene.addr);
    let data_dir = scene.dir.path().display().to_string();
    let output = run(command(&["login-link", "--url", &url, "--data-dir", &data_dir]));
    let said = String::from_utf8(output.stdout).expect("text");
    said.split_whitespace().find(|word| word.contains("#code=")).expect("a link").to_owned()
}

#[test]
fn a_one_time_link_signs_in_once_and_leaves_nothing_behind() {
    let scene = Scene::start();
    let link = link(&scene);
    let path = link.strip_prefix(&format!("http://{}", scene.addr)).expect("a link to this server");

    let page = scene.window();
    page.go(path);
    page.until_live();
    assert_eq!(page.eval("location.href.includes('code') || document.cookie.length > 0"), false);
    page.until("nothing to be open", "document.querySelector('.nothing') !== null");
    page.reload();
    page.until_live();

    let other = scene.window();
    other.go(path);
    other.until("it to say why", "document.querySelector('.error')?.innerText.includes('too old')");

    page.click("button[title='Sign out']");
    page.until_seen("#token");
    page.reload();
    page.until_seen("#token");
}

#[test]
fn a_one_time_link_works_in_a_window_that_has_the_page_already() {
    let scene = Scene::start();
    let page = scene.operator_as(&scene.token_of("ann"));
    scene.revoke("ann");
    page.until("it to have ended", "document.querySelector('.error')?.innerText.includes('has ended')");
    let open = |link: &str| page.run(&format!("window.same = true; location.href = {}", json!(link)));
    let used = link(&scene);
    open(&used);
    page.until_live();
    assert_eq!(page.text(".caller"), "admin");
    assert_eq!(page.eval("location.href.includes('code') || window.same !== true"), false);

    // Signed in, by one that is used up: nothing changes, and it says so.
    scene.sos("W1");
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_gone("dialog.popup");
    page.show("overview");
    page.until_seen(".tiles b");
    open(&used);
    page.until_seen(".banner.refused");
    let said = page.text(".banner.refused");
    assert!(said.contains("too old") && said.contains("You stay signed in"), "{said}");
    assert_eq!(page.eval("location.hash"), "#/overview");
    assert_eq!((page.text(".caller").as_str(), page.count(".tiles b") > 0), ("admin", true));
    page.until_live();
    page.click(".banner.refused button");
    page.until_gone(".banner.refused");
    assert_eq!(page.count("dialog.popup"), 0, "what was put aside stays there");
    // So it is where the page has to be loaded for it.
    page.go(&used[used.find("/#").expect("a path")..]);
    page.until_seen(".banner.refused");
    page.until_live();

    // By another person's: theirs it is, and they see every emergency that waits.
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_gone("dialog.popup");
    let bob = scene.token_of("bob");
    let mut stream = connect(scene.addr).expect("a connection");
    let (status, made) = request_as(&mut stream, &bob, "POST /api/v1/login-codes", "").expect("an answer");
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).expect("JSON");
    open(made["url_fragment"].as_str().expect("a fragment"));
    page.until_seen("dialog.popup[data-armed]");
    page.until_live();
    assert_eq!(page.text(".caller"), "bob");
}

#[test]
fn a_token_is_asked_for_again_until_it_is_right_and_a_revoked_one_ends_the_page() {
    let scene = Scene::start();
    let page = scene.window();
    page.type_into("#token", "wrong");
    page.press("Enter");
    page.until("it to say why", "document.querySelector('.error')?.innerText.includes('not valid')");
    page.type_into("#token", &scene.token_of("ann"));
    page.press("Enter");
    page.until_live();
    assert_eq!(page.text(".caller"), "ann");

    scene.revoke("ann");
    page.until_seen("#token");
}

#[test]
fn a_sign_in_that_ends_says_so_and_the_next_one_shows_every_emergency_anew() {
    let scene = Scene::start();
    let page = scene.operator_as(&scene.token_of("ann"));
    let alert = scene.sos("W1");
    let pop_up = format!("dialog.popup[data-popup='{alert}'][data-armed]");
    page.until_seen(&pop_up);
    // With the pop-up in front.
    scene.revoke("ann");
    page.until_seen("#token");
    assert!(page.text(".error").contains("Your sign-in has ended"), "{}", page.text(".error"));

    Scene::sign_in(&page, &scene.token_of("bob"));
    page.until_seen(&pop_up);
    page.press("Escape");
    page.until_gone("dialog.popup");
    page.click("button[title='Sign out']");
    page.until_seen("#token");
    assert_eq!(page.text(".error"), "", "it was by choice");
    // What Bob has put aside is not put aside for the next.
    Scene::sign_in(&page, &scene.token);
    page.until_seen(&pop_up);
}

#[test]
fn a_sign_in_that_ends_soon_says_when_and_a_new_link_prolongs_it() {
    let scene = Scene::start();
    let page = scene.operator();
    let minutes = |minutes: i64| {
        let ends = chrono::Utc::now() + chrono::TimeDelta::minutes(minutes);
        let statement = format!(
            "UPDATE api_token SET expires_ms = {} WHERE kind = 'session' AND revoked_ms IS NULL",
            ends.timestamp_millis()
        );
        File::of(scene.dir.path()).execute(&statement);
        page.reload();
        page.until_live();
        ends
    };
    assert_eq!(page.count(".banner.ending"), 0, "it has just begun");
    minutes(32);
    assert_eq!(page.count(".banner.ending"), 0);
    let ends = minutes(29);
    page.until_seen(".banner.ending");
    let said = page.text(".banner.ending");
    let at = page.eval(&format!(
        "new Date({}).toLocaleTimeString('en-GB', {{ hour: '2-digit', minute: '2-digit', hour12: false }})",
        ends.timestamp_millis()
    ));
    assert!(said.contains(at.as_str().expect("a time")) && said.contains("watchpost login-link"), "{said}");
    page.press("l");
    page.until("Chinese", "document.querySelector('.banner.ending').innerText.includes('登录将于')");
    page.press("l");

    page.run(&format!("location.hash = '{}'", link(&scene).split_once('#').expect("a fragment").1));
    page.until_gone(".banner.ending");
    page.until_live();
}
