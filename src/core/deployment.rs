//! The whole account of one deploy, or of one rollback: a configuration and the process that runs it, as one transaction.
//!
//! Written by the driver, read by `report` and `cli`. Its JSON form is the schema `hareload.deploy/1`, documented in
//! `docs/json.md`.

use serde::{Deserialize, Serialize};

use super::account::{Account, Named};
use super::exit;
use super::input::Refusal;

/// The name and version of the JSON form of a [`Deployment`].
pub const SCHEMA: &str = "hareload.deploy/1";

/// The commands that give a [`Deployment`].
pub const COMMANDS: [&str; 2] = ["deploy", "rollback"];

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// The candidate is in place, and a generation serves that runs it.
    Deployed,
    /// It is in place and serves already; nothing was touched.
    Unchanged,
    /// It would be deployed: that was all that was asked.
    Foretold,
    /// Nothing was touched.
    Refused(Refusal, String),
    /// What is in place is not what was expected; nothing was touched.
    Stale(String),
    /// The candidate has failed. What was in place before is again, and what ran before, or a generation that runs the same,
    /// serves.
    Undone(String),
    /// The candidate has failed, and there is no way back: it is in place, and serves.
    Stuck(String),
    /// What was in place before is again, and nobody can be shown to serve.
    Nobody(String),
}

impl Fate {
    /// The exit code that says this.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Fate::Deployed | Fate::Unchanged | Fate::Foretold => exit::DONE,
            Fate::Refused(refusal, _) => exit::of_refusal(*refusal),
            Fate::Stale(_) => exit::STALE,
            Fate::Undone(_) => exit::ROLLED_BACK,
            Fate::Stuck(_) => exit::UNPROVEN,
            Fate::Nobody(_) => exit::NOBODY,
        }
    }

    /// Why it did not go as asked.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Fate::Deployed | Fate::Unchanged | Fate::Foretold => None,
            Fate::Refused(_, why)
            | Fate::Stale(why)
            | Fate::Undone(why)
            | Fate::Stuck(why)
            | Fate::Nobody(why) => Some(why),
        }
    }
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// It was not there.
    Added,
    /// It held something else.
    Changed,
    /// It goes: it lies in a directory of configurations, and the candidate has it not.
    Removed,
}

/// One file that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Where it is, on this host.
    pub path: String,
    /// Where it was read, as the caller called it; of a file that goes, where it is.
    pub origin: String,
    /// What becomes of it.
    pub deed: Deed,
    /// SHA-256 of what it held.
    pub before: Option<String>,
    /// SHA-256 of what it is to hold.
    pub after: Option<String>,
    /// The difference, as a unified diff without secrets; if it was asked for, or is needed for a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// Something that a check has found in the candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// `error`, `warning` or `note`.
    pub level: String,
    /// What it is, in a fixed word.
    pub code: String,
    /// What it is.
    pub message: String,
    /// The file, as the caller called it; of one that is not the candidate's, where it is on this host.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// That line, without secrets.
    pub text: Option<String>,
    /// Why it matters.
    pub cause: String,
    /// What to do about it.
    pub mend: Option<String>,
}

/// Everything that is to be said about one deploy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// [`SCHEMA`].
    pub schema: String,
    /// The command, one of [`COMMANDS`].
    pub command: String,
    /// The instance.
    pub instance: String,
    /// When it began, in UTC.
    pub began: jiff::Timestamp,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// What became of it.
    pub fate: Fate,
    /// Who serves now, if that can be shown.
    pub serving: Option<Named>,
    /// The configuration, as HAProxy is given it.
    pub configs: Vec<String>,
    /// SHA-256 of the configuration that was in place: of the contents of its files, one after the other.
    pub hash_before: Option<String>,
    /// SHA-256 of the configuration that is in place now.
    pub hash_after: Option<String>,
    /// The files that differ.
    pub files: Vec<Changed>,
    /// What the check has found.
    pub findings: Vec<Remark>,
    /// The number under which what was in place is kept.
    pub previous: Option<u64>,
    /// The number under which the candidate is kept.
    pub kept: Option<u64>,
    /// The handover to the candidate.
    pub handover: Option<Account>,
    /// The handover back, after the candidate had failed in its probation.
    pub undo: Option<Account>,
    /// How long the candidate was watched, in microseconds.
    pub watched_us: u64,
    /// What else the reader should know.
    pub notes: Vec<String>,
    /// The signal that hareload is to die of once this is reported.
    pub interrupted: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_has_a_code_of_its_own_kind() {
        let why = || "why".to_owned();
        let refused = |kind| Fate::Refused(kind, why());
        for (fate, code) in [
            (Fate::Deployed, exit::DONE),
            (Fate::Unchanged, exit::DONE),
            (Fate::Foretold, exit::DONE),
            (refused(Refusal::Configuration), exit::CONFIGURATION),
            (refused(Refusal::Busy), exit::BUSY),
            (Fate::Stale(why()), exit::STALE),
            (Fate::Undone(why()), exit::ROLLED_BACK),
            (Fate::Stuck(why()), exit::UNPROVEN),
            (Fate::Nobody(why()), exit::NOBODY),
        ] {
            assert_eq!(fate.exit_code(), code, "{fate:?}");
            assert_eq!(fate.why().is_none(), code == exit::DONE, "{fate:?}");
        }
    }
}
