//! What a dashboard sees on a bad day, and what a bad client gets.

use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use awc::Client;
use awc::error::WsClientError;
use awc::ws::Message;
use serde_json::json;
use tokio::sync::oneshot;
use watchpost::domain::rule::Severity;
use watchpost::session::delivery::CloseAll;
use watchpost::telemetry::KindLabels;

use super::history::History;
use super::server::{PATIENCE, Received, Server, eventually, quick};

async fn refused(server: &Server, header: (&str, &str)) -> StatusCode {
    match Client::new().ws(server.url("/api/v1/stream")).header(header.0, header.1).connect().await {
        Err(WsClientError::InvalidResponseStatus(status)) => status,
        Err(err) => panic!("{err}"),
        Ok(_) => panic!("the upgrade was accepted"),
    }
}

#[actix_web::test]
async fn an_upgrade_is_refused_for_a_wrong_token_another_site_and_a_full_house() {
    let mut config = quick();
    config.sessions_max = 1;
    let server = Server::start(config, History::default()).await;
    assert_eq!(refused(&server, ("authorization", "Bearer wrong")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(refused(&server, ("origin", "http://evil.example")).await, StatusCode::FORBIDDEN);
    let own = server.url("");
    let request = Client::new().ws(server.url("/api/v1/stream")).header("origin", own);
    let mut socket = super::server::Socket::open(request.header("cookie", "watchpost_session=admin")).await;
    assert_eq!(socket.json().await["type"], "hello");

    let bearer = ("authorization", "Bearer admin");
    assert_eq!(refused(&server, bearer).await, StatusCode::SERVICE_UNAVAILABLE);
    drop(socket);
    eventually("its place is free", || server.metrics.sessions.get() == 0).await;
    drop(server.enter("admin").await);
    server.accepting.store(false, Ordering::Release);
    assert_eq!(refused(&server, bearer).await, StatusCode::SERVICE_UNAVAILABLE);
    server.stop().await;
}

#[actix_web::test]
async fn a_flood_of_sockets_that_do_not_sign_in_keeps_nobody_out() {
    let mut config = quick();
    config.sessions_max = 2;
    config.anonymous_max = 3;
    // The flood stays until it is dropped.
    config.auth_timeout_ms = 600_000;
    let server = Server::start(config, History::default()).await;
    let refused_for = |kind| server.metrics.sessions_refused.get_or_create(&KindLabels { kind }).get();
    let mut flood = vec![server.connect().await, server.connect().await, server.connect().await];
    // A cookie of nobody is no better than none.
    for header in [("accept", "*/*"), ("cookie", "watchpost_session=old")] {
        assert_eq!(refused(&server, header).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(refused(&server, ("authorization", "Bearer wrong")).await, StatusCode::UNAUTHORIZED);
    assert_eq!((server.metrics.sessions_anonymous.get(), refused_for("anonymous")), (3, 2));

    let bearer = || Client::new().ws(server.url("/api/v1/stream")).header("authorization", "Bearer admin");
    let mut operator = super::server::Socket::open(bearer()).await;
    assert_eq!(operator.json().await["type"], "hello");
    // Who signs in by a frame moves over and frees its place.
    assert_eq!(flood[0].ask(json!({"type": "auth", "token": "admin"})).await["type"], "hello");
    assert_eq!((server.metrics.sessions.get(), server.metrics.sessions_anonymous.get()), (4, 2));
    flood.push(server.connect().await);

    // With all places of the signed in taken, it is told to come back.
    assert_eq!(refused(&server, ("authorization", "Bearer admin")).await, StatusCode::SERVICE_UNAVAILABLE);
    flood[1].send(json!({"type": "auth", "token": "admin"})).await;
    assert_eq!(flood[1].receive().await, Received::Closed(1013));
    assert_eq!((refused_for("signed_in"), server.closed("full")), (2, 1));
    server.stop().await;
}

#[actix_web::test]
async fn who_does_not_sign_in_is_told_and_closed() {
    let mut config = quick();
    config.auth_timeout_ms = 300;
    let server = Server::start(config, History::default()).await;
    let mut wrong = server.connect().await;
    let error = wrong.ask(json!({"type": "subscribe", "id": "a"})).await;
    assert_eq!(error["code"], "unauthenticated");
    let error = wrong.ask(json!({"type": "auth", "token": "wrong"})).await;
    assert_eq!(error["code"], "unauthenticated");
    assert_eq!(wrong.receive().await, Received::Closed(1008));

    let mut silent = server.connect().await;
    assert_eq!(silent.json().await["code"], "unauthenticated");
    assert_eq!(silent.receive().await, Received::Closed(1008));
    eventually("both are counted", || server.closed("unauthenticated") == 2).await;
    server.stop().await;
}

#[actix_web::test]
async fn a_bad_frame_is_answered_and_the_session_goes_on() {
    let mut server = Server::start(quick(), History::default()).await;
    let mut socket = server.subscribe("admin").await;
    let bad = [
        (json!({"type": "subscribe", "id": "a", "filter": {"severty": ["high"]}}), "severty"),
        (json!({"type": "nonsense"}), "nonsense"),
        (json!([1]), "not a frame"),
        (json!({"type": "auth", "token": "admin"}), "signed in already"),
        (json!({"type": "subscribe", "id": "a", "filter": {"vitals": true}}), "devices"),
    ];
    for (frame, named) in bad {
        let error = socket.ask(frame).await;
        assert_eq!(error["type"], "error");
        assert!(error["message"].as_str().unwrap().contains(named), "{error}");
    }
    socket.send_raw(Message::Binary(vec![0; 3].into())).await;
    assert_eq!(socket.json().await["code"], "bad_frame");
    let offset = server.raise("w1", "c1");
    assert_eq!(socket.json().await["offset"], offset);

    for _ in 0..3 {
        socket.send_raw(Message::Binary(vec![0; 3].into())).await;
    }
    assert_eq!(socket.close_code().await, Some(1003));
    server.stop().await;
}

#[actix_web::test]
async fn an_oversize_frame_closes_the_socket() {
    let mut config = quick();
    config.client_frame_bytes_max = 1024;
    let server = Server::start(config, History::default()).await;
    let mut socket = server.enter("admin").await;
    socket.send_raw(Message::Text("x".repeat(1025).into())).await;
    assert_eq!(socket.close_code().await, Some(1009));
    eventually("it is counted", || server.closed("oversize") == 1).await;
    server.stop().await;
}

#[actix_web::test]
async fn a_client_that_does_not_answer_pings_is_closed() {
    let mut config = quick();
    config.heartbeat_ms = 50;
    let server = Server::start(config, History::default()).await;
    // Never polled, so its library answers nothing.
    let silent = server.enter("admin").await;
    let mut lively = server.enter("admin").await;
    let others = async { eventually("the silent one is closed", || server.closed("heartbeat") == 1).await };
    // Reading answers pings.
    tokio::select! {
        () = others => {}
        frame = lively.receive() => panic!("the lively one was told {frame:?}"),
    }
    drop(silent);
    server.stop().await;
}

#[actix_web::test]
async fn a_client_that_stops_reading_is_closed_with_1013_and_holds_up_nobody() {
    let mut config = quick();
    config.write_stall_ms = 1_000;
    // Who does not read answers no ping either. On a busy machine that would be noticed first.
    config.heartbeat_ms = 600_000;
    let mut server = Server::start(config, History::default()).await;
    let mut stalled = server.subscribe("admin").await;
    let mut reader = server.subscribe("admin").await;
    // More than all buffers on the way hold.
    let long = "x".repeat(128 * 1024);
    for n in 1..=200 {
        server.publish(|history| history.raise_with_value("w1", "c1", Severity::Critical, &long));
        assert_eq!(reader.json().await["offset"], n);
    }
    eventually("the stalled one is given up", || server.closed("stalled") == 1).await;
    // However late it reads on, it learns why.
    eventually("its place is free", || server.metrics.sessions.get() == 1).await;
    assert_eq!(stalled.close_code().await, Some(1013));
    let offset = server.raise("w1", "c1");
    assert_eq!(reader.json().await["offset"], offset);
    server.stop().await;
}

#[actix_web::test]
async fn at_shutdown_all_sockets_are_closed_with_1001() {
    let server = Server::start(quick(), History::default()).await;
    let mut sockets = vec![server.subscribe("admin").await, server.enter("c1").await, server.connect().await];
    eventually("all are open", || server.metrics.sessions.get() == 3).await;
    // The third is only known to the registry when it has been served once.
    assert_eq!(sockets[2].ask(json!({"type": "ping"})).await["code"], "unauthenticated");
    let (done, closed) = oneshot::channel();
    server.links.close_all.send(CloseAll { done }).unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.receive().await, Received::Closed(1001));
    }
    tokio::time::timeout(PATIENCE, closed).await.unwrap().unwrap();
    let mut late = server.connect().await;
    assert_eq!(late.receive().await, Received::Closed(1001));
    server.stop().await;
}

#[actix_web::test]
async fn a_registry_that_dies_closes_its_sessions_with_1012() {
    let server = Server::start(quick(), History::default()).await;
    let mut socket = server.subscribe("admin").await;
    server.kill_registry();
    assert_eq!(socket.receive().await, Received::Closed(1012));
    server.stop().await;
}
