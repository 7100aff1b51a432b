//! Reports over which their shard panics: kept for people, and an emergency among them is raised.

use actix_web::http::{Method, StatusCode};
use serde_json::json;
use watchpost::api::quarantine_desk::UNREADABLE_SN;
use watchpost::domain::event::ReportBody;

use super::server::{POISON, Server};

#[actix_web::test]
async fn an_emergency_that_nobody_could_decide_upon_is_raised_and_nothing_else_is() {
    let server = Server::start().await;
    let post = async |event_type: &str| {
        let body = json!({"eventType": event_type, "eventValue": "1", "deviceSn": POISON,
            "timestamp": "2025-09-10 13:05:28"});
        let headers = [("Content-Type", "application/json")];
        let answer = server.send(Method::POST, "/upload_common_event", &headers, body.to_string()).await;
        assert_eq!(
            (answer.status, &answer.body["quarantined"]),
            (StatusCode::OK, &json!(true)),
            "{}",
            answer.text
        );
    };
    post("com.tdtech.ohos.health.action.STRESS_HIGH_ALERT").await;
    assert!(server.reports.lock().expect("no panic").is_empty());
    post("com.tdtech.ohos.health.action.SOS_EVENT").await;
    let reports = server.reports.lock().expect("no panic").clone();
    let [raised] = &reports[..] else { panic!("{reports:?}") };
    let ReportBody::Event(event) = &raised.body else { panic!("{raised:?}") };
    assert_eq!(raised.device_sn.as_str(), UNREADABLE_SN);
    assert_eq!((&*event.event_type, event.value.as_deref()), ("SOS_UNREADABLE", Some("SOS_EVENT of POISON")));
    server.stop().await;
}
