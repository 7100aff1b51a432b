//! What the page says by itself: new alerts on other pages, figures that move, a newer page.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testkit::process::{connect, request};

use super::pages;
use super::scene::{Scene, event, sos, with};

#[test]
fn new_alerts_are_said_on_other_pages_lead_to_the_alert_and_go_away() {
    let scene = Scene::start();
    let page = scene.operator();
    page.show("devices");
    page.until("the page", "document.querySelector('main h1')?.innerText === 'Devices'");
    // An emergency has its pop-up.
    scene.sos("W0");
    page.until_seen("dialog.popup[data-armed]");
    assert_eq!(page.count(".toast"), 0);
    page.press("Escape");
    page.until_gone("dialog.popup");

    let items: Vec<Value> = (1..=6)
        .map(|watch| json!({"device_sn": format!("W{watch}"), "event_type": "GEOFENCE_EXIT", "event_id": format!("e{watch}")}))
        .collect();
    assert_eq!(scene.rest("POST /api/v1/events", &items.into()).0, 200);
    page.until(
        "three of six, and how many more",
        "document.querySelector('.toasts')?.innerText.includes('3 more')",
    );
    assert_eq!(page.count(".toast.high"), 3);
    assert!(page.text(".toast.high").contains("Left the allowed area"), "{}", page.text(".toast.high"));
    page.until("them to go", "document.querySelector('.toast') === null");

    let answer = scene.post("/upload_common_event", &event("W7", "GEOFENCE_EXIT"));
    let alert = answer["alert_id"].as_str().expect("an alert").to_owned();
    page.click(".toast.high");
    page.until_seen(&format!("[data-detail='{alert}'] .timeline li"));
    // There they are in the list.
    assert_eq!(page.count(".toast"), 0);
}

#[test]
fn figures_of_the_system_move_by_the_stream_alone() {
    let scene = Scene::start();
    let page = scene.operator();
    page.show("system");
    page.until_seen(".pipeline .stage");
    // From here on the page gets no answer to what it asks by REST.
    page.call("Fetch.enable", json!({"patterns": [{"urlPattern": "*/api/v1/system"}]}));
    for watch in 0..7 {
        scene.post("/upload_common_event", &event(&format!("W{watch}"), "GEOFENCE_EXIT"));
    }
    let figure = |stage: &str, name: &str| {
        format!(
            "[...document.querySelectorAll('[aria-label={stage}] dl div')].find((row) => row.querySelector('dt').innerText === '{name}')\
             .querySelector('dd').innerText"
        )
    };
    for name in ["Committed", "Published"] {
        page.until("the newest offset", &format!("{} === '7'", figure("Screens", name)));
    }
    page.until("the watches", &format!("{} === '7'", figure("Shards", "Watches in memory")));
    page.until_told("Fetch.requestPaused");
    page.until("what the stream brings to be new", "document.querySelector('.freshness.old') === null");
    let before = page.text(".freshness");
    page.until(
        "the next second",
        &format!("document.querySelector('.freshness').innerText !== {}", json!(before)),
    );
}

#[test]
fn a_customers_operator_sees_that_customers_alerts_and_nothing_of_the_server() {
    let scene = Scene::start();
    scene.bind("W1", "Li Wei", "North shaft");
    let (status, made) = scene.rest("POST /api/v1/tokens", &json!({"name": "mine", "customer_id": "7"}));
    assert_eq!(status, 201, "{made}");
    let page = scene.operator_as(made["token"].as_str().expect("a token"));
    scene.post("/upload_common_event", &event("W1", "GEOFENCE_EXIT"));
    scene.post("/upload_common_event", &event("W2", "GEOFENCE_EXIT"));
    page.until_seen("[data-alert]");
    page.until("one alert", "document.body.dataset.open === '1'");
    assert!(page.text("[data-alert]").contains("Li Wei"));
    assert_eq!(page.count("nav li"), 3, "no System");
    page.show("system");
    page.until("it to say why", "document.querySelector('.nothing')?.innerText.includes('administrator')");
    assert_eq!(page.count(".stage"), 0);
}

