//! The lock of an instance: one handover at a time.
//!
//! Touches the files `lock` and `hooks.lock` in the state directory, which are never removed. Called by the driver.
//!
//! It is flock(2): it belongs to the open file, so a forked guard shares it, and it is free only when hareload and
//! the guard are both gone. No program that is started inherits it (close-on-exec), so no HAProxy can hold it.
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::libc;
use thiserror::Error;

use super::clock;
use super::process::{self, Identity, Process};
use super::signals;

/// How much of the lock's file is read: two pids and two times.
const LONGEST_SIGNATURE: u64 = 128;

/// The file of the lock of an instance: who has it may touch HAProxy.
pub const HANDOVER: &str = "lock";

/// The file of the lock of its hooks: who has it decides whether HAProxy has to be touched.
pub const HOOKS: &str = "hooks.lock";

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nothing that makes sense was written down.
    Unknown,
    /// The process that took it.
    Taker {
        /// Its pid.
        pid: u32,
    },
    /// The one that took it has died, and its guard tidies up.
    Guard {
        /// The guard's pid, if it was written down.
        pid: Option<u32>,
        /// Who died.
        after: u32,
        /// Whether the guard works, or somebody has stopped it.
        activity: Activity,
    },
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It does.
    Running,
    /// It was stopped, by SIGSTOP or a debugger, and does nothing until it is continued.
    Stopped,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Holder::Unknown => write!(f, "another process"),
            Holder::Taker { pid } => write!(f, "process {pid}"),
            Holder::Guard { pid: None, after, .. } => {
                write!(f, "the guard that tidies up after process {after}, which died")
            }
            Holder::Guard { pid: Some(pid), after, activity } => {
                write!(f, "process {pid}, the guard that tidies up after process {after}, which died")?;
                match activity {
                    Activity::Running => Ok(()),
                    Activity::Stopped => {
                        write!(f, "; the guard is stopped: continue it with kill -CONT {pid}")
                    }
                }
            }
        }
    }
}

/// Why the lock can't be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another holds it and did not give it back in time.
    #[error("{} is held by {holder}", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// Who that is, by what was written into it.
        holder: Holder,
    },
    /// Another holds it, and this process was interrupted before that gave it back; see [`signals::note_interrupts`].
    #[error("interrupted by {} while {holder} held {}", signals::name_of(*signal), path.display())]
    Interrupted {
        /// The lock's file.
        path: PathBuf,
        /// Who holds it, by what was written into it.
        holder: Holder,
        /// The signal.
        signal: i32,
    },
    /// Anything else.
    #[error("{}: {source}", path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The lock, held until this is dropped and no forked process shares it any more.
///
/// Dropping only closes the file. An explicit unlock would take it away from the guard as well.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes one of the locks of the instance whose state is in `directory`; waits at most `patience`.
    ///
    /// The waiting is done in a thread, which has ended on success: the process is as single-threaded as before. After
    /// [`LockError::Busy`] it may still wait, and gives the lock back at once should it get it.
    pub fn acquire(directory: &Path, name: &str, patience: Duration) -> Result<Lock, LockError> {
        let path = directory.join(name);
        let fail = |source| LockError::Io { path: path.clone(), source };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(fail(source)),
            Err(TryLockError::WouldBlock) => {
                let mut reader = File::open(&path).map_err(fail)?;
                let waited = wait(file, patience).map_err(fail)?;
                file = match waited {
                    Waited::Locked(file) => file,
                    Waited::InVain => return Err(LockError::Busy { path, holder: holder(&mut reader) }),
                    Waited::Interrupted(signal) => {
                        return Err(LockError::Interrupted { path, holder: holder(&mut reader), signal });
                    }
                };
            }
        }
        sign(&mut file).map_err(fail)?;
        Ok(Lock { file })
    }

    /// Writes down who holds it after us: for the message of others. Without it they do not know the guard's pid.
    pub fn name_guard(&mut self, guard: &Identity) {
        let _ = write(&mut self.file, guard);
    }
}

/// What came of waiting.
enum Waited {
    Locked(File),
    InVain,
    Interrupted(i32),
}

/// Waits for the lock, at most for `patience`.
fn wait(file: File, patience: Duration) -> io::Result<Waited> {
    if patience.is_zero() {
        return Ok(Waited::InVain);
    }
    let (sender, receiver) = mpsc::channel();
    let waiting = thread::Builder::new().name("lock".into()).spawn(move || {
        let locked = file.lock().map(|()| file);
        // Nobody listens any more: the file comes back in the error, is closed, and the lock is free again.
        let _ = sender.send(locked);
    })?;
    let began = clock::since_boot();
    loop {
        let left = patience.saturating_sub(clock::since_boot().saturating_sub(began));
        match receiver.recv_timeout(left.min(signals::NOTICE)) {
            Ok(locked) => {
                let _ = waiting.join();
                return locked.map(Waited::Locked);
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(signal) = signals::noted() {
                    return Ok(Waited::Interrupted(signal));
                }
                if left.is_zero() {
                    return Ok(Waited::InVain);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the waiting thread is gone"));
            }
        }
    }
}

/// Who holds the lock of the instance whose state is in `directory`, by the kernel's table of locks; `None` if nobody does
/// or the table can't be read. The lock itself is not touched.
pub fn held(directory: &Path) -> Option<Holder> {
    let path = directory.join(HANDOVER);
    let inode = std::fs::symlink_metadata(&path).ok()?.ino();
    // Beside the inode stands the file system's number, which is not that of stat(2) on all of them.
    let is_it =
        |lock: &procfs::Lock| matches!(lock.lock_type, procfs::LockType::FLock) && lock.inode == inode;
    let listed = procfs::locks().is_ok_and(|locks| locks.iter().any(is_it));
    let mut file =
        File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path).ok()?;
    let holder = holder(&mut file);
    // In a pid namespace the table lacks those whose taker has died (locks_translate_pid, fs/locks.c).
    (listed || matches!(holder, Holder::Guard { pid: Some(_), .. })).then_some(holder)
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    let myself = Process::open(process::myself()).map_err(io::Error::other)?;
    write(file, myself.identity())
}

