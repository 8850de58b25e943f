//! Everything that can happen to a handover, as one enum.
//!
//! Made by the driver out of signals, exits, replies and clocks. A new input does not compile until every phase says
//! what it does about it: no `match` on [`Input`] has a wildcard arm.

use serde::{Deserialize, Serialize};

use super::phase::Step;
use super::plan::Plan;

/// How the new one failed before it was proven, as far as its exit and its own words tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum Failure {
    /// HAProxy refused the configuration; it never reached for a port.
    Configuration(String),
    /// It lacks an address that the old one holds: another way may help.
    PortsOfOld(String),
    /// It lacks an address that somebody else holds, or that is not on this host: no way can help.
    PortsOfOthers(String),
    /// It could not receive the sockets: another way may help.
    Transfer(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// What happened, for a message.
    pub fn why(&self) -> &str {
        match self {
            Failure::Configuration(why)
            | Failure::PortsOfOld(why)
            | Failure::PortsOfOthers(why)
            | Failure::Transfer(why)
            | Failure::Other(why) => why,
        }
    }

    /// Whether the next way could succeed where this one failed.
    pub fn another_way_may_help(&self) -> bool {
        match self {
            Failure::PortsOfOld(_) | Failure::Transfer(_) => true,
            Failure::Configuration(_) | Failure::PortsOfOthers(_) | Failure::Other(_) => false,
        }
    }
}

/// Why a handover is refused before anything was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// What was asked for makes no sense here.
    Usage,
    /// An explicit choice that can't be honoured, or a thing that hareload does not do (master-worker).
    Unsupported,
    /// Not enough privilege.
    Privilege,
    /// The HAProxy binary is not there or can't be run.
    NotInstalled,
    /// The configuration can't be read or is refused.
    Configuration,
    /// No HAProxy runs, or none that is certainly ours.
    NotRunning,
    /// Another handover holds the lock.
    Busy,
    /// Something of the host's (disk, memory, a system call) failed.
    Internal,
}

/// Something that happened.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one plan in a handover; boxing it would only hide it"
)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The old one is identified, the lock held, the ways chosen.
    Planned(Plan),
    /// The handover can't begin.
    Refused(Refusal, String),
    /// The new one could not even be spawned: the kind, and why.
    SpawnFailed(Refusal, String),
    /// The new one can't bind and asks for a pause.
    AsksPause,
    /// The new one gives up; its exit follows.
    GaveUp,
    /// The new one has bound all it needs.
    Bound,
    /// Every process of the new generation is gone.
    NewGone(Failure),
    /// The new one holds no listener any more; it may still finish connections.
    NewDeaf,
    /// A step of the proof succeeded.
    Proved(Step),
    /// A step of the proof failed, and why.
    Disproved(Step, String),
    /// The old one listens on all it listened on before.
    OldListens,
    /// The old one was seen to retire: its listeners are closed for good.
    OldRetired,
    /// Every process of the old generation is gone.
    OldGone,
    /// New connections go to the old one again.
    SteeredBack,
    /// The pidfile names the new one.
    PidfileRenamed,
    /// The pidfile could not be renamed; it names the old one.
    PidfileFailed(String),
    /// Somebody wants hareload to end; the number of the signal.
    Interrupted(i32),
    /// The time named by [`super::machine::Machine::wakes_at`] has come.
    Tick,
}
