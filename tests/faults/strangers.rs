//! More devices than anybody has registered, at a real server.

use actix_web::http::StatusCode;
use watchpost::device::judge::UNREGISTERED_SN;

use super::tools::{EVENTS, assert_gap_free, event, post, post_later};
use crate::support::TestApp;

#[actix_web::test]
async fn the_emergencies_of_strangers_beyond_the_limit_share_one_alert() {
    let app = TestApp::start_with(|config| config.device.devices_unbound_max = 3).await;
    let sos = |n: usize| event(&format!("STRANGER-{n}"), "SOS_EVENT", 1);
    let posts: Vec<_> = (0..20).map(|n| post_later(&app, EVENTS, &sos(n))).collect();
    let mut alerts = Vec::new();
    for told in posts {
        let told = told.await.expect("no panic");
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        alerts.push(told.body["alert_id"].as_str().expect("an alert").to_owned());
    }
    assert_eq!(app.count("SELECT count(*) FROM event"), 20);
    assert_eq!(app.count("SELECT count(*) FROM device"), 3);
    assert_eq!(app.count("SELECT count(*) FROM alert"), 4);
    let shared = format!("SELECT count FROM alert WHERE device_sn = '{UNREGISTERED_SN}'");
    assert_eq!(app.count(&shared), 17);
    // A retry is told of the same alert and raises no count.
    for (n, alert_id) in alerts.iter().enumerate() {
        let again = post(&app, EVENTS, &sos(n)).await;
        assert_eq!(again.body["alert_id"].as_str(), Some(alert_id.as_str()));
    }
    assert_eq!(app.count(&shared), 17);
    assert_eq!(app.count("SELECT count(*) FROM event"), 20);
    assert_gap_free(&app);
    app.stop().await;
}
