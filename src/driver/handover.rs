//! The loop of a handover: what happens becomes inputs, the core answers with actions, and they are carried out.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::AbortHandle;
use tokio::time;

use crate::core::account::{Account, Named, SCHEMA};
use crate::core::action::{Action, Order, Stage, Stands, Who};
use crate::core::exit;
use crate::core::input::{Failure, Input};
use crate::core::machine::Machine;
use crate::core::outcome::{Cause, Outcome, Rest, Verdict};
use crate::core::phase::Step;
use crate::core::plan::{Drain, Plan};
use crate::haproxy::handoff::{Heard, Word};
use crate::haproxy::pidfile;
use crate::os::files::{self, Durability};
use crate::os::herald::{Herald, Report};
use crate::os::process::{Exit, Process};
use crate::os::signals::Interrupts;
use crate::os::spawn::Output;

use super::attempt::{Attempt, NotSpawned, Preparation};
use super::drain::{self, Window};
use super::find::Old;
use super::probe;
use super::proof::{self, Case};
use super::records::{Generation, Records};
use super::request::Request;
use super::steering::{self, First, Side};
use super::timeline::Timeline;
use super::watch::{self, Event, Events};
use super::ways::{Chosen, Survey};

/// A handover, from the moment that the old one is known.
pub(super) struct Handover<'a> {
    pub(super) request: &'a Request,
    pub(super) records: &'a Records<'a>,
    pub(super) boot: String,
    pub(super) timeline: Timeline,
    pub(super) old: Rc<Old>,
    pub(super) haproxy: PathBuf,
    pub(super) configs: Vec<PathBuf>,
    pub(super) survey: Survey,
    pub(super) machine: Machine,
    pub(super) attempt: Option<Attempt>,
    pub(super) notes: Vec<String>,
    pub(super) said: Vec<String>,
    inputs: VecDeque<Input>,
    events: Events,
    heard: UnboundedReceiver<Event>,
    window: Option<Window>,
    drains: bool,
    worse: Option<String>,
    last_told: Option<(Who, Order)>,
    outcome: Option<Outcome>,
    proof: Option<AbortHandle>,
}

