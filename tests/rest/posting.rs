//! `POST /api/v1/events`.

use actix_web::http::{Method, StatusCode};
use serde_json::{Value, json};
use watchpost::domain::event::ReportBody;
use watchpost::supervision::permits::Priority;

use super::rows::insert_device;
use super::server::{ADMIN, Server};

fn statuses(body: &Value) -> Vec<&str> {
    let items = body["items"].as_array().expect("items");
    items.iter().map(|item| item["status"].as_str().expect("a status")).collect()
}

#[actix_web::test]
async fn valid_items_of_a_bad_array_are_stored_and_every_item_says_what_became_of_it() {
    let server = Server::start().await;
    let items = json!([
        { "device_sn": "A", "event_type": "SOS", "occurred_at": "2027-01-15T08:00:00Z", "value": 1,
          "location": { "latitude": 22.5, "longitude": 114.1 }, "vitals": { "heart_rate": 80 } },
        { "device_sn": "A", "event_type": "SOS", "colour": "red" },
        { "device_sn": "", "event_type": "SOS" },
        { "device_sn": "B", "event_type": "BOOT" },
        7,
    ]);
    let answer = server.post(ADMIN, "/api/v1/events", items).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(statuses(&answer.body), ["stored", "invalid", "invalid", "stored", "invalid"]);
    for item in answer.body["items"].as_array().expect("items") {
        for member in ["event_id", "alert_id", "device_sn", "event_type"] {
            assert!(item.get(member).is_some(), "{item}");
        }
    }
    assert!(answer.body["items"][1]["error"].as_str().is_some_and(|error| error.contains("colour")));
    let reports = server.reports.lock().expect("no panic").clone();
    assert_eq!(reports.len(), 2);
    let ReportBody::Event(event) = &reports[0].body else { unreachable!() };
    assert_eq!((event.value.as_deref(), event.vitals.len()), (Some("1"), 1));
    server.stop().await;
}

#[actix_web::test]
async fn the_same_request_again_is_a_list_of_duplicates() {
    let server = Server::start().await;
    let bearer = format!("Bearer {ADMIN}");
    let headers =
        [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", "k1")];
    let item = json!({ "device_sn": "A", "event_type": "SOS", "occurred_at": "2027-01-15T08:00:00Z" });
    let own_id = json!({ "device_sn": "A", "event_type": "SOS", "occurred_at": "2027-01-15T08:00:00Z",
                         "event_id": "mine" });
    // Two equal items of one request are two events: the index is part of the id.
    let body = json!([item, item, own_id]).to_string();
    let first = server.send(Method::POST, "/api/v1/events", &headers, body.clone()).await;
    assert_eq!(statuses(&first.body), ["stored", "stored", "stored"]);
    let again = server.send(Method::POST, "/api/v1/events", &headers, body).await;
    assert_eq!(statuses(&again.body), ["duplicate", "duplicate", "duplicate"]);
    let ids = |body: &Value| {
        body["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["event_id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&first.body), ids(&again.body));
    let reports = server.reports.lock().expect("no panic").clone();
    let client_ids: Vec<_> = reports[..3]
        .iter()
        .map(|report| match &report.body {
            ReportBody::Event(event) => event.client_event_id.as_deref().unwrap_or_default().to_owned(),
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(client_ids, ["k1#0", "k1#1", "mine"]);
    server.stop().await;
}

#[actix_web::test]
async fn nothing_valid_is_400_and_too_much_is_refused_whole() {
    let server = Server::start().await;
    let none = server.post(ADMIN, "/api/v1/events", json!({ "device_sn": "A" })).await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    assert_eq!(statuses(&none.body), ["invalid"]);
    assert_eq!(none.body["items"][0]["device_sn"], "A");
    for body in [json!("text"), json!(null)] {
        let wrong = server.post(ADMIN, "/api/v1/events", body).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(server.post(ADMIN, "/api/v1/events", json!([])).await.status, StatusCode::OK);
    let max = server.state.config.watch.records_max;
    let many = |count| Value::Array(vec![json!({ "device_sn": "A", "event_type": "BOOT" }); count]);
    assert_eq!(server.post(ADMIN, "/api/v1/events", many(max)).await.status, StatusCode::OK);
    let too_many = server.post(ADMIN, "/api/v1/events", many(max + 1)).await;
    assert_eq!(too_many.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

#[actix_web::test]
async fn a_full_server_answers_503_with_retry_after_and_promises_nothing() {
    let server = Server::start().await;
    let pool = &server.state.admission.pool;
    let room = pool.capacity_kib() * 1024;
    let held = pool.acquire(Priority::CriticalBound, room as usize).expect("all of it");
    let item = json!({ "device_sn": "A", "event_type": "BOOT" });
    let refused = server.post(ADMIN, "/api/v1/events", item.clone()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = server.state.config.admission.retry_after_s.to_string();
    assert_eq!(refused.header("retry-after"), retry_after);
    assert!(server.reports.lock().expect("no panic").is_empty());
    drop(held);
    assert_eq!(server.post(ADMIN, "/api/v1/events", item).await.status, StatusCode::OK);
    server.stop().await;
}

#[actix_web::test]
async fn a_customer_reports_for_its_own_devices_only() {
    let server = Server::start().await;
    server.add_token("one", "wpt_one", Some("1"));
    server.with_store(|store| {
        insert_device(&mut store.conn, "A", "1");
        insert_device(&mut store.conn, "B", "2");
    });
    let item = |device: &str| json!({ "device_sn": device, "event_type": "BOOT" });
    let answer = server.post("wpt_one", "/api/v1/events", json!([item("A"), item("B"), item("X")])).await;
    assert_eq!(statuses(&answer.body), ["stored", "invalid", "invalid"]);
    assert_eq!(answer.body["items"][1]["error"], answer.body["items"][2]["error"]);
    server.stop().await;
}
