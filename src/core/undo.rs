//! Everything that leads back to the old one.
//!
//! The order is: the old one listens; then the new one leaves; then the old one is told to listen once more, because
//! from 2.8 on a failing HAProxy says *resume* before it lets go of its ports; then the unix sockets are put back.
//! Where nothing but the new one serves (a trial), it is not told to leave before the old one is seen to listen; and
//! if the old one does not come back at all, the new one is kept: somebody must serve.

use std::time::Duration;

use super::action::{Action, Order, Stage, Stands};
use super::input::{Failure, Input, Refusal};
use super::machine::{Again, Due, Machine, New, Pause, Then};
use super::outcome::{Cause, Rest, Tried, Verdict};
use super::phase::{Back, Phase, Step, Told};
use super::plan::Way;

/// What has failed before anything was touched is a refusal.
fn refusal(cause: &Cause) -> Option<Verdict> {
    match cause {
        Cause::Start(Failure::Configuration(why)) => {
            Some(Verdict::Refused(Refusal::Configuration, why.clone()))
        }
        Cause::Spawn(kind, why) => Some(Verdict::Refused(*kind, why.clone())),
        Cause::Start(_)
        | Cause::Died(_)
        | Cause::Proof(..)
        | Cause::NotBound
        | Cause::NotProven(_)
        | Cause::PauseInVain
        | Cause::Pidfile(_)
        | Cause::Interrupted(_)
        | Cause::Crashed => None,
    }
}

impl Machine {
    /// Turns back.
    pub(super) fn undo(&mut self, now: Duration, cause: Cause, then: Then, actions: &mut Vec<Action>) {
        self.cause = Some(cause);
        self.then = then;
        let alone = matches!(self.new, New::Running { live: true, told: Told::Nothing, deaf: false, .. });
        if !self.has_way_back() && alone {
            return self.keep_new(now, actions);
        }
        match (self.way(), alone, self.old.paused) {
            (Some(Way::Trial), true, Pause::Told) => self.aside(now, actions),
            (Some(Way::Trial), true, Pause::Seen) => self.old_first(now, actions),
            // Harmless when it was not paused, and the one thing that must never be forgotten.
            (Some(Way::Trial), true, Pause::No) => {
                self.tell_old(Order::Resume, actions);
                self.steer_back(now, actions);
            }
            _ => {
                self.tell_old(Order::Resume, actions);
                self.new_leaves(now, actions);
            }
        }
    }

    /// The pause that is under way is seen through: only then is it known where the old one stands.
    fn aside(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.enter(now, Phase::Undoing(Back::Aside), self.plan.limits.proof, Again::Repeat);
        self.tell_old(Order::Pause, actions);
        actions.push(Action::Prove(Step::Alone));
    }

    fn old_first(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.enter(now, Phase::Undoing(Back::OldFirst), self.plan.limits.listen_again, Again::Repeat);
        actions.push(Action::Journal(Stage::Returning));
        self.tell_old(Order::Resume, actions);
        actions.push(Action::WatchOldListens);
    }

    /// There is no way back: the new one serves, unproven as it is.
    pub(super) fn keep_new(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.proven = false;
        // Clients may be steered to the old one already, by this way back or by that of one that has crashed.
        actions.extend([Action::ReleaseSteering, Action::Journal(Stage::Kept)]);
        self.commit(now, actions);
    }

    fn steer_back(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.enter(now, Phase::Undoing(Back::Steer), self.plan.limits.proof, Again::Never);
        let stands = match self.old.paused {
            Pause::No | Pause::Told => Stands::First,
            Pause::Seen => Stands::Behind,
        };
        actions.push(Action::SteerBack(stands));
    }

