//! Names of unix sockets that are longer than the kernel's `sun_path`.
//!
//! Opens the directory of such a name, read-only. Called by [`super::admin`] and [`super::borrow`].
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

/// Longest name that fits in `sockaddr_un.sun_path` (108 bytes) with its terminating NUL; unix(7).
const LONGEST: usize = 107;

/// A name short enough for `sockaddr_un`; valid in this process as long as it lives.
#[derive(Debug)]
pub(super) struct ShortPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl ShortPath {
    /// The path itself if it fits, else a way to it through `/proc/self/fd`.
    pub(super) fn new(path: &Path) -> io::Result<ShortPath> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(ShortPath { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a socket"));
        };
        let directory =
            File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(parent)?;
        let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        if short.as_os_str().as_bytes().len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket's own name is too long"));
        }
        Ok(ShortPath { path: short, _directory: Some(directory) })
    }

    /// The name to bind or connect.
    pub(super) fn as_path(&self) -> &Path {
        &self.path
    }
}
