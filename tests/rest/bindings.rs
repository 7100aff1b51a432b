//! Devices and bindings over HTTP.

use actix_web::http::{Method, StatusCode};
use serde_json::{Value, json};
use watchpost::cli::bindings::{self, BindingsCommand, ImportArgs};
use watchpost::cli::client::ServerArgs;

use super::server::{ADMIN, Answer, Server};

#[actix_web::test]
async fn a_device_is_bound_shown_and_taken_back() {
    let server = Server::start().await;
    let path = "/api/v1/devices/A%201/binding";
    let body = json!({ "customer_id": "1", "person_id": "p1", "person_name": "Ann" });
    let bound = server.call(ADMIN, Method::PUT, path, body.clone()).await;
    assert_eq!(bound.status, StatusCode::OK, "{}", bound.text);
    assert_eq!(bound.body["binding"]["person_name"], "Ann");
    assert_eq!(bound.body["history"][0]["bound_by"], "admin");
    let again = server.call(ADMIN, Method::PUT, path, body).await;
    assert_eq!(again.body, bound.body);
    let device = server.get(ADMIN, "/api/v1/devices/A%201").await;
    assert_eq!(device.body["customer_id"], "1");
    assert_eq!(server.rebound.lock().expect("no panic").first().map(String::as_str), Some("A 1"));

    let conflict = json!({ "customer_id": "2", "person_id": "p1" });
    let conflict = server.call(ADMIN, Method::PUT, "/api/v1/devices/B/binding", conflict).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    let ended = server.call(ADMIN, Method::DELETE, path, Value::Null).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    let left = server.get(ADMIN, path).await.body;
    assert!(left["binding"].is_null() && left["history"][0]["unbound_by"] == "admin");
    let unknown = server.get(ADMIN, "/api/v1/devices/none/binding").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[actix_web::test]
async fn a_customer_binds_within_itself_and_sees_no_other_device() {
    let server = Server::start().await;
    server.add_token("one", "wpt_one", Some("1"));
    server.add_token("two", "wpt_two", Some("2"));
    let path = "/api/v1/devices/A/binding";
    let bound = server.call("wpt_one", Method::PUT, path, json!({ "person_id": "p1" })).await;
    assert_eq!(bound.body["binding"]["customer_id"], "1", "{}", bound.text);
    let outside = server.call("wpt_one", Method::PUT, path, json!({ "customer_id": "2" })).await;
    assert_eq!(outside.status, StatusCode::FORBIDDEN);
    let stolen = server.call("wpt_two", Method::PUT, path, json!({})).await;
    assert_eq!(stolen.status, StatusCode::CONFLICT);
    for (method, path) in [(Method::GET, path), (Method::DELETE, path), (Method::GET, "/api/v1/devices/A")] {
        let answer = server.call("wpt_two", method, path, Value::Null).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(server.get("wpt_two", "/api/v1/devices").await.body["items"], json!([]));
    assert_eq!(server.get("wpt_one", "/api/v1/devices").await.body["items"][0]["device_sn"], "A");
    server.stop().await;
}

async fn import(server: &Server, token: &str, query: &str, csv: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/csv; charset=utf-8")];
    server.send(Method::POST, &format!("/api/v1/bindings/import{query}"), &headers, csv).await
}

#[actix_web::test]
async fn an_import_lists_every_fault_by_line_and_imports_all_or_nothing() {
    let server = Server::start().await;
    server
        .call(
            ADMIN,
            Method::PUT,
            "/api/v1/devices/Z/binding",
            json!({ "customer_id": "9", "person_id": "p9" }),
        )
        .await;
    let header = "device_sn,customer_id,person_id,person_name\n";
    let bad = format!("{header}A,1,p1,Ann\nB,,p2,\nC,1,p9,\n");
    let rehearsed = import(&server, ADMIN, "?dry_run=true", &bad).await;
    assert_eq!(rehearsed.status, StatusCode::OK);
    let refused = import(&server, ADMIN, "", &bad).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.body["faults"], rehearsed.body["faults"]);
    let lines: Vec<&Value> =
        refused.body["faults"].as_array().expect("faults").iter().map(|fault| &fault["line"]).collect();
    assert_eq!(lines, [3, 4]);
    assert_eq!(server.get(ADMIN, "/api/v1/devices/A").await.status, StatusCode::NOT_FOUND);

    let good = format!("{header}A,1,p1,Ann\nB,1,p2,Bob\n");
    for (query, changed) in [("", 2), ("", 0)] {
        let answer = import(&server, ADMIN, query, &good).await;
        assert_eq!((answer.status, &answer.body["changed"]), (StatusCode::OK, &json!(changed)));
    }
    assert_eq!(*server.rebound.lock().expect("no panic"), ["Z", "A", "B"]);
    server.add_token("two", "wpt_two", Some("2"));
    let foreign = import(&server, "wpt_two", "", &good).await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

#[actix_web::test]
async fn the_command_line_imports_a_file_and_prints_its_faults() {
    let server = Server::start().await;
    let file = server.with_store(|store| store.dir.path().join("bindings.csv"));
    std::fs::write(&file, "device_sn,customer_id\nA,1\n,1\n").expect("a file");
    let args = |dry_run| {
        let server = ServerArgs { url: Some(server.url.clone()), token: Some(ADMIN.into()), data_dir: None };
        BindingsCommand::Import(ImportArgs { file: file.clone(), dry_run, server })
    };
    for dry_run in [true, false] {
        let error = bindings::run(&args(dry_run), |_| None).await.expect_err("a fault").to_string();
        assert!(error.contains("line 3: device_sn is empty"), "{error}");
    }
    std::fs::write(&file, "device_sn,customer_id\nA,1\n").expect("a file");
    let printed = bindings::run(&args(false), |_| None).await.expect("imported");
    assert_eq!(printed, "1 devices in the file, 1 changed hands");
    server.stop().await;
}
