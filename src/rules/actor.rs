//! RuleCache: owns the alert rules and publishes them as a snapshot that everybody loads without a
//! message.
//!
//! Receives: `ChangeRule` (REST). Sends: administrative commands to the writer. Bound:
//! `commands_max` changes waiting. On restart it reloads; the last snapshot stays published.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised as ActixSupervised, WrapFuture,
};

use super::messages::{ChangeRule, RuleChange};
use super::set::{Published, RuleSet};
use crate::domain::rule::Rule;
use crate::storage::command::{Command, CommandError, CommandReply};
use crate::storage::database::{Readers, StorageError};
use crate::storage::rules;
use crate::supervision::guard::{self, GuardedActor, Supervised, guarded, guarded_timer};
use crate::writer::client::WriterClient;

/// Pause before another attempt at loading.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);
/// How often it looks whether the rules were changed behind its back.
const LOOK: Duration = Duration::from_secs(1);

pub struct RuleCache {
    supervised: Supervised,
    readers: Readers,
    writer: WriterClient,
    published: Published,
    changes_max: usize,
    waiting: VecDeque<ChangeRule>,
    /// A change is being stored; changes go one after the other.
    busy: bool,
    /// Of what is stored, when it was read.
    generation: u64,
}

impl RuleCache {
    pub fn new(
        supervised: Supervised,
        readers: Readers,
        writer: WriterClient,
        published: Published,
        changes_max: usize,
    ) -> Self {
        let generation = readers.generation();
        let waiting = VecDeque::new();
        Self { supervised, readers, writer, published, changes_max, waiting, busy: false, generation }
    }

    fn reload(&mut self, ctx: &mut Context<Self>) {
        let readers = self.readers.clone();
        let read = async move {
            let load = |conn: &mut _| {
                crate::fail_point!("rules::load", |_| Err(StorageError::Busy));
                rules::load_all(conn)
            };
            readers.read(load).await
        };
        ctx.spawn(read.into_actor(self).map(|result, actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("rules::loaded");
                if let Err(err) = actor.publish(result) {
                    tracing::warn!("rules could not be loaded; the last set stays in force: {err}");
                    ctx.run_later(RELOAD_PAUSE, |actor, ctx| guarded_timer(actor, ctx, Self::reload));
                }
            });
        }));
    }

    /// Puts a set that was read in force. One bad rule is reported and left out.
    fn publish(
        &self,
        read: Result<(Vec<Rule>, Vec<StorageError>), StorageError>,
    ) -> Result<(), StorageError> {
        crate::fail_point!("rules::publish");
        let (rules, faults) = read.inspect_err(|err| self.note(err))?;
        for fault in &faults {
            tracing::error!("a rule is not in force: {fault}");
            self.note(fault);
        }
        let version = self.published.load().version + 1;
        self.published.store(Arc::new(RuleSet::compile(&rules, version)));
        Ok(())
    }

    fn note(&self, err: &StorageError) {
        self.supervised.health.record_error(self.supervised.clock.now(), err.to_string());
    }

    /// Stores the next change, publishes the set with it, then answers.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        let Some(ChangeRule { change, actor, reply }) = self.waiting.pop_front() else { return };
        self.busy = true;
        let command = match change {
            RuleChange::Create(rule) => Command::PutRule { rule, replace: false, actor },
            RuleChange::Replace(rule) => Command::PutRule { rule, replace: true, actor },
            RuleChange::Delete(rule_id) => Command::DeleteRule { rule_id, actor },
        };
        let (writer, readers) = (self.writer.clone(), self.readers.clone());
        let work = async move {
            let stored = writer.execute(command).await?;
            Ok::<_, CommandError>((stored, readers.read(rules::load_all).await))
        };
        ctx.spawn(work.into_actor(self).map(|result, actor, ctx| {
            guarded_timer(actor, ctx, |actor, ctx| {
                crate::fail_point!("rules::stored");
                let answer = result.and_then(|(stored, read)| {
                    actor.publish(read)?;
                    match stored {
                        CommandReply::Rule(rule) => Ok(Some(rule)),
                        _ => Ok(None),
                    }
                });
                if answer.is_err() {
                    // It may be stored all the same; then it has to be put in force.
                    ctx.run_later(RELOAD_PAUSE, |actor, ctx| guarded_timer(actor, ctx, Self::reload));
                }
                // Whoever asked may have gone.
                let _ = reply.send(answer);
                actor.busy = false;
                actor.proceed(ctx);
            });
        }));
    }
}

impl GuardedActor for RuleCache {
    fn supervised(&self) -> &Supervised {
        &self.supervised
    }
}

impl Actor for RuleCache {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        guard::started(self, ctx);
        self.reload(ctx);
        guard::every(ctx, LOOK, |actor: &mut Self, ctx| {
            let generation = actor.readers.generation();
            if std::mem::replace(&mut actor.generation, generation) != generation {
                actor.reload(ctx);
            }
        });
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        guard::stopped(self);
    }
}

impl ActixSupervised for RuleCache {
    fn restarting(&mut self, _: &mut Self::Context) {
        // Dropped replies say that the change may or may not have been stored.
        self.waiting.clear();
        self.busy = false;
    }
}

impl Handler<ChangeRule> for RuleCache {
    type Result = ();

    fn handle(&mut self, change: ChangeRule, ctx: &mut Self::Context) {
        crate::fail_point!("rules::change_unguarded");
        guarded(self, ctx, |actor, ctx| {
            crate::fail_point!("rules::change");
            if actor.waiting.len() >= actor.changes_max {
                let _ = change.reply.send(Err(CommandError::Busy("rule")));
                return;
            }
            actor.waiting.push_back(change);
            actor.proceed(ctx);
        });
    }
}
