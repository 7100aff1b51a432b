//! One turn of the write connection, on a blocking thread: a batch, then a few commands.
//!
//! What follows a commit happens here too: watermark, hand-over to the sessions, receipts. So it
//! takes no detour, and the death of the writer's actor does not undo it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;
use tracing::Span;
use tracing::field::display;

use super::backlog::More;
use super::lanes::Queued;
use super::messages::{Administer, CommittedItem, ShardNotice};
use crate::domain::alert::AlertChange;
use crate::domain::ids::{AlertId, EventId};
use crate::session::messages::{HandOver, Publish, VitalsInterest, VitalsUpdate, Watermark};
use crate::storage::command::{Command, CommandError};
use crate::storage::commit::{Committed, Entry, Stored, WriteToken, distinct};
use crate::storage::database::{Database, StorageError};
use crate::supervision::clock::Clock;
use crate::supervision::guard::panic_text;
use crate::supervision::link::Link;
use crate::supervision::outage::Outage;
use crate::supervision::permits::{Outcome, Receipt};
use crate::telemetry::{KindLabels, Metrics};

/// The write connection, shared by the incarnations of the writer. Empty until the first use and
/// after a panic inside a transaction; whoever finds it empty opens a new one.
pub type TokenSlot = Arc<tokio::sync::Mutex<Option<WriteToken>>>;

/// Where a commit is announced.
#[derive(Clone)]
pub struct Announce {
    pub watermark: Watermark,
    pub registry: Link<Publish>,
    pub shards: Vec<Link<ShardNotice>>,
    pub interest: Arc<VitalsInterest>,
    pub hand_overs: Arc<AtomicI64>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub outage: Outage,
}

/// What one turn does.
#[derive(Default)]
pub struct Job {
    pub batch: Vec<Queued>,
    /// After that batch.
    pub commands: Vec<Administer>,
    /// Batches after those, as long as there are any.
    pub more: Option<More>,
}

/// How it ended.
#[derive(Default)]
pub struct Done {
    /// So many have committed.
    pub batches: usize,
    /// The one that did not, for another try.
    pub failed: Option<(Vec<Queued>, StorageError)>,
    /// What is stored has changed behind the shards.
    pub rebased: bool,
}

/// Runs `job` with the token in `slot`. Blocking.
pub fn run(
    mut slot: OwnedMutexGuard<Option<WriteToken>>,
    database: &Database,
    job: Job,
    announce: &Announce,
) -> Done {
    crate::fail_point!("writer::job");
    let Job { batch, commands, more } = job;
    let mut done = Done::default();
    let mut token = match slot.take().map_or_else(|| WriteToken::open(database), Ok) {
        Ok(token) => token,
        Err(err) => {
            refuse(commands);
            return Done { failed: Some((batch, err)), ..done };
        }
    };
    // After a panic the last offset comes from the log, and whatever had committed shows.
    announce.watermark.advance(token.last_offset());

    if let Err(failed) = store(&mut token, batch, announce, &mut done) {
        refuse(commands);
        return Done { failed: Some(failed), ..done };
    }
    for Administer { command, reply } in announce.with_probe(commands) {
        let now = announce.clock.now();
        let is_probe = matches!(command, Command::Probe);
        match catch_unwind(AssertUnwindSafe(|| token.execute(command, now))) {
            Ok(result) => {
                let usable = announce.command_ended(is_probe, &result, database);
                // Whoever asked may have gone.
                drop(reply.send(result));
                if !usable {
                    // Like after a batch that failed. The other commands are told to come again.
                    return done;
                }
            }
            Err(panic) => {
                count_panic(&announce.metrics);
                tracing::error!("a command panicked: {}", panic_text(&*panic));
                let _ = reply.send(Err(CommandError::WriterAway));
                return done;
            }
        }
    }
    announce.metrics.slow("command", token.take_slow_statements());
    // Where the session has work of its own between batches it is not kept.
    let take = if database.is_shared() { More::take } else { More::linger };
    while let Some(batch) = more.as_ref().map(take).filter(|batch| !batch.is_empty()) {
        if let Err(failed) = store(&mut token, batch, announce, &mut done) {
            return Done { failed: Some(failed), ..done };
        }
    }
    announce.rebased(&mut token, &mut done);
    *slot = Some(token);
    done
}

