//! The world around the machine: what old, new, the pidfile and hareload itself are at a time, and what an action does
//! to them.
//!
//! A word that is said takes effect at once or is missed, as often as the adversary likes (2.2.9 and 2.4.0 miss
//! signals); only *kill* is never missed. What can happen next is told by `events`.

use std::time::Duration;

use hareload::core::action::{Action, Order, Stage, Stands, Who};
use hareload::core::input::Failure;
use hareload::core::machine::Machine;
use hareload::core::phase::Step;
use hareload::core::plan::{Plan, Way};

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
    /// It was told so kindly: what it has accepted may be finished.
    pub(crate) new_told_to_retire: bool,
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

impl State {
    pub(crate) fn first(plan: &Plan) -> State {
        // Nobody serves before a start, and nobody has to.
        let nobody = plan.ways.first() == Some(&Way::Start);
        let past = Past { old_died: nobody, ..Past::default() };
        let world = World {
            old: if nobody { Old::Gone } else { Old::Serving },
            new: New::Absent,
            pidfile: Pidfile::Old,
            steering: Steering::None,
            stands: Stands::First,
            stage: Stage::Forward,
            herald: Herald::Present,
            runner: Runner::Hareload,
            way: None,
            asked: Asked::default(),
            old_gone_known: nobody,
            new_gone_known: true,
            failure: None,
            past,
        };
        State { machine: Some(Machine::new(Duration::ZERO)), todo: Vec::new(), world }
    }
}

impl World {
    pub(crate) fn started(&mut self, way: Way) {
        self.way = Some(way);
        self.new = New::Starting;
        self.new_gone_known = false;
        self.failure = None;
        self.herald = Herald::Present;
        self.past.new_died = false;
        self.past.new_told_to_leave = false;
        self.past.new_told_to_retire = false;
        self.past.proofs.clear();
        self.stands = Stands::First;
        self.stage = Stage::Forward;
        // What joins gets nothing until it is steered to.
        self.steering = if way == Way::Trial { Steering::ToOld } else { Steering::None };
    }

    /// A word was said, whether or not it is heard.
    pub(crate) fn said(&mut self, who: Who, order: Order) {
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
            (Who::New, Order::Retire) => {
                self.past.new_told_to_leave = true;
                self.past.new_told_to_retire = true;
            }
            (Who::New, Order::Stop | Order::Kill) => self.past.new_told_to_leave = true,
            (Who::New, Order::Pause | Order::Resume) => {}
        }
    }

    /// What an action does when it works.
    pub(crate) fn effect(&mut self, action: &Action) {
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