impl<'a> Handover<'a> {
    /// Everything that is known before the first step.
    #[expect(
        clippy::too_many_arguments,
        reason = "the one constructor of the one struct that joins everything"
    )]
    pub(super) fn new(
        request: &'a Request,
        records: &'a Records<'a>,
        boot: String,
        timeline: Timeline,
        old: Rc<Old>,
        haproxy: PathBuf,
        configs: Vec<PathBuf>,
        survey: Survey,
    ) -> Handover<'a> {
        let (events, heard) = mpsc::unbounded_channel();
        Handover {
            machine: Machine::new(timeline.now()),
            notes: old.remarks.clone(),
            request,
            records,
            boot,
            timeline,
            old,
            haproxy,
            configs,
            survey,
            attempt: None,
            said: Vec::new(),
            inputs: VecDeque::new(),
            events,
            heard,
            window: None,
            drains: false,
            worse: None,
            last_told: None,
            outcome: None,
            proof: None,
        }
    }

    /// Where watchers that are started from outside report.
    pub(super) fn watcher(&self) -> Events {
        self.events.clone()
    }

    /// The plan for the core: the ways that were chosen, and what was asked for.
    pub(super) fn plan(&self) -> Plan {
        let mut limits = self.request.limits.clone();
        limits.health += self.request.settle;
        Plan {
            ways: self.survey.chosen.iter().map(|chosen| chosen.way).collect(),
            dwell: self.request.dwell.unwrap_or(Duration::ZERO),
            drain: self.request.drain.clone(),
            limits,
        }
    }

    /// Runs to the end. `first` are the actions that are due already, or the inputs that begin it.
    pub(super) async fn run(
        &mut self,
        first: Vec<Action>,
        begin: Option<Input>,
        interrupts: &mut Interrupts,
    ) -> Outcome {
        tokio::task::spawn_local(watch::old_gone(self.old.processes.clone(), self.events.clone()));
        if self.request.drain != Drain::Return {
            // While nobody else answers there.
            self.window = Window::keep(None, self.old_admin().as_deref(), &self.old.processes).await;
        }
        self.inputs.extend(begin);
        for action in first {
            self.act(action).await;
        }
        loop {
            while let Some(input) = self.inputs.pop_front() {
                let phase = self.machine.phase();
                let actions = self.machine.step(self.timeline.now(), input);
                if self.machine.phase().name() != phase.name() {
                    self.timeline.note("hareload", self.machine.phase().name());
                }
                for action in actions {
                    self.act(action).await;
                }
            }
            if let Some(outcome) = self.outcome.take() {
                return outcome;
            }
            let wakes = self.machine.wakes_at().map(|at| self.timeline.instant(at));
            let (herald, output) = match &mut self.attempt {
                Some(attempt) => (attempt.herald.as_mut(), attempt.output.as_mut()),
                None => (None, None),
            };
            tokio::select! {
                biased;
                interrupt = interrupts.next() => {
                    let sender = interrupt.sender.map_or_else(String::new, |pid| format!(" from pid {pid}"));
                    self.timeline.note("hareload", format!("received {}{sender}", interrupt.name));
                    self.inputs.push_back(Input::Interrupted(interrupt.signal));
                }
                report = next_report(herald) => self.hear(report),
                () = read_more(output) => {}
                Some(event) = self.heard.recv() => self.happened(event),
                () = tick(wakes) => self.inputs.push_back(Input::Tick),
            }
        }
    }

    /// The herald has received a signal. It counts only when the new one has sent it.
    fn hear(&mut self, report: Option<Report>) {
        let Some(attempt) = &mut self.attempt else { return };
        let Some(report) = report else {
            // It is gone before its time: somebody killed it. The new one will notice at its next signal.
            attempt.herald = None;
            self.timeline.note("hareload", "the herald is gone");
            return;
        };
        let Some(heard) = Heard::from_signal(report.signal) else { return };
        if !report.from_user || !attempt.members.includes(report.sender) {
            let sender = report.sender;
            self.timeline
                .note("hareload", format!("ignored \"{heard}\" from pid {sender}, which is not the new one"));
            return;
        }
        let input = match heard {
            Heard::AsksPause => Input::AsksPause,
            Heard::GaveUp => Input::GaveUp,
            Heard::Bound => Input::Bound,
        };
        self.timeline.note("new", heard.to_string());
        if input == Input::Bound {
            attempt.lender = None;
        }
        self.inputs.push_back(input);
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Input(input) => {
                if input == Input::Proved(Step::Alone) {
                    self.release();
                }
                if let Input::Proved(step) = &input {
                    self.timeline.note("new", format!("proved: {step}"));
                }
                if input == Input::OldListens {
                    self.timeline.note("old", "listens");
                }
                if input == Input::OldRetired {
                    self.timeline.note("old", "has closed its listeners");
                }
                if input == Input::OldGone {
                    self.timeline.note("old", "is gone");
                }
                self.inputs.push_back(input);
            }
            Event::NewGone { number, exit } => self.new_gone(number, exit),
            Event::Note(who, what) => self.timeline.note(who, what),
            Event::Worse(text) => self.worse = Some(text),
            Event::Remark(text) => {
                if !self.notes.contains(&text) {
                    self.notes.push(text);
                }
            }
        }
    }

    fn new_gone(&mut self, number: u64, exit: Option<Exit>) {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.number == number) else { return };
        if let Some(output) = &mut attempt.output {
            output.drain_now();
        }
        attempt.lender = None;
        let (failure, said) = attempt.failure(&self.old, exit);
        for line in said {
            if !self.said.contains(&line) {
                self.said.push(line);
            }
        }
        self.timeline.note("new", "is gone");
        self.inputs.push_back(Input::NewGone(failure));
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Start { way: _, attempt } => self.start(attempt),
            Action::LetNewFail => {
                if let Some(attempt) = &mut self.attempt {
                    self.timeline.note("hareload", "lets it fail: pausing the old one would not be right");
                    attempt.herald = None;
                }
            }
            Action::Tell(Who::Old, order) => self.tell_old(order).await,
            Action::Tell(Who::New, order) => self.tell_new(order),
            Action::Prove(step) => self.prove(step),
            Action::WatchOldListens => {
                let (processes, wanted) = (self.old.processes.clone(), self.old.listening.clone());
                tokio::task::spawn_local(watch::old_listens(processes, wanted, self.events.clone()));
            }
            Action::WatchOldRetired => {
                let (processes, wanted) = (self.old.processes.clone(), self.old.listening.clone());
                tokio::task::spawn_local(watch::old_retired(processes, wanted, self.events.clone()));
            }
            Action::WatchNewDeaf => {
                if let Some(attempt) = &self.attempt {
                    tokio::task::spawn_local(watch::new_deaf(
                        Rc::clone(&attempt.members),
                        self.events.clone(),
                    ));
                }
            }
            Action::Journal(stage) => self.write_down(stage),
            Action::SteerBack(stands) => self.steer_back(stands),
            Action::ReleaseSteering => {
                self.drop_proof();
                self.release();
            }
            Action::RenamePidfile => self.rename_pidfile(),
            Action::RestorePidfile => self.restore_pidfile(),
            Action::RestoreSockets => self.each_kept("put back", files::put_back),
            Action::ForgetSockets => {
                // The last chance to find the old one by its own socket, and the last moment that it can be asked.
                if self.request.drain != Drain::Return {
                    let admin = self.old_admin();
                    self.window =
                        Window::keep(self.window.take(), admin.as_deref(), &self.old.processes).await;
                }
                self.each_kept("forgotten", files::forget);
            }
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    fn start(&mut self, index: usize) {
        let Some(chosen) = self.survey.chosen.get(index).cloned() else { return };
        self.timeline.note("hareload", format!("{}: {}", chosen.way, chosen.reason));
        self.attempt = None;
        self.last_told = None;
        if chosen.steered
            && let Err(error) = Side::of(&self.old.processes).and_then(|side| steering::hold(&side))
        {
            let why = format!("new connections can't be steered: {error}");
            self.inputs.push_back(Input::NewGone(Failure::Transfer(why)));
            return;
        }
        let preparation = Preparation {
            old: &self.old,
            haproxy: &self.haproxy,
            configs: &self.configs,
            extra: &self.request.extra,
            hard_stop_after: self.request.hard_stop_after,
            records: self.records,
            boot: &self.boot,
            timeline: &self.timeline,
        };
        match preparation.start(&chosen, &mut self.notes) {
            Ok((attempt, launcher)) => {
                let members = Rc::clone(&attempt.members);
                tokio::task::spawn_local(watch::new_gone(
                    attempt.number,
                    launcher,
                    members,
                    self.events.clone(),
                ));
                self.attempt = Some(attempt);
            }
            Err(NotSpawned::Program(why)) => self.inputs.push_back(Input::SpawnFailed(why)),
            Err(NotSpawned::Before(failure)) => self.inputs.push_back(Input::NewGone(failure)),
        }
    }

    async fn tell_old(&mut self, order: Order) {
        let word = word_of(order);
        if word == Word::Retire && !self.drains && self.request.drain != Drain::Return {
            self.drains = true;
            let drain =
                drain::follow(self.old.processes.clone(), self.window.take(), self.request.on_drain.clone());
            tokio::task::spawn_local(drain);
        }
        self.told("hareload", Who::Old, order, &format!("tells the old one to {word}"));
        for process in &self.old.processes {
            // One that is gone is told by its pidfd.
            if let Err(error) = process.signal(word.signal())
                && process.is_alive()
            {
                self.notes.push(format!("the old one could not be told to {word}: {error}"));
            }
        }
    }

    fn tell_new(&mut self, order: Order) {
        let word = word_of(order);
        self.told("hareload", Who::New, order, &format!("tells the new one to {word}"));
        if let Some(attempt) = &self.attempt {
            attempt.tell(word);
        }
    }

    /// A word that is repeated is noted once.
    fn told(&mut self, who: &str, whom: Who, order: Order, what: &str) {
        if self.last_told != Some((whom, order)) {
            self.last_told = Some((whom, order));
            self.timeline.note(who, what);
        }
    }

    /// The proof that is under way must not go on: it could steer where nobody wants it any more.
    fn drop_proof(&mut self) {
        if let Some(proof) = self.proof.take() {
            proof.abort();
        }
    }

    fn prove(&mut self, step: Step) {
        self.drop_proof();
        let Some(attempt) = &self.attempt else { return };
        match step {
            Step::Dwell => {}
            Step::Steer => self.steer(),
            Step::Alone => {
                let wanted = Rc::new(self.old.listening.clone());
                let alone = tokio::task::spawn_local(proof::alone(wanted, self.events.clone()));
                self.proof = Some(alone.abort_handle());
            }
            Step::Live | Step::Listeners | Step::Health | Step::Probes | Step::Confirm => {
                let case = Case {
                    members: Rc::clone(&attempt.members),
                    admin: attempt.paths.admin.clone(),
                    old_admin: self.old_admin(),
                    old_listening: Rc::new(self.old.listening.clone()),
                    way: attempt.chosen.way,
                    probes: Rc::new(self.request.probes.clone()),
                    settle: self.request.settle,
                    events: self.events.clone(),
                };
                self.proof = Some(tokio::task::spawn_local(case.prove(step)).abort_handle());
            }
        }
    }

    /// The admin socket on which the old one answers. The new one takes the paths of the configuration over when it
    /// binds; the old one is found by the second name that was kept.
    fn old_admin(&self) -> Option<PathBuf> {
        let admin = self.survey.admin.as_ref()?;
        let kept = self.attempt.iter().flat_map(|attempt| &attempt.kept).find(|kept| kept.path == *admin);
        Some(kept.map_or_else(|| admin.clone(), |kept| kept.kept.clone()))
    }

    /// Both sides as they are now.
    fn sides(&self) -> std::io::Result<(Side, Side)> {
        let members = self.attempt.as_ref().map(|attempt| attempt.members.alive()).unwrap_or_default();
        Ok((Side::of(&self.old.processes)?, Side::of(&members)?))
    }

    fn steer(&mut self) {
        if !self.attempt.as_ref().is_some_and(|attempt| attempt.chosen.steered) {
            self.inputs.push_back(Input::Proved(Step::Steer));
            return;
        }
        match self.sides() {
            Ok((old, new)) => {
                let events = self.events.clone();
                let steering = tokio::task::spawn_local(async move {
                    let input = match steering::shift(&old, &new, First::Leaving).await {
                        Ok(()) => Input::Proved(Step::Steer),
                        Err(error) => Input::Disproved(Step::Steer, error.to_string()),
                    };
                    let _ = events.send(Event::Input(input));
                });
                self.proof = Some(steering.abort_handle());
            }
            Err(error) => self.inputs.push_back(Input::Disproved(Step::Steer, error.to_string())),
        }
    }

    /// A stage that can't be written down is not waited for: it only matters if hareload dies as well.
    fn write_down(&mut self, stage: Stage) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.journal.stage = stage;
        if let Err(error) = self.records.set_journal(&attempt.journal) {
            self.notes.push(format!("the journal can't be written: {error}"));
        }
    }

    fn steer_back(&mut self, stands: Stands) {
        self.drop_proof();
        let steered = self.attempt.as_ref().is_some_and(|attempt| attempt.chosen.steered);
        let sides = if steered { self.sides().ok() } else { None };
        let Some((old, new)) = sides else {
            self.inputs.push_back(Input::SteeredBack);
            return;
        };
        let first = match stands {
            Stands::First => First::Staying,
            Stands::Behind => First::Leaving,
        };
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = steering::shift(&new, &old, first).await {
                let _ = events.send(Event::Note("hareload", format!("could not steer back: {error}")));
            }
            let _ = events.send(Event::Input(Input::SteeredBack));
        });
    }

    fn release(&mut self) {
        if !self.attempt.as_ref().is_none_or(|attempt| attempt.chosen.steered) {
            return;
        }
        if let Ok((old, new)) = self.sides() {
            steering::release(&old);
            steering::release(&new);
        }
    }

    fn rename_pidfile(&mut self) {
        let Some(attempt) = &self.attempt else { return };
        let pids = attempt.pids();
        if pids.is_empty() {
            let why = format!("{} names nobody yet", attempt.paths.pidfile.display());
            self.inputs.push_back(Input::PidfileFailed(why));
            return;
        }
        let path = &self.old.pidfile;
        let input = match files::replace(path, pidfile::render(&pids).as_bytes(), Durability::Synced) {
            Ok(()) => {
                self.timeline.note("hareload", format!("commit: {} names pid {}", path.display(), pids[0]));
                Input::PidfileRenamed
            }
            Err(error) => Input::PidfileFailed(error.to_string()),
        };
        self.inputs.push_back(input);
    }

    fn restore_pidfile(&mut self) {
        let pids: Vec<u32> = self.old.processes.iter().map(|process| process.pid()).collect();
        let path = &self.old.pidfile;
        let named =
            files::read_bounded(path, pidfile::MAX_BYTES).ok().and_then(|bytes| pidfile::parse(&bytes).ok());
        if named.as_ref() == Some(&pids) {
            return;
        }
        match files::replace(path, pidfile::render(&pids).as_bytes(), Durability::Synced) {
            Ok(()) => self.timeline.note("hareload", format!("{} names the old one again", path.display())),
            Err(error) => self.notes.push(format!("the pidfile does not name the old one: {error}")),
        }
    }

    fn each_kept(&mut self, what: &str, verb: fn(&files::Kept) -> std::io::Result<()>) {
        let Some(attempt) = &mut self.attempt else { return };
        for kept in attempt.kept.drain(..) {
            match verb(&kept) {
                Ok(()) => {
                    self.timeline.note("hareload", format!("unix socket {} {what}", kept.path.display()))
                }
                Err(error) => self.notes.push(format!("unix socket {}: {error}", kept.path.display())),
            }
        }
    }

    /// The record of the new generation, once it serves.
    fn generation(&self) -> Option<Generation> {
        let attempt = self.attempt.as_ref()?;
        let processes: Vec<Rc<Process>> = attempt.members.alive();
        Some(Generation {
            number: attempt.number,
            processes: processes.iter().map(|process| process.identity().clone()).collect(),
            configs: self.configs.clone(),
            cwd: self.old.cwd.clone(),
            boot: self.boot.clone(),
        })
    }

    /// Tidies up after the end, and writes the account.
    pub(super) fn conclude(mut self, command: &str, outcome: Outcome, began: jiff::Timestamp) -> Account {
        let new_serves = match &outcome.verdict {
            Verdict::Reloaded | Verdict::ReloadedStillDraining | Verdict::Unproven => true,
            Verdict::Refused(..) | Verdict::RolledBack | Verdict::Nobody => false,
        };
        if new_serves
            && let Some(generation) = self.generation()
            && let Err(error) = self.records.set_current(&generation)
        {
            self.notes.push(format!("the record of the new generation can't be written: {error}"));
        }
        self.records.end_journal();
        super::tidy(self.records);
        // Perhaps not ours: that of one before us, which was killed while it committed.
        files::forget_half_written(&self.old.pidfile);
        if outcome.cause == Some(Cause::NotProven(Step::Probes)) {
            let asked: Vec<String> = self.request.probes.iter().map(probe::name).collect();
            self.notes.push(format!("the probes were {}", asked.join(", ")));
        }
        if let Some(worse) = self.worse.take()
            && !new_serves
        {
            self.notes.push(worse);
        }
        let new = self.attempt.as_ref().map(Attempt::named);
        let old = self.old.named();
        let serving: Option<Named> = match &outcome.verdict {
            Verdict::Nobody => None,
            _ if new_serves => new.clone(),
            _ => self.old.processes.iter().any(|process| process.is_alive()).then(|| old.clone()),
        };
        let reason = outcome.tried.len();
        let chosen: Option<&Chosen> = self.survey.chosen.get(reason).filter(|_| outcome.way.is_some());
        Account {
            schema: SCHEMA.to_owned(),
            command: command.to_owned(),
            instance: self.request.instance.clone(),
            began,
            took_us: u64::try_from(self.timeline.now().as_micros()).unwrap_or(u64::MAX),
            exit_code: match &outcome.verdict {
                // To lead back is what `recover` is for.
                Verdict::RolledBack if command == "recover" => exit::DONE,
                _ => outcome.exit_code(),
            },
            serving,
            old: Some(old),
            new,
            reason: chosen.map(|chosen| chosen.reason.clone()),
            notes: self.notes,
            said: self.said,
            timeline: self.timeline.moments(),
            coalesced: false,
            configs: self.configs.iter().map(|path| path.display().to_string()).collect(),
            pidfile: self.old.pidfile.display().to_string(),
            outcome,
        }
    }
}

