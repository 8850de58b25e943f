//! Starting a program.
//!
//! Touches processes and one pipe. Called by the driver to start HAProxy, and for commands that end by themselves or
//! are ended with all that they started ([`Group`]); the guard and the herald are forked, not spawned, and live in
//! modules of their own.
#![expect(unsafe_code, reason = "the child resets its signal handlers between fork and exec")]
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::libc;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use thiserror::Error;

use super::cgroup;
use super::process::Process;

mod group;
mod output;

pub use group::Group;
pub use output::Output;

/// Highest descriptor that is looked at one by one on a kernel without close_range(2) for close-on-exec (< 5.11).
const LAST_DESCRIPTOR: i32 = 1024;

/// What to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// The arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// The working directory; ours if `None`.
    pub cwd: Option<PathBuf>,
    /// Changes to our own environment: set to a value, or removed.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// The process whose control groups it joins, as far as we may put it there; it stays in ours if `None`.
    pub beside: Option<u32>,
}

impl Command {
    /// A program without arguments, in our own working directory and environment.
    pub fn new(program: impl Into<PathBuf>) -> Command {
        Command { program: program.into(), ..Command::default() }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Command {
        self.args.push(argument.as_ref().to_owned());
        self
    }
}

/// Why a program can't be started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("there is no program {}", program.display())]
    NotFound {
        /// The program.
        program: PathBuf,
    },
    /// The file is there, and is not a program, or not for us.
    #[error("{} can't be executed: {source}", program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else: no memory, no descriptors, no such working directory.
    #[error("{} can't be started: {source}", program.display())]
    Other {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SpawnError {
    fn of(program: &Path, source: io::Error) -> SpawnError {
        let program = program.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => SpawnError::NotFound { program },
            Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR) => {
                SpawnError::NotExecutable { program, source }
            }
            _ => SpawnError::Other { program, source },
        }
    }
}

/// A program that was started: *spawned*, and nothing more is known yet.
#[derive(Debug)]
pub struct Spawned {
    /// The child; reap it with [`Process::try_wait`].
    pub process: Process,
    /// What it and its descendants print.
    pub output: Output,
}

/// Starts a program.
///
/// Its stdin is `/dev/null`; stdout and stderr are one pipe, so that their order is kept. It has a process group of
/// its own (Ctrl-C on our terminal is not for it), no blocked signals, default handlers, and no descriptor of ours
/// but those three: everything else is closed by the exec, also what we inherited without close-on-exec ourselves.
pub fn spawn(command: &Command) -> Result<Spawned, SpawnError> {
    let fail = |source| SpawnError::of(&command.program, source);
    if let Some(cwd) = &command.cwd
        && !cwd.is_dir()
    {
        let source = io::Error::other(format!("{} is not a directory", cwd.display()));
        return Err(SpawnError::Other { program: command.program.clone(), source });
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| fail(error.into()))?;
    rustix::io::ioctl_fionbio(&read, true).map_err(|error| fail(error.into()))?;
    let second = write.try_clone().map_err(fail)?;
    #[expect(clippy::disallowed_methods, reason = "the one place where processes are started")]
    let mut child = std::process::Command::new(&command.program);
    child.args(&command.args).stdin(Stdio::null()).stdout(write).stderr(second).process_group(0);
    if let Some(cwd) = &command.cwd {
        child.current_dir(cwd);
    }
    for (name, value) in &command.env {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    let parent = super::process::myself();
    let seats = command.beside.map(cgroup::seats_beside).unwrap_or_default();
    // SAFETY: runs in the child between fork and exec, and makes only async-signal-safe calls: write, sigaction,
    // sigprocmask, prctl, getppid, close_range, fcntl. It allocates nothing and takes no lock.
    unsafe {
        child.pre_exec(move || {
            // One that is full, or has become a threaded one, is no reason not to start.
            for seat in &seats {
                let _ = rustix::io::write(seat, b"0");
            }
            forget_signals();
            die_with(parent)?;
            close_all_on_exec();
            Ok(())
        });
    }
    let mut child = child.spawn().map_err(fail)?;
    match Process::of_child(child.id(), &command.program) {
        // The std handle is dropped without a wait: the child is reaped through its pidfd.
        Ok(process) => Ok(Spawned { process, output: Output::new(read) }),
        Err(error) => {
            // No descriptor left for a pidfd: a child that nobody can watch must not go on. It is ours and not
            // reaped, so the pid is its own.
            let _ = child.kill();
            let _ = child.wait();
            Err(SpawnError::Other { program: command.program.clone(), source: io::Error::other(error) })
        }
    }
}

/// Ties the child to the life of its parent, over the exec and up to its own fork; prctl(2), PR_SET_PDEATHSIG.
///
/// Until the exec it does not look like a HAProxy: whoever cleans up after a hareload that was killed in between would
/// not find it, and it would go on to bind and to serve beside the old one.
pub(super) fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: two system calls that take and give numbers.
    let orphaned = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) == -1
            || libc::getppid().unsigned_abs() != parent
    };
    // The parent may have died before the call: nobody would send the signal then.
    if orphaned { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
}

