//! A machine, led through a handover by what it hears.

use std::time::Duration;

use hareload::core::action::Action;
use hareload::core::input::{Failure, Input};
use hareload::core::machine::Machine;
use hareload::core::phase::{Phase, Step};
use hareload::core::plan::{AfterDrain, Drain, Limits, Plan, Way};

/// The proofs, in their order.
pub(crate) const STEPS: [Step; 8] = [
    Step::Live,
    Step::Listeners,
    Step::Health,
    Step::Steer,
    Step::Alone,
    Step::Probes,
    Step::Dwell,
    Step::Confirm,
];

pub(crate) fn why() -> String {
    "why".to_owned()
}

pub(crate) fn plan(ways: &[Way]) -> Plan {
    let drain = Drain::Wait { limit: Duration::from_secs(30), then: AfterDrain::Stop };
    Plan {
        ways: ways.to_vec(),
        dwell: Duration::from_secs(5),
        drain,
        patient: false,
        limits: Limits::default(),
    }
}

pub(crate) fn other() -> Failure {
    Failure::Other(why())
}

/// A handover on its way, led by what it hears.
#[derive(Clone)]
pub(crate) struct Handover {
    pub(crate) machine: Machine,
    pub(crate) now: Duration,
}

impl Handover {
    pub(crate) fn of(plan: Plan) -> Handover {
        let mut handover = Handover { machine: Machine::new(Duration::ZERO), now: Duration::ZERO };
        let _ = handover.hear(Input::Planned(plan));
        handover
    }

    pub(crate) fn by(ways: &[Way]) -> Handover {
        Handover::of(plan(ways))
    }

    pub(crate) fn hear(&mut self, input: Input) -> Vec<Action> {
        self.machine.step(self.now, input)
    }

    /// The next time that the machine has named comes.
    pub(crate) fn wake(&mut self) -> Vec<Action> {
        self.now = self.machine.wakes_at().unwrap_or(self.now);
        self.hear(Input::Tick)
    }

    /// The phase's deadline comes; what is repeated until then is left out. A harder word within the phase is one too.
    pub(crate) fn deadline(&mut self) -> Vec<Action> {
        let phase = self.machine.phase();
        let first = self.wake();
        let mut actions = first.clone();
        while phase != Phase::Done && self.machine.phase() == phase && actions == first {
            actions = self.wake();
        }
        actions
    }

    pub(crate) fn after(mut self, inputs: impl IntoIterator<Item = Input>) -> Handover {
        for input in inputs {
            let _ = self.hear(input);
        }
        self
    }

    pub(crate) fn late(mut self) -> Handover {
        let _ = self.deadline();
        self
    }

    pub(crate) fn proved(self, steps: &[Step]) -> Handover {
        let proofs = steps.iter().copied().map(Input::Proved);
        self.after([Input::Bound]).after(proofs)
    }
}
