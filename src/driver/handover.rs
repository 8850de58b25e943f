//! The loop of a handover: what happens becomes inputs, the core answers with actions, and they are carried out.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::AbortHandle;
use tokio::time;

use crate::core::action::{Action, Order, Who};
use crate::core::input::Input;
use crate::core::machine::Machine;
use crate::core::outcome::Outcome;
use crate::core::phase::Step;
use crate::core::plan::{Drain, Plan};
use crate::haproxy::handoff::Heard;
use crate::os::herald::{Herald, Report};
use crate::os::process::Exit;
use crate::os::signals::Interrupts;
use crate::os::spawn::Output;

use super::attempt::Attempt;
use super::drain::Window;
use super::find::Old;
use super::pidfile;
use super::records::Records;
use super::request::Request;
use super::timeline::Timeline;
use super::watch::{self, Event, Events};
use super::ways::Survey;

mod acting;
mod aiming;
mod ending;
mod writing;

pub(super) use acting::word_of;
pub(super) use ending::{refused, without_handover};

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
    sight: Option<Window>,
    drains: bool,
    worse: Option<String>,
    last_told: Option<(Who, Order)>,
    outcome: Option<Outcome>,
    proof: Option<AbortHandle>,
    named_before: Vec<u32>,
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
            named_before: pidfile::named_in(&old.pidfile),
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
            sight: None,
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
            patient: false,
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
        if !self.old.processes.is_empty() {
            tokio::task::spawn_local(watch::old_gone(self.old.processes.clone(), self.events.clone()));
        }
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
                if let Some(attempt) = self.attempt.as_ref().filter(|_| outcome.verdict.new_serves()) {
                    attempt.is_launched().await;
                }
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
            Event::Listens { number, addresses } => {
                if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.number == number) {
                    attempt.listening = addresses;
                }
            }
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
        let (failure, said) = attempt.failure(&self.old, exit, &self.configs);
        for line in said {
            if !self.said.contains(&line) {
                self.said.push(line);
            }
        }
        self.timeline.note("new", "is gone");
        self.inputs.push_back(Input::NewGone(failure));
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
