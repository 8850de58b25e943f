//! What can happen next: what old, new, the pidfile and hareload itself can do from any state.
//!
//! What has happened is reported later or never. Hareload may die between any two actions; who takes over then, the
//! guard or a later command, runs the same code on what the world shows, may come at any time, and may die too, so the
//! model tells the two apart no further.

use std::time::Duration;

use hareload::core::action::{Action, Order};
use hareload::core::input::{Failure, Input, Refusal};
use hareload::core::machine::{Found, Machine};
use hareload::core::phase::{Phase, Step};
use hareload::core::plan::{Plan, Way};

use crate::promise;
use crate::world::{Asked, New, Old, Pidfile, Runner, State, Steering, World};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The machine hears this.
    Hears(Input),
    /// The runner does the next action, and it has its effect.
    Does(Action),
    /// The runner does the next action, and it has none.
    DoesInVain(Action),
    /// Something happens without anybody's doing.
    Happens(&'static str),
    /// The runner dies.
    Crash,
    /// Somebody takes over.
    Recover(Found),
}

type Next = Vec<(Event, Result<State, String>)>;

impl State {
    /// Everything that can happen next.
    pub(crate) fn next(&self, plan: &Plan) -> Next {
        let mut next = Next::new();
        match self.world.runner {
            Runner::Ended => {}
            Runner::Nobody => {
                self.by_itself(&mut next);
                self.recover(plan, &mut next);
            }
            Runner::Hareload | Runner::Successor if self.todo.is_empty() => {
                self.by_itself(&mut next);
                self.heard(plan, &mut next);
                self.crash(&mut next);
            }
            Runner::Hareload | Runner::Successor => {
                self.act(&mut next);
                self.crash(&mut next);
            }
        }
        next
    }

    /// What the two HAProxies do without being told.
    fn by_itself(&self, next: &mut Next) {
        let mut happens = |what, change: &dyn Fn(&mut World)| {
            let mut state = self.clone();
            change(&mut state.world);
            next.push((Event::Happens(what), Ok(state)));
        };
        match self.world.old {
            Old::Serving | Old::Paused => happens("the old one dies", &|world| {
                world.old = Old::Gone;
                world.past.old_died = true;
            }),
            Old::Retired => happens("the old one has finished", &|world| world.old = Old::Gone),
            Old::Gone => {}
        }
        let mut dies = |why: Failure| {
            happens("the new one ends", &|world| {
                world.past.new_died = !world.past.new_told_to_leave;
                world.new = New::Gone;
                world.new_gone_known = false;
                world.failure = Some(why.clone());
            });
        };
        let why = String::new;
        match self.world.new {
            New::Absent | New::Gone => {}
            New::Starting => {
                dies(Failure::Configuration(why()));
                dies(Failure::Other(why()));
                if self.world.way == Some(Way::Shared) {
                    dies(Failure::Transfer(why()));
                }
            }
            New::Asking => {
                dies(Failure::PortsOfOld(why()));
                dies(Failure::PortsOfOthers(why()));
            }
            New::Bound | New::Live | New::Deaf => dies(Failure::Other(why())),
        }
        if self.world.new == New::Bound {
            happens("the new one begins to accept", &|world| world.new = New::Live);
        }
        let tried = self.world.way == Some(Way::Trial);
        if tried && self.world.asked.proof == Some(Step::Steer) && self.world.new == New::Live {
            happens("clients are steered to the new one", &|world| world.steering = Steering::ToNew);
        }
        // Said to nobody when the runner is dead.
        if self.world.runner == Runner::Nobody && matches!(self.world.new, New::Starting | New::Asking) {
            happens("the new one binds", &|world| {
                world.new = New::Bound;
                world.past.ever_bound = true;
            });
        }
    }

