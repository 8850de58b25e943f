//! The keepaliveds that `tests/unpack.sh` has unpacked.
//!
//! Looks in `KEEPALIVEDS_DIR`, else in `keepaliveds/` of the target directory, as the script does. Called by tests.

use std::fmt;
use std::path::PathBuf;

use crate::haproxies::{self, Version};

/// One keepalived that can be run, by its full path: 2.3 looks for a file beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepalived {
    /// Its version.
    pub version: Version,
    /// Its executable.
    pub path: PathBuf,
}

impl fmt::Display for Keepalived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keepalived {}", self.version)
    }
}

/// The branches that differ in how they take scripts and times: Debian 12's, and Debian 13's and later.
pub const BRANCHES: [(u32, u32); 2] = [(2, 2), (2, 3)];

/// The newest unpacked one of a branch, such as 2.3.
#[must_use]
pub fn of_branch(major: u32, minor: u32) -> Option<Keepalived> {
    let of_branch = |version: &Version| (version.major, version.minor) == (major, minor);
    let mut all = haproxies::unpacked("keepalived", "KEEPALIVEDS_DIR").into_iter().rev();
    all.find(|(version, _)| of_branch(version)).map(|(version, path)| Keepalived { version, path })
}
