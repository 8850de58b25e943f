//! What keepalived gives to its hooks, and a HAProxy that is started from one must not inherit.
//!
//! Touches this process's own attributes. Called by the command line, before anything else is opened. Measured with
//! keepalived 2.2.7 to 2.4.3.
use std::env;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, setsid};

/// What files are made with otherwise; keepalived's own mask is 0177 (keepalived/core/main.c).
const UMASK: u32 = 0o022;

/// The descriptors that everybody has.
const STANDARD: RawFd = 2;

/// Undoes it; what could not be undone, in words.
///
/// - The death signal: keepalived's children are told to end when it ends (lib/notify.c, PR_SET_PDEATHSIG).
/// - The processors: those of `vrrp_cpu_affinity`; HAProxy starts as many threads as it may use.
/// - The session and the process group, which keepalived signals as a whole.
/// - The mask of files, the working directory, and descriptors that were left open.
pub fn shed() -> Vec<String> {
    let mut failed = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        failed.extend(result.err().map(|error| format!("{what} can't be undone: {error}")));
    };
    note("the death signal", prctl::set_pdeathsig(None).map_err(Into::into));
    note("the bounds on processors", all_processors());
    // The leader of a process group can't begin a session: keepalived has made it one, and nothing else signals it then.
    let _ = setsid();
    umask(Mode::from_bits_truncate(UMASK));
    note("the working directory", env::set_current_dir("/"));
    close_all_above(STANDARD);
    failed
}

fn all_processors() -> io::Result<()> {
    let mut all = CpuSet::new();
    for processor in 0..CpuSet::count() {
        all.set(processor)?;
    }
    // The kernel leaves out those that the control group does not have; sched_setaffinity(2).
    Ok(sched_setaffinity(Pid::from_raw(0), &all)?)
}

fn close_all_above(last: RawFd) {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > last)
        .collect();
    for fd in open {
        // The directory that was just read is among them, and closed already.
        if fs::read_link(format!("/proc/self/fd/{fd}")).is_ok() {
            // SAFETY: nothing of ours is open yet: whatever this number is, it was inherited and nobody else owns it.
            #[expect(unsafe_code, reason = "inherited descriptors have no owner")]
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}
