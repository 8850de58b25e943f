//! The whole account of one handover: what the reports show, and what the history keeps.
//!
//! Written by the driver, read by `report` and `cli`. Its JSON form is the schema `hareload.handover/1`, documented in
//! `docs/json.md`.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// The name and version of the JSON form of an [`Account`].
pub const SCHEMA: &str = "hareload.handover/1";

/// The commands that give an [`Account`]. `force-reload` is a `reload`.
pub const COMMANDS: [&str; 9] =
    ["start", "stop", "restart", "try-restart", "reload", "recover", "notify", "deploy", "rollback"];

/// A generation, as reports name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its number under this instance; `None` for a HAProxy that hareload did not start.
    pub generation: Option<u64>,
    /// Its processes, the first being the one that the pidfile names first.
    pub pids: Vec<u32>,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Microseconds since the command began.
    pub at_us: u64,
    /// Who said or did it: `hareload`, `old`, `new`, `guard`, a signal's sender.
    pub who: String,
    /// What.
    pub what: String,
}

/// Everything that is to be said about one handover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// [`SCHEMA`].
    pub schema: String,
    /// The command, one of [`COMMANDS`].
    pub command: String,
    /// The instance.
    pub instance: String,
    /// When it began, in UTC.
    pub began: jiff::Timestamp,
    /// How long the command took, in microseconds.
    pub took_us: u64,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// What is true at the end.
    pub outcome: Outcome,
    /// Who serves now, if that can be shown.
    pub serving: Option<Named>,
    /// The generation that served when the command came.
    pub old: Option<Named>,
    /// The candidate, if one was started.
    pub new: Option<Named>,
    /// Why this way of handover.
    pub reason: Option<String>,
    /// What else the reader should know: listeners bound beside, a backend that could not be compared.
    pub notes: Vec<String>,
    /// The lines worth showing of what the new HAProxy printed.
    pub said: Vec<String>,
    /// Who said what and when.
    pub timeline: Vec<Moment>,
    /// The outcome is that of a handover that another call made, and that began after this one had asked.
    pub coalesced: bool,
    /// The configuration files, as they were given to HAProxy.
    pub configs: Vec<String>,
    /// The pidfile.
    pub pidfile: String,
}
