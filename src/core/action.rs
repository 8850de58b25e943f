//! What the machine can ask the driver to do. The driver carries the actions out in order and decides nothing.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::phase::Step;
use super::plan::Way;

/// One of the two generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The one that serves when we come.
    Old,
    /// The candidate.
    New,
}

/// What a generation is told. The signals that say it stand in `haproxy::handoff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Stop accepting, keep the connections.
    Pause,
    /// Accept again.
    Resume,
    /// Finish the connections and leave; can't be undone.
    Retire,
    /// Leave now.
    Stop,
    /// The last resort.
    Kill,
}

/// Where the old one's sockets stand among those that share an address with them (SO_REUSEPORT). Members are counted in
/// the order of their listen(2), and that is what new connections are steered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stands {
    /// Before the new one's: it has listened all the time.
    First,
    /// Behind them: it was paused, and has listened again since.
    Behind,
}

/// What can't be seen of the two processes after a crash, and so is written down before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing of the following.
    #[default]
    Forward,
    /// The old one is told to pause; it may have done so, or may yet.
    Pausing,
    /// The old one was paused and is told to listen again: from here its sockets stand behind the new one's.
    Returning,
    /// The new one is committed though it is not proven: there is no way back.
    Kept,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Prepare and spawn a new generation that takes over in this way.
    Start {
        /// The way.
        way: Way,
        /// The place of the way in the plan, from 0.
        attempt: usize,
    },
    /// Let the herald leave: the new one finds its `-sf` pid gone, tries once more, says what is wrong and exits.
    LetNewFail,
    /// Say one word to one generation.
    Tell(Who, Order),
    /// Begin one proof; its result comes back as an input. The proof that is under way is dropped: by the next one,
    /// and by [`Action::SteerBack`] and [`Action::ReleaseSteering`], which it must not undo.
    Prove(Step),
    /// Report [`super::input::Input::OldListens`] once the old one listens on all it had.
    WatchOldListens,
    /// Report [`super::input::Input::OldRetired`] once the old one has closed its listeners.
    WatchOldRetired,
    /// Report [`super::input::Input::NewDeaf`] once the new one holds no listener.
    WatchNewDeaf,
    /// Write down how far it has come, for whoever comes after a crash.
    Journal(Stage),
    /// Steer new connections to the old one, which stands there, and let the new one's queues run empty.
    SteerBack(Stands),
    /// Take any steering off.
    ReleaseSteering,
    /// The commit: rename the pidfile.
    RenamePidfile,
    /// Let the pidfile name the old one again (nobody, where nobody served), if it does not: the new one will not serve,
    /// and the old one was told nothing yet. Done before anything else, so that whoever comes after a crash goes the same way.
    RestorePidfile,
    /// Put the old one's unix sockets back where the new one has replaced them.
    RestoreSockets,
    /// Drop the kept links: the new one owns the paths now.
    ForgetSockets,
    /// The end.
    Finish(Outcome),
}
