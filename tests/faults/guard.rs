//! Guarded handlers, death watch and root, with an actor that does nothing but panic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, Addr, Context, Handler, Message, Supervised as ActixSupervised, Supervisor,
};
use tokio::sync::{mpsc, oneshot};
use watchpost::supervision::clock::Clock;
use watchpost::supervision::guard::{self, GuardedActor, Supervised, guarded};
use watchpost::supervision::health::{ActorHealth, ActorState, HealthBoard};
use watchpost::supervision::link::Link;
use watchpost::supervision::restarts::{BACK_OFF_START, BURST_MAX};
use watchpost::supervision::root::{ActorDied, BudgetSpent, Factory, Fatal, RootSupervisor};
use watchpost::telemetry::{ActorLabels, KindLabels, Metrics};

use crate::support::{DEADLINE, NOW, eventually};

const NAME: &str = "victim";

/// Counts what it is sent, and loses count with every restart.
struct Victim {
    supervised: Supervised,
    count: usize,
    panic_in_timer: Option<Duration>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
enum Order {
    Count,
    Panic,
    PanicUnguarded,
    Report(oneshot::Sender<(usize, Instant)>),
}

impl GuardedActor for Victim {
    fn supervised(&self) -> &Supervised {
        &self.supervised
    }
}

impl Actor for Victim {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        guard::started(self, ctx);
        if let Some(interval) = self.panic_in_timer.take() {
            guard::every(ctx, interval, |_, _| panic!("a timer's panic"));
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        guard::stopped(self);
    }
}

impl ActixSupervised for Victim {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.count = 0;
    }
}

impl Handler<Order> for Victim {
    type Result = ();

    fn handle(&mut self, order: Order, ctx: &mut Self::Context) {
        if matches!(order, Order::PanicUnguarded) {
            panic!("nobody guards this");
        }
        guarded(self, ctx, |actor, _| match order {
            Order::Count => actor.count += 1,
            Order::Panic => panic!("as {}", "told"),
            Order::PanicUnguarded => {}
            Order::Report(reply) => drop(reply.send((actor.count, Instant::now()))),
        });
    }
}

struct Scene {
    metrics: Arc<Metrics>,
    supervised: Supervised,
    died: Link<ActorDied>,
    spent: Link<BudgetSpent>,
    root: Arc<ActorHealth>,
    link: Link<Order>,
}

impl Scene {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::register().0);
        let (health, root) = (ActorHealth::new(NAME), ActorHealth::new("root"));
        let (died, spent) = (Link::new("root", root.clone()), Link::new("root", root.clone()));
        let clock = Clock::manual(NOW).0;
        let supervised = Supervised::new(health.clone(), clock, metrics.clone(), died.clone(), spent.clone());
        Self { metrics, supervised, died, spent, root, link: Link::new("victims", health) }
    }

    /// Starts it and points the link at it: what a factory does.
    fn factory(&self, panic_in_timer: Option<Duration>) -> impl Fn() + Send + 'static {
        let (supervised, link) = (self.supervised.clone(), self.link.clone());
        move || {
            let supervised = supervised.clone();
            let victim = Supervisor::start(move |_| Victim { supervised, count: 0, panic_in_timer });
            link.point_to(&victim);
        }
    }

    fn start(self, panic_in_timer: Option<Duration>) -> Self {
        self.factory(panic_in_timer)();
        self
    }

    /// Under a root that can build it anew.
    fn start_with_root(self) -> (Self, Addr<RootSupervisor>, mpsc::UnboundedReceiver<Fatal>) {
        let this = self.start(None);
        let factories = HashMap::from([(NAME.to_owned(), Box::new(this.factory(None)) as Factory)]);
        let (fatal, fatals) = mpsc::unbounded_channel();
        let board = HealthBoard::default();
        board.add(this.supervised.health.clone());
        let root = RootSupervisor::new(factories, board, this.root.clone(), fatal).start();
        this.died.point_to(&root);
        this.spent.point_to(&root);
        (this, root, fatals)
    }

    fn tell(&self, order: Order) {
        self.link.send(order).expect("somebody is there");
    }

    async fn report(&self) -> (usize, Instant) {
        let (reply, answer) = oneshot::channel();
        self.tell(Order::Report(reply));
        tokio::time::timeout(DEADLINE, answer).await.expect("in time").expect("an answer")
    }

    fn restarts(&self) -> u64 {
        self.supervised.health.restarts()
    }
}