    fn new_leaves(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let New::Running { bound, live, .. } = self.new else { return self.old_again(now, actions) };
        // What it has accepted is finished.
        let word = if self.may_have_accepted(bound, live) { Told::Retire } else { Told::Stop };
        // It has bound all that it wants: clients of a unix socket find the old one again before it closes its own.
        if bound {
            actions.push(Action::RestoreSockets);
        }
        self.enter(now, Phase::Undoing(Back::NewLeaves), self.plan.limits.leave, Again::Repeat);
        self.tell_new(word, actions);
        actions.push(Action::WatchNewDeaf);
    }

    /// Whether clients may have come to the new one. It accepts as soon as it runs, which may be a moment before it is
    /// seen to be bound, and long before it is seen to be live.
    fn may_have_accepted(&self, bound: bool, live: bool) -> bool {
        match self.way() {
            // Until it is live, everybody is steered to the old one.
            Some(Way::Trial) => live,
            // One that asks for a pause serves nobody, and the old one is wanted back at once.
            Some(Way::Pause) => bound,
            Some(Way::Shared | Way::Overlap | Way::Start) => true,
            None => false,
        }
    }

    fn old_again(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.old.gone {
            return self.without_old(now, actions);
        }
        actions.push(Action::RestoreSockets);
        self.enter(now, Phase::Undoing(Back::OldAgain), self.plan.limits.listen_again, Again::Repeat);
        self.tell_old(Order::Resume, actions);
        actions.push(Action::WatchOldListens);
    }

    /// Nobody is left who could serve. Where nobody did before (a start), there is time to see the new one out.
    fn without_old(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let draining = matches!(self.new, New::Running { deaf: true, .. });
        if draining && self.way() == Some(Way::Start) && self.phase != Phase::Undoing(Back::Linger) {
            return self.enter(now, Phase::Undoing(Back::Linger), self.plan.limits.linger, Again::Never);
        }
        actions.push(Action::ReleaseSteering);
        let verdict = match &self.cause {
            Some(cause) if self.has_way_back() => refusal(cause).unwrap_or(Verdict::Nobody),
            _ => Verdict::Nobody,
        };
        self.finish(verdict, self.new_rest(), actions);
    }

    fn linger(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.old.paused = Pause::No;
        actions.push(Action::RestoreSockets);
        // What holds new connections off a new one stays on as long as it may listen.
        if matches!(self.new, New::Absent | New::Running { deaf: true, .. }) {
            actions.push(Action::ReleaseSteering);
        }
        match self.new {
            New::Absent => self.back(now, actions),
            New::Running { .. } => {
                self.enter(now, Phase::Undoing(Back::Linger), self.plan.limits.linger, Again::Never);
            }
        }
    }

    fn new_rest(&self) -> Rest {
        match self.new {
            New::Absent => Rest::Gone,
            New::Running { deaf: true, .. } => Rest::Draining,
            New::Running { deaf: false, .. } => Rest::Unclear,
        }
    }

    /// The old one serves as before.
    fn back(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.old.gone {
            return self.without_old(now, actions);
        }
        let next = self.then == Then::NextWay && self.interrupted.is_none() && self.new == New::Absent;
        match (next, self.way(), self.cause.take()) {
            (true, Some(way), Some(why)) => {
                self.tried.push(Tried { way, why });
                self.attempt += 1;
                self.start(now, actions);
            }
            (_, _, cause) => {
                // One that was bound before, in another way, was not nothing.
                let untouched = !self.tried.iter().any(|tried| matches!(tried.why, Cause::Proof(..)));
                let refused = cause.as_ref().filter(|_| untouched).and_then(refusal);
                let verdict = refused.unwrap_or(Verdict::RolledBack);
                self.cause = cause;
                self.finish(verdict, self.new_rest(), actions);
            }
        }
    }

