//! What the writer and its shards tell each other, in which order; and rules whose writer lost a reply.

use std::sync::{Arc, Mutex};

use actix::Supervisor;
use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use watchpost::config::{DeviceConfig, StorageConfig};
use watchpost::device::judge::UNREGISTERED_SN;
use watchpost::domain::ids::RuleId;
use watchpost::domain::rule::{Condition, Rule, Severity};
use watchpost::rules::actor::RuleCache;
use watchpost::rules::evaluate;
use watchpost::rules::messages::{ChangeRule, RuleChange};
use watchpost::rules::set::RuleSet;
use watchpost::storage::command::CommandError;
use watchpost::storage::database::Readers;
use watchpost::supervision::guard::Supervised;
use watchpost::supervision::link::Link;
use watchpost::supervision::permits::Outcome;
use watchpost::writer::client::WriterClient;
use watchpost::writer::messages::{Administer, Barrier, ShardNotice};

use super::bench::{Bench, sn};
use super::tools::{WriteLock, event};
use super::writer::{Scene, alert_of, decided, flush, write};
use crate::support::eventually;

fn names(notices: &[ShardNotice]) -> Vec<&'static str> {
    let name = |notice: &ShardNotice| match notice {
        ShardNotice::Committed { .. } => "committed",
        ShardNotice::GivenUp { .. } => "given up",
        ShardNotice::BarrierPassed { .. } => "barrier passed",
        ShardNotice::WriterRestarted => "writer restarted",
    };
    notices.iter().map(name).collect()
}

impl Scene {
    fn told(&self) -> Vec<&'static str> {
        names(&self.notices.lock().expect("no panic"))
    }

    async fn until_told(&self, what: &'static str) {
        eventually(what, || async { self.told().contains(&what).then_some(()) }).await;
    }
}

#[actix_web::test]
async fn a_shard_that_reloads_while_an_old_transaction_runs_is_told_to_wait_for_it() {
    let scene = Scene::new();
    let writer = scene.start();
    scene.until_told("barrier passed").await;
    let (items, mut answers) = decided("A", &[1]);
    let lock = WriteLock::take(scene.database.path());
    write(&scene, items);
    scene.until_retried().await;
    // The shard has died and forgotten; its transaction is still under way.
    scene.inbox.barrier(Barrier { shard: 0, devices: None, token: 7 });
    // The mailbox is in order: when this has come to the writer, so has the barrier.
    let (items, mut later) = decided("B", &[1]);
    write(&scene, items);
    tokio::task::yield_now().await;
    let passed = |told: &[&str]| told.iter().filter(|name| **name == "barrier passed").count();
    assert_eq!(passed(&scene.told()), 1, "that of the start; storage does not hold the alert yet");
    lock.release();
    assert!(alert_of(answers.remove(0)).await.is_some());
    assert!(alert_of(later.remove(0)).await.is_some());
    flush(&writer).await;
    let told = scene.told();
    let at = |what: &str| told.iter().rposition(|name| *name == what).unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(passed(&told), 2, "{told:?}");
    assert!(told.iter().position(|name| *name == "committed") < Some(at("barrier passed")), "{told:?}");
    scene.file().assert_consistent();
}

#[actix_web::test]
async fn what_comes_right_behind_a_barrier_is_let_in_although_a_transaction_still_runs() {
    let scene = Scene::new();
    let writer = scene.start_that(300);
    let lock = WriteLock::take(scene.database.path());
    write(&scene, decided("A", &[1]).0);
    scene.until_told("given up").await;
    let (items, mut refused) = decided("A", &[2]);
    write(&scene, items);
    assert_eq!(refused.remove(0).await.expect("an answer"), [Outcome::NotPromised]);
    // Another device keeps the writer busy until the lock is given back.
    let (items, _other) = decided("B", &[1]);
    write(&scene, items);
    scene.inbox.barrier(Barrier { shard: 0, devices: Some(vec![sn("A")]), token: 7 });
    let (items, mut behind) = decided("A", &[3]);
    write(&scene, items);
    flush_after(&writer, lock).await;
    assert!(alert_of(behind.remove(0)).await.is_some(), "it was not refused");
    scene.file().assert_consistent();
}

