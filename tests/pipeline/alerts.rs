//! The life of an alert from events: raised, repeated, pushed or quiet, resolved.

use std::sync::atomic::Ordering;

use awc::http::Method;
use serde_json::{Value, json};
use watchpost::domain::time::UtcMillis;

use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, INFO, SOS, WEAR, wall};
use crate::support::stream::{StreamClient, transitions};
use crate::support::truth::File;

async fn alert(app: &TestApp, id: &Value) -> Value {
    app.get(&format!("/api/v1/alerts/{}", id.as_str().expect("an id"))).await.body
}

#[actix_web::test]
async fn a_repeat_raises_the_count_and_shows_the_latest_place() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let first = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    let mut again = bodies::sos("w1", 2);
    again["latitude"] = json!(30.5);
    again["longitude"] = json!(114.3);
    let second = app.stored(EVENTS, &again).await;
    assert_eq!(first["alert_id"], second["alert_id"]);
    let pushed = screen.alerts_so_far(&app).await;
    assert_eq!(transitions(&pushed), ["raised", "repeated"]);
    let shown = &pushed[1]["alert"];
    assert_eq!((&shown["count"], &shown["location"]["latitude"]), (&json!(2), &json!(30.5)));
    assert_eq!(&shown["event_id"], &first["event_id"]);
    assert_eq!(app.count("SELECT count FROM alert"), 2);
}

#[actix_web::test]
async fn a_repeat_tells_when_it_happened_first_and_last() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    app.stored(EVENTS, &bodies::sos("w1", -1_800)).await;
    app.advance_ms(60_000);
    app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    // What a watch could not send in time: its place is shown, so its time is.
    app.stored(EVENTS, &bodies::sos("w1", -600)).await;
    let pushed = screen.alerts_so_far(&app).await;
    let times = |frame: &Value| ["occurred_at", "last_occurred_at"].map(|name| frame["alert"][name].clone());
    let [first, between, last] =
        ["2025-09-10T04:35:24.000Z", "2025-09-10T04:55:24.000Z", "2025-09-10T05:05:24.000Z"];
    let told: Vec<_> = pushed.iter().map(times).collect();
    assert_eq!(told, [[first, first], [first, last], [first, between]]);
    assert_eq!(pushed[1]["alert"]["raised_at"], "2025-09-10T05:05:30.000Z");
    assert_eq!(pushed[1]["alert"]["last_at"], "2025-09-10T05:06:30.000Z");
}

#[actix_web::test]
async fn an_alert_has_the_beginning_of_a_long_value_and_the_event_all_of_it() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let long = |sign: &str| sign.repeat(100_000);
    let values = [long("救"), long("x"), "救".repeat(1_000)];
    for (second, value) in values.iter().enumerate() {
        app.stored(EVENTS, &bodies::event("w1", SOS, value, second as i64)).await;
    }
    // A type of any length, which the claimed level makes an alert.
    let mut claimed = bodies::event("w2", &long("T"), "1", 0);
    claimed["eventLevel"] = json!("critical");
    app.stored(EVENTS, &claimed).await;
    let pushed = screen.alerts_so_far(&app).await;
    let shown = |index: usize, member: &str| pushed[index]["alert"][member].as_str().map(str::to_owned);
    let cut = |sign: &str| Some(format!("{}…", sign.repeat(999)));
    assert_eq!(shown(0, "value"), cut("救"));
    assert_eq!(shown(1, "value"), cut("x"));
    assert_eq!(shown(2, "value"), Some(values[2].clone()), "as long as can be");
    assert_eq!(shown(3, "event_type"), cut("T"));
    let stored = app.get("/api/v1/events?device_sn=w1").await.body;
    let stored: Vec<&Value> =
        stored["items"].as_array().expect("events").iter().map(|event| &event["value"]).collect();
    assert_eq!(stored, [&values[2], &values[1], &values[0]]);
    let stored = app.get("/api/v1/events?device_sn=w2").await.body;
    assert_eq!(stored["items"][0]["event_type"], long("T"));
}

