//! How heavy the page is, and how soon it is there.

use std::collections::HashMap;

use serde_json::json;
use testkit::scale::{count, figure};

use super::scene::Scene;

/// All that a browser loads, visiting every page, bytes as transferred.
const WEIGHT_MAX: u64 = 250 * 1024;
/// Ten times what is promised for the first view.
const FIRST_VIEW_MAX_MS: f64 = 5000.0;

#[test]
fn every_page_together_weighs_little_and_the_first_view_comes_soon() {
    let scene = Scene::start();
    scene.sos("W1");
    let page = scene.operator();
    page.call("Network.setCacheDisabled", json!({"cacheDisabled": true}));
    let paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0";
    let view = |_| {
        page.reload();
        page.until_live();
        page.until_seen("dialog.popup");
        page.until("the first paint", &format!("({paint}) > 0"));
        page.eval(paint).as_f64().expect("a time")
    };
    let mut views: Vec<f64> = (0..count(3, 15)).map(view).collect();
    views.sort_by(f64::total_cmp);
    let live = page.eval("performance.now()").as_f64().expect("a time");
    let (median, worst) = (views[views.len() / 2], views[views.len() - 1]);
    figure("first view without a cache, median, ms", median);
    figure("first view without a cache, worst, ms", worst);
    figure("live and the pop-up visible at the latest, ms", live);
    assert!(median < FIRST_VIEW_MAX_MS, "{median} ms");

    let sizes = "performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/assets/'))\
        .map((entry) => [entry.name, entry.encodedBodySize])";
    page.eval("Promise.all(['uplot.js', 'leaflet.js', 'uplot.css', 'leaflet.css'].map((name) => \
        fetch(document.querySelector('script').src.replace('js/app.js', 'vendor/' + name)).then((answer) => answer.text())))");
    let sizes = page.eval(sizes);
    let sizes: HashMap<String, u64> = serde_json::from_value(serde_json::Value::Object(
        sizes
            .as_array()
            .expect("a list")
            .iter()
            .map(|pair| (pair[0].as_str().expect("a name").to_owned(), pair[1].clone()))
            .collect(),
    ))
    .expect("sizes");
    let total: u64 = sizes.values().sum();
    figure("weight of all files, bytes as transferred", total);
    assert!(
        sizes.len() > 20 && total > 50_000 && total < WEIGHT_MAX,
        "{total} bytes in {} files",
        sizes.len()
    );
}