#[test]
fn a_page_older_than_the_server_says_so_when_it_is_back_and_loads_the_new_one() {
    let mut scene = Scene::start();
    let current = scene.operator();
    let page = scene.operator();
    // What the server will have when it comes back: the same page in another version.
    let (_, html) = request(&mut connect(scene.addr).expect("a connection"), "GET /", "").expect("an answer");
    let version = html.split("/assets/").nth(1).and_then(|rest| rest.split('/').next()).expect("a version");
    let newer = html.replace(version, "0123456789abcdef");
    // With the browser's own interception on, it opens no new socket.
    page.run(&format!(
        "const real = window.fetch; \
         window.fetch = (path, options) => (path === '/' ? Promise.resolve(new Response({})) : real(path, options))",
        json!(newer)
    ));
    scene.kill();
    page.until_seen(".banner.lost");
    current.until_seen(".banner.lost");
    scene.restart();
    page.until_seen(".banner.outdated");
    // It goes on until somebody has it loaded: a page that was loaded anew is silent.
    page.until_live();
    current.until_live();
    let answered = "performance.getEntriesByType('resource').some((entry) => entry.name === location.origin + '/' && entry.responseEnd > 0)";
    current.until("the other to have been answered", answered);
    assert_eq!(current.count(".banner.outdated"), 0, "its page is the server's");

    page.run("window.beforeReload = true");
    page.click(".banner.outdated button");
    page.until("the new page", "!window.beforeReload && document.querySelector('script') !== null");
    page.until_live();
    assert_eq!(page.count(".banner.outdated"), 0);
}

/// A grey pixel.
const TILE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mM4AQAAygDJNEIn8wAAAABJRU5ErkJggg==";

/// A tile server: the heads of the requests that it has answered.
fn tile_server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let heads = heads.clone();
            std::thread::spawn(move || answer(stream, &heads));
        }
    });
    (origin, asked)
}

fn answer(mut stream: TcpStream, heads: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let tile = BASE64_STANDARD.decode(TILE).expect("base64");
    loop {
        let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        heads
            .lock()
            .expect("no panic")
            .push(head.first()?.clone() + "\n" + &head[1..].join("\n").to_lowercase());
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n", tile.len());
        stream.write_all(answer.as_bytes()).ok()?;
        stream.write_all(&tile).ok()?;
    }
}

#[test]
fn with_a_tile_server_the_track_lies_on_its_tiles_and_only_pictures_come_from_there() {
    let (origin, asked) = tile_server();
    let scene = Scene::start_with_tiles(&origin);
    let (latitude, longitude) = (22.540363_f64, 114.015181_f64);
    for step in 0..3 {
        let body = with(sos("W1"), "timestamp", super::scene::ago(step).into());
        scene
            .post("/upload_common_event", &with(body, "longitude", (longitude + 0.001 * step as f64).into()));
    }
    let policy = "fetch('/').then((answer) => answer.headers.get('content-security-policy'))";
    let page = scene.operator();
    page.until_seen("dialog.popup[data-armed]");
    page.press("Escape");
    page.until_gone("dialog.popup");
    page.show("devices/W1");
    page.until("the tiles", "document.querySelectorAll('.map img.leaflet-tile-loaded').length >= 4");
    page.until("the track", "document.querySelectorAll('.map path').length >= 4");
    let policy = page.eval(policy).as_str().expect("a policy").to_owned();
    assert_eq!(policy.matches(&origin).count(), 1, "{policy}");
    assert!(policy.ends_with(&format!("img-src 'self' {origin}")), "{policy}");

    let heads = asked.lock().expect("no panic").clone();
    let tiles: Vec<[u32; 3]> = heads
        .iter()
        .map(|head| {
            let path = head.split(' ').nth(1).expect("a path");
            let numbers =
                path.strip_prefix("/tiles/").and_then(|rest| rest.strip_suffix(".png")).expect(path);
            let numbers: Vec<u32> = numbers.split('/').map(|text| text.parse().expect(path)).collect();
            numbers.try_into().expect("z, x and y")
        })
        .collect();
    let zoom = tiles[0][0];
    let across = f64::from(1 << zoom);
    let x = (longitude + 180.0) / 360.0 * across;
    let y = (1.0 - latitude.to_radians().tan().asinh() / std::f64::consts::PI) / 2.0 * across;
    assert!(tiles.contains(&[zoom, x as u32, y as u32]), "{tiles:?}");
    // Where the page is, not what it shows.
    assert!(
        heads
            .iter()
            .all(|head| !head.contains("devices")
                && head.contains(&format!("referer: http://{}/", scene.addr))),
        "{heads:?}"
    );
    pages::fits(&page, "a map with tiles");
}