/// Commits a batch and announces it. One that failed comes back, and the token is not to be used
/// again: a connection whose COMMIT or ROLLBACK failed may be of no use, or be inside a transaction.
fn store(
    token: &mut WriteToken,
    batch: Vec<Queued>,
    announce: &Announce,
    done: &mut Done,
) -> Result<(), (Vec<Queued>, StorageError)> {
    if batch.is_empty() {
        return Ok(());
    }
    let _span = batch_span(&batch).entered();
    let begun = Instant::now();
    let commit = || tracing::debug_span!("commit").in_scope(|| token.commit(&entries(&batch)));
    match catch_unwind(AssertUnwindSafe(commit)) {
        Ok(Ok(committed)) => {
            crate::fail_point!("writer::committed");
            announce.transaction_took(begun.elapsed(), token.slow_statement(), batch.len());
            announce.watermark.advance(token.last_offset());
            crate::fail_point!("writer::announce");
            done.batches += 1;
            announce.has_room();
            announce.committed(batch, committed);
            token.announced();
            Ok(())
        }
        Ok(Err(err)) => Err((batch, err)),
        Err(panic) => {
            count_panic(&announce.metrics);
            Err((batch, StorageError::Panicked(panic_text(&*panic))))
        }
    }
}

/// A trace of its own, which follows from those of its reports.
fn batch_span(batch: &[Queued]) -> Span {
    let span = tracing::debug_span!("batch", rows = batch.len());
    if !span.is_disabled() {
        for ticket in batch.iter().filter_map(|queued| queued.item.ticket.as_ref()) {
            span.follows_from(ticket.receipt.span());
        }
    }
    span
}

fn refuse(commands: Vec<Administer>) {
    for command in commands {
        let _ = command.reply.send(Err(CommandError::WriterAway));
    }
}

fn count_panic(metrics: &Metrics) {
    metrics.panics.get_or_create(&KindLabels { kind: "transaction" }).inc();
}

/// A batch as the transaction takes it.
pub fn entries(batch: &[Queued]) -> Vec<Entry<'_>> {
    batch
        .iter()
        .map(|queued| Entry {
            records: queued.item.records.as_ref(),
            changes: &queued.item.changes,
            unasked: queued.item.unasked.as_ref(),
            arrived: queued.item.arrived,
        })
        .collect()
}

impl Stored {
    fn alert_id(&self, decided: Option<AlertId>) -> Option<AlertId> {
        match self {
            Stored::New { alert_id } => alert_id.or(decided),
            Stored::Known { alert_id, .. } => *alert_id,
        }
    }

    fn outcome(&self, decided: Option<EventId>, alert_id: Option<AlertId>) -> Outcome {
        match self {
            Stored::New { .. } => Outcome::Stored { event_id: decided, alert_id, duplicate: false },
            Stored::Known { event_id, .. } => {
                Outcome::Stored { event_id: Some(*event_id), alert_id, duplicate: true }
            }
        }
    }
}

impl Announce {
    /// Offsets may have been given anew.
    fn rebased(&self, token: &mut WriteToken, done: &mut Done) {
        if token.take_rebased() {
            self.watermark.restart(token.last_offset());
            done.rebased = true;
        }
    }

