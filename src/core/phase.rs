//! Where a handover is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One proof that the new one can serve. They are gone through in the order that the way of handover asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It answers with its own pid on its own admin socket.
    Live,
    /// It holds its listeners, and they listen.
    Listeners,
    /// Its backends are no worse than the old one's.
    Health,
    /// New connections are steered to it, and the old one's queues have run empty. Where the sockets are shared: those
    /// of them that only the old one has.
    Steer,
    /// The old one is paused: nobody else can answer.
    Alone,
    /// The probes that were asked for succeed.
    Probes,
    /// It stays so for as long as the trial lasts.
    Dwell,
    /// After the dwell: it is live and listens still.
    Confirm,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Live => "live",
            Step::Listeners => "listeners",
            Step::Health => "health",
            Step::Steer => "steer",
            Step::Alone => "alone",
            Step::Probes => "probes",
            Step::Dwell => "dwell",
            Step::Confirm => "confirm",
        })
    }
}

/// One step of the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Back {
    /// The old one was told to pause and may yet do so: it is waited for, since an old one that listens again stands
    /// elsewhere among the sockets than one that has listened all the time.
    Aside,
    /// The old one was alone off the air: it must listen before the new one may leave.
    OldFirst,
    /// New connections are steered to the old one again.
    Steer,
    /// The new one is told to leave, with harder words as time passes.
    NewLeaves,
    /// The old one is resumed once more, now that nobody can hold its ports.
    OldAgain,
    /// The old one serves; what the new one had accepted is finished.
    Linger,
}

/// How hard the new one was told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Told {
    /// Nothing was said.
    Nothing,
    /// To finish and leave.
    Retire,
    /// To leave now.
    Stop,
    /// The last resort.
    Kill,
}

/// Where a handover is. What each phase waits for, and what a deadline means, is DESIGN's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing was touched yet.
    Probing,
    /// The new one was spawned; waits for *bound*.
    Starting,
    /// Waits for one proof after the other.
    Proving(Step),
    /// All is proven; the pidfile is being renamed.
    Committing,
    /// The pidfile names the new one; the old one was told to retire.
    Committed,
    /// The old one finishes its connections.
    Draining(Told),
    /// The way back to the old one.
    Undoing(Back),
    /// The end; nothing happens any more.
    Done,
}

impl Phase {
    /// The word for logs and for the table of `docs/lifecycle.md`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Probing => "probing",
            Phase::Starting => "starting",
            Phase::Proving(_) => "proving",
            Phase::Committing => "committing",
            Phase::Committed => "committed",
            Phase::Draining(_) => "draining",
            Phase::Undoing(_) => "undoing",
            Phase::Done => "done",
        }
    }
}
