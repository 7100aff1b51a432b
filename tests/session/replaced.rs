//! A client that changes its mind, and one that asks for what cannot be.

use std::time::Instant;

use serde_json::json;
use watchpost::domain::ids::Offset;
use watchpost::domain::owner::Scope;
use watchpost::domain::rule::Severity;
use watchpost::session::audience::SUBSCRIPTIONS_AT_ONCE;
use watchpost::session::delivery::{Passed, SessionId, Subscription, ToSession};
use watchpost::session::filter::Filter;
use watchpost::session::frames::Since;
use watchpost::session::registry::{Effect, Registry};
use watchpost::storage::alert_log::OpenSnapshot;

use super::history::History;
use super::server::{Server, quick};
use super::world::LIMITS;

const ME: SessionId = SessionId::from_u128(1);

fn subscription(serial: u64, since: Option<Offset>) -> Subscription {
    let since = since.map(|offset| Since { epoch: "epoch".into(), offset });
    Subscription { serial, filter: Filter::default(), since, passed: Passed::default() }
}

/// A registry that has loaded an empty log and then heard of as many changes, with one session.
fn registry(changes: usize) -> (Registry, History) {
    let mut history = History::default();
    let mut registry = Registry::new(LIMITS, "epoch".into());
    for effect in registry.take_effects() {
        if let Effect::ReadLog(read) = effect {
            registry
                .open_read(read, Ok(OpenSnapshot { alerts: Vec::new(), truncated: false, last_offset: 0 }));
        }
    }
    for _ in 0..changes {
        let change = history.raise("w1", "c1", Severity::High);
        let committed = change.offset;
        registry.publish(vec![change], committed, Instant::now());
    }
    registry.enter(ME, Scope::All);
    registry.take_effects();
    (registry, history)
}

/// The serials of the answers, and the offsets of their frames; a snapshot has none.
fn answers(effects: Vec<Effect>) -> Vec<(u64, Vec<Offset>)> {
    let answer = |effect| match effect {
        Effect::Tell(_, ToSession::Snapshot { subscription, .. }) => Some((subscription, Vec::new())),
        Effect::Tell(_, ToSession::Due { subscription, frames, .. }) => {
            Some((subscription, frames.iter().map(|frame| frame.offset).collect()))
        }
        _ => None,
    };
    effects.into_iter().filter_map(answer).collect()
}

#[test]
fn what_was_read_for_a_subscription_that_has_been_replaced_is_not_given_to_the_new_one() {
    let (mut registry, history) = registry(20);
    let read_of = |effects: Vec<Effect>| {
        let read = effects.into_iter().find_map(|effect| match effect {
            Effect::ReadReplay(read) => Some(read),
            _ => None,
        });
        read.expect("a read")
    };
    registry.subscribe(ME, subscription(1, Some(6)));
    let first = read_of(registry.take_effects());
    // Meanwhile another filter, from elsewhere.
    registry.subscribe(ME, subscription(2, Some(9)));
    assert!(answers(registry.take_effects()).is_empty());
    registry.replayed(first, Ok(history.after(first.after, first.until, first.limit)));
    let effects = registry.take_effects();
    let second = read_of(effects);
    assert_eq!((second.serial, second.after), (2, 9));
    registry.replayed(second, Ok(history.after(second.after, second.until, second.limit)));
    let mut given = Vec::new();
    for _ in 0..20 {
        for effect in registry.take_effects() {
            match effect {
                Effect::Tell(_, ToSession::Due { subscription, frames, .. }) => {
                    assert_eq!(subscription, 2);
                    given.extend(frames.iter().map(|frame| frame.offset));
                }
                Effect::ReadReplay(read) => {
                    registry.replayed(read, Ok(history.after(read.after, read.until, read.limit)));
                }
                other => panic!("{other:?}"),
            }
        }
        registry.pull(ME, 2);
    }
    assert_eq!(given, Vec::from_iter(10..=20));
}

#[test]
fn a_flood_of_subscriptions_is_answered_a_few_at_a_time_and_the_newest_counts() {
    let (mut registry, _) = registry(3);
    for serial in 1..=1_000 {
        registry.subscribe(ME, subscription(serial, None));
    }
    let answered = answers(registry.take_effects());
    assert_eq!(answered.len(), SUBSCRIPTIONS_AT_ONCE as usize);
    // What they would have been given meanwhile is of no use to anybody.
    registry.pull(ME, 1_000);
    assert!(answers(registry.take_effects()).is_empty());
    registry.reconcile(3);
    assert_eq!(answers(registry.take_effects()), [(1_000, Vec::new())]);
    registry.reconcile(3);
    assert!(answers(registry.take_effects()).is_empty());
}

#[actix_web::test]
async fn an_offset_that_cannot_be_gets_a_gap_and_a_snapshot_and_costs_nobody_anything() {
    let mut history = History::default();
    for _ in 0..3 {
        history.raise("w1", "c1", Severity::High);
    }
    let mut server = Server::start(quick(), history).await;
    let mut other = server.subscribe("admin").await;
    for epoch in [server.epoch.clone(), "another".to_owned(), String::new()] {
        for offset in [i64::MIN, i64::MIN + 4, -1, 4, i64::MAX] {
            let mut socket = server.enter("admin").await;
            let since = json!({"epoch": epoch, "offset": offset});
            let gap = socket.ask(json!({"type": "subscribe", "id": "a", "since": since})).await;
            assert_eq!(gap, json!({"type": "gap", "from": 1, "to": 3}), "{epoch} {offset}");
            assert_eq!(socket.json().await["offset"], 3);
            // Not even said to have been shown.
            let error = socket.ask(json!({"type": "shown", "offset": offset})).await;
            assert_eq!(error["code"], "bad_frame");
        }
    }
    let offset = server.raise("w1", "c1");
    assert_eq!(other.json().await["offset"], offset);
    server.stop().await;
}