#[actix_web::test]
async fn an_alert_of_an_earlier_version_is_read_shown_and_repeated() {
    let app = TestApp::start().await;
    let told = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    let now = UtcMillis(app.hand.load(Ordering::Relaxed));
    let dir = app.stop().await;
    let mut file = File::of(&dir.path().join("data"));
    for table in ["alert", "alert_change"] {
        let body = file.texts(&format!("SELECT body AS value FROM {table}")).remove(0);
        let field = format!(r#""last_occurred_at":{},"#, json!("2025-09-10T05:05:24.000Z"));
        assert!(body.contains(&field), "{body}");
        file.execute(&format!("UPDATE {table} SET body = replace(body, '{field}', '')"));
    }
    let app = TestApp::start_in(dir, now, |_| {}).await;
    let mut screen = StreamClient::connect(&app, &app.admin).await;
    screen.subscribe(json!({}), Some(0)).await;
    assert_eq!(screen.alerts_so_far(&app).await[0]["alert"]["last_occurred_at"], Value::Null);
    let read = alert(&app, &told["alert_id"]).await;
    assert_eq!((&read["last_occurred_at"], &read["count"]), (&Value::Null, &json!(1)));
    let again = app.stored(EVENTS, &bodies::sos("w1", 2)).await;
    assert_eq!(again["alert_id"], told["alert_id"]);
    let read = alert(&app, &told["alert_id"]).await;
    assert_eq!(read["last_occurred_at"], "2025-09-10T05:05:26.000Z");
}

#[actix_web::test]
async fn a_second_sos_makes_an_acknowledged_alert_raised_again() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let told = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    let acknowledged = app.act(&told["alert_id"], "acknowledge").await;
    assert_eq!(acknowledged["state"], "acknowledged");
    assert!(acknowledged["acknowledged_by"].is_string());
    app.stored(EVENTS, &bodies::sos("w1", 2)).await;
    let pushed = screen.alerts_so_far(&app).await;
    assert_eq!(transitions(&pushed), ["raised", "acknowledged", "repeated"]);
    let shown = &pushed[2]["alert"];
    assert_eq!((&shown["state"], &shown["acknowledged_by"]), (&json!("raised"), &Value::Null));
    assert_eq!(&alert(&app, &told["alert_id"]).await["state"], "raised");
}

#[actix_web::test]
async fn a_repeat_of_an_acknowledged_alert_that_is_not_critical_leaves_it_acknowledged() {
    let app = TestApp::start().await;
    let of = |second| bodies::event("w1", "com.tdtech.ohos.health.action.SPO2_LOW_ALERT", "85", second);
    let told = app.stored(EVENTS, &of(0)).await;
    app.act(&told["alert_id"], "acknowledge").await;
    app.stored(EVENTS, &of(2)).await;
    let shown = alert(&app, &told["alert_id"]).await;
    assert_eq!((&shown["state"], &shown["count"]), (&json!("acknowledged"), &json!(2)));
}

#[actix_web::test]
async fn after_it_was_resolved_the_next_event_raises_a_new_alert() {
    let app = TestApp::start().await;
    let first = app.stored(EVENTS, &bodies::sos("w1", 0)).await;
    app.act(&first["alert_id"], "resolve").await;
    let second = app.stored(EVENTS, &bodies::sos("w1", 2)).await;
    assert_ne!(first["alert_id"], second["alert_id"]);
    assert_eq!(alert(&app, &second["alert_id"]).await["count"], 1);
    assert_eq!(app.logged_transitions(), ["raised", "resolved", "raised"]);
}

#[actix_web::test]
async fn repeats_that_are_not_critical_are_quiet_for_10_s_live_and_on_resume() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let of = |second| bodies::event("w1", "com.tdtech.ohos.health.action.STRESS_HIGH_ALERT", "90", second);
    app.stored(EVENTS, &of(0)).await;
    app.advance_ms(9_999);
    app.stored(EVENTS, &of(2)).await;
    app.advance_ms(1);
    app.stored(EVENTS, &of(4)).await;
    app.advance_ms(9_999);
    app.stored(EVENTS, &of(6)).await;
    let live = screen.alerts_so_far(&app).await;
    let seen: Vec<_> = live.iter().map(|frame| (&frame["offset"], &frame["alert"]["count"])).collect();
    assert_eq!(seen, [(&json!(1), &json!(1)), (&json!(3), &json!(3))]);
    assert_eq!(app.texts("SELECT quiet AS value FROM alert_change ORDER BY change_offset").len(), 4);
    assert_eq!(app.count("SELECT count FROM alert"), 4);

    let mut back = StreamClient::connect(&app, &app.admin).await;
    back.subscribe(json!({}), Some(0)).await;
    assert_eq!(back.alerts_so_far(&app).await, live);
}

#[actix_web::test]
async fn critical_repeats_are_never_quiet() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    for second in 0..3 {
        app.stored(EVENTS, &bodies::sos("w1", second)).await;
    }
    assert_eq!(transitions(&screen.alerts_so_far(&app).await), ["raised", "repeated", "repeated"]);
}

