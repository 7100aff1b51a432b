//! What the writer does next: which items make a transaction, what follows its end, when it is
//! given up, and which barriers have passed. No actor, no I/O, time passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::backlog::{Backlog, More};
use super::inbox::Inbox;
use super::job::{Done, Job};
use super::lanes::{Lanes, Queued};
use super::messages::{Administer, Barrier, ShardNotice};
use crate::config::WriterConfig;
use crate::domain::ids::{AlertId, DeviceSn};
use crate::domain::time::UtcMillis;
use crate::session::messages::AlertShown;
use crate::storage::command::Command;
use crate::storage::database::StorageError;
use crate::telemetry::Metrics;

/// Commands after one batch while others wait: administration never holds alerts up for long.
const COMMANDS_PER_JOB: usize = 4;
/// Confirmations that wait for their second, of all viewers together. Beyond it they are dropped
/// and counted: they say who had an alert on the screen, and delay nothing.
const SHOWN_ALERTS_MAX: usize = 100_000;

/// What the actor has to do for the core.
pub enum Effect {
    /// Run the job after a pause; then call [`Core::finished`] or [`Core::panicked`]. At most one
    /// is under way.
    Run { job: Job, pause: Duration },
    /// Wait for whatever is on the blocking thread, see how far the log goes, then call
    /// [`Core::taken_over`].
    TakeOver,
    /// A shard that is down misses it, and sends a barrier when it is back.
    Notify { shard: usize, notice: ShardNotice },
}

/// What a restart of the writer resets.
pub struct Core {
    config: WriterConfig,
    metrics: Arc<Metrics>,
    shards: usize,
    backlog: Backlog,
    commands: VecDeque<Administer>,
    /// By viewer: which alerts have been on their screens, and when first.
    shown: HashMap<String, HashMap<AlertId, UtcMillis>>,
    shown_alerts: usize,
    barriers: Vec<Barrier>,
    flushes: Vec<oneshot::Sender<()>>,
    /// A job is on the blocking thread, or waits for its next try.
    busy: bool,
    /// The old writer's transaction has returned and the last offset is known.
    ready: bool,
    /// When the batch in flight failed first.
    failing_since: Option<Instant>,
    effects: Vec<Effect>,
}

impl Core {
    /// For so many shards. Each is refused until its first barrier: what it hands on before has been
    /// decided on what went with an earlier writer.
    pub fn new(config: WriterConfig, shards: usize, metrics: Arc<Metrics>, inbox: Inbox) -> Self {
        Self {
            config,
            metrics,
            shards,
            backlog: Backlog::new(Lanes::after_loss(shards), inbox),
            commands: VecDeque::new(),
            shown: HashMap::new(),
            shown_alerts: 0,
            barriers: Vec::new(),
            flushes: Vec::new(),
            busy: false,
            ready: false,
            failing_since: None,
            effects: Vec::new(),
        }
    }

    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Reports and commands that wait for the next job.
    pub fn waiting(&self) -> usize {
        self.backlog.with(|lanes| lanes.len()) + self.commands.len()
    }

    /// Nothing is queued or under way.
    pub fn is_idle(&self) -> bool {
        !self.busy
            && self.backlog.inbox().is_empty()
            && self.backlog.with(|lanes| lanes.is_empty())
            && self.commands.is_empty()
            && self.barriers.is_empty()
    }

    /// Items that went into transactions so far, or were meant to.
    pub fn taken(&self) -> u64 {
        self.backlog.taken()
    }

    /// Begins (again): whatever shards had sent to an earlier writer is gone.
    pub fn restart_shards(&mut self) {
        for shard in 0..self.shards {
            self.effects.push(Effect::Notify { shard, notice: ShardNotice::WriterRestarted });
        }
    }

    /// Nothing of an earlier writer runs any more.
    pub fn taken_over(&mut self) {
        self.ready = true;
        self.proceed();
    }

    /// There is something in the inbox.
    pub fn incoming(&mut self) {
        self.proceed();
    }

    pub fn command(&mut self, command: Administer) {
        self.commands.push_back(command);
        self.proceed();
    }

    /// Kept until [`Core::record_shown`].
    pub fn shown(&mut self, AlertShown { viewer, alerts }: AlertShown) {
        let full = !self.shown.contains_key(&viewer) && self.shown.len() >= self.config.commands_max;
        if full || self.shown_alerts >= SHOWN_ALERTS_MAX {
            return Metrics::count(&self.metrics.refused, "shown");
        }
        let known = self.shown.entry(viewer).or_default();
        let before = known.len();
        for (alert_id, at) in alerts {
            known.entry(alert_id).or_insert(at);
        }
        self.shown_alerts += known.len() - before;
    }

    pub fn record_shown(&mut self) {
        self.shown_alerts = 0;
        for (viewer, alerts) in self.shown.drain() {
            let (reply, _) = oneshot::channel();
            let command = Command::RecordShown { viewer, alerts: alerts.into_iter().collect() };
            self.commands.push_back(Administer { command, reply });
        }
        self.proceed();
    }

    /// `done` is answered when nothing is left.
    pub fn flush(&mut self, done: oneshot::Sender<()>) {
        self.flushes.push(done);
        self.record_shown();
    }