    /// What the machine can hear now.
    fn heard(&self, plan: &Plan, next: &mut Next) {
        let Some(machine) = &self.machine else { return };
        let world = &self.world;
        let mut hears = |input: Input, change: &dyn Fn(&mut World)| {
            let mut state = self.clone();
            change(&mut state.world);
            next.push((Event::Hears(input.clone()), state.hear(Duration::ZERO, input)));
        };
        let nothing = |_: &mut World| {};
        if machine.phase() == Phase::Probing {
            hears(Input::Planned(plan.clone()), &nothing);
            hears(Input::Refused(Refusal::NotRunning, String::new()), &nothing);
        }
        match world.new {
            New::Starting | New::Asking => {
                hears(Input::AsksPause, &|world| world.new = New::Asking);
                hears(Input::Bound, &|world| {
                    world.new = New::Bound;
                    world.past.ever_bound = true;
                });
                if world.new == New::Asking {
                    hears(Input::GaveUp, &nothing);
                }
            }
            New::Absent | New::Bound | New::Live | New::Deaf | New::Gone => {}
        }
        if !world.new_gone_known && world.new == New::Gone {
            let failure = world.failure.clone().unwrap_or(Failure::Other(String::new()));
            hears(Input::NewGone(failure), &|world| {
                world.new_gone_known = true;
                world.failure = None;
            });
        }
        if !world.old_gone_known && world.old == Old::Gone {
            hears(Input::OldGone, &|world| world.old_gone_known = true);
        }
        if world.asked.spawn_failed {
            hears(Input::SpawnFailed(Refusal::Internal, String::new()), &|world| {
                world.asked.spawn_failed = false
            });
        }
        if world.asked.steered_back {
            hears(Input::SteeredBack, &|world| world.asked.steered_back = false);
        }
        if world.asked.old_listens && world.old == Old::Serving {
            hears(Input::OldListens, &|world| world.asked.old_listens = false);
        }
        if world.asked.old_retired && world.old == Old::Retired {
            hears(Input::OldRetired, &|world| world.asked.old_retired = false);
        }
        if world.asked.new_deaf && matches!(world.new, New::Deaf | New::Gone) {
            hears(Input::NewDeaf, &|world| world.asked.new_deaf = false);
        }
        if let Some(renamed) = world.asked.renamed {
            let input = if renamed { Input::PidfileRenamed } else { Input::PidfileFailed(String::new()) };
            hears(input, &|world| world.asked.renamed = None);
        }
        if let Some(step) = world.asked.proof {
            hears(Input::Disproved(step, String::new()), &|world| world.asked.proof = None);
            if self.can_prove(step) {
                hears(Input::Proved(step), &|world| {
                    world.asked.proof = None;
                    if !world.past.proofs.contains(&step) {
                        world.past.proofs.push(step);
                    }
                });
            }
        }
        hears(Input::Interrupted(15), &nothing);
        if let Some(at) = machine.wakes_at() {
            next.push((Event::Hears(Input::Tick), self.clone().hear(at, Input::Tick)));
        }
    }

    /// Whether a driver that tells the truth can report this proof. A dwell ends by the clock.
    fn can_prove(&self, step: Step) -> bool {
        let live = self.world.new == New::Live;
        match step {
            Step::Live | Step::Listeners | Step::Health | Step::Probes | Step::Confirm => live,
            // Shared sockets are the old one's as well.
            Step::Steer => {
                live && (self.world.steering == Steering::ToNew || self.world.way == Some(Way::Shared))
            }
            Step::Alone => live && matches!(self.world.old, Old::Paused | Old::Gone),
            Step::Dwell => false,
        }
    }

    fn hear(mut self, now: Duration, input: Input) -> Result<State, String> {
        let Some(machine) = self.machine.take() else { return Err("nobody hears it".to_owned()) };
        let mut machine = machine;
        self.world.past.by_clock = input == Input::Tick;
        self.todo = machine.step(now, input);
        self.machine = Some(machine.rebased(now));
        Ok(self)
    }

    fn crash(&self, next: &mut Next) {
        let mut state = self.clone();
        state.todo.clear();
        state.world.asked = Asked::default();
        // Before the first spawn there is nothing to recover.
        state.world.runner = if state.world.way.is_none() { Runner::Ended } else { Runner::Nobody };
        state.machine = None;
        // A word that was missed is lost: whoever takes over finds one that was told nothing.
        let past = &mut state.world.past;
        past.old_told_to_leave &= matches!(state.world.old, Old::Retired | Old::Gone);
        past.new_told_to_leave &= matches!(state.world.new, New::Deaf | New::Gone);
        past.new_told_to_retire &= past.new_told_to_leave;
        next.push((Event::Crash, Ok(state)));
    }

    fn recover(&self, plan: &Plan, next: &mut Next) {
        let Some(way) = self.world.way else { return };
        let found = Found {
            committed: self.world.pidfile == Pidfile::New,
            old_alive: self.world.old != Old::Gone,
            new_alive: self.world.new.alive().then_some(self.world.new == New::Live),
            way,
            stage: self.world.stage,
            limits: plan.limits.clone(),
        };
        let mut state = self.clone();
        state.world.runner = Runner::Successor;
        state.world.old_gone_known = !found.old_alive;
        state.world.new_gone_known = found.new_alive.is_none();
        state.world.past.by_clock = false;
        let (machine, todo) = Machine::recover(Duration::ZERO, found.clone());
        state.machine = Some(machine);
        state.todo = todo;
        next.push((Event::Recover(found), Ok(state)));
    }

    /// The runner does the next action; the promise is asked first whether it may.
    fn act(&self, next: &mut Next) {
        let mut state = self.clone();
        let action = state.todo.remove(0);
        if let Err(broken) = promise::may(&state, &action) {
            return next.push((Event::Does(action), Err(broken)));
        }
        if let Some(in_vain) = state.in_vain(&action) {
            next.push((Event::DoesInVain(action.clone()), Ok(in_vain)));
        }
        state.world.effect(&action);
        next.push((Event::Does(action), Ok(state)));
    }

    /// The state in which this action has had no effect, where that can be.
    fn in_vain(&self, action: &Action) -> Option<State> {
        let mut state = self.clone();
        match action {
            Action::Tell(_, Order::Kill) => return None,
            Action::Tell(who, order) => state.world.said(*who, *order),
            Action::RenamePidfile => state.world.asked.renamed = Some(false),
            Action::Start { way, .. } => {
                state.world.started(*way);
                state.world.new = New::Absent;
                state.world.asked.spawn_failed = true;
            }
            _ => return None,
        }
        Some(state)
    }
}