#[actix_web::test]
async fn a_panic_in_a_handler_keeps_the_mailbox_and_resets_the_state() {
    let scene = Scene::new().start(None);
    for order in [Order::Count, Order::Count, Order::Panic, Order::Count] {
        scene.tell(order);
    }
    assert_eq!(scene.link.health().queue_length(), 4, "they wait for their turn");
    assert_eq!(scene.report().await.0, 1, "only what came after the panic, and all of that");
    let report = scene.supervised.health.report();
    assert_eq!((report.restarts, report.queue_length), (1, 0));
    assert_eq!(report.state, ActorState::Running);
    assert_eq!(report.last_error.as_deref(), Some("panic: as told"));
    assert_eq!(report.last_error_at, Some(NOW));
    let counted = scene.metrics.restarts.get_or_create(&ActorLabels { actor: NAME.into() }).get();
    assert_eq!(counted, 1);
    assert_eq!(scene.metrics.panics.get_or_create(&KindLabels { kind: "actor" }).get(), 1);
}

#[actix_web::test]
async fn a_panic_in_a_timer_restarts_the_actor_too() {
    let scene = Scene::new().start(Some(Duration::from_millis(1)));
    scene.tell(Order::Count);
    eventually("a restart", || async { (scene.restarts() == 1).then_some(()) }).await;
    assert_eq!(scene.report().await.0, 0, "it was reset");
    assert_eq!(scene.supervised.health.report().last_error.as_deref(), Some("panic: a timer's panic"));
    assert_eq!(scene.restarts(), 1, "the timer ended with the incarnation that made it");
}

#[actix_web::test]
async fn the_third_restart_in_a_row_waits() {
    let scene = Scene::new().start(None);
    for _ in 0..2 {
        scene.tell(Order::Panic);
        scene.report().await;
    }
    let before = Instant::now();
    scene.tell(Order::Panic);
    let (_, handled) = scene.report().await;
    assert_eq!(scene.restarts(), 3);
    assert!(handled - before >= BACK_OFF_START, "it was back after {:?}", handled - before);
    assert_eq!(scene.supervised.health.state(), ActorState::Running);
}

#[actix_web::test]
async fn an_actor_that_does_nothing_but_panic_is_fatal_and_handles_nothing_more() {
    let (scene, _root, mut fatals) = Scene::new().start_with_root();
    for _ in 0..BURST_MAX {
        scene.tell(Order::Panic);
    }
    let (reply, answer) = oneshot::channel();
    scene.tell(Order::Report(reply));
    let fatal = tokio::time::timeout(DEADLINE, fatals.recv()).await.expect("in time");
    assert_eq!(fatal, Some(Fatal::BudgetSpent(NAME.into())));
    assert_eq!(scene.restarts(), BURST_MAX as u64);
    assert_eq!(scene.supervised.health.state(), ActorState::Failed);
    assert_eq!(scene.link.health().queue_length(), 1, "what came after it is never handled");
    drop(answer);
}

#[actix_web::test]
async fn an_actor_that_dies_with_its_mailbox_is_built_anew_and_its_links_follow() {
    let (scene, _root, mut fatals) = Scene::new().start_with_root();
    let clone = scene.link.clone();
    let (reply, lost) = oneshot::channel();
    for order in [Order::Count, Order::PanicUnguarded, Order::Report(reply)] {
        scene.tell(order);
    }
    lost.await.expect_err("what was in the mailbox is gone, and says so");
    eventually("a new one", || async {
        (scene.supervised.health.state() == ActorState::Running && scene.restarts() == 1).then_some(())
    })
    .await;
    clone.send(Order::Count).expect("the clone of the link leads to the new one");
    assert_eq!(scene.report().await.0, 1);
    assert_eq!(scene.link.health().queue_length(), 0);
    assert!(fatals.try_recv().is_err(), "one death is not fatal");
}

#[actix_web::test]
async fn the_death_of_the_root_is_fatal() {
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Die;
    impl Handler<Die> for RootSupervisor {
        type Result = ();
        fn handle(&mut self, _: Die, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }
    let (scene, root, mut fatals) = Scene::new().start_with_root();
    root.do_send(Die);
    let fatal = tokio::time::timeout(DEADLINE, fatals.recv()).await.expect("in time");
    assert_eq!(fatal, Some(Fatal::RootDied));
    assert_eq!(scene.root.state(), ActorState::Failed);
}

#[actix_web::test]
async fn a_link_to_nobody_gives_the_message_back_and_counts_nothing() {
    let health = ActorHealth::new("somebody");
    let link: Link<Order> = Link::new("somebody", health.clone());
    let undelivered = link.send(Order::Count).expect_err("nobody is there");
    assert_eq!(undelivered.to_string(), "somebody is not running");
    assert!(matches!(undelivered.message, Order::Count));

    // Nor does one to an actor that is gone.
    let (scene, taken) = (Scene::new().start(None), Arc::new(Mutex::new(0)));
    scene.tell(Order::PanicUnguarded);
    eventually("its death", || async { scene.link.send(Order::Count).err() }).await;
    assert_eq!((health.queue_length(), scene.link.health().queue_length()), (0, 0));

    let counter = taken.clone();
    let to_fn = Link::to_fn("function", move |by: i32| *counter.lock().expect("no panic") += by);
    to_fn.send(2).expect("a function takes everything");
    assert_eq!(*taken.lock().expect("no panic"), 2);
}