    /// Starts the next job if none is running and there is something to do.
    fn proceed(&mut self) {
        self.barriers.extend(self.backlog.take_in());
        if self.busy || !self.ready {
            self.pause_or_go_on();
            return;
        }
        crate::fail_point!("writer::proceed");
        self.pass_barriers();
        self.backlog.pause(false);
        let more = More::new(&self.backlog, &self.config);
        let batch = more.take();
        let wanted = if batch.is_empty() { self.commands.len() } else { COMMANDS_PER_JOB };
        let commands: Vec<Administer> = self.commands.drain(..wanted.min(self.commands.len())).collect();
        if batch.is_empty() && commands.is_empty() {
            for done in self.flushes.drain(..) {
                let _ = done.send(());
            }
            return;
        }
        self.busy = true;
        self.pause_or_go_on();
        self.effects
            .push(Effect::Run { job: Job { batch, commands, more: Some(more) }, pause: Duration::ZERO });
    }

    /// A running job takes batch after batch, unless something waits that only this core can do.
    fn pause_or_go_on(&self) {
        let wanted = !self.commands.is_empty() || !self.barriers.is_empty() || !self.flushes.is_empty();
        self.backlog.pause(wanted);
    }

    /// The job has ended, at `now`.
    pub fn finished(&mut self, done: Done, now: Instant) {
        if done.batches > 0 {
            self.failing_since = None;
        }
        if done.rebased {
            self.restart_shards();
        }
        match done.failed {
            Some((batch, err)) if !batch.is_empty() => self.failed(batch, &err, now),
            _ => self.next(),
        }
    }

    /// The blocking call panicked, and the receipts of its batch were dropped. It may have committed
    /// all the same, so a new token has to say how far the log goes; or not, and then what is
    /// queued was built on nothing.
    pub fn panicked(&mut self) {
        self.backlog = Backlog::new(Lanes::after_loss(self.shards), self.backlog.inbox().clone());
        self.failing_since = None;
        self.busy = false;
        self.ready = false;
        self.restart_shards();
        self.effects.push(Effect::TakeOver);
    }

    fn next(&mut self) {
        self.failing_since = None;
        self.busy = false;
        self.proceed();
    }

    /// Again at the head for a while, then given up.
    fn failed(&mut self, batch: Vec<Queued>, err: &StorageError, now: Instant) {
        let since = *self.failing_since.get_or_insert(now);
        // What is refused at a bound is refused at once: emergencies wait behind it.
        let full = matches!(err, StorageError::SpoolFull { .. });
        if !full && now.saturating_duration_since(since) < Duration::from_millis(self.config.retry_for_ms) {
            Metrics::count(&self.metrics.failed_batches, "retried");
            // Of an outage the log says more, once.
            if err.outage().is_none() {
                tracing::warn!(rows = batch.len(), "a transaction failed and is tried again: {err}");
            }
            let pause = Duration::from_millis(self.config.retry_pause_ms);
            // `busy` stays set: nothing overtakes the batch.
            self.effects.push(Effect::Run {
                job: Job { batch, commands: vec![], more: Some(More::new(&self.backlog, &self.config)) },
                pause,
            });
            return;
        }
        self.give_up(&batch, err);
        drop(batch);
        // A commit that was reported as failed may show when the log can be read again.
        self.effects.push(Effect::TakeOver);
        self.next();
    }

    /// With the batch goes everything queued for its devices: what follows was decided on a state
    /// that never became true. Dropping it answers the receipts 503.
    fn give_up(&mut self, batch: &[Queued], err: &StorageError) {
        let devices: HashMap<DeviceSn, usize> =
            batch.iter().map(|queued| (queued.item.device_sn.clone(), queued.shard)).collect();
        let mut by_shard: BTreeMap<usize, Vec<DeviceSn>> = BTreeMap::new();
        self.barriers.extend(self.backlog.take_in());
        let dependants = self.backlog.with(|lanes| lanes.give_up(&devices));
        for queued in batch.iter().chain(&dependants) {
            let devices = by_shard.entry(queued.shard).or_default();
            if !devices.contains(&queued.item.device_sn) {
                devices.push(queued.item.device_sn.clone());
            }
        }
        let reports = batch.iter().chain(&dependants).filter(|queued| queued.item.ticket.is_some()).count();
        Metrics::count(&self.metrics.failed_batches, "given_up");
        self.metrics.given_up_reports.inc_by(reports as u64);
        tracing::error!(
            reports,
            "a transaction was given up; its watches were told 503 and keep their reports: {err}"
        );
        for (shard, devices) in by_shard {
            self.effects.push(Effect::Notify { shard, notice: ShardNotice::GivenUp { devices } });
        }
    }

    /// Answers the barriers of shards that have nothing queued. Nothing is in flight here.
    fn pass_barriers(&mut self) {
        let backlog = &self.backlog;
        let (passed, waiting): (Vec<Barrier>, Vec<Barrier>) =
            std::mem::take(&mut self.barriers).into_iter().partition(|barrier| match &barrier.devices {
                Some(_) => true,
                None => backlog.with(|lanes| !lanes.holds_of_shard(barrier.shard)),
            });
        self.barriers = waiting;
        for Barrier { shard, token, .. } in passed {
            self.effects.push(Effect::Notify { shard, notice: ShardNotice::BarrierPassed { token } });
        }
    }
}

impl Drop for Core {
    /// A job of a writer that is gone ends with the batch that it has, and what is queued is dropped,
    /// which answers its receipts.
    fn drop(&mut self) {
        self.backlog.pause(true);
        self.backlog.with(|lanes| *lanes = Lanes::default());
    }
}
