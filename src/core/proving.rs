//! From *bound* to *proven*, one proof after the other, and the commit.

use std::time::Duration;

use super::action::{Action, Order};
use super::input::Input;
use super::machine::{Again, Due, Machine, New, Pause, Then};
use super::outcome::{Cause, Verdict};
use super::phase::{Phase, Step};
use super::plan::Way;

impl Machine {
    /// The proofs of the way that is taken, in order.
    fn proofs(&self) -> Vec<Step> {
        let mut proofs = vec![Step::Live, Step::Listeners, Step::Health];
        if self.way() == Some(Way::Trial) {
            proofs.extend([Step::Steer, Step::Alone]);
        }
        proofs.push(Step::Probes);
        if !self.plan.dwell.is_zero() {
            proofs.extend([Step::Dwell, Step::Confirm]);
        }
        // Last: the old one may be left with less than it had.
        if self.way() == Some(Way::Shared) {
            proofs.push(Step::Steer);
        }
        proofs
    }

    /// The new one is bound: the proofs begin.
    pub(super) fn first_proof(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.proof(now, Step::Live, actions);
    }

    fn proof(&mut self, now: Duration, step: Step, actions: &mut Vec<Action>) {
        let limits = &self.plan.limits;
        let (limit, again) = match step {
            Step::Live => (limits.live, Again::Never),
            // In a trial nobody else serves: one that has answered before does so at once, or it hangs.
            Step::Confirm if self.way() == Some(Way::Trial) => (limits.live.min(limits.alone), Again::Never),
            Step::Confirm => (limits.live, Again::Never),
            Step::Listeners | Step::Steer => (limits.proof, Again::Never),
            Step::Health => (limits.health, Again::Never),
            Step::Alone => (limits.proof, Again::Repeat),
            Step::Probes => (limits.probes, Again::Never),
            Step::Dwell => (self.plan.dwell, Again::Never),
        };
        self.enter(now, Phase::Proving(step), limit, again);
        if step == Step::Alone {
            self.tell_old(Order::Pause, actions);
        }
        actions.push(Action::Prove(step));
    }

    fn next_proof(&mut self, now: Duration, done: Step, actions: &mut Vec<Action>) {
        if done == Step::Live
            && let New::Running { ref mut live, .. } = self.new
        {
            *live = true;
        }
        if done == Step::Alone && !self.old.gone {
            self.old.paused = Pause::Seen;
        }
        let proofs = self.proofs();
        let mut rest = proofs.iter().copied().skip_while(|step| *step != done).skip(1);
        // Without an old one there is nobody to steer away from, and nobody to pause.
        let next = rest.find(|step| !(self.old.gone && matches!(step, Step::Steer | Step::Alone)));
        match next {
            Some(step) => self.proof(now, step, actions),
            None => {
                self.proven = true;
                self.commit(now, actions);
            }
        }
    }

    /// The point of no return is asked for; it is reached with [`Input::PidfileRenamed`].
    pub(super) fn commit(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.enter(now, Phase::Committing, self.plan.limits.proof, Again::Never);
        actions.push(Action::RenamePidfile);
    }

    pub(super) fn proving(&mut self, now: Duration, step: Step, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Proved(proved) if proved == step => self.next_proof(now, step, actions),
            Input::Disproved(failed, why) if failed == step => {
                // That it can't be steered says nothing against the new one.
                let more = step == Step::Steer && self.attempt + 1 < self.plan.ways.len();
                let then = if more { Then::NextWay } else { Then::End };
                self.undo(now, Cause::Proof(step, why), then, actions);
            }
            Input::NewGone(failure) => {
                self.new = New::Absent;
                self.undo(now, Cause::Died(failure), Then::End, actions);
            }
            Input::OldGone => {
                self.old.gone = true;
                self.old.paused = Pause::No;
                if matches!(step, Step::Steer | Step::Alone) {
                    self.next_proof(now, step, actions);
                }
            }
            Input::Interrupted(signal) => self.interrupt(now, signal, actions),
            Input::Tick => match self.tick(now) {
                Due::Deadline if step == Step::Dwell => self.next_proof(now, step, actions),
                Due::Deadline => self.undo(now, Cause::NotProven(step), Then::End, actions),
                Due::Again if step == Step::Alone => self.tell_old(Order::Pause, actions),
                Due::Again | Due::Nothing => {}
            },
            // A result that comes late, a word that is said twice, or one that means nothing here.
            Input::Proved(_)
            | Input::Disproved(..)
            | Input::Planned(_)
            | Input::Refused(..)
            | Input::SpawnFailed(..)
            | Input::AsksPause
            | Input::GaveUp
            | Input::Bound
            | Input::NewDeaf
            | Input::OldListens
            | Input::OldRetired
            | Input::SteeredBack
            | Input::PidfileRenamed
            | Input::PidfileFailed(_) => {}
        }
    }

    pub(super) fn committing(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::PidfileRenamed => self.committed(now, actions),
            Input::PidfileFailed(why) => self.not_committed(now, why, actions),
            Input::NewGone(failure) => {
                self.new = New::Absent;
                if !self.old.gone || self.way() == Some(Way::Start) {
                    actions.push(Action::RestorePidfile);
                }
                self.undo(now, Cause::Died(failure), Then::End, actions);
            }
            Input::OldGone => {
                self.old.gone = true;
                self.old.paused = Pause::No;
            }
            Input::Interrupted(signal) => self.interrupted = Some(signal),
            Input::Tick => match self.tick(now) {
                Due::Deadline => {
                    if !self.kept() {
                        actions.push(Action::RestorePidfile);
                    }
                    self.not_committed(now, "it was not renamed in time".to_owned(), actions);
                }
                Due::Again | Due::Nothing => {}
            },
            Input::Proved(_)
            | Input::Disproved(..)
            | Input::Planned(_)
            | Input::Refused(..)
            | Input::SpawnFailed(..)
            | Input::AsksPause
            | Input::GaveUp
            | Input::Bound
            | Input::NewDeaf
            | Input::OldListens
            | Input::OldRetired
            | Input::SteeredBack => {}
        }
    }

    /// Whether the new one is committed because there is no way back, rather than because it is proven.
    fn kept(&self) -> bool {
        !self.has_way_back() || !self.proven
    }

    /// The pidfile names the old one still. Where there is a way back it is taken; else the new one serves, and trying
    /// again and again would never end.
    fn not_committed(&mut self, now: Duration, why: String, actions: &mut Vec<Action>) {
        let cause = Cause::Pidfile(why);
        if !self.kept() {
            return self.undo(now, cause, Then::End, actions);
        }
        self.cause = Some(cause);
        actions.push(Action::ReleaseSteering);
        // Both serve then, if it hears; the pidfile names it.
        self.tell_old(Order::Resume, actions);
        self.finish(Verdict::Unproven, self.old_rest(), actions);
    }
}
