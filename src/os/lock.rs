//! The lock of an instance: one handover at a time.
//!
//! Touches the file `lock` in the state directory, which is never removed. Called by the driver.
//!
//! It is flock(2): it belongs to the open file, so a forked guard shares it, and it is free only when hareload and
//! the guard are both gone. No program that is started inherits it (close-on-exec), so no HAProxy can hold it.
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::libc;
use thiserror::Error;

use super::process;

/// Why the lock can't be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another holds it and did not give it back in time.
    #[error("{} is held by {}", path.display(), holder.map_or("another process".into(), |pid| format!("process {pid}")))]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// The pid that the holder wrote into it; its guard may have taken its place.
        holder: Option<u32>,
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
    _file: File,
}

impl Lock {
    /// Takes the lock of the instance whose state is in `directory`; waits at most `patience`.
    ///
    /// The waiting is done in a thread, which has ended on success: the process is as single-threaded as before. After
    /// [`LockError::Busy`] it may still wait, and gives the lock back at once should it get it.
    pub fn acquire(directory: &Path, patience: Duration) -> Result<Lock, LockError> {
        let path = directory.join("lock");
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
                file = wait(file, patience)
                    .map_err(fail)?
                    .ok_or_else(|| LockError::Busy { path: path.clone(), holder: holder(&mut reader) })?;
            }
        }
        sign(&mut file).map_err(fail)?;
        Ok(Lock { _file: file })
    }
}

/// The locked file, or `None` if `patience` passed first.
fn wait(file: File, patience: Duration) -> io::Result<Option<File>> {
    if patience.is_zero() {
        return Ok(None);
    }
    let (sender, receiver) = mpsc::channel();
    let waiting = thread::Builder::new().name("lock".into()).spawn(move || {
        let locked = file.lock().map(|()| file);
        // Nobody listens any more: the file comes back in the error, is closed, and the lock is free again.
        let _ = sender.send(locked);
    })?;
    match receiver.recv_timeout(patience) {
        Ok(locked) => {
            let _ = waiting.join();
            locked.map(Some)
        }
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the waiting thread is gone")),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::myself())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_is_named() {
        let room = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(room.path(), Duration::ZERO).unwrap();
        for patience in [Duration::ZERO, Duration::from_millis(30)] {
            let busy = Lock::acquire(room.path(), patience).unwrap_err();
            assert!(matches!(busy, LockError::Busy { holder: Some(pid), .. } if pid == process::myself()));
        }
        drop(lock);
        Lock::acquire(room.path(), Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn it_is_waited_for() {
        let room = tempfile::tempdir().unwrap();
        let first = Lock::acquire(room.path(), Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| Lock::acquire(room.path(), Duration::from_secs(10)));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_copy_of_the_open_file_holds_on_to_it() {
        let room = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(room.path(), Duration::ZERO).unwrap();
        let of_the_guard = lock._file.try_clone().unwrap();
        drop(lock);
        assert!(matches!(Lock::acquire(room.path(), Duration::ZERO), Err(LockError::Busy { .. })));
        drop(of_the_guard);
        Lock::acquire(room.path(), Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let room = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp/nowhere-hareload", room.path().join("lock")).unwrap();
        assert!(matches!(Lock::acquire(room.path(), Duration::ZERO), Err(LockError::Io { .. })));
    }
}
