//! Alerts over HTTP: lists, one, and what operators do.

use std::time::Instant;

use actix_web::http::StatusCode;
use serde_json::{Value, json};
use watchpost::supervision::outage::OutageKind;

use super::rows::{insert_alert, insert_event};
use super::server::{ADMIN, Server};
use super::store::NOW;
use crate::support::eventually;

#[actix_web::test]
async fn an_action_is_done_once_and_the_same_command_again_is_no_conflict() {
    let server = Server::start().await;
    server.add_token("ann", "wpt_ann", Some("1"));
    let id = server.with_store(|store| insert_alert(&mut store.conn, 1_000, 1, "D", "1"));
    let path = |action: &str| format!("/api/v1/alerts/{id}/{action}");
    let command = json!({ "command_id": "c1", "note": "on my way" });
    let done = server.post("wpt_ann", &path("acknowledge"), command.clone()).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(done.body["acknowledged_by"], "ann");
    let again = server.post("wpt_ann", &path("acknowledge"), command).await;
    assert_eq!((again.status, &again.body["state"]), (StatusCode::OK, &json!("acknowledged")));

    let late = server.post(ADMIN, &path("acknowledge"), json!({})).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert_eq!(late.body["present"]["acknowledged_by"], "ann");
    // The id of one command does not stand for another.
    let resolved = server.post(ADMIN, &path("resolve"), json!({ "command_id": "c1" })).await;
    assert_eq!((resolved.status, &resolved.body["state"]), (StatusCode::OK, &json!("resolved")));
    for action in ["acknowledge", "resolve"] {
        let closed = server.post(ADMIN, &path(action), Value::Null).await;
        assert_eq!(closed.status, StatusCode::CONFLICT);
        assert_eq!(closed.body["present"]["resolved_by"], "admin");
    }
    let shown = server.get("wpt_ann", &format!("/api/v1/alerts/{id}")).await;
    let changes = shown.body["changes"].as_array().expect("changes");
    let transitions: Vec<&Value> = changes.iter().map(|change| &change["transition"]).collect();
    assert_eq!(transitions, ["raised", "acknowledged", "resolved"]);
    assert_eq!(changes[1]["note"], "on my way");
    assert_eq!(shown.body["alert_id"], id.to_string());
    server.stop().await;
}

#[actix_web::test]
async fn nobody_acts_on_or_sees_an_alert_of_another_customer() {
    let server = Server::start().await;
    server.add_token("eve", "wpt_eve", Some("2"));
    let id = server.with_store(|store| insert_alert(&mut store.conn, 1_000, 1, "D", "1"));
    for path in [format!("/api/v1/alerts/{id}/resolve"), "/api/v1/alerts/nonsense/resolve".into()] {
        assert_eq!(server.post("wpt_eve", &path, json!({})).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(server.get("wpt_eve", &format!("/api/v1/alerts/{id}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get("wpt_eve", "/api/v1/alerts").await.body["items"], json!([]));
    assert_eq!(server.get(ADMIN, "/api/v1/alerts").await.body["items"][0]["alert_id"], id.to_string());
    server.stop().await;
}

#[actix_web::test]
async fn cursors_lead_through_a_whole_list() {
    let server = Server::start().await;
    server.with_store(|store| {
        for number in 0..7u8 {
            insert_alert(&mut store.conn, 1_000 + i64::from(number / 3), number, &format!("D{number}"), "1");
            insert_event(&mut store.conn, (1_000, number), "D", "1", "SOS");
        }
    });
    for (list, member) in [("alerts", "alert_id"), ("events", "event_id"), ("rules", "rule_id")] {
        let whole = server.get(ADMIN, &format!("/api/v1/{list}?limit=500")).await;
        let ids = |body: &Value| -> Vec<Value> {
            body["items"].as_array().expect("items").iter().map(|item| item[member].clone()).collect()
        };
        let (mut walked, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.get(ADMIN, &format!("/api/v1/{list}?limit=2{cursor}")).await;
            walked.extend(ids(&page.body));
            match page.body["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(walked, ids(&whole.body), "{list}");
        assert!(walked.len() >= 7 && whole.body["next"].is_null());
    }
    let severe = server.get(ADMIN, "/api/v1/alerts?severity=high,critical&open=true&state=raised").await;
    assert_eq!(severe.body["items"].as_array().map(Vec::len), Some(7));
    let wrong = server.get(ADMIN, "/api/v1/alerts?severity=bad").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

#[actix_web::test]
async fn while_nothing_can_be_stored_an_acknowledgement_is_taken_in_memory_and_stored_afterwards() {
    let server = Server::start().await;
    server.add_token("ann", "wpt_ann", Some("1"));
    server.add_token("eve", "wpt_eve", Some("2"));
    let id = server.with_store(|store| insert_alert(&mut store.conn, 1_000, 1, "D", "1"));
    let path = |action: &str| format!("/api/v1/alerts/{id}/{action}");
    let outage = server.state.admission.outage.clone();
    outage.begin(OutageKind::DiskFull, "test".into(), NOW, Instant::now());

    let command = json!({ "command_id": "c1", "note": "on my way" });
    for _ in 0..2 {
        let taken = server.post("wpt_ann", &path("acknowledge"), command.clone()).await;
        assert_eq!((taken.status, &taken.body["stored"]), (StatusCode::ACCEPTED, &json!(false)));
        assert_eq!(
            (&taken.body["state"], &taken.body["acknowledged_by"]),
            (&json!("acknowledged"), &json!("ann"))
        );
        assert_eq!(taken.body["command_id"], "c1");
    }
    let second = server.post(ADMIN, &path("acknowledge"), json!({})).await;
    assert_eq!(
        (second.status, &second.body["present"]["acknowledged_by"]),
        (StatusCode::CONFLICT, &json!("ann"))
    );
    assert_eq!(second.body["stored"], false, "nobody may take it for what is stored");
    assert_eq!(server.post("wpt_eve", &path("acknowledge"), json!({})).await.status, StatusCode::NOT_FOUND);
    for (action, body) in [("comment", json!({ "note": "x" })), ("resolve", json!({}))] {
        let refused = server.post(ADMIN, &path(action), body).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);
    }
    let shown = server.get("wpt_ann", &format!("/api/v1/alerts/{id}")).await;
    assert_eq!(shown.body["state"], "raised", "what is stored is what is read");
    assert_eq!(server.state.pending.list().len(), 1);

    outage.end(Instant::now());
    let gone = || async { server.state.pending.list().is_empty().then_some(()) };
    eventually("it is stored", gone).await;
    let shown = server.get("wpt_ann", &format!("/api/v1/alerts/{id}")).await;
    assert_eq!(shown.body["acknowledged_by"], "ann");
    assert_eq!(shown.body["changes"].as_array().map(Vec::len), Some(2));
    server.stop().await;
}
