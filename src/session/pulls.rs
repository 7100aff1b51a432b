//! What sessions have written, as the registry learns it: when it does something anyway, and at once only
//! if one of them waits for more. So a change that goes to 500 screens does not wake it 500 times, on the
//! processors that write those screens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::delivery::{Pull, Pulled};
use crate::supervision::link::Link;

/// One per server. Bounded by one hand-over outstanding per session and the registry's timer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulls {
    waiting: Arc<Mutex<Waiting>>,
    wake: Link<Pulled>,
}

#[derive(Debug, Default)]
struct Waiting {
    pulls: Vec<Pull>,
    /// The next one wakes the registry.
    wanted: bool,
    /// The registry has been woken, and will look behind what is in its mailbox already.
    woken: bool,
}

impl Pulls {
    /// `wake` leads to the registry.
    pub fn new(wake: Link<Pulled>) -> Self {
        Self { waiting: Arc::default(), wake }
    }

    /// To be pointed at the registry.
    pub fn wake(&self) -> &Link<Pulled> {
        &self.wake
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here can panic half way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From a session.
    pub fn push(&self, pull: Pull) {
        let mut waiting = self.waiting();
        waiting.pulls.push(pull);
        if waiting.wanted {
            self.tell(waiting);
        }
    }

    /// For the registry: all that have come, in order.
    pub fn take(&self) -> Vec<Pull> {
        std::mem::take(&mut self.waiting().pulls)
    }

    /// For the registry: some session waits for more, so it wants to be woken when there is a pull. One that has
    /// come meanwhile takes its turn behind what has been published.
    pub fn want(&self) {
        let mut waiting = self.waiting();
        waiting.wanted = !waiting.woken;
        if waiting.wanted && !waiting.pulls.is_empty() {
            self.tell(waiting);
        }
    }

    /// For the registry: [`Pulled`] has come, or may have been lost with an earlier mailbox.
    pub fn awake(&self) {
        self.waiting().woken = false;
    }

    fn tell(&self, mut waiting: MutexGuard<'_, Waiting>) {
        (waiting.wanted, waiting.woken) = (false, true);
        drop(waiting);
        // A registry that is not running has dropped the channels of its sessions, which ends them.
        let _ = self.wake.send(Pulled);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::session::delivery::SessionId;

    fn pull(subscription: u64) -> Pull {
        Pull { session: SessionId::nil(), subscription }
    }

    fn serials(pulls: &Pulls) -> Vec<u64> {
        pulls.take().into_iter().map(|pull| pull.subscription).collect()
    }

    #[test]
    fn the_registry_is_woken_once_and_only_if_it_wants_to_be() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = woken.clone();
        let pulls = Pulls::new(Link::to_fn("registry", move |Pulled| {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let woken = || woken.load(Ordering::Relaxed);
        let push = |serial| pulls.push(pull(serial));
        push(1);
        push(2);
        assert_eq!((woken(), serials(&pulls)), (0, vec![1, 2]), "nobody waits");

        pulls.want();
        assert_eq!(woken(), 0, "there is nothing yet");
        push(3);
        push(4);
        assert_eq!(woken(), 1);
        pulls.want();
        assert_eq!(woken(), 1, "it has not looked yet");
        pulls.awake();
        assert_eq!(serials(&pulls), [3, 4]);
        push(5);
        assert_eq!(woken(), 1, "nobody waits any more");

        pulls.want();
        assert_eq!(woken(), 2, "one had come meanwhile");
    }
}
