//! The page and the terminal client.

use std::time::Duration;

use actix_web::http::header;
use awc::Client;
use watchpost::cli::watch::{WatchError, WatchOptions, watch_into};

use super::history::History;
use super::server::{PATIENCE, Server, quick};
use watchpost::domain::rule::Severity;

#[actix_web::test]
async fn the_page_and_its_files_name_no_other_host_and_may_load_from_none() {
    let server = Server::start(quick(), History::default()).await;
    let get = async |path: &str, encoding: &'static str| {
        let request =
            Client::new().get(server.url(path)).no_decompress().insert_header(("accept-encoding", encoding));
        let mut answer = request.send().await.unwrap();
        let body = answer.body().limit(1 << 20).await.unwrap();
        (answer, body)
    };
    let (answer, page) = get("/", "identity").await;
    let value = |answer: &awc::ClientResponse<_>, name| {
        answer.headers().get(name).unwrap().to_str().unwrap().to_string()
    };
    assert!(value(&answer, header::CONTENT_TYPE).starts_with("text/html"));
    let policy = value(&answer, header::CONTENT_SECURITY_POLICY);
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(!page.contains("://") && !page.contains("style=") && !page.contains("{{"), "{page}");
    let files: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert!(files.len() > 5, "{page}");
    for file in files {
        let (answer, plain) = get(file, "identity").await;
        assert_eq!(answer.status(), 200, "{file}");
        assert!(value(&answer, header::CACHE_CONTROL).contains("immutable"), "{file}");
        let text = String::from_utf8(plain.to_vec()).unwrap().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("innerHTML") && !text.contains("https:") && !text.contains("http:"), "{file}");
        let (answer, packed) = get(file, "br, gzip;q=0.8").await;
        assert_eq!(value(&answer, header::CONTENT_ENCODING), "gzip");
        assert!(packed.starts_with(&[0x1f, 0x8b]) && packed.len() < plain.len(), "{file}");
    }
    let (answer, _) = get("/assets/of-another-version/js/app.js", "identity").await;
    assert_eq!((answer.status().as_u16(), value(&answer, header::CACHE_CONTROL).as_str()), (200, "no-cache"));
    assert_eq!(get("/assets/x/../mod.rs", "identity").await.0.status(), 404);
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
