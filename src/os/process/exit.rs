//! The end of a process: noticed for any process, explained and reaped for a child of ours or an adopted one.
//!
//! Touches pidfds and waitid(2). Called by the driver and by the other modules of this floor.
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use signal_hook::low_level::signal_name;

use super::Process;
use crate::os::readiness::{self, Waited};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(out, "exited with status {code}"),
            Exit::Signal(signal) => {
                write!(out, "was killed by signal {signal}")?;
                signal_name(*signal).map_or(Ok(()), |name| write!(out, " ({name})"))
            }
        }
    }
}

impl Process {
    /// How our own child (or one adopted as a subreaper) ended, and reaps it; `None` while it runs.
    ///
    /// What was learnt is kept and told again. Errors: ECHILD for a process that is not our child.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits for our own child, which has been told to end, and reaps it. `None` if `patience` passes first.
    pub(in crate::os) fn wait_within(&self, patience: Duration) -> io::Result<Option<Exit>> {
        match readiness::readable_within(&self.pidfd, patience)? {
            Waited::Ready => self.reap(WaitIdOptions::EXITED),
            Waited::Elapsed => Ok(None),
        }
    }

    fn reap(&self, options: WaitIdOptions) -> io::Result<Option<Exit>> {
        if let Some(exit) = self.exit.get() {
            return Ok(Some(*exit));
        }
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        let exit = status.and_then(|status| {
            status.exit_status().map(Exit::Code).or(status.terminating_signal().map(Exit::Signal))
        });
        Ok(exit.map(|exit| *self.exit.get_or_init(|| exit)))
    }

    /// Resolves when it has ended, child of ours or not; may be awaited by several at once.
    pub async fn exited(&self) -> io::Result<()> {
        readiness::readable(self.pidfd.as_fd()).await
    }
}

/// Who has sent a signal to a process that nobody was to send one to, as far as the signal tells.
pub fn by_whom(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => "by the kernel for want of memory, perhaps (see dmesg)",
        libc::SIGSEGV | libc::SIGABRT | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP => {
            "which is a crash of its own"
        }
        libc::SIGXCPU | libc::SIGXFSZ => "at a limit of its resources (ulimit)",
        _ => "by somebody else",
    }
}

/// Resolves when all of these have ended.
pub async fn all_exited(processes: impl IntoIterator<Item: Deref<Target = Process>>) {
    for process in processes {
        let _ = process.exited().await;
    }
}

/// How a child that was adopted as a subreaper ended, and reaps it; `None` if it runs, or if `pid` is no child of ours.
pub fn reap_adopted(pid: u32) -> Option<Exit> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok()??;
    status.exit_status().map(Exit::Code).or(status.terminating_signal().map(Exit::Signal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::tests::{ended, sleeper};

    #[tokio::test]
    async fn two_may_wait_for_one_end() {
        let process = sleeper();
        process.signal(9).unwrap();
        let both = async { tokio::join!(process.exited(), process.exited()) };
        let (first, second) = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
        assert!(first.is_ok() && second.is_ok());
        ended(&process);
    }
}
