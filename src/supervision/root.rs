//! RootSupervisor: builds actors anew, and ends the process when that does not help.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, ActorContext, Context, Handler, Message};
use tokio::sync::mpsc;

use super::health::{ActorHealth, ActorState, HealthBoard};

/// Sent by the death watch of an actor that a panic took away with its mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ActorDied {
    pub actor: String,
}

/// Sent by an actor that has restarted too often.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BudgetSpent {
    pub actor: String,
}

/// Builds the actor of a role, starts it, and points the role's links at it.
pub type Factory = Box<dyn Fn() + Send>;

/// Why the process has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    #[error("{0} restarted too often; see its last error in the log above")]
    BudgetSpent(String),
    #[error("the root supervisor died")]
    RootDied,
}

/// Owns the factories. Lives on the main arbiter. Its death ends the process: the receiver of
/// `fatal` sees the channel close.
pub struct RootSupervisor {
    factories: HashMap<String, Factory>,
    board: HealthBoard,
    health: Arc<ActorHealth>,
    fatal: mpsc::UnboundedSender<Fatal>,
}

impl RootSupervisor {
    /// `health` is that of the root itself.
    pub fn new(
        factories: HashMap<String, Factory>,
        board: HealthBoard,
        health: Arc<ActorHealth>,
        fatal: mpsc::UnboundedSender<Fatal>,
    ) -> Self {
        Self { factories, board, health, fatal }
    }
}

impl Actor for RootSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.health.set_state(ActorState::Running);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.health.set_state(ActorState::Failed);
        let _ = self.fatal.send(Fatal::RootDied);
    }
}

impl Handler<ActorDied> for RootSupervisor {
    type Result = ();

    fn handle(&mut self, died: ActorDied, _: &mut Self::Context) {
        crate::fail_point!("root::died");
        self.health.dequeued();
        match self.factories.get(&died.actor) {
            Some(build) => {
                tracing::error!(actor = %died.actor, "actor died with its mailbox; building a new one");
                build();
            }
            None => tracing::error!(actor = %died.actor, "an actor without a factory died"),
        }
    }
}

impl Handler<BudgetSpent> for RootSupervisor {
    type Result = ();

    fn handle(&mut self, spent: BudgetSpent, ctx: &mut Self::Context) {
        self.health.dequeued();
        if let Some(health) = self.board.all().into_iter().find(|health| health.name == spent.actor) {
            health.set_state(ActorState::Failed);
        }
        // The receiver lives as long as the process; if it is gone, the process is ending.
        let _ = self.fatal.send(Fatal::BudgetSpent(spent.actor));
        ctx.stop();
    }
}
