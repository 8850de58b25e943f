//! What of the kernel hareload lives by, tried on ourselves: nothing is changed, and nobody else is touched.
//!
//! Called by the doctor. A version number says little: distributions take things over into older kernels, and a seccomp
//! filter takes them away from newer ones.
use std::fs::File;
use std::io::{self, Read};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Whether there is a system call, and whether we may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It works.
    Works,
    /// The kernel does not have it.
    Missing,
    /// It is refused, even for ourselves: a seccomp filter.
    Refused,
}

impl Call {
    fn of(result: Result<(), Errno>) -> Call {
        match result {
            Ok(()) => Call::Works,
            Err(Errno::NOSYS) => Call::Missing,
            Err(_) => Call::Refused,
        }
    }
}

/// pidfd_open(2), Linux ≥ 5.3: without it nobody can be identified.
pub fn pidfd_open_works() -> Call {
    Call::of(pidfd_open(getpid(), PidfdFlags::empty()).map(drop))
}

/// pidfd_getfd(2), Linux ≥ 5.6: without it no socket can be borrowed.
pub fn pidfd_getfd_works() -> Call {
    use std::os::fd::AsRawFd;
    let borrowed = pipe_with(PipeFlags::CLOEXEC).and_then(|(read, _write)| {
        let myself = pidfd_open(getpid(), PidfdFlags::empty())?;
        pidfd_getfd(&myself, read.as_raw_fd(), PidfdGetfdFlags::empty()).map(drop)
    });
    Call::of(borrowed)
}

/// The inode of the first pid namespace (PROC_PID_INIT_INO of the kernel).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether the kernel tells us of processes that begin and end: it does only in the first namespaces of network and of
/// pids (drivers/connector), and the file is there only where it does.
pub fn process_events() -> bool {
    let is_first =
        std::fs::read_link("/proc/self/ns/pid").is_ok_and(|to| to.as_os_str() == FIRST_PID_NAMESPACE);
    is_first && std::path::Path::new("/proc/self/net/connector").exists()
}

/// Who may look into other processes, as the Yama module has it; Documentation/admin-guide/LSM/Yama.rst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PtraceScope {
    /// Whoever has the same user, or CAP_SYS_PTRACE.
    Classic,
    /// Only an ancestor, or CAP_SYS_PTRACE.
    Restricted,
    /// Only CAP_SYS_PTRACE.
    AdminOnly,
    /// Nobody, until the next boot.
    Nobody,
}

/// `kernel.yama.ptrace_scope`; classic where there is no Yama.
pub fn ptrace_scope() -> PtraceScope {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open("/proc/sys/kernel/yama/ptrace_scope")?.take(64).read_to_string(&mut text)?;
        Ok(text)
    };
    match read().as_deref().map(str::trim) {
        Ok("1") => PtraceScope::Restricted,
        Ok("2") => PtraceScope::AdminOnly,
        Ok("3") => PtraceScope::Nobody,
        _ => PtraceScope::Classic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_need_is_there() {
        assert_eq!(pidfd_open_works(), Call::Works);
        assert!(ptrace_scope() <= PtraceScope::Nobody);
        assert_eq!(Call::of(Err(Errno::NOSYS)), Call::Missing);
        assert_eq!(Call::of(Err(Errno::PERM)), Call::Refused);
    }
}
