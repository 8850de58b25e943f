//! The world around the machine: what old, new, the pidfile and hareload itself can do next.
//!
//! A word that is said takes effect at once or is missed, as often as the adversary likes (2.2.9 and 2.4.0 miss
//! signals); only *kill* is never missed. What has happened is reported later or never. Hareload may die between any
//! two actions; who takes over then, the guard or a later command, runs the same code on what the world shows, may
//! come at any time, and may die too, so the model tells the two apart no further.

use std::time::Duration;

use hareload::core::action::{Action, Order, Stage, Stands, Who};
use hareload::core::input::{Failure, Input, Refusal};
use hareload::core::machine::{Found, Machine};
use hareload::core::phase::{Phase, Step};
use hareload::core::plan::{Plan, Way};

use crate::promise;

/// The old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Old {
    Serving,
    Paused,
    /// It finishes its connections.
    Retired,
    Gone,
}

/// The new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum New {
    Absent,
    Starting,
    /// It can't bind, and says so every now and then.
    Asking,
    Bound,
    /// It accepts clients.
    Live,
    /// It was retired: no listener is left, connections are.
    Deaf,
    Gone,
}

impl New {
    pub(crate) fn alive(self) -> bool {
        !matches!(self, New::Absent | New::Gone)
    }

    /// It holds listening sockets.
    pub(crate) fn listens(self) -> bool {
        matches!(self, New::Bound | New::Live)
    }
}

/// Whom the pidfile names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pidfile {
    Old,
    New,
}

/// Where new connections are steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Steering {
    None,
    ToOld,
    ToNew,
}

/// The process whose `-sf` pid the new one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Herald {
    Present,
    Dismissed,
}

/// Who runs the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Runner {
    Hareload,
    /// Dead, and nobody has taken over yet.
    Nobody,
    /// The guard, or a later command.
    Successor,
    /// It has said how it ended.
    Ended,
}

/// What the runner has asked for and not been told yet. It dies with the runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) proof: Option<Step>,
    pub(crate) renamed: Option<bool>,
    pub(crate) spawn_failed: bool,
    pub(crate) steered_back: bool,
    pub(crate) old_listens: bool,
    pub(crate) old_retired: bool,
    pub(crate) new_deaf: bool,
}

/// What has happened so far, as far as a promise speaks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// The old one ended though nobody had told it to.
    pub(crate) old_died: bool,
    /// The same of the new one that was started last.
    pub(crate) new_died: bool,
    pub(crate) old_told_to_leave: bool,
    pub(crate) new_told_to_leave: bool,
    /// A pause was said, and neither *resume* nor *retire* after it.
    pub(crate) pause_open: bool,
    /// The old one was paused, ever.
    pub(crate) ever_paused: bool,
    /// A new one was bound, ever.
    pub(crate) ever_bound: bool,
    /// The proofs that this new one has given.
    pub(crate) proofs: Vec<Step>,
    /// The last thing the machine heard was its clock.
    pub(crate) by_clock: bool,
}

/// All there is beside the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) old: Old,
    pub(crate) new: New,
    pub(crate) pidfile: Pidfile,
    pub(crate) steering: Steering,
    /// Where the old one's sockets stand beside the new one's.
    pub(crate) stands: Stands,
    /// What the journal says.
    pub(crate) stage: Stage,
    pub(crate) herald: Herald,
    pub(crate) runner: Runner,
    /// The way that is taken, or was last.
    pub(crate) way: Option<Way>,
    pub(crate) asked: Asked,
    /// The machine knows that the old one is gone.
    pub(crate) old_gone_known: bool,
    /// The machine knows that the new one is gone.
    pub(crate) new_gone_known: bool,
    /// Why the new one ended.
    pub(crate) failure: Option<Failure>,
    pub(crate) past: Past,
}

