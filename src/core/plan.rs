//! What a handover is asked to do: the ways to try, in order, and how long each wait may last.
//!
//! Built by the driver once the old one is identified; read by the machine only.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A way to hand over: who owns the listening sockets, and how clients get from old to new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The new one receives the old one's sockets: both accept from one queue until the old one retires.
    Shared,
    /// Own sockets, held back by steering, then tried alone with the old one paused.
    Trial,
    /// Own sockets beside the old one's, no pause: a few resets are possible.
    Overlap,
    /// The classic handshake, bounded: the old one is paused so that the new one can bind.
    Pause,
    /// Nobody serves: there is nobody to take over from, and nobody to go back to.
    Start,
}

impl Way {
    /// The word for it, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Way::Shared => "shared",
            Way::Trial => "trial",
            Way::Overlap => "overlap",
            Way::Pause => "pause",
            Way::Start => "start",
        }
    }

    /// Whether this way may ever pause the old one. Shared sockets are one open file: a pause deafens both.
    pub fn may_pause(self) -> bool {
        match self {
            Way::Trial | Way::Pause => true,
            Way::Shared | Way::Overlap | Way::Start => false,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long each wait may last. Every waiting phase has one of these as its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// From the spawn until *bound*: the new one reads its configuration in this time.
    pub bound: Duration,
    /// From *bound* until *live*.
    pub live: Duration,
    /// For one proof other than the health and the probes, which carry their own.
    pub proof: Duration,
    /// For the backends to become no worse than the old one's.
    pub health: Duration,
    /// For all probes together.
    pub probes: Duration,
    /// For a new one that serves alone, in a trial, to show that it still does.
    pub alone: Duration,
    /// How long the old one may stay paused before the new one has bound what it lacked.
    pub pause: Duration,
    /// How long a new one that was let go may take to say why it failed.
    pub last_words: Duration,
    /// How long the old one may take to listen again.
    pub listen_again: Duration,
    /// How long one that was told to leave may keep its listeners before the next, harder word.
    pub leave: Duration,
    /// How long a new one that was retired by an undo may go on with the connections it had accepted.
    pub linger: Duration,
    /// How long the old one may take to show that it retires.
    pub retire: Duration,
    /// How often a word that must have an effect is said again (2.2.9 and 2.4.0 miss signals).
    pub again: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bound: Duration::from_secs(60),
            live: Duration::from_secs(10),
            proof: Duration::from_secs(3),
            health: Duration::from_secs(10),
            probes: Duration::from_secs(10),
            // A busy machine may keep it from its processor that long; a client's patience is no longer.
            alone: Duration::from_secs(1),
            // The new one tries again every 10 ms: a pause that helps shows within a few tries.
            pause: Duration::from_millis(300),
            last_words: Duration::from_secs(3),
            listen_again: Duration::from_secs(10),
            leave: Duration::from_secs(2),
            linger: Duration::from_secs(10),
            retire: Duration::from_secs(5),
            again: Duration::from_millis(50),
        }
    }
}

/// What to do once the old one is retired.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Drain {
    /// Report at once; the old one finishes by itself.
    Return,
    /// Wait until it has left, at most this long.
    Wait {
        /// How long to wait.
        limit: Duration,
        /// What to do when the limit has passed.
        then: AfterDrain,
    },
}

/// What happens to an old one that has not left in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AfterDrain {
    /// It goes on draining, and the outcome says so.
    Leave,
    /// It is stopped, and killed if that does not help.
    Stop,
}

/// One handover, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The ways to try, the best first. Never empty.
    pub ways: Vec<Way>,
    /// How long the new one must stay proven before the commit.
    pub dwell: Duration,
    /// What to do about the old one afterwards.
    pub drain: Drain,
    /// Nobody else is left who could serve, as in the start of a restart: one that lives is kept, though it is not proven,
    /// and an interrupt undoes nothing: it is remembered, and hareload dies of it at the end.
    pub patient: bool,
    /// The deadlines.
    pub limits: Limits,
}
