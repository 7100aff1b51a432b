//! Whether everybody can use it: axe-core on every page in both themes, and the keyboard.

use std::path::Path;

use super::page::Page;
use super::pages;
use super::scene::Scene;

fn check(page: &Page, place: &str) -> Vec<String> {
    let found = page.eval(
        "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations \
         .filter((fault) => ['serious', 'critical'].includes(fault.impact)) \
         .flatMap((fault) => fault.nodes.slice(0, 3).map((node) => fault.id + ': ' + node.target.join(' ') + ' ' + \
         (node.any[0]?.message ?? node.failureSummary))))",
    );
    let found = found.as_array().expect("a list").iter();
    found.map(|fault| format!("{place}: {}", fault.as_str().unwrap_or_default())).collect()
}

#[test]
fn axe_finds_nothing_serious_on_any_page_in_either_theme() {
    let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/vendor/axe.min.js");
    let axe = std::fs::read_to_string(axe).expect("axe-core");
    let scene = Scene::start();
    pages::furnish(&scene);
    let window = scene.window();
    window.until_seen("#token");
    window.eval(&format!("{axe}; 0"));
    let mut faults = check(&window, "sign in");
    let page = scene.operator();
    page.eval(&format!("{axe}; 0"));
    for theme in ["light", "dark"] {
        page.scheme(theme);
        page.until_seen("dialog.popup[data-armed]");
        faults.extend(check(&page, &format!("pop-up, {theme}")));
        page.press("Escape");
        page.until_gone("dialog.popup");
        for place in pages::PLACES {
            for (width, height) in [(1440, 900), (390, 844)] {
                page.size(width, height);
                pages::visit(&page, place);
                faults.extend(check(&page, &format!("{place}, {theme}, {width}")));
            }
        }
        page.size(1440, 900);
        page.press("?");
        page.until_seen("dialog.help");
        faults.extend(check(&page, &format!("help, {theme}")));
        page.press("Escape");
        page.until_gone("dialog.help");
        page.click(".banner.critical button");
    }
    assert!(faults.is_empty(), "axe finds:\n  {}", faults.join("\n  "));
}
