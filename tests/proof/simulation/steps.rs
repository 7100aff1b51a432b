//! All that can happen next, and what happens then.

use std::time::Duration;

use watchpost::session::delivery::SessionId;

use super::jobs::Fate;
use super::template::Fault;
use super::world::{SHARDS, World, len};

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    SendNew,
    Retry(usize),
    Duplicate(usize),
    Report(usize),
    Turn(usize),
    Tick(usize),
    Act(usize),
    Binding(usize),
    Notice(usize),
    LoadReads { shard: usize, load: usize, fails: bool },
    LoadArrives { shard: usize, load: usize },
    QuestionReads { shard: usize, question: usize },
    QuestionAnswered { shard: usize, question: usize },
    ToWriter(usize),
    WakeWriter,
    Command,
    Job(Fate),
    WriterHears,
    TryAgain,
    Hint,
    LoseHint,
    Look,
    LogReads { fails: bool },
    LogReadArrives,
    ReplayReads { fails: bool },
    ReplayArrives,
    FromSession(SessionId),
    SessionHears(usize),
    SessionWrites(usize),
    ReadFrame(usize),
    Ping(usize),
    Connect(usize),
    Disconnect(usize),
    Operator,
    OperatorAgain,
    ChangeBinding,
    ChangeRule,
    ShardDies { shard: usize, guarded: bool },
    WriterDies { guarded: bool },
    RegistryDies { guarded: bool },
    Crash,
    Pass(u64),
}

/// Weight and step.
type Choices = Vec<(usize, Step)>;

impl World {
    pub fn choose(&mut self) -> Option<Step> {
        let mut choices = Choices::new();
        self.deliveries(&mut choices);
        self.writer_steps(&mut choices);
        self.session_steps(&mut choices);
        if !self.calm {
            self.outside(&mut choices);
            self.trouble(&mut choices);
        }
        self.chance.weighted(choices)
    }

    fn deliveries(&mut self, choices: &mut Choices) {
        for (index, shard) in self.server.shards.iter().enumerate() {
            let mut possible = |is: bool, weight: usize, step: Step| {
                if is {
                    choices.push((weight, step));
                }
            };
            possible(!shard.reports.is_empty(), 10, Step::Report(index));
            possible(shard.core.has_turn(), 10, Step::Turn(index));
            possible(!shard.acts.is_empty(), 8, Step::Act(index));
            possible(!shard.bindings.is_empty(), 5, Step::Binding(index));
            possible(len(&shard.notices) > 0, 10, Step::Notice(index));
            possible(!shard.to_writer.is_empty(), 10, Step::ToWriter(index));
            for (number, load) in shard.loads.iter().enumerate() {
                let fails = !self.calm && self.chance.percent(8);
                match load.read {
                    None => possible(true, 6, Step::LoadReads { shard: index, load: number, fails }),
                    Some(_) => possible(true, 6, Step::LoadArrives { shard: index, load: number }),
                }
            }
            for (number, question) in shard.questions.iter().enumerate() {
                match question.found {
                    None => possible(true, 6, Step::QuestionReads { shard: index, question: number }),
                    Some(_) => possible(true, 6, Step::QuestionAnswered { shard: index, question: number }),
                }
            }
        }
    }

    fn writer_steps(&mut self, choices: &mut Choices) {
        let writer = &self.server.writer;
        if writer.is_woken() {
            choices.push((10, Step::WakeWriter));
        }
        if !writer.commands.is_empty() {
            choices.push((6, Step::Command));
        }
        if writer.has_ended() {
            choices.push((12, Step::WriterHears));
        }
        if writer.has_due(self.now) {
            choices.push((12, Step::TryAgain));
        }
        if writer.thread.is_empty() {
            return;
        }
        choices.push((12, Step::Job(Fate::Commits)));
        if !self.calm {
            choices.push((1, Step::Job(Fate::CannotOpen)));
            choices.push((3, Step::Job(Fate::Fails(Fault::Inside))));
            choices.push((2, Step::Job(Fate::Fails(Fault::AtCommit))));
            if self.has_batch_on_thread() {
                choices.push((2, Step::Job(Fate::OutcomeLost)));
                choices.push((1, Step::Job(Fate::PanicsBehindCommit)));
            }
        }
    }