fn write(file: &mut File, identity: &Identity) -> io::Result<()> {
    writeln!(file, "{} {}", identity.pid, identity.start_ticks)
}

/// A line of the lock's file: a pid, and when that process started.
type Signature = (u32, u64);

/// The one that took it if it lives; else it is its guard that holds it.
fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    if file.take(LONGEST_SIGNATURE).read_to_string(&mut text).is_err() {
        return Holder::Unknown;
    }
    let mut signatures = text.lines().map(signature);
    let Some(Some(taker)) = signatures.next() else { return Holder::Unknown };
    if living(taker).is_some() {
        return Holder::Taker { pid: taker.0 };
    }
    let guard = signatures.next().flatten().and_then(living);
    let activity = match guard.as_ref().and_then(Process::state) {
        // Stopped by a signal, or by a tracer; proc_pid_stat(5).
        Some('T' | 't') => Activity::Stopped,
        _ => Activity::Running,
    };
    Holder::Guard { pid: guard.map(|guard| guard.pid()), after: taker.0, activity }
}

fn signature(line: &str) -> Option<Signature> {
    let (pid, start_ticks) = line.split_once(' ')?;
    Some((pid.parse().ok()?, start_ticks.parse().ok()?))
}

fn living((pid, start_ticks): Signature) -> Option<Process> {
    Process::open(pid).ok().filter(|process| process.identity().start_ticks == start_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::spawn::{Command, spawn};

    #[test]
    fn one_has_it_and_is_named() {
        let room = tempfile::tempdir().unwrap();
        assert_eq!(held(room.path()), None);
        let lock = Lock::acquire(room.path(), HANDOVER, Duration::ZERO).unwrap();
        assert_eq!(held(room.path()), Some(Holder::Taker { pid: process::myself() }));
        for patience in [Duration::ZERO, Duration::from_millis(30)] {
            let busy = Lock::acquire(room.path(), HANDOVER, patience).unwrap_err();
            assert!(
                matches!(busy, LockError::Busy { holder: Holder::Taker { pid }, .. } if pid == process::myself())
            );
        }
        drop(lock);
        Lock::acquire(room.path(), HANDOVER, Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn it_is_waited_for() {
        let room = tempfile::tempdir().unwrap();
        let first = Lock::acquire(room.path(), HANDOVER, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| Lock::acquire(room.path(), HANDOVER, Duration::from_secs(10)));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_copy_of_the_open_file_holds_on_to_it() {
        let room = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(room.path(), HANDOVER, Duration::ZERO).unwrap();
        let of_the_guard = lock.file.try_clone().unwrap();
        drop(lock);
        assert!(matches!(Lock::acquire(room.path(), HANDOVER, Duration::ZERO), Err(LockError::Busy { .. })));
        drop(of_the_guard);
        Lock::acquire(room.path(), HANDOVER, Duration::from_secs(5)).unwrap();
    }

    /// What is said of a lock that is held, with this text in it.
    fn said(text: &str) -> String {
        let room = tempfile::tempdir().unwrap();
        let _lock = Lock::acquire(room.path(), HANDOVER, Duration::ZERO).unwrap();
        std::fs::write(room.path().join("lock"), text).unwrap();
        let busy = Lock::acquire(room.path(), HANDOVER, Duration::ZERO).unwrap_err().to_string();
        busy.split_once("lock is held by ").unwrap().1.to_owned()
    }

    #[test]
    fn a_guard_is_told_from_the_one_that_died() {
        let dead = spawn(&Command::new("true")).unwrap().process;
        let dead_line = format!("{} {}\n", dead.pid(), dead.identity().start_ticks);
        dead.wait_within(Duration::from_secs(5)).unwrap();
        let guard = spawn(&Command::new("sleep").arg("60")).unwrap().process;
        let guard_line = format!("{} {}\n", guard.pid(), guard.identity().start_ticks);
        let (gone, pid) = (dead.pid(), guard.pid());
        let after = format!("the guard that tidies up after process {gone}, which died");
        assert_eq!(said(&guard_line), format!("process {pid}"), "the one that took it lives");
        assert_eq!(said(&dead_line), after);
        assert_eq!(said(&format!("{dead_line}{guard_line}")), format!("process {pid}, {after}"));
        guard.signal(19).unwrap();
        while guard.state() != Some('T') {
            thread::yield_now();
        }
        let stopped =
            format!("process {pid}, {after}; the guard is stopped: continue it with kill -CONT {pid}");
        assert_eq!(said(&format!("{dead_line}{guard_line}")), stopped);
        guard.signal(9).unwrap();
        guard.wait_within(Duration::from_secs(5)).unwrap();
        let reused = format!("{} 1\n{guard_line}", process::myself());
        assert!(said(&reused).starts_with("the guard that tidies up"), "the pid is another's now");
        for nonsense in ["", "\n", "50\n", "-1 5\n", "\u{1b}[2J 1\n", &"9".repeat(5000)] {
            assert_eq!(said(nonsense), "another process", "{nonsense:?}");
        }
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let room = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp/nowhere-hareload", room.path().join("lock")).unwrap();
        assert!(matches!(Lock::acquire(room.path(), HANDOVER, Duration::ZERO), Err(LockError::Io { .. })));
    }
}