    /// Everything that a commit entails, the screens first.
    fn committed(&self, mut batch: Vec<Queued>, committed: Committed) {
        self.metrics.batch_rows.observe(batch.len() as f64);
        self.metrics.batch_bytes.observe(batch.iter().map(Queued::weight_bytes).sum::<usize>() as f64);
        for change in &committed.changes {
            self.metrics.alert_changed(change.transition.name(), change.alert.severity.name());
        }
        self.publish(&batch, committed.changes);
        crate::fail_point!("writer::receipts");

        // An alert that strangers share is news to the shard that holds its serial, as is one that
        // was merged.
        let mut news = committed.merged;
        let shared = batch.iter().flat_map(|queued| {
            let foreign = |change: &&AlertChange| change.alert.device_sn != queued.item.device_sn;
            queued.item.changes.iter().filter(foreign).map(|change| change.alert.device_sn.clone())
        });
        news.extend(shared);
        let merged = distinct(news);
        let mut notices: Vec<Vec<CommittedItem>> = vec![Vec::new(); self.shards.len()];
        let mut answers: Vec<(Receipt, Outcome)> = Vec::with_capacity(batch.len());
        for (queued, stored) in batch.iter_mut().zip(committed.stored) {
            let Queued { shard, item } = queued;
            let alert_id = stored.alert_id(item.alert_id);
            notices[*shard].push(CommittedItem {
                device_sn: item.device_sn.clone(),
                incarnation: item.incarnation,
                event_id: item.event_id,
                alert_id,
            });
            if let Some(ticket) = item.ticket.take() {
                self.metrics.stored_seconds.observe(item.arrived.elapsed().as_secs_f64());
                let outcome = stored.outcome(item.event_id, alert_id);
                let (event, alert) = (item.event_id.map(display), alert_id.map(display));
                ticket.receipt.span().in_scope(|| {
                    tracing::debug!(event_id = event, alert_id = alert, "committed");
                });
                // Room first: who is answered may send the next at once.
                drop(ticket.permit);
                answers.push((ticket.receipt, outcome));
            }
            if let Some(acted) = item.acted.take() {
                // Whoever asked may have gone.
                let _ = acted.reply.send(acted.answer);
            }
        }
        // One right after another, so that a thread that serves several of them is woken up once.
        for (receipt, outcome) in answers {
            crate::fail_point!("writer::receipt");
            receipt.answer(outcome);
        }
        crate::fail_point!("writer::notices");
        for (link, items) in self.shards.iter().zip(notices) {
            if !items.is_empty() || !merged.is_empty() {
                // A shard that is down has forgotten what it waited for.
                let _ = link.send(ShardNotice::Committed { items, merged: merged.clone() });
            }
        }
    }

    fn transaction_took(&self, took: Duration, slow: Duration, rows: usize) {
        self.metrics.commit_seconds.observe(took.as_secs_f64());
        if !slow.is_zero() && took >= slow {
            self.metrics.slow("transaction", 1);
            tracing::warn!(took_ms = took.as_millis() as u64, rows, "slow transaction");
        }
    }

    fn publish(&self, batch: &[Queued], changes: Vec<crate::domain::alert::LoggedChange>) {
        crate::fail_point!("writer::publish", |_| ());
        let interest = self.interest.load();
        let vitals: Vec<VitalsUpdate> = if interest.is_empty() {
            Vec::new()
        } else {
            batch
                .iter()
                .filter_map(|queued| queued.item.records.as_ref())
                .flat_map(|records| &records.vitals)
                .filter(|sample| interest.contains(&sample.device_sn))
                .map(|sample| VitalsUpdate {
                    device_sn: sample.device_sn.clone(),
                    customer_id: sample.owner.customer_id.clone(),
                    measured_at: sample.measured_at,
                    metrics: sample.metrics,
                    worn: sample.worn,
                })
                .collect()
        };
        if changes.is_empty() && vitals.is_empty() {
            return;
        }
        let in_flight = HandOver::begin(&self.hand_overs);
        let message = match in_flight {
            Some(_) => Publish { changes, vitals, in_flight },
            // Too many are under way: the registry reads what it misses.
            None => Publish { changes: Vec::new(), vitals: Vec::new(), in_flight: None },
        };
        if let Err(undelivered) = self.registry.send(message) {
            Metrics::count(&self.metrics.undelivered, undelivered.edge);
        }
    }
}
