//! The system's log, for those whose output nobody sees.
//!
//! Writes to `/dev/log` by syslog(3). Called by the command line.
use std::ffi::CStr;
use std::fs;
use std::os::linux::fs::MetadataExt as _;

use nix::syslog::{Facility, LogFlags, Severity, openlog, syslog};

/// The name that stands before each line.
const NAME: &CStr = c"hareload";

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// As it should be.
    Info,
    /// Somebody should look.
    Error,
}

/// Whether what is printed goes nowhere: keepalived's hooks have the null device for stdout and stderr.
pub fn is_needed() -> bool {
    let device = |path: &str| fs::metadata(path).map(|metadata| metadata.st_rdev()).ok();
    let null = device("/dev/null");
    null.is_some() && device("/proc/self/fd/1") == null && device("/proc/self/fd/2") == null
}

/// Writes each line of a text. What can't be written is lost: there is nobody to tell.
pub fn note(weight: Weight, text: &str) {
    let _ = openlog(Some(NAME), LogFlags::LOG_PID, Facility::LOG_DAEMON);
    let severity = match weight {
        Weight::Info => Severity::LOG_INFO,
        Weight::Error => Severity::LOG_ERR,
    };
    for line in text.lines() {
        let _ = syslog(severity, line);
    }
}
