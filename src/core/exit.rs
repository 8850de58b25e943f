//! The exit codes, as constants, behind one exhaustive match. `docs/exit-codes.md` lists them; a test compares.

use super::input::Refusal;
use super::outcome::{Outcome, Rest, Verdict};

/// Done as asked.
pub const DONE: u8 = 0;
/// Something of the host's or of ours failed; nothing was touched. Or a stop has left somebody, who does not even die when
/// he is killed (LSB: unspecified error).
pub const INTERNAL: u8 = 1;
/// What was asked for makes no sense (LSB).
pub const USAGE: u8 = 2;
/// hareload does not do that (LSB: unimplemented feature).
pub const UNSUPPORTED: u8 = 3;
/// Not enough privilege (LSB).
pub const PRIVILEGE: u8 = 4;
/// HAProxy is not installed (LSB).
pub const NOT_INSTALLED: u8 = 5;
/// The configuration was refused; nothing was touched (LSB: not configured).
pub const CONFIGURATION: u8 = 6;
/// HAProxy is not running (LSB).
pub const NOT_RUNNING: u8 = 7;
/// Rolled back: the old one serves.
pub const ROLLED_BACK: u8 = 150;
/// Nobody can be shown to serve.
pub const NOBODY: u8 = 151;
/// Another handover holds the lock.
pub const BUSY: u8 = 152;
/// Reloaded, but the old one has not left in time.
pub const STILL_DRAINING: u8 = 153;
/// The new one serves although it failed its proof: the old one is gone or did not come back.
pub const UNPROVEN: u8 = 154;

/// A deploy was refused: what is in place is not what was expected.
pub const STALE: u8 = 155;

/// Every code with its name and its meaning, for the documentation and for tests.
pub const ALL: [(u8, &str, &str); 14] = [
    (DONE, "done", "done as asked"),
    (
        INTERNAL,
        "internal",
        "something of the host's failed; nothing was touched, unless a stop has left somebody",
    ),
    (USAGE, "usage", "what was asked for makes no sense; nothing was touched"),
    (UNSUPPORTED, "unsupported", "hareload does not do that here; nothing was touched"),
    (PRIVILEGE, "privilege", "not enough privilege; nothing was touched"),
    (NOT_INSTALLED, "not-installed", "HAProxy is not there or can't be run; nothing was touched"),
    (CONFIGURATION, "configuration", "the configuration was refused; nothing was touched"),
    (NOT_RUNNING, "not-running", "no HAProxy runs that is certainly meant"),
    (ROLLED_BACK, "rolled-back", "the new one failed; the old one serves as before"),
    (NOBODY, "nobody", "nobody can be shown to serve"),
    (BUSY, "busy", "another handover holds the lock; nothing was touched"),
    (STILL_DRAINING, "still-draining", "reloaded, but the old one has not left in time"),
    (UNPROVEN, "unproven", "the new one serves unproven: the old one is gone or did not come back"),
    (STALE, "stale", "the configuration in place is not the expected one; nothing was touched"),
];

/// The code of a refusal.
#[must_use]
pub fn of_refusal(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Usage => USAGE,
        Refusal::Unsupported => UNSUPPORTED,
        Refusal::Privilege => PRIVILEGE,
        Refusal::NotInstalled => NOT_INSTALLED,
        Refusal::Configuration => CONFIGURATION,
        Refusal::NotRunning => NOT_RUNNING,
        Refusal::Busy => BUSY,
        Refusal::Internal => INTERNAL,
    }
}

/// The codes of `status`, which are LSB's own. 2 (dead, and a lock file is there) is not used: hareload's lock file stays.
pub mod status {
    /// HAProxy runs.
    pub const RUNNING: u8 = 0;
    /// It does not run, and the pidfile is there.
    pub const DEAD: u8 = 1;
    /// It does not run.
    pub const NOT_RUNNING: u8 = 3;
    /// It can't be told.
    pub const UNKNOWN: u8 = 4;

    /// Every code with its name and its meaning, for the documentation and for tests.
    pub const ALL: [(u8, &str, &str); 4] = [
        (RUNNING, "running", "HAProxy runs"),
        (DEAD, "dead", "HAProxy does not run, and a pidfile is there"),
        (NOT_RUNNING, "not-running", "HAProxy does not run"),
        (UNKNOWN, "unknown", "it can't be told whether HAProxy runs"),
    ];
}

/// The codes of `healthy`. keepalived takes whatever is not 0 for a failure.
pub mod healthy {
    /// HAProxy serves.
    pub const GREEN: u8 = 0;
    /// It does not, or that can't be told.
    pub const RED: u8 = 1;

    /// Every code with its name and its meaning, for the documentation and for tests.
    pub const ALL: [(u8, &str, &str); 2] = [
        (GREEN, "green", "HAProxy serves"),
        (RED, "red", "HAProxy does not serve, or that could not be told in time"),
    ];
}

/// The codes of `doctor`, by its worst finding: beyond those of the LSB that other commands have, the worse the larger.
pub mod doctor {
    /// Nothing worse than a note.
    pub const SOUND: u8 = 0;
    /// A warning.
    pub const WARNINGS: u8 = 10;
    /// An error.
    pub const ERRORS: u8 = 20;

    /// Every code with its name and its meaning, for the documentation and for tests.
    pub const ALL: [(u8, &str, &str); 3] = [
        (SOUND, "sound", "nothing worse than a note"),
        (WARNINGS, "warnings", "a worse way would be taken, a known bug or a risk"),
        (ERRORS, "errors", "a reload would be refused, can fail, or can lose connections"),
    ];
}

impl Outcome {
    /// The exit code that says this.
    pub fn exit_code(&self) -> u8 {
        if self.verdict == Verdict::Stopped && self.rest == Rest::Unclear {
            return INTERNAL;
        }
        match &self.verdict {
            Verdict::Reloaded | Verdict::Unchanged | Verdict::Stopped => DONE,
            Verdict::ReloadedStillDraining => STILL_DRAINING,
            Verdict::RolledBack => ROLLED_BACK,
            Verdict::Unproven => UNPROVEN,
            Verdict::Nobody => NOBODY,
            Verdict::Refused(refusal, _) => of_refusal(*refusal),
        }
    }

    /// The name of the exit code, as in [`ALL`].
    pub fn exit_code_name(&self) -> &'static str {
        let code = self.exit_code();
        ALL.iter().find(|(listed, ..)| *listed == code).map_or("unknown", |(_, name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_done_unless_somebody_stays() {
        let stopped = |rest| {
            let verdict = Verdict::Stopped;
            Outcome { verdict, way: None, tried: Vec::new(), cause: None, rest, interrupted: None }
        };
        assert_eq!(stopped(Rest::Gone).exit_code(), DONE);
        assert_eq!(stopped(Rest::Draining).exit_code(), DONE);
        assert_eq!(stopped(Rest::Unclear).exit_code(), INTERNAL);
    }
}
