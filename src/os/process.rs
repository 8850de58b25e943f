//! One process: who it is, whether it lives, what it holds, and how to tell it something.
//!
//! Touches `/proc`, pidfds and signals. [`Process::signal`] is the only function of the program that sends a
//! signal to a process; to a group of our own children [`super::spawn::Group`] does. Called by the driver and by the
//! other modules of this floor.
//!
//! A pid is never trusted for long: a [`Process`] owns a pidfd, and the pid's start time in clock ticks is compared
//! again before anything is sent (a pid can be given to another process; the pair can't within one boot).
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal, test_kill_process,
};

use super::readiness::{self, Waited};
use identity::{executable, raw, start_ticks, stat, typed};

mod descriptors;
mod error;
mod exit;
mod identity;
mod own;
mod scan;

pub(super) use descriptors::sockets as sockets_of;
pub(super) use error::proc_error;
pub(super) use scan::comm as comm_of;

pub use descriptors::{Epoll, FdSocket, Watch};
pub use error::ProcessError;
pub use exit::{Exit, all_exited, by_whom, reap_adopted};
pub use identity::Identity;
pub use own::{Subreaper, myself, set_name, set_subreaper, threads_of_myself};
pub use scan::{all, called, children_of, ending, with_argument};

/// What stands for a descriptor that can't be seen; no descriptor has this number.
pub const UNSEEN_FD: i32 = -1;

/// A process that was identified, held by a pidfd.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    identity: Identity,
    exit: OnceLock<Exit>,
    told: OnceLock<Vec<u64>>,
}

