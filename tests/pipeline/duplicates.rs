//! A retry is not a second event: not in parallel, not after a restart, not after the alert is over.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, EXAMPLE_MS, SOS, WEAR, wall};
use crate::support::stream::{StreamClient, transitions};

const DAY_MS: i64 = 24 * 3_600_000;

/// One event of each kind of identity, each of a watch of its own; whether it raises an alert.
fn cases() -> Vec<(&'static str, Value, bool)> {
    let timed = |sn: &str, time: Value| json!({"eventType": SOS, "deviceSn": sn, "timestamp": time});
    vec![
        ("an SOS", bodies::sos("w-sos", 0), true),
        ("an unknown type", bodies::event("w-unknown", "com.example.NOBODY_KNOWS", "x", 0), false),
        ("a wear report", bodies::event("w-wear", WEAR, "0", 0), true),
        ("no time", json!({"eventType": SOS, "deviceSn": "w-timeless"}), true),
        ("an unreadable time", timed("w-garbage", json!("half past nine")), true),
        ("milliseconds", timed("w-ms", json!(EXAMPLE_MS)), true),
        ("40 days old", timed("w-stale", json!(EXAMPLE_MS - 40 * DAY_MS)), true),
        ("older than the day of grace, as text", timed("w-stale-text", json!(wall(-40 * 86_400))), true),
    ]
}

/// Posts all bodies at once and answers what each was told.
async fn at_once(app: &TestApp, bodies: &[&Value]) -> Vec<Value> {
    let posts = bodies.iter().map(|body| app.post(EVENTS, body));
    let answers = join_all(posts).await;
    answers
        .into_iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.body
        })
        .collect()
}

#[actix_web::test]
async fn five_copies_of_any_event_are_one_whatever_happens_in_between() {
    let mut app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let cases = cases();
    let raising = cases.iter().filter(|(_, _, raises)| *raises).count();

    // Two copies of everything at once, so that copies meet uncommitted ones.
    let twice: Vec<&Value> = cases.iter().chain(cases.iter().rev()).map(|(_, body, _)| body).collect();
    let mut told = at_once(&app, &twice).await;
    let pushed = screen.alerts_so_far(&app).await;
    assert_eq!(transitions(&pushed), vec!["raised"; raising]);

    app = app.restart().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    told.extend(at_once(&app, &cases.iter().map(|(_, body, _)| body).collect::<Vec<_>>()).await);

    // People close the alerts; the next copy must not open them again.
    let first: Vec<Value> = told[..cases.len()].to_vec();
    for ((_, _, raises), told) in cases.iter().zip(&first) {
        if *raises {
            app.act(&told["alert_id"], "resolve").await;
        }
    }
    told.extend(at_once(&app, &cases.iter().map(|(_, body, _)| body).collect::<Vec<_>>()).await);
    let pushed = screen.alerts_so_far(&app).await;
    assert_eq!(transitions(&pushed), vec!["resolved"; raising]);

    app = app.restart().await;
    told.extend(at_once(&app, &cases.iter().map(|(_, body, _)| body).collect::<Vec<_>>()).await);

    let order: Vec<usize> = (0..cases.len())
        .chain((0..cases.len()).rev())
        .chain((0..cases.len() * 3).map(|n| n % cases.len()))
        .collect();
    for (index, told) in order.into_iter().zip(&told) {
        let (what, _, raises) = &cases[index];
        let first = &first[index];
        assert_eq!(told["event_id"], first["event_id"], "{what}");
        assert_eq!(told["alert_id"], first["alert_id"], "{what}");
        assert_eq!(told["alert_id"].is_string(), *raises, "{what}");
    }
    assert_eq!(told.iter().filter(|told| told["duplicate"] == false).count(), cases.len());
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), cases.len() as i64);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert"), raising as i64);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert WHERE is_open"), 0);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert_change WHERE transition = 'raised'"), raising as i64);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert_change"), 2 * raising as i64);
}

#[actix_web::test]
async fn a_hundred_copies_at_once_are_one_event_and_one_push() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let body = bodies::sos("w1", 0);
    let told = at_once(&app, &vec![&body; 100]).await;
    assert!(told.iter().all(|told| told["alert_id"].is_string()));
    let ids: std::collections::BTreeSet<String> =
        told.iter().map(|told| format!("{} {}", told["event_id"], told["alert_id"])).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(transitions(&screen.alerts_so_far(&app).await), ["raised"]);
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 1);
}

#[actix_web::test]
async fn one_client_id_on_two_watches_is_two_events_and_on_one_it_is_part_of_the_event() {
    let app = TestApp::start().await;
    let with_id = |sn: &str, id: &str| {
        let mut body = bodies::sos(sn, 0);
        body["eventId"] = json!(id);
        body
    };
    let first = app.stored(EVENTS, &with_id("w1", "e-1")).await;
    let other_watch = app.stored(EVENTS, &with_id("w2", "e-1")).await;
    let other_id = app.stored(EVENTS, &with_id("w1", "e-2")).await;
    let again = app.stored(EVENTS, &with_id("w1", "e-1")).await;
    assert_ne!(first["event_id"], other_watch["event_id"]);
    assert_ne!(first["event_id"], other_id["event_id"]);
    assert_eq!((&first["event_id"], &again["duplicate"]), (&again["event_id"], &json!(true)));
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 3);
    assert_eq!(app.logged_transitions(), ["raised", "raised", "repeated"]);
}

#[actix_web::test]
async fn the_same_event_in_another_spelling_is_the_same_event() {
    let app = TestApp::start().await;
    let watch = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    let script =
        json!({"event_type": "sos_event", "device_sn": "w1", "event_value": "w1", "timestamp": EXAMPLE_MS});
    let phone = json!({"type": "commonEvent", "data":
        {"action": SOS, "value": "w1", "device_sn": "w1", "timestamp": wall(0)}});
    for body in [script, phone] {
        let told = app.stored(EVENTS, &body).await;
        assert_eq!(
            (&told["event_id"], &told["alert_id"]),
            (&watch["event_id"], &watch["alert_id"]),
            "{body}"
        );
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 1);
}

#[actix_web::test]
async fn what_differs_in_value_time_or_type_is_another_event() {
    let app = TestApp::start().await;
    for body in [
        bodies::event("w1", SOS, "a", 0),
        bodies::event("w1", SOS, "b", 0),
        bodies::event("w1", SOS, "a", 1),
        bodies::event("w1", "com.tdtech.ohos.action.CALL_STATE", "a", 0),
        bodies::event("w2", SOS, "a", 0),
    ] {
        assert_eq!(app.stored(EVENTS, &body).await["duplicate"], false, "{body}");
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 5);
}
