//! Edges between actors that outlive the actors.

use std::fmt;
use std::sync::Arc;

use actix::dev::{MessageResponse, ToEnvelope};
use actix::{Actor, Addr, Handler, Message};
use arc_swap::ArcSwapOption;

use super::health::ActorHealth;

type Target<M> = Box<dyn Fn(M) -> Result<(), M> + Send + Sync>;

struct Inner<M> {
    edge: &'static str,
    target: ArcSwapOption<Target<M>>,
    health: Arc<ActorHealth>,
}

/// A swappable way to send `M` to whoever plays a role now. RootSupervisor points it at the new
/// actor when it has built one, because a closed address stays closed. All clones follow.
///
/// Unbounded by itself: what may be sent in numbers carries a permit.
pub struct Link<M: 'static>(Arc<Inner<M>>);

impl<M> Clone for Link<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Link<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.0.edge)
    }
}

/// Nobody takes the message now; it comes back to the sender.
#[derive(thiserror::Error)]
#[error("{edge} is not running")]
pub struct Undelivered<M> {
    pub edge: &'static str,
    pub message: M,
}

impl<M> fmt::Debug for Undelivered<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undelivered({})", self.edge)
    }
}

impl<M: Send + 'static> Link<M> {
    /// A link that leads nowhere yet. `health` is that of the receiving actor: its queue length
    /// counts what is sent here until the handler takes it.
    pub fn new(edge: &'static str, health: Arc<ActorHealth>) -> Self {
        Self(Arc::new(Inner { edge, target: ArcSwapOption::empty(), health }))
    }

    /// A link into a function, for tests.
    pub fn to_fn(edge: &'static str, receive: impl Fn(M) + Send + Sync + 'static) -> Self {
        let link = Self::new(edge, ActorHealth::new(edge));
        link.set(Box::new(move |message| {
            receive(message);
            Ok(())
        }));
        link
    }

    /// Sends without waiting. An error gives the message back: nobody is there to take it. A
    /// message that was taken may still die with the actor; what it carries (permits, receipts,
    /// reply channels) says so when it is dropped.
    pub fn send(&self, message: M) -> Result<(), Undelivered<M>> {
        match &*self.0.target.load() {
            None => Err(Undelivered { edge: self.0.edge, message }),
            Some(target) => {
                // Counted first: the handler may take it before we return.
                self.0.health.enqueued();
                target(message).map_err(|message| {
                    self.0.health.dequeued();
                    Undelivered { edge: self.0.edge, message }
                })
            }
        }
    }

    pub fn health(&self) -> &Arc<ActorHealth> {
        &self.0.health
    }

    fn set(&self, target: Target<M>) {
        self.0.target.store(Some(Arc::new(target)));
    }
}

impl<M> Link<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Points the link, and all its clones, at an actor.
    pub fn point_to<A>(&self, addr: &Addr<A>)
    where
        A: Actor + Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M::Result: MessageResponse<A, M>,
    {
        let addr = addr.clone();
        self.set(Box::new(move |message| {
            if addr.connected() {
                addr.do_send(message);
                Ok(())
            } else {
                Err(message)
            }
        }));
    }
}
