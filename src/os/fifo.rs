//! A named pipe, read without waiting for its writers.
//!
//! Called by the driver, for keepalived's `notify_fifo`.
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc;

use super::readiness;

/// All that a pipe holds, if nobody has made it larger; pipe(7).
const CAPACITY: usize = 64 * 1024;

/// A named pipe that is open for reading.
#[derive(Debug)]
pub struct Fifo(File);

impl Fifo {
    /// Opens one. Errors: those of open(2), and what is there is no FIFO.
    pub fn open(path: &Path) -> io::Result<Fifo> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.file_type().is_fifo() {
            return Err(io::Error::other("this is no FIFO"));
        }
        Ok(Fifo(file))
    }

    /// Resolves when there is something to read, or the last writer has left; inside a tokio runtime.
    pub async fn readable(&self) -> io::Result<()> {
        readiness::readable(self.0.as_fd()).await
    }

    /// All that is there now, which is nothing if another reader was faster; `None` if nobody writes any more.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; CAPACITY];
        match (&self.0).read(&mut bytes) {
            Ok(0) => Ok(None),
            Ok(length) => {
                bytes.truncate(length);
                Ok(Some(bytes))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Some(Vec::new()))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_and_then_the_end() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = Fifo::open(&path).unwrap();
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(fifo.read().unwrap().as_deref(), Some(&b""[..]));
        std::io::Write::write_all(&mut writer, b"told\n").unwrap();
        fifo.readable().await.unwrap();
        assert_eq!(fifo.read().unwrap().as_deref(), Some(&b"told\n"[..]));
        drop(writer);
        fifo.readable().await.unwrap();
        assert_eq!(fifo.read().unwrap(), None);
    }
}
