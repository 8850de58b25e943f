//! After the commit: the old one retires, and drains.

use std::time::Duration;

use super::action::{Action, Order};
use super::input::{Failure, Input};
use super::machine::{Again, Due, Machine, New};
use super::outcome::{Cause, Rest, Verdict};
use super::phase::{Phase, Told};
use super::plan::{AfterDrain, Drain};

impl Machine {
    /// The pidfile names the new one. From here there is no way back but a new handover.
    pub(super) fn committed(&mut self, now: Duration, actions: &mut Vec<Action>) {
        actions.push(Action::ForgetSockets);
        if self.old.gone {
            actions.push(Action::ReleaseSteering);
            return self.finish(self.serving(), Rest::Gone, actions);
        }
        self.enter(now, Phase::Committed, self.plan.limits.retire, Again::Repeat);
        self.tell_old(Order::Retire, actions);
        actions.push(Action::WatchOldRetired);
    }

    /// The verdict when the new one serves.
    fn serving(&self) -> Verdict {
        if self.proven { Verdict::Reloaded } else { Verdict::Unproven }
    }

    pub(super) fn retiring(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::OldRetired => {
                self.old.retired = true;
                self.drain(now, actions);
            }
            Input::OldGone => {
                self.old.gone = true;
                actions.push(Action::ReleaseSteering);
                self.finish(self.serving(), Rest::Gone, actions);
            }
            Input::NewGone(failure) => self.nobody(failure, actions),
            Input::Interrupted(signal) => self.interrupted = Some(signal),
            Input::Tick => match self.tick(now) {
                Due::Again => self.tell_old(Order::Retire, actions),
                Due::Deadline => self.drain(now, actions),
                Due::Nothing => {}
            },
            Input::Planned(_)
            | Input::Refused(..)
            | Input::SpawnFailed(..)
            | Input::AsksPause
            | Input::GaveUp
            | Input::Bound
            | Input::NewDeaf
            | Input::Proved(_)
            | Input::Disproved(..)
            | Input::OldListens
            | Input::SteeredBack
            | Input::PidfileRenamed
            | Input::PidfileFailed(_) => {}
        }
    }

    fn drain(&mut self, now: Duration, actions: &mut Vec<Action>) {
        actions.push(Action::ReleaseSteering);
        match self.plan.drain {
            Drain::Wait { limit, .. } if self.interrupted.is_none() => {
                self.enter(now, Phase::Draining(Told::Nothing), limit, Again::Never);
            }
            Drain::Wait { .. } | Drain::Return => self.finish(self.serving(), self.old_rest(), actions),
        }
    }

    pub(super) fn old_rest(&self) -> Rest {
        match (self.old.gone, self.old.retired) {
            (true, _) => Rest::Gone,
            (false, true) => Rest::Draining,
            (false, false) => Rest::Unclear,
        }
    }

    fn nobody(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        self.new = New::Absent;
        self.cause = Some(Cause::Died(failure));
        actions.push(Action::ReleaseSteering);
        self.finish(Verdict::Nobody, self.old_rest(), actions);
    }

    pub(super) fn draining(&mut self, now: Duration, told: Told, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::OldGone => {
                self.old.gone = true;
                self.finish(self.serving(), Rest::Gone, actions);
            }
            Input::NewGone(failure) => self.nobody(failure, actions),
            Input::Interrupted(signal) => {
                self.interrupted = Some(signal);
                self.finish(self.serving(), self.old_rest(), actions);
            }
            Input::Tick => match self.tick(now) {
                Due::Deadline => self.drained_too_slowly(now, told, actions),
                Due::Again | Due::Nothing => {}
            },
            Input::OldRetired => self.old.retired = true,
            Input::Planned(_)
            | Input::Refused(..)
            | Input::SpawnFailed(..)
            | Input::AsksPause
            | Input::GaveUp
            | Input::Bound
            | Input::NewDeaf
            | Input::Proved(_)
            | Input::Disproved(..)
            | Input::OldListens
            | Input::SteeredBack
            | Input::PidfileRenamed
            | Input::PidfileFailed(_) => {}
        }
    }

    fn drained_too_slowly(&mut self, now: Duration, told: Told, actions: &mut Vec<Action>) {
        let harder = match (&self.plan.drain, told) {
            (Drain::Return | Drain::Wait { then: AfterDrain::Leave, .. }, _) | (_, Told::Kill) => None,
            (Drain::Wait { then: AfterDrain::Stop, .. }, Told::Nothing | Told::Retire) => {
                Some((Told::Stop, Order::Stop))
            }
            (Drain::Wait { then: AfterDrain::Stop, .. }, Told::Stop) => Some((Told::Kill, Order::Kill)),
        };
        match harder {
            Some((told, order)) => {
                self.enter(now, Phase::Draining(told), self.plan.limits.leave, Again::Never);
                self.tell_old(order, actions);
            }
            None => {
                let verdict = if self.proven { Verdict::ReloadedStillDraining } else { Verdict::Unproven };
                self.finish(verdict, self.old_rest(), actions);
            }
        }
    }
}
