//! Where an instance's state and history are, if nobody has said: that depends on what they are wanted for, and by whom.
//!
//! Reads the environment, by way of [`crate::os::state`]. Called by the settings.

use std::path::PathBuf;

use crate::os::state::{self, StateError};

use super::Listing;

/// What an instance's directories are wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Purpose {
    /// To work in them.
    Work,
    /// To look into those that there are.
    Look,
    /// To say what a command that works in them would do. Whoever has none can be told that too.
    Foretell,
}

/// There is no directory that could be worked in: only root has one everywhere.
#[derive(Debug, thiserror::Error)]
#[error("there is no place for the {what}: {why}; run it as root, or name --{setting}")]
pub(in crate::cli) struct NoPlace {
    what: &'static str,
    setting: &'static str,
    why: StateError,
}

/// One of the two directories.
pub(super) struct Kind {
    what: &'static str,
    setting: &'static str,
    to_work_in: fn(&str) -> Result<PathBuf, StateError>,
    to_look_at: fn(&str) -> Result<PathBuf, StateError>,
}

pub(super) const STATE: Kind = Kind {
    what: "state",
    setting: "state-dir",
    to_work_in: state::default_run_dir,
    to_look_at: state::run_dir_to_look_at,
};

pub(super) const HISTORY: Kind = Kind {
    what: "history",
    setting: "history-dir",
    to_work_in: state::default_lib_dir,
    to_look_at: state::lib_dir_to_look_at,
};

impl Listing<'_> {
    /// The directory of this kind that nobody has named.
    pub(super) fn place(&mut self, kind: Kind, purpose: Purpose, instance: &str) -> anyhow::Result<PathBuf> {
        let Kind { what, setting, .. } = kind;
        let found = match purpose {
            Purpose::Work | Purpose::Foretell => (kind.to_work_in)(instance),
            Purpose::Look => (kind.to_look_at)(instance),
        };
        let why = match found {
            Ok(path) => return Ok(self.default(setting, path)),
            Err(why @ StateError::NoPlace { .. }) => why,
            Err(other) => return Err(other.into()),
        };
        match purpose {
            Purpose::Foretell => {
                self.add(setting, "none".to_owned(), why.to_string());
                self.no_place.get_or_insert(NoPlace { what, setting, why });
                Ok(state::StateDir::nowhere().path().to_owned())
            }
            Purpose::Work | Purpose::Look => Err(NoPlace { what, setting, why }.into()),
        }
    }
}