impl Process {
    /// Identifies the process that has this pid now.
    ///
    /// The pidfd is opened first and asked last whether it still lives, so what was read in between is its own.
    pub fn open(pid: u32) -> Result<Process, ProcessError> {
        let pidfd = open_pidfd(pid)?;
        let start_ticks = start_ticks(pid).map_err(|error| ProcessError::of(pid, error))?;
        let (exe, deleted) = match executable(pid) {
            // Its command line is for everybody to read, and proves less: the process can overwrite it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (typed(pid).map_err(|_| ProcessError::of(pid, error))?, false)
            }
            other => other.map_err(|error| ProcessError::of(pid, error))?,
        };
        let process = Process::of(pidfd, Identity { pid, start_ticks, exe, deleted });
        if process.is_alive() { Ok(process) } else { Err(ProcessError::Gone { pid }) }
    }

    /// Finds a process that was identified before: same pid and same start time.
    pub fn find(identity: &Identity) -> Result<Process, ProcessError> {
        let process = Process::open(identity.pid)?;
        if process.identity.start_ticks == identity.start_ticks {
            Ok(process)
        } else {
            Err(ProcessError::Recycled { pid: identity.pid })
        }
    }

    /// Our own child, which nobody has reaped and whose pid is therefore its own; it may have ended already.
    ///
    /// `program` stands for the executable where it can't be read any more.
    pub(super) fn of_child(pid: u32, program: &Path) -> Result<Process, ProcessError> {
        let pidfd = open_pidfd(pid)?;
        let start_ticks = start_ticks(pid).map_err(|error| ProcessError::of(pid, error))?;
        let (exe, deleted) = executable(pid).unwrap_or_else(|_| (program.to_owned(), false));
        Ok(Process::of(pidfd, Identity { pid, start_ticks, exe, deleted }))
    }

    /// One that is ending: its executable can't be read any more, and `name` stands for it.
    fn of_ending(pid: u32, name: &OsStr) -> Result<Process, ProcessError> {
        let pidfd = open_pidfd(pid)?;
        let start_ticks = start_ticks(pid).map_err(|error| ProcessError::of(pid, error))?;
        Ok(Process::of(pidfd, Identity { pid, start_ticks, exe: name.into(), deleted: false }))
    }

    /// Whether it is the one that was identified so before.
    pub fn is(&self, identity: &Identity) -> bool {
        (self.identity.pid, self.identity.start_ticks) == (identity.pid, identity.start_ticks)
    }

    fn of(pidfd: OwnedFd, identity: Identity) -> Process {
        Process { pidfd, identity, exit: OnceLock::new(), told: OnceLock::new() }
    }

    /// Who it is, as it was when it was opened.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// How long after the boot it was started, to a tick of the clock.
    pub fn started(&self) -> Duration {
        Duration::from_secs_f64(self.identity.start_ticks as f64 / procfs::ticks_per_second() as f64)
    }

    /// The kernel's letter for its state (`R`, `S`, `D`, `T`, `Z`, …; proc_pid_stat(5)), `None` once it is gone.
    pub fn state(&self) -> Option<char> {
        let stat = stat(self.pid()).ok()?;
        (stat.starttime == self.identity.start_ticks).then_some(stat.state)
    }

    /// Whether it still runs; a zombie does not.
    ///
    /// A pidfd is readable from the moment that the last thread of its process has ended; pidfd_open(2).
    pub fn is_alive(&self) -> bool {
        matches!(readiness::readable_within(&self.pidfd, Duration::ZERO), Ok(Waited::Elapsed))
    }

    /// Sends a signal, after making sure once more that the process lives and is the one that was identified.
    ///
    /// A signal that was sent says nothing about its effect. Errors: [`ProcessError::Gone`] also for a zombie (the
    /// kernel itself would report success), [`ProcessError::Recycled`], [`ProcessError::NoAccess`],
    /// [`ProcessError::NotASignal`] (also for real-time signals and for 0).
    pub fn signal(&self, signal: i32) -> Result<(), ProcessError> {
        let pid = self.pid();
        let named = Signal::from_named_raw(signal).ok_or(ProcessError::NotASignal { signal })?;
        if !self.is_alive() {
            return Err(ProcessError::Gone { pid });
        }
        let ticks = start_ticks(pid).map_err(|error| ProcessError::of(pid, error))?;
        if ticks != self.identity.start_ticks {
            return Err(ProcessError::Recycled { pid });
        }
        #[expect(clippy::disallowed_methods, reason = "the one function that sends signals")]
        pidfd_send_signal(&self.pidfd, named).map_err(|error| ProcessError::of(pid, error.into()))
    }

    /// Whether we may send it signals: the same user, or CAP_KILL. Nothing is sent.
    pub fn may_be_signalled(&self) -> bool {
        let pid = raw(self.pid()).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::PERM))
    }

    /// Its command line, one entry an argument; at most 1 MiB of it is read.
    pub fn cmdline(&self) -> io::Result<Vec<OsString>> {
        self.while_alive(scan::command_line)
    }

    /// The environment that it was started with, names and values; at most 1 MiB of it is read. Needs ptrace rights. It
    /// can overwrite it itself.
    pub fn environment(&self) -> io::Result<Vec<(OsString, OsString)>> {
        self.while_alive(scan::environment)
    }

    /// Whether its program's file is gone or replaced by now, as after an upgrade.
    pub fn is_replaced(&self) -> bool {
        self.while_alive(executable).is_ok_and(|(_, deleted)| deleted)
    }

    /// Its working directory.
    pub fn cwd(&self) -> io::Result<PathBuf> {
        self.while_alive(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")))
    }

    /// Its root directory: not `/` for a process in a chroot.
    pub fn root(&self) -> io::Result<PathBuf> {
        self.while_alive(|pid| std::fs::read_link(format!("/proc/{pid}/root")))
    }

    /// The pid of its parent: 0 if that one is outside our pid namespace.
    pub fn parent(&self) -> io::Result<u32> {
        self.while_alive(|pid| Ok(u32::try_from(stat(pid)?.ppid).unwrap_or(0)))
    }

    /// How many threads it has.
    pub fn threads(&self) -> io::Result<u64> {
        self.while_alive(|pid| Ok(u64::try_from(stat(pid)?.num_threads).unwrap_or(0)))
    }

    /// Its effective user id.
    pub fn euid(&self) -> io::Result<u32> {
        self.while_alive(|pid| {
            let status = procfs::process::Process::new(raw(pid)?).and_then(|process| process.status());
            Ok(status.map_err(proc_error)?.euid)
        })
    }

    /// The inode of its network namespace: equal for two processes that share one. Needs ptrace rights.
    pub fn net_namespace(&self) -> io::Result<u64> {
        self.while_alive(|pid| Ok(std::fs::metadata(format!("/proc/{pid}/ns/net"))?.ino()))
    }

    /// The inode of its pid namespace. Needs ptrace rights.
    pub fn pid_namespace(&self) -> io::Result<u64> {
        self.while_alive(|pid| Ok(std::fs::metadata(format!("/proc/{pid}/ns/pid"))?.ino()))
    }

    /// The user that has made the socket that its descriptor `fd` is: fsuid at that time.
    pub fn maker_of(&self, fd: i32) -> Option<u32> {
        self.while_alive(|pid| Ok(std::fs::metadata(format!("/proc/{pid}/fd/{fd}"))?.uid())).ok()
    }

    /// Its short name, of at most 15 bytes; it can set it itself, so it proves nothing.
    pub fn comm(&self) -> io::Result<String> {
        self.while_alive(scan::comm)
    }

    /// Whether `/proc` hides its descriptors from us: it has another user, or has changed it, and we have no
    /// CAP_SYS_PTRACE. Root may list the descriptors of such a one and follow none; proc_pid_fd(5),
    /// PTRACE_MODE_READ_FSCREDS.
    pub fn is_veiled(&self) -> bool {
        self.while_alive(executable).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Takes somebody's word for the sockets of a process that is veiled: their inodes. Only the first word counts.
    pub fn believe(&self, inodes: Vec<u64>) {
        let _ = self.told.set(inodes);
    }

    /// Looks at its sockets until `enough` is, by rising descriptor: listeners come before the connections, of which there
    /// may be a hundred thousand. Whether it was enough in the end.
    pub fn has_among_its_sockets(&self, mut enough: impl FnMut(u64) -> bool) -> io::Result<bool> {
        self.while_alive(|pid| Ok(descriptors::each_socket(pid)?.any(|socket| enough(socket.inode))))
    }

    /// Its sockets, by descriptor. Those of a veiled one are what it was believed to have, without their descriptors
    /// ([`UNSEEN_FD`]); it may have closed them since.
    pub fn sockets(&self) -> io::Result<Vec<FdSocket>> {
        let seen = self.while_alive(descriptors::sockets);
        if seen.as_ref().is_ok_and(|sockets| !sockets.is_empty()) || !self.is_veiled() {
            return seen;
        }
        let told = self.told.get().ok_or(io::ErrorKind::PermissionDenied)?;
        Ok(told.iter().map(|inode| FdSocket { fd: UNSEEN_FD, inode: *inode }).collect())
    }

    /// Whether its descriptor `fd` is the socket `inode`: one readlink, where [`Process::sockets`] takes hundreds.
    pub fn holds(&self, fd: i32, inode: u64) -> bool {
        self.socket_at(fd) == Some(inode)
    }

    /// The inode of the socket that its descriptor `fd` is; `None` for anything else.
    pub fn socket_at(&self, fd: i32) -> Option<u64> {
        self.while_alive(|pid| Ok(descriptors::socket_at(pid, fd))).ok().flatten()
    }

    /// Its epoll descriptors and what each of them watches.
    pub fn epolls(&self) -> io::Result<Vec<Epoll>> {
        self.while_alive(descriptors::epolls)
    }

    /// A duplicate of its descriptor `fd`, close-on-exec: the same open file, not a new one (Linux ≥ 5.6).
    ///
    /// Needs the rights of ptrace over the process, see pidfd_getfd(2).
    pub fn borrow_fd(&self, fd: i32) -> io::Result<OwnedFd> {
        if fd == UNSEEN_FD {
            return Err(Errno::PERM.into());
        }
        Ok(pidfd_getfd(&self.pidfd, fd, PidfdGetfdFlags::empty())?)
    }

    /// Reads something of `/proc/<pid>`, and answers only if the process still lives afterwards.
    fn while_alive<T>(&self, read: impl FnOnce(u32) -> io::Result<T>) -> io::Result<T> {
        let answer = read(self.pid())?;
        if self.is_alive() { Ok(answer) } else { Err(Errno::SRCH.into()) }
    }
}

impl AsFd for Process {
    /// The pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Those of them that can still be found.
pub fn living(known: &[Identity]) -> Vec<Rc<Process>> {
    known.iter().filter_map(|known| Process::find(known).ok().map(Rc::new)).collect()
}

fn open_pidfd(pid: u32) -> Result<OwnedFd, ProcessError> {
    let raw = raw(pid).ok().and_then(Pid::from_raw).ok_or(ProcessError::Gone { pid })?;
    pidfd_open(raw, PidfdFlags::empty()).map_err(|error| ProcessError::of(pid, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::spawn::{Command, spawn};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    pub(super) fn sleeper() -> Process {
        spawn(&Command::new("sleep").arg("60")).unwrap().process
    }

    pub(super) fn ended(process: &Process) -> Exit {
        process.wait_within(Duration::from_secs(5)).unwrap().expect("it was told to end")
    }

    #[test]
    fn a_running_process_is_identified_and_found_again() {
        let process = sleeper();
        let found = Process::find(process.identity()).unwrap();
        assert_eq!(found.identity(), process.identity());
        assert!(found.is_alive() && found.may_be_signalled());
        assert_eq!(found.parent().unwrap(), myself());
        assert_eq!(found.cmdline().unwrap(), ["sleep", "60"]);
        assert_eq!(found.comm().unwrap(), "sleep");
        assert_eq!(found.net_namespace().unwrap(), Process::open(myself()).unwrap().net_namespace().unwrap());
        assert!(found.identity().exe.is_absolute());
        process.signal(15).unwrap();
        assert_eq!(ended(&process), Exit::Signal(15));
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_it() {
        let process = sleeper();
        let stale =
            Identity { start_ticks: process.identity().start_ticks - 1, ..process.identity().clone() };
        assert!(matches!(Process::find(&stale), Err(ProcessError::Recycled { .. })));
        process.signal(9).unwrap();
        ended(&process);
    }

    #[test]
    fn a_zombie_is_gone_and_is_not_signalled() {
        let process = sleeper();
        process.signal(9).unwrap();
        readiness::readable_within(&process, Duration::from_secs(5)).unwrap();
        assert!(!process.is_alive());
        assert_eq!(process.state(), Some('Z'));
        assert!(matches!(process.signal(15), Err(ProcessError::Gone { .. })));
        assert!(matches!(Process::open(process.pid()), Err(ProcessError::Gone { .. })));
        assert_eq!(process.try_wait().unwrap(), Some(Exit::Signal(9)));
        assert_eq!(process.try_wait().unwrap(), Some(Exit::Signal(9)), "it is told again");
        assert_eq!(process.state(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(Process::open(0), Err(ProcessError::Gone { .. })));
        assert!(matches!(Process::open(u32::MAX), Err(ProcessError::Gone { .. })));
        let me = Process::open(myself()).unwrap();
        assert!(matches!(me.signal(0), Err(ProcessError::NotASignal { .. })));
        assert!(matches!(me.signal(-9), Err(ProcessError::NotASignal { .. })));
        assert_eq!(Exit::Code(1).to_string(), "exited with status 1");
        assert_eq!(Exit::Signal(9).to_string(), "was killed by signal 9 (SIGKILL)");
    }

    #[test]
    fn a_socket_is_seen_and_borrowed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let me = Process::open(myself()).unwrap();
        let fd = listener.as_raw_fd();
        let socket = me.sockets().unwrap().into_iter().find(|socket| socket.fd == fd).unwrap();
        assert!(me.holds(fd, socket.inode));
        assert!(!me.holds(fd, socket.inode + 1));
        let copy = TcpListener::from(me.borrow_fd(fd).unwrap());
        assert_eq!(copy.local_addr().unwrap(), listener.local_addr().unwrap());
    }
}