/// Gives the lock back when everything that was sent has come to the writer.
async fn flush_after(writer: &actix::Addr<watchpost::writer::actor::BatchWriter>, lock: WriteLock) {
    let (done, finished) = oneshot::channel();
    writer.do_send(watchpost::writer::messages::Flush { done });
    tokio::task::yield_now().await;
    lock.release();
    finished.await.expect("it was flushed");
}

#[actix_web::test]
async fn an_alert_that_strangers_share_is_news_to_the_shard_that_holds_its_serial() {
    let mut scene = Scene::new();
    let others = Arc::new(Mutex::new(Vec::new()));
    let noticed = others.clone();
    scene
        .announce
        .shards
        .push(Link::to_fn("shard", move |notice| noticed.lock().expect("no panic").push(notice)));
    let writer = scene.start();
    let config = DeviceConfig { devices_unbound_max: 0, ..DeviceConfig::default() };
    let mut bench = Bench::with(config, evaluate::event);
    let answer = bench.send(&event("STRANGER", "SOS_EVENT", 1));
    bench.load();
    write(&scene, std::mem::take(&mut bench.written));
    assert!(alert_of(answer).await.is_some());
    flush(&writer).await;
    let reload = |notice: &ShardNotice| match notice {
        ShardNotice::Committed { merged, .. } => merged.contains(&sn(UNREGISTERED_SN)),
        _ => false,
    };
    assert!(others.lock().expect("no panic").iter().any(reload), "it may hold the serial, and must look");
}

/// The writer stores the rule and dies before it can say so.
#[actix_web::test]
async fn a_rule_that_was_stored_although_nobody_could_say_so_comes_into_force() {
    let scene = Scene::new();
    let writer = scene.start();
    let forgetful = Link::to_fn("writer", move |Administer { command, reply }: Administer| {
        drop(reply);
        let (reply, _nobody) = oneshot::channel();
        writer.do_send(Administer { command, reply });
    });
    let published = Arc::new(ArcSwap::from_pointee(RuleSet::built_in()));
    let readers = Readers::open(&scene.database, &StorageConfig::default()).expect("readers");
    let (clock, metrics) = (scene.announce.clock.clone(), scene.announce.metrics.clone());
    let supervised = Supervised::detached("rule-cache", clock, metrics);
    let cache = RuleCache::new(supervised, readers, WriterClient::new(forgetful, 4), published.clone(), 4);
    let cache = Supervisor::start(|_| cache);
    // The first load is not what is looked for.
    let first = published.load().version;
    eventually("the rules are loaded", || async { (published.load().version > first).then_some(()) }).await;

    let rule = Rule {
        rule_id: RuleId::parse("door").expect("an id"),
        customer_id: None,
        name: "Door".into(),
        severity: Severity::Critical,
        enabled: true,
        built_in: false,
        version: 1,
        condition: Condition::Event { event_type: "DOOR".into(), value: None, resolved_by_value: None },
    };
    let (reply, answer) = oneshot::channel();
    cache.do_send(ChangeRule { change: RuleChange::Create(rule), actor: "ann".into(), reply });
    assert!(matches!(answer.await.expect("an answer"), Err(CommandError::WriterAway)));
    let loaded = published.load().version;
    eventually("the rule is in force", || async { (published.load().version > loaded).then_some(()) }).await;
    let mut bench = Bench::new();
    bench.deps.rules.store(published.load_full());
    bench.send(&event("A", "DOOR", 1));
    bench.load();
    assert_eq!(bench.written[0].changes.len(), 1, "events are judged by it");
}
