//! The page and the terminal client.

use std::time::Duration;

use actix_web::http::header;
use awc::Client;
use watchpost::cli::watch::{WatchError, WatchOptions, watch_into};

use super::history::History;
use super::server::{PATIENCE, Server, quick};
use watchpost::domain::rule::Severity;

#[actix_web::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let server = Server::start(quick(), History::default()).await;
    for (path, content_type) in
        [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")]
    {
        let mut answer = Client::new().get(server.url(path)).send().await.unwrap();
        let value = |name| answer.headers().get(name).unwrap().to_str().unwrap().to_string();
        assert!(value(header::CONTENT_TYPE).starts_with(content_type));
        let policy = value(header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let body = String::from_utf8(answer.body().await.unwrap().to_vec()).unwrap();
        assert!(!body.contains("innerHTML") && !body.contains("https://"), "{path}");
    }
    server.stop().await;
}

#[actix_web::test]
async fn the_terminal_shows_what_is_open_and_what_changes_worst_first() {
    let mut history = History::default();
    history.raise("w1", "c1", Severity::High);
    history.raise("w2", "c1", Severity::Critical);
    let mut server = Server::start(quick(), history).await;
    let options =
        WatchOptions { once: Some(1), min_severity: Some(Severity::High), ..WatchOptions::default() };
    let (url, mut out) = (server.url(""), Vec::new());
    let watching = watch_into(&mut out, false, &url, "admin", &options);
    let changing = async {
        // One of them comes after the snapshot.
        loop {
            server.publish(|history| history.raise("w3", "c1", Severity::Low));
            server.publish(|history| history.raise("w4", "c1", Severity::High));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(PATIENCE, watching) => ended.unwrap().unwrap(),
        () = changing => {}
    }
    let text = String::from_utf8(out).unwrap();
    let position = |device| text.find(device).unwrap_or_else(|| panic!("no {device} in {text}"));
    assert!(position(" w2 ") < position(" w1 "), "{text}");
    assert!(text.contains(" w4 ") && !text.contains(" w3 "), "{text}");

    let refused = watch_into(Vec::new(), false, &url, "wrong", &options).await;
    assert!(matches!(refused, Err(WatchError::Token)));
    server.stop().await;
}

#[actix_web::test]
async fn a_script_gets_the_frames_and_ends_after_the_snapshot() {
    let mut history = History::default();
    history.raise("w1", "c1", Severity::High);
    let server = Server::start(quick(), history).await;
    let options = WatchOptions { once: Some(0), json: true, ..WatchOptions::default() };
    let mut out = Vec::new();
    watch_into(&mut out, false, &server.url("/"), "admin", &options).await.unwrap();
    let types: Vec<String> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].to_string())
        .collect();
    assert_eq!(types, ["\"hello\"", "\"snapshot\""]);
    server.stop().await;
}
