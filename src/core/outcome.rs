//! What is true at the end of a handover. Reports read it and decide nothing.

use serde::{Deserialize, Serialize};

use super::input::{Failure, Refusal};
use super::phase::Step;
use super::plan::Way;

/// Why a handover went back, or could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The new one could not be spawned: the kind of refusal, and why.
    Spawn(Refusal, String),
    /// The new one ended before it was bound.
    Start(Failure),
    /// The new one ended after it was bound.
    Died(Failure),
    /// A proof failed.
    Proof(Step, String),
    /// The new one was not bound in time.
    NotBound,
    /// A proof was not given in time.
    NotProven(Step),
    /// Pausing the old one did not help the new one to bind.
    PauseInVain,
    /// The pidfile could not be renamed.
    Pidfile(String),
    /// Somebody wanted hareload to end.
    Interrupted(i32),
    /// An earlier hareload died in the middle.
    Crashed,
}

impl Cause {
    /// In words.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Cause::Spawn(_, why) => why.clone(),
            Cause::Start(failure) => format!("the new one did not start: {}", failure.why()),
            Cause::Died(failure) => format!("the new one ended before it was proven: {}", failure.why()),
            Cause::Proof(step, why) => format!("the new one failed its proof ({step}): {why}"),
            Cause::NotBound => "the new one was not bound in time (--ready-timeout)".to_owned(),
            Cause::NotProven(step) => format!("the new one did not prove in time that it serves ({step})"),
            Cause::PauseInVain => "pausing the old one did not free what the new one lacks".to_owned(),
            Cause::Pidfile(why) => format!("the pidfile was not written: {why}"),
            Cause::Interrupted(signal) => format!("interrupted by signal {signal}"),
            Cause::Crashed => "an earlier hareload had died in the middle".to_owned(),
        }
    }
}

/// Who serves now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The new one serves. The old one has left or finishes its connections.
    Reloaded,
    /// The new one serves; the old one was waited for and has not left in time.
    ReloadedStillDraining,
    /// Nothing was touched.
    Refused(Refusal, String),
    /// The new one was refused or has failed, and the old one serves.
    RolledBack,
    /// The new one failed its proof, but the old one is gone or came not back: the new one serves, unproven.
    Unproven,
    /// Nobody can be shown to serve.
    Nobody,
    /// What was asked for was so already.
    Unchanged,
    /// Nobody serves any more, as was asked for.
    Stopped,
}

impl Verdict {
    /// Whether it is the new one that serves, proven or not.
    pub fn new_serves(&self) -> bool {
        match self {
            Verdict::Reloaded | Verdict::ReloadedStillDraining | Verdict::Unproven => true,
            Verdict::Refused(..)
            | Verdict::RolledBack
            | Verdict::Nobody
            | Verdict::Unchanged
            | Verdict::Stopped => false,
        }
    }

    /// Why it was refused, if it was.
    pub fn why_refused(&self) -> Option<&str> {
        match self {
            Verdict::Refused(_, why) => Some(why),
            Verdict::Reloaded
            | Verdict::ReloadedStillDraining
            | Verdict::RolledBack
            | Verdict::Unproven
            | Verdict::Nobody
            | Verdict::Unchanged
            | Verdict::Stopped => None,
        }
    }
}

/// What became of the generation that does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// No process of it is left.
    Gone,
    /// It finishes its connections.
    Draining,
    /// It was told to leave and has not been seen to.
    Unclear,
}

/// A way that was tried before the last one, and why it was given up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tried {
    /// The way.
    pub way: Way,
    /// Why the next was taken.
    pub why: Cause,
}

/// The end of a handover.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// Who serves.
    pub verdict: Verdict,
    /// The way that was taken last, if it came to that.
    pub way: Option<Way>,
    /// The ways that were tried before it.
    pub tried: Vec<Tried>,
    /// Why it did not go as asked.
    pub cause: Option<Cause>,
    /// What became of the one that does not serve.
    pub rest: Rest,
    /// The signal that hareload is to die of once this is reported.
    pub interrupted: Option<i32>,
}
