//! Lists: nobody sees what is not theirs, and pages neither skip nor repeat.

use diesel::prelude::*;
use watchpost::domain::alert::AlertState;
use watchpost::domain::owner::Scope;
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::alerts::{self, AlertFilter};
use watchpost::storage::devices::DeviceFilter;
use watchpost::storage::events::{self, EventFilter};
use watchpost::storage::page::PageLimit;
use watchpost::storage::schema::device_status;
use watchpost::storage::{devices, owners, tokens};

use super::rows::{insert_alert, insert_device, insert_event, insert_vitals, raised, sos_rule, store_change};
use super::store::{PATIENCE, Store, bind, binding, customer, scope, sn};

/// All items of a list, three at a time.
fn walk<T, K>(mut page: impl FnMut(Option<K>, PageLimit) -> (Vec<T>, Option<K>)) -> Vec<T> {
    let limit = PageLimit::new(3).expect("a limit");
    let mut all = Vec::new();
    let mut key = None;
    loop {
        let (items, next) = page(key, limit);
        assert!(items.len() <= 3);
        all.extend(items);
        match next {
            None => return all,
            some => key = some,
        }
    }
}

fn event_times(store: &mut Store, scope: &Scope, filter: &EventFilter) -> Vec<i64> {
    walk(|key, limit| {
        let page = events::list(&mut store.conn, scope, filter, key, limit).expect("events");
        (page.items.into_iter().map(|event| event.occurred_at.0).collect(), page.next)
    })
}

const HOUR: i64 = 3_600_000;

#[test]
fn events_come_newest_first_without_gap_or_repeat_under_every_filter() {
    let mut store = Store::new();
    for number in 0..10u8 {
        let owner = if number % 2 == 0 { "1" } else { "2" };
        let kind = if number < 6 { "com.x.SOS_EVENT" } else { "com.x.BOOT" };
        // Pairs of the same millisecond.
        let at = 100 * HOUR + i64::from(number / 2) * HOUR;
        insert_event(&mut store.conn, (at, number), &format!("D{owner}"), owner, kind);
    }
    let all = event_times(&mut store, &Scope::All, &EventFilter::default());
    assert_eq!(all.len(), 10);
    assert!(all.is_sorted_by(|a, b| a >= b));
    let filter = EventFilter { event_type: Some("Other.sos_event".into()), ..EventFilter::default() };
    assert_eq!(event_times(&mut store, &Scope::All, &filter).len(), 6);
    let own = |filter: EventFilter| (filter, scope("1"));
    for (filter, count) in [
        (EventFilter::default(), 5),
        (EventFilter { event_type: Some("SOS_EVENT".into()), ..EventFilter::default() }, 3),
        (EventFilter { device_sn: Some(sn("D1")), ..EventFilter::default() }, 5),
        (EventFilter { device_sn: Some(sn("D2")), ..EventFilter::default() }, 0),
        (EventFilter { customer_id: Some(customer("2")), ..EventFilter::default() }, 0),
    ] {
        let (filter, scope) = own(filter);
        assert_eq!(event_times(&mut store, &scope, &filter).len(), count, "{filter:?}");
    }
    let between = EventFilter {
        from: Some(UtcMillis(101 * HOUR)),
        to: Some(UtcMillis(103 * HOUR)),
        ..EventFilter::default()
    };
    let times = event_times(&mut store, &Scope::All, &between);
    assert_eq!(times, [102 * HOUR, 102 * HOUR, 101 * HOUR, 101 * HOUR]);
}

#[test]
fn what_a_watch_sent_beyond_our_fields_is_shown_byte_for_byte() {
    let mut store = Store::new();
    insert_event(&mut store.conn, (HOUR, 1), "D", "1", "SOS");
    let page =
        events::list(&mut store.conn, &Scope::All, &EventFilter::default(), None, PageLimit::default())
            .expect("events");
    let extra = page.items[0].extra.as_ref().map(|extra| extra.get());
    assert_eq!(extra, Some("{\"b\":1.50,\"a\":2}"));
}

fn alert_ids(store: &mut Store, scope: &Scope, filter: &AlertFilter) -> Vec<String> {
    walk(|key, limit| {
        let page = alerts::list(&mut store.conn, scope, filter, key, limit).expect("alerts");
        let id = |body: &str| {
            let alert: serde_json::Value = serde_json::from_str(body).expect("JSON");
            alert["alert_id"].as_str().expect("a text").to_owned()
        };
        (page.items.iter().map(|body| id(body.get())).collect(), page.next)
    })
}

