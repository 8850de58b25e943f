//! The machine: `(now, Input) -> Vec<Action>`.
//!
//! This file holds the state and the one entry, [`Machine::step`]; what each phase does about each input stands in
//! `starting`, `proving`, `finishing` and `undo`. Time is a [`Duration`] since the handover began, and comes from
//! outside.

use std::time::Duration;

use super::action::{Action, Order, Stage, Who};
use super::input::{Input, Refusal};
use super::outcome::{Cause, Outcome, Rest, Tried, Verdict};
use super::phase::{Phase, Told};
use super::plan::{Limits, Plan, Way};

/// Whether the old one accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pause {
    /// It was not told to pause, or was seen to listen since.
    No,
    /// It was told to pause, and may have done so.
    Told,
    /// It was seen to have left LISTEN.
    Seen,
}

/// What is known of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Old {
    /// Whether it is paused.
    pub(super) paused: Pause,
    /// The new one has asked again since it was told to pause.
    pub(super) asked_again: bool,
    /// No process of it is left.
    pub(super) gone: bool,
    /// It was seen to have closed its listeners after the commit.
    pub(super) retired: bool,
}

/// What is known of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum New {
    /// There is none.
    Absent,
    /// It runs, as far as we know.
    Running {
        /// It has bound all it needs; from then on it may have accepted clients, unless they are steered away from it.
        bound: bool,
        /// It has answered with its own pid.
        live: bool,
        /// What it was told last.
        told: Told,
        /// It holds no listener any more.
        deaf: bool,
    },
}

/// What follows an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Then {
    /// The handover is over.
    End,
    /// The next way is tried.
    NextWay,
}

/// The handover as a state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub(super) phase: Phase,
    pub(super) plan: Plan,
    pub(super) attempt: usize,
    pub(super) old: Old,
    pub(super) new: New,
    pub(super) then: Then,
    pub(super) cause: Option<Cause>,
    pub(super) tried: Vec<Tried>,
    pub(super) interrupted: Option<i32>,
    /// The verdict if the commit succeeds: *reloaded*, or *unproven* when there is no way back.
    pub(super) proven: bool,
    pub(super) deadline: Duration,
    pub(super) again: Option<Duration>,
}

/// What recovery finds when it comes after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The pidfile names the new one.
    pub committed: bool,
    /// A process of the old one is left.
    pub old_alive: bool,
    /// A process of the new one is left, and whether it answers on its admin socket.
    pub new_alive: Option<bool>,
    /// The way that was being taken.
    pub way: Way,
    /// How far it had come, by the journal.
    pub stage: Stage,
    /// The deadlines.
    pub limits: Limits,
}

/// How long the probing may take before the handover is refused.
const PROBING: Duration = Duration::from_secs(30);

impl Machine {
    /// A handover that begins: nothing is known and nothing touched.
    pub fn new(now: Duration) -> Machine {
        Machine {
            phase: Phase::Probing,
            plan: Plan {
                ways: Vec::new(),
                dwell: Duration::ZERO,
                drain: super::plan::Drain::Return,
                patient: false,
                limits: Limits::default(),
            },
            attempt: 0,
            old: Old { paused: Pause::No, asked_again: false, gone: false, retired: false },
            new: New::Absent,
            then: Then::End,
            cause: None,
            tried: Vec::new(),
            interrupted: None,
            proven: false,
            deadline: now + PROBING,
            again: None,
        }
    }

    /// Takes up a handover whose hareload has died: the undo before the commit, the finish after it.
    pub fn recover(now: Duration, found: Found) -> (Machine, Vec<Action>) {
        let mut machine = Machine::new(now);
        machine.plan.ways = vec![found.way];
        machine.plan.limits = found.limits;
        machine.cause = Some(Cause::Crashed);
        machine.old.gone = !found.old_alive;
        machine.old.paused = match found.stage {
            _ if !found.old_alive => Pause::No,
            Stage::Forward => Pause::No,
            Stage::Pausing | Stage::Kept => Pause::Told,
            Stage::Returning => Pause::Seen,
        };
        machine.new = match found.new_alive {
            None => New::Absent,
            Some(live) => New::Running { bound: live, live, told: Told::Nothing, deaf: false },
        };
        let mut actions = Vec::new();
        match (found.committed, found.new_alive) {
            // The commit is taken for the proof, as long as the new one answers.
            (true, Some(live)) => {
                machine.proven = live && found.stage != Stage::Kept;
                machine.cause = None;
                machine.committed(now, &mut actions);
            }
            // The one that the pidfile names is gone: if the old one was not told to retire yet, it can serve again.
            (true, None) => {
                if machine.has_way_back() {
                    actions.push(Action::RestorePidfile);
                }
                machine.undo(now, Cause::Crashed, Then::End, &mut actions);
            }
            (false, Some(true)) if found.stage == Stage::Kept => machine.keep_new(now, &mut actions),
            (false, _) => machine.undo(now, Cause::Crashed, Then::End, &mut actions),
        }
        (machine, actions)
    }

    /// Where the handover is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The way that is being taken, once there is one.
    pub fn way(&self) -> Option<Way> {
        self.plan.ways.get(self.attempt).copied()
    }