    pub(super) fn undoing(&mut self, now: Duration, back: Back, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::OldListens => match back {
                Back::OldFirst => self.steer_back(now, actions),
                Back::OldAgain => self.linger(now, actions),
                Back::Aside | Back::Steer | Back::NewLeaves | Back::Linger => {}
            },
            Input::Proved(Step::Alone) => match back {
                Back::Aside => {
                    self.old.paused = Pause::Seen;
                    self.old_first(now, actions);
                }
                Back::OldFirst | Back::Steer | Back::NewLeaves | Back::OldAgain | Back::Linger => {}
            },
            Input::SteeredBack => match back {
                Back::Steer => self.new_leaves(now, actions),
                Back::Aside | Back::OldFirst | Back::NewLeaves | Back::OldAgain | Back::Linger => {}
            },
            // One that was not bound yet may bind after it was looked at, and one that dies loses its descriptors before
            // its sockets are closed: of such a one only the end counts.
            Input::NewDeaf => {
                if let New::Running { bound: true, told: Told::Retire, ref mut deaf, .. } = self.new {
                    *deaf = true;
                    if back == Back::NewLeaves {
                        self.old_again(now, actions);
                    }
                }
            }
            Input::NewGone(_) => {
                self.new = New::Absent;
                match back {
                    Back::Aside | Back::OldFirst | Back::Steer | Back::NewLeaves => {
                        self.old_again(now, actions);
                    }
                    Back::OldAgain => self.tell_old(Order::Resume, actions),
                    Back::Linger => {
                        self.tell_old(Order::Resume, actions);
                        actions.push(Action::ReleaseSteering);
                        self.back(now, actions);
                    }
                }
            }
            Input::OldGone => {
                self.old.gone = true;
                self.old.paused = Pause::No;
                match back {
                    // The new one was not told anything yet: it stays.
                    Back::Aside | Back::OldFirst | Back::Steer => self.keep_new(now, actions),
                    Back::NewLeaves => {}
                    Back::OldAgain | Back::Linger => {
                        actions.push(Action::ReleaseSteering);
                        self.finish(Verdict::Nobody, self.new_rest(), actions);
                    }
                }
            }
            Input::Interrupted(signal) => self.interrupted = Some(signal),
            Input::Tick => match self.tick(now) {
                Due::Deadline => self.back_too_slowly(now, back, actions),
                Due::Again => self.say_again(back, actions),
                Due::Nothing => {}
            },
            // The new one's words count no more, and nothing else is under way.
            Input::Planned(_)
            | Input::Refused(..)
            | Input::SpawnFailed(..)
            | Input::AsksPause
            | Input::GaveUp
            | Input::Bound
            | Input::Proved(_)
            | Input::Disproved(..)
            | Input::OldRetired
            | Input::PidfileRenamed
            | Input::PidfileFailed(_) => {}
        }
    }

    fn say_again(&mut self, back: Back, actions: &mut Vec<Action>) {
        match back {
            Back::Aside => self.tell_old(Order::Pause, actions),
            Back::OldFirst | Back::OldAgain => self.tell_old(Order::Resume, actions),
            Back::NewLeaves => {
                if let New::Running { told, .. } = self.new {
                    self.tell_new(told, actions);
                }
            }
            Back::Steer | Back::Linger => {}
        }
    }

    fn back_too_slowly(&mut self, now: Duration, back: Back, actions: &mut Vec<Action>) {
        match back {
            // The old one can't be had back, or hears nothing, and the new one serves: it stays.
            Back::Aside | Back::OldFirst => self.keep_new(now, actions),
            Back::Steer => self.new_leaves(now, actions),
            Back::NewLeaves => {
                let New::Running { told, .. } = self.new else { return self.old_again(now, actions) };
                let harder = match told {
                    Told::Nothing | Told::Retire => Told::Stop,
                    Told::Stop => Told::Kill,
                    Told::Kill => return self.old_again(now, actions),
                };
                self.enter(now, Phase::Undoing(Back::NewLeaves), self.plan.limits.leave, Again::Repeat);
                self.tell_new(harder, actions);
            }
            Back::OldAgain => {
                actions.extend([Action::RestoreSockets, Action::ReleaseSteering]);
                self.finish(Verdict::Nobody, self.new_rest(), actions);
            }
            Back::Linger => self.back(now, actions),
        }
    }
}