/// The word for an order; the signals stand in `haproxy::handoff` alone.
fn word_of(order: Order) -> Word {
    match order {
        Order::Pause => Word::Pause,
        Order::Resume => Word::Resume,
        Order::Retire => Word::Retire,
        Order::Stop => Word::Stop,
        Order::Kill => Word::Kill,
    }
}

async fn next_report(herald: Option<&mut Herald>) -> Option<Report> {
    match herald {
        Some(herald) => herald.next().await,
        None => std::future::pending().await,
    }
}

/// Reads what the new one prints; after its end there is nothing to wait for.
async fn read_more(output: Option<&mut Output>) {
    let ended = match output {
        Some(output) => !output.read_more().await,
        None => true,
    };
    if ended {
        std::future::pending::<()>().await;
    }
}

async fn tick(at: Option<time::Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// An account of a handover that never began.
pub(super) fn refused(
    request: &Request,
    command: &str,
    timeline: &Timeline,
    began: jiff::Timestamp,
    refusal: super::request::Refused,
) -> Account {
    let outcome = Outcome {
        verdict: Verdict::Refused(refusal.kind, refusal.why),
        way: None,
        tried: Vec::new(),
        cause: None,
        rest: Rest::Gone,
        interrupted: None,
    };
    Account {
        schema: SCHEMA.to_owned(),
        command: command.to_owned(),
        instance: request.instance.clone(),
        began,
        took_us: u64::try_from(timeline.now().as_micros()).unwrap_or(u64::MAX),
        exit_code: outcome.exit_code(),
        serving: None,
        old: None,
        new: None,
        reason: None,
        notes: Vec::new(),
        said: Vec::new(),
        timeline: timeline.moments(),
        coalesced: false,
        configs: request.configs.iter().map(|path| path.display().to_string()).collect(),
        pidfile: request.pidfile.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        outcome,
    }
}
