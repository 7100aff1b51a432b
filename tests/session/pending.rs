//! Who has an alert in hand while nothing can be stored.

use std::sync::Arc;

use serde_json::{Value, json};
use watchpost::domain::alert::{ActionKind, Alert, AlertState, OperatorAction, Transition};
use watchpost::domain::owner::Scope;
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;
use watchpost::session::delivery::ToSession;
use watchpost::session::pending::{NotPending, Pending};
use watchpost::session::registry::Effect;

use super::history::{History, alert};
use super::server::{Server, quick};
use super::world::{World, id, view};

const AT: UtcMillis = UtcMillis(1_790_000_100_000);

fn two_alerts() -> History {
    let mut history = History::default();
    history.raise("w1", "c1", Severity::Critical);
    history.raise("w2", "c2", Severity::Critical);
    history
}

fn acknowledge(id: i64, command_id: &str, actor: &str) -> OperatorAction {
    let alert_id = alert(id, "w1", "c1", Severity::Critical).alert_id;
    let (command_id, actor) = (command_id.into(), actor.into());
    let kind = ActionKind::Acknowledge;
    OperatorAction { alert_id, kind, command_id, actor, note: None, outcome: None, said_at: None }
}

fn frame(acknowledged: Value) -> Value {
    json!({"type": "pending", "acknowledged": acknowledged})
}

#[actix_web::test]
async fn whoever_may_see_an_alert_learns_who_has_it_and_when_that_is_over() {
    let server = Server::start(quick(), two_alerts()).await;
    let (mut all, mut own) = (server.subscribe("admin").await, server.subscribe("c1").await);
    let mut other = server.subscribe("c2").await;
    let pending = &server.links.pending;
    let first = alert(1, "w1", "c1", Severity::Critical);
    pending.take(&first, acknowledge(1, "a", "ann"), Scope::All, AT).expect("taken");
    let anns = frame(json!([{"alert_id": "1", "count": 1, "acknowledged_by": "ann", "acknowledged_at": AT}]));
    assert_eq!(all.json().await, anns);
    assert_eq!(own.json().await, anns);
    assert_eq!(other.ask(json!({"type": "ping"})).await["type"], "pong", "it may not see that alert");

    // Whoever comes later, or comes back, is told before anything else.
    let mut late = server.enter("c1").await;
    assert_eq!(late.ask(json!({"type": "subscribe", "id": "all"})).await, anns);
    assert_eq!(late.json().await["type"], "snapshot");
    let mut back = server.enter("admin").await;
    let resumed = json!({"type": "subscribe", "id": "all", "since": server.since(2)});
    assert_eq!(back.ask(resumed).await, anns);
    // With another filter nothing is pending any more.
    let elsewhere = json!({"devices": ["w2"]});
    let narrowed = json!({"type": "subscribe", "id": "one", "filter": elsewhere});
    assert_eq!(back.ask(narrowed).await, frame(json!([])));
    assert_eq!(back.json().await["type"], "snapshot");

    pending.settle(first.alert_id);
    for socket in [&mut all, &mut own, &mut late] {
        assert_eq!(socket.json().await, frame(json!([])));
    }
    for socket in [&mut back, &mut other] {
        assert_eq!(socket.ask(json!({"type": "ping"})).await["type"], "pong", "nothing that it knew is over");
    }
    server.stop().await;
}

#[actix_web::test]
async fn of_several_people_the_first_one_has_it_and_the_same_command_is_one() {
    let server = Server::start(quick(), two_alerts()).await;
    let pending = &server.links.pending;
    let stored = alert(1, "w1", "c1", Severity::Critical);
    let take = |id, who| pending.take(&stored, acknowledge(1, id, who), Scope::All, AT);
    assert!(matches!(take("a", "ann"), Ok((_, true))));
    assert!(matches!(take("a", "ann"), Ok((_, false))));
    let Err(NotPending::Pending(first)) = take("b", "bob") else { panic!("two have it") };
    assert_eq!(first.alert.acknowledged_by.as_deref(), Some("ann"));
    let mut taken = stored.clone();
    taken.act(&acknowledge(1, "z", "zoe"), AT).expect("it is open");
    let done = pending.take(&taken, acknowledge(2, "c", "cy"), Scope::All, AT);
    assert!(matches!(done, Err(NotPending::Illegal(_))), "it is stored as acknowledged already");
    server.stop().await;
}

#[actix_web::test]
async fn that_it_is_stored_is_told_before_it_is_pending_no_more() {
    let mut server = Server::start(quick(), two_alerts()).await;
    let mut socket = server.subscribe("admin").await;
    let first = alert(1, "w1", "c1", Severity::Critical);
    server.links.pending.take(&first, acknowledge(1, "a", "ann"), Scope::All, AT).expect("taken");
    assert_eq!(socket.json().await["type"], "pending");
    // It has committed, and the registry was told nothing of it.
    let stored = server.commit(|history| history.touch(0, Transition::Acknowledged, false));
    server.links.pending.settle(first.alert_id);
    let change = socket.json().await;
    assert_eq!((&change["type"], &change["offset"]), (&json!("alert"), &json!(stored.offset)));
    assert_eq!(socket.json().await, frame(json!([])));
    server.stop().await;
}

#[test]
fn what_was_said_before_it_happened_again_is_not_said_of_that() {
    let mut present = alert(1, "w1", "c1", Severity::Critical);
    let said = OperatorAction { said_at: Some(AT), ..acknowledge(1, "a", "ann") };
    let later = UtcMillis(AT.0 + 5);
    let mut again = Alert { last_at: later, count: 2, ..present.clone() };
    assert!(again.carry_out(&said, later).is_err() && again.state == AlertState::Raised);
    let change = present.carry_out(&said, later).expect("nothing has happened since");
    assert_eq!((present.acknowledged_at, change.at), (Some(AT), later), "stored later than it was said");
}

#[test]
fn the_registry_wants_to_be_woken_for_a_screen_that_is_being_written_and_does_not_know_it() {
    let mut world = World::new();
    world.end_log_read(false);
    world.settle();
    world.subscribe(id(0), None, view(0));
    world.settle();
    assert!(world.clients[&id(0)].outstanding && !world.registry.wants_pulls());
    let alert = alert(1, "w0", "c0", Severity::Critical);
    let pending = Pending { alert, action: acknowledge(1, "a", "ann"), scope: Scope::All };
    world.registry.pending(Arc::new([(pending.alert.alert_id, Arc::new(pending))].into()), 0);
    assert!(world.registry.wants_pulls());
    world.registry.pull(id(0), world.clients[&id(0)].serial);
    let told = world.registry.take_effects();
    assert!(matches!(told[..], [Effect::Tell(_, ToSession::Pending(_))]), "{told:?}");
    assert!(!world.registry.wants_pulls());
}