/// Default handlers and an empty mask. What is ignored stays ignored over an exec otherwise; execve(2).
fn forget_signals() {
    // SAFETY: an all-zero sigaction is SIG_DFL with an empty mask and no flags; numbers that can't be changed
    // (SIGKILL, SIGSTOP, the two of the C library) are refused with EINVAL, which is what we want.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        }
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Marks every descriptor from 3 on close-on-exec.
fn close_all_on_exec() {
    // SAFETY: raw calls with plain numbers; a descriptor that is not open is EBADF and nothing else. Nothing is
    // closed here: std's own pipe for the exec's error is in use, and is close-on-exec already.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            for fd in 3..LAST_DESCRIPTOR {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::Exit;
    use std::time::Duration;

    pub(super) fn shell(script: &str) -> Command {
        Command::new("/bin/sh").arg("-c").arg(script)
    }

    pub(super) async fn all_of(mut spawned: Spawned) -> (Exit, Output) {
        let reading = async { while spawned.output.read_more().await {} };
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the output ends");
        let exit = spawned.process.wait_within(Duration::from_secs(5)).unwrap().expect("it ends");
        (exit, spawned.output)
    }

    #[tokio::test]
    async fn both_streams_are_one_in_order() {
        let (exit, output) = all_of(spawn(&shell("echo a; echo b >&2; echo c; exit 3")).unwrap()).await;
        assert_eq!(output.bytes(), b"a\nb\nc\n");
        assert_eq!(exit, Exit::Code(3));
    }

    #[tokio::test]
    async fn nothing_of_ours_reaches_it() {
        let leaky = tempfile::tempfile().unwrap();
        rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
        // Without a pipe, whose ends the shell would hold for a moment; and while it waits it blocks signals itself.
        let script = "ls /proc/$$/fd; exec grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status";
        let (_, output) = all_of(spawn(&shell(script)).unwrap()).await;
        let text = String::from_utf8(output.bytes().to_vec()).unwrap();
        assert!(text.starts_with("0\n1\n2\nSig"), "{text}");
        let bits = |name: &str| {
            let line = text.lines().find_map(|line| line.split(name).nth(1)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        // 32 and 33 are the C library's own, which it lets nobody touch.
        let of_the_library = 0b11 << 31;
        assert_eq!((bits("SigBlk:"), bits("SigIgn:") & !of_the_library), (0, 0), "{text}");
    }

    #[test]
    fn what_can_not_be_started_is_named() {
        let missing = spawn(&Command::new("/nowhere/haproxy")).unwrap_err();
        assert!(matches!(missing, SpawnError::NotFound { .. }));
        assert_eq!(missing.to_string(), "there is no program /nowhere/haproxy");
        assert!(matches!(spawn(&Command::new("/etc/passwd")), Err(SpawnError::NotExecutable { .. })));
        assert!(matches!(spawn(&Command::new("/tmp")), Err(SpawnError::NotExecutable { .. })));
        let lost = Command { cwd: Some("/nowhere".into()), ..Command::new("true") };
        assert!(matches!(spawn(&lost), Err(SpawnError::Other { .. })));
    }

    #[tokio::test]
    async fn directory_and_environment_are_given() {
        let mut command = shell("pwd; echo $A; echo ${HOME-none}");
        command.cwd = Some("/proc".into());
        command.env = vec![("A".into(), Some("b".into())), ("HOME".into(), None)];
        let (_, output) = all_of(spawn(&command).unwrap()).await;
        assert_eq!(output.bytes(), b"/proc\nb\nnone\n");
    }
}