/// A state of everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Its time is rebased: now is zero.
    pub(crate) machine: Option<Machine>,
    /// What the machine has answered and the runner has not done yet.
    pub(crate) todo: Vec<Action>,
    pub(crate) world: World,
}

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
    pub(crate) fn first() -> State {
        let world = World {
            old: Old::Serving,
            new: New::Absent,
            pidfile: Pidfile::Old,
            steering: Steering::None,
            stands: Stands::First,
            stage: Stage::Forward,
            herald: Herald::Present,
            runner: Runner::Hareload,
            way: None,
            asked: Asked::default(),
            old_gone_known: false,
            new_gone_known: true,
            failure: None,
            past: Past::default(),
        };
        State { machine: Some(Machine::new(Duration::ZERO)), todo: Vec::new(), world }
    }

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
        if self.world.asked.proof == Some(Step::Steer) && self.world.new == New::Live {
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
            hears(Input::SpawnFailed(String::new()), &|world| world.asked.spawn_failed = false);
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
            Step::Steer => live && self.world.steering == Steering::ToNew,
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

impl World {
    fn started(&mut self, way: Way) {
        self.way = Some(way);
        self.new = New::Starting;
        self.new_gone_known = false;
        self.failure = None;
        self.herald = Herald::Present;
        self.past.new_died = false;
        self.past.new_told_to_leave = false;
        self.past.proofs.clear();
        self.stands = Stands::First;
        self.stage = Stage::Forward;
        // What joins gets nothing until it is steered to.
        self.steering = if way == Way::Trial { Steering::ToOld } else { Steering::None };
    }

    /// A word was said, whether or not it is heard.
    fn said(&mut self, who: Who, order: Order) {
        match (who, order) {
            (Who::Old, Order::Pause) => {
                self.past.pause_open = true;
                self.past.ever_paused = true;
            }
            (Who::Old, Order::Resume) => self.past.pause_open = false,
            (Who::Old, Order::Retire | Order::Stop | Order::Kill) => {
                self.past.pause_open = false;
                self.past.old_told_to_leave = true;
            }
            (Who::New, Order::Retire | Order::Stop | Order::Kill) => self.past.new_told_to_leave = true,
            (Who::New, Order::Pause | Order::Resume) => {}
        }
    }

    /// What an action does when it works.
    fn effect(&mut self, action: &Action) {
        match action {
            Action::Start { way, .. } => self.started(*way),
            Action::LetNewFail => self.herald = Herald::Dismissed,
            Action::Tell(who, order) => {
                self.said(*who, *order);
                match who {
                    Who::Old => self.old_hears(*order),
                    Who::New => self.new_hears(*order),
                }
            }
            Action::Prove(step) => self.asked.proof = Some(*step),
            Action::WatchOldListens => self.asked.old_listens = true,
            Action::WatchOldRetired => self.asked.old_retired = true,
            Action::WatchNewDeaf => self.asked.new_deaf = true,
            Action::Journal(stage) => self.stage = *stage,
            Action::SteerBack(stands) => {
                self.asked.proof = None;
                // Where nobody else listens, no place is the wrong one.
                let right = *stands == self.stands || !self.new.listens();
                self.steering = if right { Steering::ToOld } else { Steering::ToNew };
                self.asked.steered_back = true;
            }
            Action::ReleaseSteering => {
                self.asked.proof = None;
                self.steering = Steering::None;
            }
            Action::RenamePidfile => {
                self.pidfile = Pidfile::New;
                self.asked.renamed = Some(true);
            }
            Action::RestorePidfile => self.pidfile = Pidfile::Old,
            Action::RestoreSockets | Action::ForgetSockets => {}
            Action::Finish(_) => self.runner = Runner::Ended,
        }
    }

    fn old_hears(&mut self, order: Order) {
        // Where the new one took the ports that the pause had freed, the old one can't have them back yet.
        let taken = self.way == Some(Way::Pause) && self.new.listens();
        if (self.old, order) == (Old::Paused, Order::Resume) && self.new.listens() {
            self.stands = Stands::Behind;
        }
        self.old = match (self.old, order) {
            (Old::Gone, _) | (_, Order::Stop | Order::Kill) => Old::Gone,
            (Old::Serving, Order::Pause) => Old::Paused,
            (Old::Paused, Order::Resume) if !taken => Old::Serving,
            (Old::Serving | Old::Paused | Old::Retired, Order::Retire) => Old::Retired,
            (old, Order::Pause | Order::Resume) => old,
        };
    }

    fn new_hears(&mut self, order: Order) {
        let after = match (self.new, order) {
            (New::Absent | New::Gone, _) | (_, Order::Pause | Order::Resume) => return,
            (_, Order::Stop | Order::Kill) => New::Gone,
            (New::Starting | New::Asking, Order::Retire) => New::Gone,
            (New::Bound | New::Live | New::Deaf, Order::Retire) => New::Deaf,
        };
        self.new = after;
        if after == New::Gone {
            self.new_gone_known = false;
            self.failure = Some(Failure::Other(String::new()));
        }
    }
}
