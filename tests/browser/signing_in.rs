//! The ways in and out.

use testkit::process::{command, run};

use super::scene::Scene;

#[test]
fn a_one_time_link_signs_in_once_and_leaves_nothing_behind() {
    let scene = Scene::start();
    let url = format!("http://{}", scene.addr);
    let data_dir = scene.dir.path().display().to_string();
    let output = run(command(&["login-link", "--url", &url, "--data-dir", &data_dir]));
    let said = String::from_utf8(output.stdout).expect("text");
    let link = said.split_whitespace().find(|word| word.contains("#code=")).expect("a link");
    let path = link.strip_prefix(&url).expect("a link to this server");

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