    /// Somebody wants hareload to end: the way back is taken, if there is one that is better than to go on.
    pub(super) fn interrupt(&mut self, now: Duration, signal: i32, actions: &mut Vec<Action>) {
        self.interrupted = Some(signal);
        if self.has_way_back() {
            self.undo(now, Cause::Interrupted(signal), Then::End, actions);
        }
    }

    /// Whether there is something to go back to: the old one, or nobody, as before a start. Else the new one is all there
    /// is, and is seen through.
    pub(super) fn has_way_back(&self) -> bool {
        !self.old.gone || self.way() == Some(Way::Start) && !self.plan.patient
    }

    /// When [`Input::Tick`] is due. Every phase but the last has such a time.
    pub fn wakes_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Done => None,
            _ => Some(self.again.map_or(self.deadline, |again| again.min(self.deadline))),
        }
    }

    /// Shifts the origin of time, for tests that compare machines at different times.
    pub fn rebased(mut self, origin: Duration) -> Machine {
        self.deadline = self.deadline.saturating_sub(origin);
        self.again = self.again.map(|at| at.saturating_sub(origin));
        self
    }

    /// Something happened: what is to be done about it, in order.
    #[must_use = "the actions are the answer"]
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.phase {
            Phase::Probing => self.probing(now, input, &mut actions),
            Phase::Starting => self.starting(now, input, &mut actions),
            Phase::Proving(step) => self.proving(now, step, input, &mut actions),
            Phase::Committing => self.committing(now, input, &mut actions),
            Phase::Committed => self.retiring(now, input, &mut actions),
            Phase::Draining(told) => self.draining(now, told, input, &mut actions),
            Phase::Undoing(back) => self.undoing(now, back, input, &mut actions),
            Phase::Done => {}
        }
        actions
    }

    fn probing(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Planned(plan) => {
                self.plan = plan;
                // There is nobody whose end could be told.
                self.old.gone |= self.way() == Some(Way::Start);
                self.start(now, actions);
            }
            Input::Refused(refusal, why) => self.finish(Verdict::Refused(refusal, why), Rest::Gone, actions),
            Input::Interrupted(signal) => {
                self.interrupted = Some(signal);
                self.cause = Some(Cause::Interrupted(signal));
                let why = "interrupted before anything was touched".to_owned();
                self.finish(Verdict::Refused(Refusal::Internal, why), Rest::Gone, actions);
            }
            Input::Tick if now >= self.deadline => {
                let why = "the running HAProxy could not be examined in time".to_owned();
                self.finish(Verdict::Refused(Refusal::Internal, why), Rest::Gone, actions);
            }
            Input::OldGone => self.old.gone = true,
            // Nothing runs yet that could say any of these.
            Input::Tick
            | Input::SpawnFailed(..)
            | Input::AsksPause
            | Input::GaveUp
            | Input::Bound
            | Input::NewGone(_)
            | Input::NewDeaf
            | Input::Proved(_)
            | Input::Disproved(..)
            | Input::OldListens
            | Input::OldRetired
            | Input::SteeredBack
            | Input::PidfileRenamed
            | Input::PidfileFailed(_) => {}
        }
    }

    /// Enters a phase with its deadline, and with the time of the first repetition where it has one.
    pub(super) fn enter(&mut self, now: Duration, phase: Phase, limit: Duration, again: Again) {
        self.phase = phase;
        self.deadline = now + limit;
        self.again = match again {
            Again::Never => None,
            Again::Repeat => Some(now + self.plan.limits.again),
        };
    }

    /// Whether this tick is the deadline; if it is only a repetition, the next one is set.
    pub(super) fn tick(&mut self, now: Duration) -> Due {
        if now >= self.deadline {
            return Due::Deadline;
        }
        match self.again {
            Some(at) if now >= at => {
                self.again = Some(now + self.plan.limits.again);
                Due::Again
            }
            _ => Due::Nothing,
        }
    }

    /// The end.
    pub(super) fn finish(&mut self, verdict: Verdict, rest: Rest, actions: &mut Vec<Action>) {
        self.phase = Phase::Done;
        self.again = None;
        actions.push(Action::Finish(Outcome {
            verdict,
            way: self.way(),
            tried: self.tried.clone(),
            cause: self.cause.clone(),
            rest,
            interrupted: self.interrupted,
        }));
    }

    /// Tells the old one something, unless it is gone.
    pub(super) fn tell_old(&mut self, order: Order, actions: &mut Vec<Action>) {
        if self.old.gone {
            return;
        }
        if order == Order::Pause && self.old.paused == Pause::No {
            self.old.paused = Pause::Told;
            self.old.asked_again = false;
            actions.push(Action::Journal(Stage::Pausing));
        }
        actions.push(Action::Tell(Who::Old, order));
    }

    /// Tells the new one to leave, unless there is none.
    pub(super) fn tell_new(&mut self, word: Told, actions: &mut Vec<Action>) {
        let New::Running { ref mut told, .. } = self.new else { return };
        *told = word;
        let order = match word {
            Told::Nothing => return,
            Told::Retire => Order::Retire,
            Told::Stop => Order::Stop,
            Told::Kill => Order::Kill,
        };
        actions.push(Action::Tell(Who::New, order));
    }
}

/// Whether a phase repeats something while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It only waits.
    Never,
    /// It says its word again, every [`Limits::again`].
    Repeat,
}

/// What a tick means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The deadline has passed.
    Deadline,
    /// Time to say it again.
    Again,
    /// Too early.
    Nothing,
}