#[test]
fn alerts_are_filtered_scoped_and_paged() {
    let mut store = Store::new();
    for number in 0..12u8 {
        let owner = if number % 2 == 0 { "1" } else { "2" };
        let mut rule = sos_rule();
        rule.severity = Severity::ALL[usize::from(number % 3) + 2];
        let at = 1_000 + i64::from(number / 4);
        let change = raised(at, number, &format!("D{number}"), owner, &rule);
        store_change(&mut store.conn, &change);
        if number >= 8 {
            let mut alert = change.alert;
            let cause = watchpost::domain::alert::Cause::Action(format!("c{number}").into());
            store_change(&mut store.conn, &alert.resolve_by_device(cause, UtcMillis(5_000)));
        }
    }
    let all = AlertFilter::default();
    let mut ids = alert_ids(&mut store, &Scope::All, &all);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 12);
    let open = AlertFilter { open: Some(true), ..all.clone() };
    let closed = AlertFilter { open: Some(false), ..all.clone() };
    let severe = AlertFilter { severities: vec![Severity::High, Severity::Critical], ..all.clone() };
    let one = AlertFilter { severities: vec![Severity::Critical], ..all.clone() };
    let resolved = AlertFilter { state: Some(AlertState::Resolved), ..all.clone() };
    let by_rule = AlertFilter { rule_id: Some(sos_rule().rule_id), ..all.clone() };
    let device = AlertFilter { device_sn: Some(sn("D2")), open: Some(true), ..all.clone() };
    let foreign = AlertFilter { customer_id: Some(customer("2")), ..all.clone() };
    let late = AlertFilter { from: Some(UtcMillis(1_001)), to: Some(UtcMillis(1_002)), ..all.clone() };
    for (filter, everywhere, own) in [
        (&all, 12, 6),
        (&open, 8, 4),
        (&closed, 4, 2),
        (&severe, 8, 4),
        (&one, 4, 2),
        (&resolved, 4, 2),
        (&by_rule, 12, 6),
        (&device, 1, 1),
        (&foreign, 6, 0),
        (&late, 4, 2),
    ] {
        assert_eq!(alert_ids(&mut store, &Scope::All, filter).len(), everywhere, "{filter:?}");
        assert_eq!(alert_ids(&mut store, &scope("1"), filter).len(), own, "{filter:?}");
    }
}

#[test]
fn an_alert_of_somebody_else_does_not_exist() {
    let mut store = Store::new();
    let id = insert_alert(&mut store.conn, 1_000, 1, "D", "1");
    assert!(alerts::get(&mut store.conn, &scope("1"), id).expect("a look-up").is_some());
    assert!(alerts::get(&mut store.conn, &scope("2"), id).expect("a look-up").is_none());
    assert_eq!(alerts::changes(&mut store.conn, &scope("1"), id).expect("changes").0.len(), 1);
    assert!(alerts::changes(&mut store.conn, &scope("2"), id).expect("changes").0.is_empty());
}

#[test]
fn devices_are_scoped_and_paged_by_serial() {
    let mut store = Store::new();
    for number in 0..8 {
        insert_device(&mut store.conn, &format!("D{number}"), if number < 4 { "1" } else { "2" });
    }
    let filter = DeviceFilter::default();
    let mut serials = |scope: &Scope| {
        walk(|key, limit| {
            let page = devices::list(&mut store.conn, scope, &filter, PATIENCE, key.as_ref(), limit)
                .expect("devices");
            (page.items.into_iter().map(|device| device.device_sn.to_string()).collect(), page.next)
        })
    };
    assert_eq!(serials(&Scope::All).len(), 8);
    assert_eq!(serials(&scope("2")), ["D4", "D5", "D6", "D7"]);
    let visible = owners::visible(&mut store.conn, &scope("2"), &[sn("D1"), sn("D5"), sn("X")]);
    assert_eq!(visible.expect("devices"), [sn("D5")]);
}

#[test]
fn a_device_that_was_handed_over_shows_nothing_of_its_former_customer() {
    let mut store = Store::new();
    store.run(bind(binding("D", "1", "o1", "p1"))).expect("bound");
    insert_vitals(&mut store.conn, "D", "1", 1_000, 70.0);
    insert_alert(&mut store.conn, 1_000, 1, "D", "1");
    diesel::insert_into(device_status::table)
        .values((
            device_status::device_sn.eq("D"),
            device_status::reported_ms.eq(1_000),
            device_status::received_ms.eq(1_000),
            device_status::wifi_address.eq("at home"),
        ))
        .execute(&mut store.conn)
        .expect("a status");
    store.run(bind(binding("D", "2", "o2", "p2"))).expect("bound");
    assert!(devices::get(&mut store.conn, &scope("1"), &sn("D"), PATIENCE).expect("a look-up").is_none());
    let theirs =
        devices::get(&mut store.conn, &scope("2"), &sn("D"), PATIENCE).expect("a look-up").expect("theirs");
    assert!(theirs.vitals.is_none() && theirs.status.is_none() && theirs.alerts.is_empty());
    assert_eq!(theirs.bindings.len(), 1);
    let all =
        devices::get(&mut store.conn, &Scope::All, &sn("D"), PATIENCE).expect("a look-up").expect("all");
    assert!(all.vitals.is_some() && all.status.is_some() && all.bindings.len() == 2);
    assert_eq!(all.alerts.len(), 1);
}

#[test]
fn tokens_are_paged_by_id() {
    let mut store = Store::new();
    for number in 0..7 {
        let kind = watchpost::storage::command::TokenKind::Admin;
        let token = super::store::token(&format!("t{number}"), &format!("{number}"), kind, None);
        store.run(watchpost::storage::command::Command::CreateToken(token)).expect("a token");
    }
    let ids = walk(|key: Option<String>, limit| {
        let page = tokens::list(&mut store.conn, &Scope::All, key.as_deref(), limit).expect("tokens");
        (page.items.into_iter().map(|token| token.token_id).collect(), page.next)
    });
    assert_eq!(ids, ["t0", "t1", "t2", "t3", "t4", "t5", "t6"]);
}
