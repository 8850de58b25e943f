//! Why a process can't be had, or can't be told: what the kernel and `/proc` answer, sorted.
//!
//! Called by [`super::Process`] and by the other modules of this floor that read `/proc`.
use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// Why a process can't be had, or can't be told.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// There is no such process, or it has ended.
    #[error("process {pid} is gone")]
    Gone {
        /// The pid that was asked for.
        pid: u32,
    },
    /// The pid is in use, by another process than the one that was meant.
    #[error("process {pid} is gone, and its pid belongs to another process now")]
    Recycled {
        /// The pid that was asked for.
        pid: u32,
    },
    /// We are not allowed to look at it or to signal it.
    #[error("process {pid} belongs to somebody else: {source}")]
    NoAccess {
        /// The pid that was asked for.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The number is not that of a named signal.
    #[error("{signal} is not a signal")]
    NotASignal {
        /// The number.
        signal: i32,
    },
    /// Anything else.
    #[error("process {pid}: {source}")]
    Io {
        /// The pid that was asked for.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ProcessError {
    pub(super) fn of(pid: u32, source: io::Error) -> ProcessError {
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            // EINVAL is what pidfd_open says of a thread that is not a process.
            Some(Errno::SRCH | Errno::NOENT | Errno::INVAL) => ProcessError::Gone { pid },
            Some(Errno::PERM | Errno::ACCESS) => ProcessError::NoAccess { pid, source },
            _ => match source.kind() {
                io::ErrorKind::NotFound => ProcessError::Gone { pid },
                io::ErrorKind::PermissionDenied => ProcessError::NoAccess { pid, source },
                _ => ProcessError::Io { pid, source },
            },
        }
    }
}

/// The kernel's own word where the crate kept it.
pub(in crate::os) fn proc_error(error: procfs::ProcError) -> io::Error {
    match error {
        procfs::ProcError::Io(error, _) => error,
        procfs::ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        procfs::ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        other => io::Error::other(other),
    }
}
