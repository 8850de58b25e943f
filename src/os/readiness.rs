//! Waiting for a descriptor, with a deadline or inside the async runtime.
//!
//! Touches only the descriptors that it is given. Called by the other modules of this floor.
#![expect(unsafe_code, reason = "tokio's AsyncFd is registered by an unsafe constructor since 1.54")]
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, unix::AsyncFd};

use super::clock;

/// How a bounded wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// At least one descriptor is ready, or hung up, or in error.
    Ready,
    /// The deadline passed first.
    Elapsed,
}

/// Resolves when `fd` is readable or hung up; must be called inside a tokio runtime.
///
/// Each wait registers a duplicate of its own, so several may wait for the same descriptor at once (epoll refuses
/// the same number twice) and a cancelled wait leaves nothing behind.
pub(super) async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let copy = fd.try_clone_to_owned()?;
    // SAFETY: the AsyncFd owns the duplicate, which therefore stays open, and the same file, until it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE)? };
    let _ready = watched.readable().await?;
    Ok(())
}

/// Polls until one of `fds` is ready or `deadline` has passed; interrupted polls go on.
pub(super) fn poll_until(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<Waited> {
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(fds, Some(&timeout)) {
            Ok(0) => return Ok(Waited::Elapsed),
            Ok(_) => return Ok(Waited::Ready),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether `fd` is readable or hung up within `patience` (zero: right now).
pub(super) fn readable_within(fd: impl AsFd, patience: Duration) -> io::Result<Waited> {
    poll_until(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], clock::now() + patience)
}
