//! One load per turn: what a shard must know of its devices costs the same few statements for one
//! device and for hundreds, and none of them reads a whole table.

use std::sync::{Arc, Mutex};

use diesel::connection::InstrumentationEvent;
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::{Value, json};
use watchpost::domain::ids::DeviceSn;
use watchpost::storage::database::Conn;
use watchpost::storage::device_state::{self, LoadedDevice};

use crate::support::bodies::{self, EVENTS, HEALTH, SOS, sos};
use crate::support::truth::File;
use crate::support::{NOW, TestApp};

const DEVICES: usize = 200;

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// Loads `serials` and answers what was found with the statements that it took.
fn load(conn: &mut Conn, serials: &[DeviceSn]) -> (Vec<LoadedDevice>, Vec<String>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let sql = query.to_string();
            let sql = sql.split(" -- binds").next().unwrap_or_default().to_owned();
            log.lock().expect("no panic").push(sql);
        }
    });
    let loaded = device_state::load(conn, serials).expect("states");
    conn.set_instrumentation(|_: InstrumentationEvent<'_>| {});
    let statements = std::mem::take(&mut *seen.lock().expect("no panic"));
    (loaded, statements)
}

/// Every device has an event of each kind of identity, an open alert and a few samples.
async fn fill(app: &TestApp, serials: &[DeviceSn]) {
    let events: Vec<Value> = serials
        .iter()
        .flat_map(|sn| [bodies::sos(sn.as_str(), 0), json!({"eventType": SOS, "deviceSn": sn.as_str()})])
        .collect();
    app.stored(EVENTS, &json!({"batchEvents": events})).await;
    let samples: Vec<Value> = serials
        .iter()
        .flat_map(|sn| (0..3).map(move |second| bodies::heart_rate(sn.as_str(), second, 70)["data"].clone()))
        .collect();
    app.stored(HEALTH, &json!({ "data": samples })).await;
}

#[actix_web::test]
async fn two_hundred_devices_take_as_many_statements_as_one_and_none_scans_a_table() {
    let app = TestApp::start().await;
    let serials: Vec<DeviceSn> =
        (0..DEVICES).map(|n| DeviceSn::parse(&format!("w{n:03}")).expect("a serial")).collect();
    fill(&app, &serials).await;
    let mut conn = app.connect();

    let (one, for_one) = load(&mut conn, &serials[..1]);
    let (all, for_all) = load(&mut conn, &serials);
    assert_eq!((one.len(), all.len()), (1, DEVICES));
    assert!(all.iter().all(|loaded| loaded.known && loaded.state.open_alerts.len() == 1));
    assert!(all.iter().all(|loaded| loaded.state.open_alerts[0].count == 2));
    assert_eq!((for_one.len(), for_all.len()), (5, 5), "{for_all:#?}");

    for sql in for_one.iter().chain(&for_all) {
        let plan: Vec<Step> =
            diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut conn).expect("a plan");
        let plan: Vec<&str> = plan.iter().map(|step| step.detail.as_str()).collect();
        assert!(!plan.is_empty());
        for step in &plan {
            // The list of serials itself is read from its beginning to its end.
            let of_the_list = *step == "SCAN d" || step.contains("CONSTANT ROW");
            let scans = step.contains("SCAN") && !of_the_list;
            assert!(!scans && !step.contains("TEMP B-TREE"), "{plan:#?}\n{sql}");
        }
        // What is picked by a list of keys is found by these keys, not by looking at all that the
        // device has.
        for (table, key) in [("JOIN event", "SEARCH e "), ("JOIN vitals", "SEARCH v ")] {
            if sql.contains(table) {
                let found = plan.iter().find(|step| step.starts_with(key)).expect("a search");
                let by = if key == "SEARCH e " { "event_id=?" } else { "measured_ms=?" };
                assert!(found.contains(by), "{plan:#?}\n{sql}");
            }
        }
        if sql.contains("FROM alert ") {
            assert!(plan.iter().all(|step| step.contains("alert_open")), "{plan:#?}\n{sql}");
        }
    }
}

#[actix_web::test]
async fn a_body_of_many_unknown_devices_is_loaded_in_few_reads() {
    let app = TestApp::start().await;
    let serials: Vec<DeviceSn> =
        (0..DEVICES).map(|n| DeviceSn::parse(&format!("w{n:03}")).expect("a serial")).collect();
    fill(&app, &serials).await;
    let app = app.restart().await;
    fill(&app, &serials).await;
    let metrics = app.get("/metrics").await.body;
    let metrics = metrics.as_str().expect("text");
    let loads: u64 = metrics
        .lines()
        .filter(|line| line.contains("state_loads") && line.contains("\"loaded\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    // Two shards, two bodies, and at most a handful of turns; not one read per device.
    assert!((1..=20).contains(&loads), "{loads} loads");
    assert_eq!(app.count("SELECT COUNT(*) FROM event"), 2 * DEVICES as i64);
    assert_eq!(app.count("SELECT MAX(count) FROM alert"), 2);
}

/// A lighter report that was to write the device's row may be lost in a crash behind the SOS that
/// overtook it.
#[actix_web::test]
async fn an_sos_of_a_device_without_a_row_is_known_after_a_restart() {
    let app = TestApp::start().await;
    let first = app.stored(EVENTS, &sos("ROWLESS", 0)).await;
    let dir = app.stop().await;
    File::of(&dir.path().join("data")).execute("DELETE FROM device WHERE device_sn = 'ROWLESS'");
    let app = TestApp::start_in(dir, NOW, |_| {}).await;
    let again = app.stored(EVENTS, &sos("ROWLESS", 0)).await;
    assert_eq!((&again["duplicate"], &again["alert_id"]), (&true.into(), &first["alert_id"]));
    assert_eq!(app.count("SELECT MAX(count) FROM alert"), 1);
}