#[actix_web::test]
async fn taken_off_raises_medium_and_put_on_again_resolves() {
    let app = TestApp::start().await;
    let off = app.stored(EVENTS, &bodies::event("w1", WEAR, "0", 0)).await;
    let shown = alert(&app, &off["alert_id"]).await;
    assert_eq!((&shown["severity"], &shown["rule_id"]), (&json!("medium"), &json!("not-worn")));
    let on = app.stored(EVENTS, &bodies::event("w1", WEAR, "1", 5)).await;
    assert!(on["alert_id"].is_null());
    let shown = alert(&app, &off["alert_id"]).await;
    assert_eq!((&shown["state"], &shown["resolved_by"]), (&json!("resolved"), &Value::Null));
    assert_eq!(app.logged_transitions(), ["raised", "resolved"]);
    assert_eq!(app.count("SELECT worn FROM device"), 1);
}

#[actix_web::test]
async fn a_stale_wear_report_overrides_no_newer_one() {
    for restarted in [false, true] {
        let mut app = TestApp::start().await;
        app.stored(EVENTS, &bodies::event("w1", WEAR, "0", 0)).await;
        app.stored(EVENTS, &bodies::event("w1", WEAR, "1", 10)).await;
        if restarted {
            app = app.restart().await;
        }
        // Older than both, and between the two.
        for second in [-5, 5] {
            let told = app.stored(EVENTS, &bodies::event("w1", WEAR, "0", second)).await;
            assert!(told["alert_id"].is_null(), "{second}: {told}");
        }
        let stale = json!({"SerialNumber": "w1", "wearState": 0, "batteryLevel": 50, "timestamp": wall(7)});
        app.stored(INFO, &stale).await;
        assert_eq!(app.logged_transitions(), ["raised", "resolved"]);
        assert_eq!(app.count("SELECT worn FROM device"), 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM event"), 4);
    }
}

/// A wear change is told by two posts about the device and an event; a watch repeats each on its own.
#[actix_web::test]
async fn the_three_reports_of_a_wear_change_have_one_result_in_every_order() {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (before, after) in [("1", "0"), ("0", "1")] {
        let app = TestApp::start().await;
        for (number, order) in ORDERS.iter().enumerate() {
            let sn = format!("w{number}");
            let info = |state: &str, second| {
                let state: u32 = state.parse().expect("a number");
                json!({"SerialNumber": sn, "wearState": state, "batteryLevel": 50, "timestamp": wall(second)})
            };
            app.stored(EVENTS, &bodies::event(&sn, WEAR, before, 0)).await;
            let reports = [
                // Made just before the change and delayed, the change itself, and just after it.
                (INFO, info(before, 4)),
                (EVENTS, bodies::event(&sn, WEAR, after, 5)),
                (INFO, info(after, 6)),
            ];
            for index in order {
                let (route, body) = &reports[*index];
                app.stored(route, body).await;
            }
        }
        assert_eq!(app.texts("SELECT DISTINCT worn AS value FROM device"), [Some(after.to_owned())]);
        let open = app.count("SELECT count(*) FROM alert WHERE rule_id = 'not-worn' AND is_open");
        assert_eq!(open, if after == "0" { 6 } else { 0 }, "{before} to {after}");
        assert_eq!(app.count("SELECT count(*) FROM alert"), 6);
    }
}

#[actix_web::test]
async fn a_stale_put_on_resolves_no_newer_taken_off() {
    let app = TestApp::start().await;
    app.stored(EVENTS, &bodies::event("w1", WEAR, "0", 10)).await;
    app.stored(EVENTS, &bodies::event("w1", WEAR, "1", 5)).await;
    assert_eq!(app.logged_transitions(), ["raised"]);
    assert_eq!(app.count("SELECT COUNT(*) FROM alert WHERE is_open"), 1);
}

#[actix_web::test]
async fn a_claimed_level_counts_where_no_rule_does() {
    let app = TestApp::start().await;
    let of = |sn: &str, event_type: &str, level: &str| {
        let mut body = bodies::event(sn, event_type, "x", 0);
        body["eventLevel"] = json!(level);
        body
    };
    for (sn, level, raises) in
        [("w1", "CRITICAL", true), ("w2", "emergency", true), ("w3", "WARNING", false), ("w4", "", false)]
    {
        let told = app.stored(EVENTS, &of(sn, "SOMETHING_ELSE", level)).await;
        assert_eq!(told["alert_id"].is_string(), raises, "{level}");
    }
    let severities = app.texts("SELECT rule_id || ' ' || severity AS value FROM alert");
    assert_eq!(severities, vec![Some("as-claimed high".to_owned()); 2]);
    // A rule that matches is not overruled by a claim.
    let mut worn = of("w6", WEAR, "CRITICAL");
    worn["eventValue"] = json!("0");
    let told = app.stored(EVENTS, &worn).await;
    assert_eq!(alert(&app, &told["alert_id"]).await["rule_id"], "not-worn");
}

#[actix_web::test]
async fn of_several_rules_the_most_severe_then_the_most_specific_raises() {
    let app = TestApp::start().await;
    let rule = |id: &str, severity: &str, condition: Value| json!({"rule_id": id, "name": id, "severity": severity, "condition": condition});
    let event = |pattern: &str| json!({"kind": "event", "event_type": pattern});
    for body in [
        rule("z-wide", "high", event("GATE_*")),
        rule("z-narrow", "high", event("GATE_OPEN*")),
        rule("z-exact", "high", event("GATE_OPENED")),
        rule("z-full", "high", event("com.example.GATE_OPENED")),
        rule("z-value", "high", json!({"kind": "event", "event_type": "GATE_*", "value": "forced"})),
        rule("z-critical", "critical", event("*_BROKEN")),
        rule("z-info", "info", event("GATE_BROKEN")),
    ] {
        let made = app.api(Method::POST, "/api/v1/rules", Some(&body)).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }
    for (sn, event_type, value, expected) in [
        ("w1", "GATE_X", "1", "z-wide"),
        ("w2", "GATE_OPENING", "1", "z-narrow"),
        ("w3", "GATE_OPENED", "1", "z-exact"),
        ("w4", "com.example.GATE_OPENED", "1", "z-full"),
        ("w5", "com.example.GATE_OPENED", "forced", "z-value"),
        ("w6", "GATE_BROKEN", "1", "z-critical"),
    ] {
        let told = app.stored(EVENTS, &bodies::event(sn, event_type, value, 0)).await;
        assert_eq!(alert(&app, &told["alert_id"]).await["rule_id"], expected, "{event_type} {value}");
    }
    assert_eq!(app.count("SELECT COUNT(*) FROM alert"), 6);
}

#[actix_web::test]
async fn offsets_have_no_gap_after_everything_and_the_log_ends_where_the_alerts_stand() {
    let mut app = TestApp::start().await;
    for second in 0..3 {
        let watches: Vec<String> = (0..6).map(|n| format!("w{n}")).collect();
        let bodies: Vec<Value> = watches.iter().map(|sn| bodies::event(sn, SOS, "x", second)).collect();
        futures_util::future::join_all(bodies.iter().map(|body| app.stored(EVENTS, body))).await;
        let open = app.get("/api/v1/alerts?open=true").await.body;
        for (index, alert) in open["items"].as_array().expect("alerts").iter().enumerate() {
            let action = if index % 3 == 0 { "resolve" } else { "acknowledge" };
            app.act(&alert["alert_id"], action).await;
        }
        for body in &bodies {
            app.stored(EVENTS, body).await;
        }
        app.stored(EVENTS, &bodies::event("w1", WEAR, if second == 1 { "1" } else { "0" }, second)).await;
        app = app.restart().await;
    }
    let changes = app.count("SELECT COUNT(*) FROM alert_change");
    assert!(changes > 30, "{changes}");
    assert_eq!(app.count("SELECT MIN(change_offset) FROM alert_change"), 1);
    assert_eq!(app.count("SELECT MAX(change_offset) FROM alert_change"), changes);
    assert_eq!(app.state.watermark.get(), changes);
    let stale = "SELECT COUNT(*) FROM alert a WHERE a.body <> (SELECT c.body FROM alert_change c
                 WHERE c.alert_id = a.alert_id ORDER BY c.change_offset DESC LIMIT 1)";
    assert_eq!(app.count(stale), 0);
    let unraised = "SELECT COUNT(*) FROM alert a WHERE 'raised' <> (SELECT c.transition FROM alert_change c
                    WHERE c.alert_id = a.alert_id ORDER BY c.change_offset LIMIT 1)";
    assert_eq!(app.count(unraised), 0);
    // A dashboard that has seen nothing gets all of it that is not quiet, in order.
    let mut screen = StreamClient::connect(&app, &app.admin).await;
    screen.subscribe(json!({}), Some(0)).await;
    let seen: Vec<i64> = screen
        .alerts_so_far(&app)
        .await
        .iter()
        .map(|frame| frame["offset"].as_i64().expect("offset"))
        .collect();
    let pushed =
        app.texts("SELECT change_offset AS value FROM alert_change WHERE NOT quiet ORDER BY change_offset");
    assert_eq!(seen, pushed.into_iter().flatten().filter_map(|text| text.parse().ok()).collect::<Vec<i64>>());
}
