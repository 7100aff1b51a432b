//! How administrative writes get into the writer's queue.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::messages::Administer;
use crate::storage::command::{Command, CommandError, CommandReply};
use crate::supervision::link::Link;
use crate::supervision::outage::Outage;

const KINDS: [&str; 10] = [
    "rule",
    "binding",
    "token",
    "quarantine",
    "quarantine_delete",
    "watch_log",
    "device_message",
    "shown",
    "probe",
    "running",
];

/// Sends commands and waits for them. At most `commands_max` of each kind wait at a time. Cheap
/// to clone.
#[derive(Clone)]
pub struct WriterClient {
    link: Link<Administer>,
    waiting: Arc<HashMap<&'static str, Arc<Semaphore>>>,
    commands_max: usize,
    outage: Outage,
}

impl WriterClient {
    pub fn new(link: Link<Administer>, commands_max: usize) -> Self {
        let waiting = KINDS.into_iter().map(|kind| (kind, Arc::new(Semaphore::new(commands_max)))).collect();
        Self { link, waiting: Arc::new(waiting), commands_max, outage: Outage::default() }
    }

    /// Refuses at once while `outage` lasts.
    pub fn heeding(self, outage: Outage) -> Self {
        Self { outage, ..self }
    }

    /// Commands of a kind that are with the writer and have not been answered.
    pub fn waiting(&self, kind: &str) -> usize {
        self.waiting
            .get(kind)
            .map_or(0, |waiting| self.commands_max.saturating_sub(waiting.available_permits()))
    }

    /// Answers after the command's transaction has committed, or says why it did not. After
    /// [`CommandError::WriterAway`] it may have been carried out; sending it again is harmless.
    pub async fn execute(&self, command: Command) -> Result<CommandReply, CommandError> {
        if let Some(outage) = self.outage.current() {
            return Err(CommandError::Outage(outage));
        }
        let kind = command.kind();
        let _turn = match self.waiting.get(kind).map(|waiting| waiting.try_acquire()) {
            Some(Ok(turn)) => turn,
            _ => return Err(CommandError::Busy(kind)),
        };
        let (reply, answer) = oneshot::channel();
        self.link.send(Administer { command, reply }).map_err(|_| CommandError::WriterAway)?;
        answer.await.unwrap_or(Err(CommandError::WriterAway))
    }
}
