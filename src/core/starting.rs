//! From the spawn of the new one until it is *bound*.

use std::time::Duration;

use super::action::{Action, Order};
use super::input::{Failure, Input, Refusal};
use super::machine::{Again, Due, Machine, New, Pause, Then};
use super::outcome::Cause;
use super::phase::{Phase, Told};
use super::plan::Way;

impl Machine {
    /// Spawns the new one in the way that is next.
    pub(super) fn start(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some(way) = self.way() else {
            let cause = Cause::Spawn(Refusal::Internal, "there is no way of handover to try".to_owned());
            return self.undo(now, cause, Then::End, actions);
        };
        self.new = New::Running { bound: false, live: false, told: Told::Nothing, deaf: false };
        self.enter(now, Phase::Starting, self.plan.limits.bound, Again::Never);
        actions.push(Action::Start { way, attempt: self.attempt });
    }

    pub(super) fn starting(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Bound => {
                if let New::Running { ref mut bound, .. } = self.new {
                    *bound = true;
                }
                self.first_proof(now, actions);
            }
            Input::AsksPause => self.asked_to_pause(now, actions),
            // Its exit follows and is the truth; the old one may listen again meanwhile, which is harmless to say.
            Input::GaveUp => {
                if self.old.paused != Pause::No {
                    self.tell_old(Order::Resume, actions);
                }
            }
            Input::SpawnFailed(kind, why) => {
                self.new = New::Absent;
                self.undo(now, Cause::Spawn(kind, why), Then::End, actions);
            }
            Input::NewGone(failure) => {
                self.new = New::Absent;
                let then = self.after(&failure);
                self.undo(now, Cause::Start(failure), then, actions);
            }
            Input::OldGone => self.old.gone = true,
            Input::Interrupted(signal) => self.interrupt(now, signal, actions),
            Input::Tick => match self.tick(now) {
                Due::Deadline => {
                    let cause = match self.old.paused {
                        Pause::No => Cause::NotBound,
                        Pause::Told | Pause::Seen => Cause::PauseInVain,
                    };
                    self.undo(now, cause, Then::End, actions);
                }
                Due::Again | Due::Nothing => {}
            },
            // Not started yet, or said by nobody before *bound*.
            Input::Planned(_)
            | Input::Refused(..)
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

    /// The new one lacks an address. Only the way of that name pauses the old one for it; the plan lists that way
    /// after an attempt that has shown that the old one holds what is lacking. Any other way lets the new one fail
    /// while the old one goes on serving.
    fn asked_to_pause(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match self.way() {
            Some(Way::Pause) if !self.old.gone => {
                if self.old.paused == Pause::No {
                    self.deadline = self.deadline.min(now + self.plan.limits.pause);
                } else if !self.old.asked_again {
                    // On a starved host the time was over before the old one was told: only now does it count.
                    self.old.asked_again = true;
                    self.deadline = self.deadline.max(now + self.plan.limits.pause);
                }
                // As often as it asks: 2.2.9 and 2.4.0 miss signals.
                self.tell_old(Order::Pause, actions);
            }
            Some(Way::Pause | Way::Shared | Way::Trial | Way::Overlap | Way::Start) | None => {
                actions.push(Action::LetNewFail);
                self.deadline = self.deadline.min(now + self.plan.limits.last_words);
            }
        }
    }

    /// Whether the next way is worth a try after this failure.
    fn after(&self, failure: &Failure) -> Then {
        let more = self.attempt + 1 < self.plan.ways.len();
        if more && failure.another_way_may_help() { Then::NextWay } else { Then::End }
    }
}
