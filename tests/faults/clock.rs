//! Clocks that are wrong: those of watches, and the server's own when somebody sets it.

use serde_json::{Value, json};

use super::tools::assert_gap_free;
use crate::support::TestApp;
use crate::support::bodies::{self, EVENTS, SOS};
use crate::support::stream::StreamClient;

const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3_600;
const STRESS: &str = "com.tdtech.ohos.health.action.STRESS_HIGH_ALERT";

/// Within what counts as a watch's clock, at its limits, and beyond them.
fn offsets_s() -> Vec<i64> {
    let days = (-30..=1).map(|day| day * DAY_S - 7);
    let limits = [-31 * DAY_S, -31 * DAY_S + 60, -32 * DAY_S, -400 * DAY_S, DAY_S, DAY_S + 60, 3_650 * DAY_S];
    days.chain(limits).collect()
}

#[actix_web::test]
async fn an_sos_raises_whatever_its_watch_takes_for_the_time_and_again_is_the_same() {
    let mut app = TestApp::start().await;
    let sos = |index: usize, offset: i64| bodies::sos(&format!("W{index}"), offset);
    let mut first: Vec<Value> = Vec::new();
    for (index, offset) in offsets_s().into_iter().enumerate() {
        let told = app.stored(EVENTS, &sos(index, offset)).await;
        assert!(told["alert_id"].is_string() && told["duplicate"] == false, "{offset} s: {told}");
        first.push(told);
    }
    for _ in 0..2 {
        for (index, offset) in offsets_s().into_iter().enumerate() {
            let told = app.stored(EVENTS, &sos(index, offset)).await;
            let ids = |told: &Value| (told["event_id"].clone(), told["alert_id"].clone());
            assert_eq!((ids(&told), &told["duplicate"]), (ids(&first[index]), &json!(true)), "{offset} s");
        }
        app = app.restart().await;
    }
    let alerts = app.count("SELECT count(*) FROM alert WHERE count = 1 AND is_open");
    assert_eq!(alerts, first.len() as i64);
    assert_gap_free(&app);
}

/// The server's clock goes there and back by an hour while watches, an operator and a screen are at
/// work. What measures a time does not go by it.
#[actix_web::test]
async fn no_alert_is_lost_or_held_back_when_the_servers_clock_is_set() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let mut raised = 0;
    let mut sent: Vec<Value> = Vec::new();
    let stress = |value: usize| bodies::event("STRESSED", STRESS, &value.to_string(), value as i64);
    app.stored(EVENTS, &stress(0)).await;
    assert_eq!(screen.next_alert().await["change"]["transition"], "raised");
    for (step, hours) in [0, 1, -1, -1, 1, 1, -1].into_iter().enumerate() {
        app.advance_ms(hours * HOUR_S * 1_000);
        let told = app.stored(EVENTS, &bodies::sos(&format!("W{step}"), step as i64)).await;
        raised += 1;
        let shown = screen.next_alert().await;
        assert_eq!(shown["alert"]["alert_id"], told["alert_id"], "step {step}: it is on the screen");
        app.act(&told["alert_id"], "acknowledge").await;
        assert_eq!(screen.next_alert().await["change"]["transition"], "acknowledged");
        // What was sent before is still known, whichever hour it came in.
        sent.push(bodies::sos(&format!("W{step}"), step as i64));
        for body in &sent {
            assert_eq!(app.stored(EVENTS, body).await["duplicate"], true, "step {step}: {body}");
        }
        if hours != 0 {
            // A repeat is not taken for one within ten seconds of the last, an hour before or after.
            app.stored(EVENTS, &stress(2 * step)).await;
            assert_eq!(screen.next_alert().await["change"]["transition"], "repeated", "step {step}");
            app.stored(EVENTS, &stress(2 * step + 1)).await;
        }
    }
    let stressed = "SELECT count(*) FROM alert_change WHERE device_sn = 'STRESSED'";
    assert_eq!(app.count(&format!("{stressed} AND NOT quiet")), 1 + 6);
    assert_eq!(app.count(&format!("{stressed} AND quiet")), 6, "the second of each pair");
    let open = "SELECT count(*) FROM alert WHERE state = 'acknowledged' AND count = 1";
    assert_eq!(app.count(open), raised);
    assert_eq!(app.count(&format!("SELECT count(*) FROM event WHERE event_type LIKE '%{SOS}'")), raised);
    assert_gap_free(&app);
    app.stop().await;
}