    fn session_steps(&mut self, choices: &mut Choices) {
        let (registry, calm) = (&self.server.registry, self.calm);
        let fails = !calm && self.chance.percent(10);
        if len(&registry.hints) > 0 {
            choices.push((8, Step::Hint));
            if !calm {
                choices.push((2, Step::LoseHint));
            }
        }
        match registry.log_read_stage() {
            Some(false) => choices.push((6, Step::LogReads { fails })),
            Some(true) => choices.push((6, Step::LogReadArrives)),
            None => {}
        }
        match registry.replay_stage() {
            Some(false) => choices.push((6, Step::ReplayReads { fails })),
            Some(true) => choices.push((6, Step::ReplayArrives)),
            None => {}
        }
        choices.extend(registry.with_mail().into_iter().map(|id| (6, Step::FromSession(id))));
        for (index, screen) in self.screens.iter().enumerate() {
            match &screen.session {
                None => choices.push((3, Step::Connect(index))),
                Some(session) => {
                    if session.can_hear() {
                        choices.push((4, Step::SessionHears(index)));
                    }
                    if session.can_write() {
                        choices.push((5, Step::SessionWrites(index)));
                    }
                }
            }
            if !screen.wire.is_empty() {
                choices.push((5, Step::ReadFrame(index)));
            }
        }
    }

    /// What comes from outside.
    fn outside(&mut self, choices: &mut Choices) {
        if self.watches.may_send_new() {
            choices.push((25, Step::SendNew));
        }
        let (retries, told) = (self.watches.may_retry(), self.watches.may_duplicate());
        if !retries.is_empty() {
            choices.push((8, Step::Retry(self.chance.of(&retries))));
        }
        if !told.is_empty() {
            choices.push((4, Step::Duplicate(self.chance.of(&told))));
        }
        if self.operators.may_act() {
            choices.push((5, Step::Operator));
        }
        choices.push((3, Step::OperatorAgain));
        choices.push((2, Step::ChangeBinding));
        choices.push((1, Step::ChangeRule));
        for shard in 0..SHARDS {
            choices.push((3, Step::Tick(shard)));
        }
        choices.push((3, Step::Look));
        let milliseconds = self.chance.of(&[1, 5, 20, 60, 110, 250, 600, 1_500]);
        choices.push((12, Step::Pass(milliseconds)));
        for index in 0..self.screens.len() {
            choices.push((1, Step::Ping(index)));
        }
    }

    fn trouble(&mut self, choices: &mut Choices) {
        let guarded = self.chance.percent(60);
        let shard = self.chance.below(SHARDS);
        choices.push((2, Step::ShardDies { shard, guarded }));
        choices.push((2, Step::WriterDies { guarded }));
        choices.push((1, Step::RegistryDies { guarded }));
        choices.push((1, Step::Crash));
        let screen = self.chance.below(self.screens.len());
        if self.screens[screen].session.is_some() {
            choices.push((2, Step::Disconnect(screen)));
        }
    }

    pub fn run(&mut self, step: Step) {
        match step {
            Step::SendNew => self.send_new(),
            Step::Retry(report) | Step::Duplicate(report) => self.send(report),
            Step::Report(shard) => self.deliver_report(shard),
            Step::Turn(shard) => self.turn(shard),
            Step::Tick(shard) => self.tick(shard),
            Step::Act(shard) => self.deliver_act(shard),
            Step::Binding(shard) => self.deliver_binding(shard),
            Step::Notice(shard) => self.deliver_notice(shard),
            Step::LoadReads { shard, load, fails } => self.load_reads(shard, load, fails),
            Step::LoadArrives { shard, load } => self.load_arrives(shard, load),
            Step::QuestionReads { shard, question } => self.question_reads(shard, question),
            Step::QuestionAnswered { shard, question } => self.question_answered(shard, question),
            Step::ToWriter(shard) => self.deliver_to_writer(shard),
            Step::WakeWriter => self.wake_writer(),
            Step::Command => self.deliver_command(),
            Step::Job(fate) => self.run_job(fate),
            Step::WriterHears => self.writer_hears(),
            Step::TryAgain => self.try_again(),
            Step::Hint => self.deliver_hint(),
            Step::LoseHint => self.lose_hint(),
            Step::Look => self.look_at_the_watermark(),
            Step::LogReads { fails } => self.log_reads(fails),
            Step::LogReadArrives => self.log_read_arrives(),
            Step::ReplayReads { fails } => self.replay_reads(fails),
            Step::ReplayArrives => self.replay_arrives(),
            Step::FromSession(id) => self.deliver_from_session(id),
            Step::SessionHears(screen) => self.session_hears(screen),
            Step::SessionWrites(screen) => self.session_writes(screen),
            Step::ReadFrame(screen) => self.read_frame(screen),
            Step::Ping(screen) => self.ping(screen),
            Step::Connect(screen) => self.connect(screen),
            Step::Disconnect(screen) => self.disconnect(screen),
            Step::Operator => self.act(),
            Step::OperatorAgain => self.repeat_action(),
            Step::ChangeBinding => self.change_binding(),
            Step::ChangeRule => self.change_rule(),
            Step::ShardDies { shard, guarded } => self.shard_dies(shard, guarded),
            Step::WriterDies { guarded } => self.writer_dies(guarded),
            Step::RegistryDies { guarded } => self.registry_dies(guarded),
            Step::Crash => self.crash(),
            Step::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds)),
        }
    }
}
