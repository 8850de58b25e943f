//! The guard: a process that outlives hareload and tidies up after it.
//!
//! Forked before anything is touched; it holds the reading end of a pipe. When hareload dies, by whatever means, the
//! pipe ends without the final word and the guard does what it was given to do. Called by the driver at the start of
//! a handover.
//!
//! Every process that is forked from hareload holds the writing end until it execs (it is close-on-exec), so the end
//! of the pipe comes only after a spawn that hareload died in the middle of has become HAProxy or nothing. A lock
//! (see [`super::lock`]) that was taken before the guard was started is shared with it: it is free when both are gone.
#![expect(unsafe_code, reason = "forks, and the child sets up its signals and descriptors")]
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::unistd::{ForkResult, fork, setsid};
use rustix::pipe::{PipeFlags, pipe_with};
use thiserror::Error;

use super::process::{self, Identity, Process};

/// The byte that says that hareload has finished its work.
const FINAL_WORD: u8 = b'.';

/// How long a guard that heard the final word may take to leave; it only has to be scheduled.
const FAREWELL: Duration = Duration::from_secs(1);

/// What may be sent to the guard and must not end it: a terminal's signals, the service manager's, and HAProxy's.
const IGNORED: [Signal; 11] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGPIPE,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGALRM,
];

/// Why there is no guard.
#[derive(Debug, Error)]
pub enum GuardError {
    /// Threads would be lost by a fork, with whatever locks they hold.
    #[error("the guard can't be forked from a process of {threads} threads")]
    NotAlone {
        /// How many there are.
        threads: usize,
    },
    /// The kernel refused.
    #[error("the guard can't be started: {source}")]
    Io {
        /// What the kernel said.
        #[from]
        source: io::Error,
    },
}

/// The guard, seen from hareload.
///
/// Dropping it without [`Guard::dismiss`] is not a final word: the pipe ends and the guard does its work, as if
/// hareload had died. That is the safe way when a panic unwinds.
#[derive(Debug)]
pub struct Guard {
    process: Process,
    pipe: File,
}

impl Guard {
    /// Forks the guard. `on_orphaned` runs in it, at most once, after hareload is gone without a final word.
    ///
    /// `on_orphaned` runs in a single-threaded copy of this process as it is now, without a terminal, with stdio on
    /// `/dev/null`, in a session of its own; what it may use must be there already or be opened by it. Call this
    /// before any thread or runtime exists.
    pub fn start(on_orphaned: impl FnOnce()) -> Result<Guard, GuardError> {
        match process::threads_of_myself() {
            1 => {}
            threads => return Err(GuardError::NotAlone { threads }),
        }
        Self::fork(on_orphaned)
    }

    fn fork(on_orphaned: impl FnOnce()) -> Result<Guard, GuardError> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(io::Error::from)?;
        // SAFETY: there is no other thread, so the child is a whole process and may allocate and lock.
        let child = match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(write);
                keep_watch(File::from(read), on_orphaned)
            }
            Ok(ForkResult::Parent { child }) => Ok(child.as_raw().unsigned_abs()),
            Err(error) => Err(io::Error::from(error)),
        };
        before.thread_set_mask().map_err(io::Error::from)?;
        let process = Process::of_child(child?, Path::new("/proc/self/exe")).map_err(io::Error::other)?;
        Ok(Guard { process, pipe: File::from(write) })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        self.process.identity()
    }

    /// The final word: all is well, the guard leaves without doing anything, and is reaped.
    pub fn dismiss(mut self) {
        // Fails only if somebody killed the guard (EPIPE; Rust ignores SIGPIPE): then it is gone as well.
        let _ = self.pipe.write_all(&[FINAL_WORD]);
        let _ = self.process.wait_within(FAREWELL);
    }
}

/// The guard's whole life.
fn keep_watch(mut pipe: File, on_orphaned: impl FnOnce()) -> ! {
    let _ = setsid();
    let _ = process::set_name("hareload-guard");
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in IGNORED {
        // SAFETY: SIG_IGN runs no code; handlers that the parent had installed are replaced by it.
        let _ = unsafe { sigaction(signal, &ignore) };
    }
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for stream in 0..3 {
            // SAFETY: makes the number refer to the open /dev/null; whatever was there is the parent's to keep.
            unsafe { libc::dup2(null.as_raw_fd(), stream) };
        }
    }
    let _ = SigSet::empty().thread_set_mask();
    let mut word = [0];
    if let Ok(0) | Err(_) = read_through(&mut pipe, &mut word) {
        let _ = catch_unwind(AssertUnwindSafe(on_orphaned));
    }
    // SAFETY: ends the process without the exit handlers and destructors, which are the parent's.
    unsafe { libc::_exit(0) }
}

fn read_through(pipe: &mut File, word: &mut [u8]) -> io::Result<usize> {
    loop {
        match pipe.read(word) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::Exit;
    use std::path::PathBuf;

    /// The test harness has threads: what the guard does here is kept to what a fork of such a process bears.
    fn guard(mark: &Path) -> Guard {
        let mark = std::ffi::CString::new(mark.as_os_str().as_encoded_bytes()).unwrap();
        Guard::fork(move || {
            // SAFETY: a plain system call on a string that was allocated before the fork.
            unsafe { libc::mkdir(mark.as_ptr(), 0o700) };
        })
        .unwrap()
    }

    fn mark() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("orphaned");
        (directory, mark)
    }

    #[test]
    fn after_the_final_word_it_does_nothing() {
        let (_directory, mark) = mark();
        let guard = guard(&mark);
        let pid = guard.pid();
        guard.dismiss();
        assert!(Process::open(pid).is_err());
        assert!(!mark.exists());
    }

    #[test]
    fn an_orphan_does_its_work_and_leaves() {
        let (_directory, mark) = mark();
        let Guard { process, pipe } = guard(&mark);
        drop(pipe);
        assert_eq!(process.wait_within(Duration::from_secs(5)).unwrap(), Some(Exit::Code(0)));
        assert!(mark.exists());
    }

    #[test]
    fn signals_do_not_end_it() {
        let (_directory, mark) = mark();
        let guard = guard(&mark);
        for signal in IGNORED {
            guard.process.signal(signal as i32).unwrap();
        }
        assert!(guard.process.is_alive());
        let Guard { process, pipe } = guard;
        drop(pipe);
        assert_eq!(process.wait_within(Duration::from_secs(5)).unwrap(), Some(Exit::Code(0)));
        assert!(mark.exists());
    }

    #[test]
    fn it_is_not_forked_beside_threads() {
        let error = Guard::start(|| ()).unwrap_err();
        assert!(matches!(error, GuardError::NotAlone { .. }), "the test harness has threads: {error}");
    }
}
