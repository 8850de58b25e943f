//! Files: read with a bound, replaced whole or not at all.
//!
//! Touches the files that it is given and temporary ones beside them. Called by the driver for pidfiles,
//! configurations and the journal.
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::libc;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::privilege;

mod installing;
mod kept;

pub use installing::{
    Attributes, Mark, Prepared, ReadingError, by_second_name, give_second_name, is_mount_point, lock_of,
    make_directory_like_above, make_private_directories, prepare, read_unchanged, sync_all_beside,
    sync_directory, take_away, take_second_name,
};
pub use kept::{Kept, forget, forget_all_beside, forget_half_bound, keep_beside, put_back};

/// Permissions of a file that was not there before: what HAProxy gives its pidfile.
const NEW_FILE_MODE: u32 = 0o644;

/// Permission bits that let others write.
pub(super) const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How the name of a file begins that is being written, until it is renamed.
const HALF_WRITTEN: &str = ".hareload-";

/// How many random characters tempfile adds to it.
const RANDOM: usize = 6;

/// The longest name of a file; NAME_MAX.
const LONGEST_NAME: usize = 255;

/// How many bytes of a hash tell one long name from another.
const HASHED: usize = 8;

/// Why a file can't be read or replaced.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is not there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory, a FIFO, a device or a socket.
    #[error("{} is {kind}, not a file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// It is larger than was allowed.
    #[error("{} is larger than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        max: usize,
    },
    /// It is a symbolic link that somebody else has put there.
    #[error("{} is a link of another user's, who could have it lead anywhere", path.display())]
    ForeignLink {
        /// The link.
        path: PathBuf,
    },
    /// We may not.
    #[error("no permission for {}", path.display())]
    NoAccess {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said. It is told with the file, so it is no source to be told once more.
        why: io::Error,
    },
}

impl FileError {
    fn of(path: &Path, why: io::Error) -> FileError {
        let path = path.to_owned();
        match why.kind() {
            io::ErrorKind::NotFound => FileError::Missing { path },
            io::ErrorKind::PermissionDenied => FileError::NoAccess { path },
            _ => FileError::Io { path, why },
        }
    }
}

/// Room on a file system that nobody else gets until it is dropped. Without a name; gone with its process at the latest.
#[derive(Debug)]
pub struct Room {
    _file: File,
}

impl Room {
    /// Takes `bytes` of the file system of this directory.
    ///
    /// # Errors
    /// [`FileError::Io`] if there is no such room.
    pub fn reserve(directory: &Path, bytes: u64) -> Result<Room, FileError> {
        let reserve = || {
            let file = tempfile::tempfile_in(directory)?;
            // Unlike fallocate(2) it writes where the file system can't do it otherwise.
            posix_fallocate(&file, 0, i64::try_from(bytes).map_err(io::Error::other)?)?;
            Ok(Room { _file: file })
        };
        reserve().map_err(|error| FileError::of(directory, error))
    }
}

/// Whether a file must survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The file and its directory are on the disk when the call returns.
    Synced,
    /// Whole for every reader, but lost or old after a power cut.
    Volatile,
}

/// A path in the one way that it is written in: absolute, and seen through the links of all directories that are there but the
/// last name's, which may be one itself.
pub fn settled(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    let mut there = path.as_path();
    while let (Some(parent), Some(name)) = (there.parent(), there.file_name()) {
        missing.push(name);
        there = parent;
        if let Ok(known) = there.canonicalize() {
            return Ok(missing.iter().rev().fold(known, |path, name| path.join(name)));
        }
    }
    Ok(path)
}

/// When it was last written, put there or changed in any way, whichever was last; `None` if that can't be told.
pub fn modified(path: &Path) -> Option<jiff::Timestamp> {
    let metadata = fs::metadata(path).ok()?;
    let at = |seconds, nanos: i64| jiff::Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok();
    at(metadata.mtime(), metadata.mtime_nsec()).max(at(metadata.ctime(), metadata.ctime_nsec()))
}

/// When its content was last written, as far as its file system tells; `None` if that can't be told.
pub fn written(path: &Path) -> Option<jiff::Timestamp> {
    fs::metadata(path).ok()?.modified().ok()?.try_into().ok()
}

/// Whether a file belongs to another user than us and root, or others may write to it. One that is not there does not.
pub fn is_changeable_by_others(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| !is_trusted(&metadata) || metadata.mode() & WRITABLE_BY_OTHERS != 0)
}

/// Whether it belongs to us or root.
fn is_trusted(metadata: &fs::Metadata) -> bool {
    [privilege::euid(), privilege::ROOT].contains(&metadata.uid())
}

/// Whether it is a FIFO: a named one, or a pipe below `/dev/fd`. Symbolic links are followed.
pub fn is_fifo(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Reads a regular file of at most `max` bytes; symbolic links are followed.
///
/// Never blocks: a FIFO in its place is refused, not waited for.
pub fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    let fail = |error| FileError::of(path, error);
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        // What open(2) says of a socket.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(FileError::NotRegular { path: path.to_owned(), kind: "a socket or a device" });
        }
        other => other.map_err(fail)?,
    };
    let metadata = file.metadata().map_err(fail)?;
    refuse_irregular(path, &metadata)?;
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    // A vector that grows has had up to twice the file's size.
    let length = usize::try_from(metadata.len().min(bound)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(length);
    file.take(bound).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > max { Err(FileError::TooLarge { path: path.to_owned(), max }) } else { Ok(bytes) }
}

/// The same of a file that somebody names, who may say with the null device that there is none.
pub fn read_bounded_or_null(path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    if fs::metadata(path).is_ok_and(|metadata| is_null(&metadata)) {
        return Ok(Vec::new());
    }
    read_bounded(path, max)
}

/// Whether it is `/dev/null`, or that device under another name; null(4).
fn is_null(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3)
}

/// Replaces a file's content by one rename: a reader sees all of the old or all of the new.
///
/// An existing file's owner, group and permissions are kept, and it is an error if they can't be; a new file gets
/// 0644. Where `path` is a symbolic link to a regular file, that file is replaced and the link stays; a dangling
/// link is refused, and so is the link of another user than us and root: in a directory like `/tmp` anybody can put one.
pub fn replace(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), FileError> {
    replace_with_mode(path, bytes, durability, NEW_FILE_MODE)
}

/// The same, with the permissions of a file that was not there before.
pub fn replace_with_mode(
    path: &Path,
    bytes: &[u8],
    durability: Durability,
    new_mode: u32,
) -> Result<(), FileError> {
    let fail = |error| FileError::of(path, error);
    let (target, existing) = match fs::symlink_metadata(path) {
        Ok(link) if link.is_symlink() && !is_trusted(&link) => {
            return Err(FileError::ForeignLink { path: path.to_owned() });
        }
        Ok(link) if link.is_symlink() => {
            let target = fs::canonicalize(path).map_err(fail)?;
            let metadata = fs::metadata(&target).map_err(fail)?;
            (target, Some(metadata))
        }
        Ok(metadata) => (path.to_owned(), Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
        Err(error) => return Err(fail(error)),
    };
    if let Some(existing) = &existing {
        refuse_irregular(path, existing)?;
    }
    let directory = parent_of(&target);
    let mut temporary = tempfile::Builder::new()
        .prefix(&half_written(&target))
        .tempfile_in(directory)
        .map_err(|error| FileError::of(directory, error))?;
    let write = |file: &mut File| -> io::Result<()> {
        file.write_all(bytes)?;
        let mode = existing.as_ref().map_or(new_mode, |existing| existing.mode() & 0o7777);
        if let Some(existing) = &existing {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (existing.uid(), existing.gid()) {
                fchown(&*file, Some(existing.uid()), Some(existing.gid()))?;
            }
        }
        // After the owner: a change of owner clears the set-id bits; chown(2).
        file.set_permissions(Permissions::from_mode(mode))?;
        match durability {
            Durability::Synced => file.sync_all(),
            Durability::Volatile => Ok(()),
        }
    };
    write(temporary.as_file_mut()).map_err(fail)?;
    temporary.persist(&target).map_err(|error| fail(error.error))?;
    match durability {
        Durability::Synced => File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail),
        Durability::Volatile => Ok(()),
    }
}

/// Appends a line to a file, which is made (0600) if it is missing: all of it, or nothing.
///
/// A last line that was cut off, by a full disk or a loss of power, is ended first, so that this one is read by itself.
/// Nobody else may be appending.
pub fn append_line(path: &Path, line: &[u8]) -> Result<(), FileError> {
    let fail = |error| FileError::of(path, error);
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    refuse_irregular(path, &metadata)?;
    let mut last = [b'\n'];
    if let Some(at) = metadata.len().checked_sub(1) {
        file.read_exact_at(&mut last, at).map_err(fail)?;
    }
    let cut_off: &[u8] = if last == *b"\n" { b"" } else { b"\n" };
    let text = [cut_off, line, b"\n"].concat();
    file.write_all(&text).map_err(|error| {
        // If this fails too, the next one ends what is left of the line.
        let _ = file.set_len(metadata.len());
        fail(error)
    })
}

/// How the name of the file begins that is to become `target`. Of a name that would be too long with what is added to it, its
/// beginning stands there, and a hash of the whole.
fn half_written(target: &Path) -> OsString {
    let own = target.file_name().unwrap_or_default();
    let bytes = own.as_encoded_bytes();
    let mut name = OsString::from(HALF_WRITTEN);
    if HALF_WRITTEN.len() + bytes.len() + "-".len() + RANDOM <= LONGEST_NAME {
        name.push(own);
    } else {
        let hash = Sha256::digest(bytes);
        let mut kept = LONGEST_NAME - HALF_WRITTEN.len() - "~-".len() - 2 * HASHED - RANDOM;
        // Not in the middle of a character.
        while kept > 0 && bytes[kept] & 0b1100_0000 == 0b1000_0000 {
            kept -= 1;
        }
        name.push(OsStr::from_bytes(&bytes[..kept]));
        name.push("~");
        hash.iter().take(HASHED).for_each(|byte| name.push(format!("{byte:02x}")));
    }
    name.push("-");
    name
}

/// Whether a [`replace`] that was killed, or is at work, has something half-written in this directory.
pub fn has_half_written(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().as_encoded_bytes().starts_with(HALF_WRITTEN.as_bytes()))
}

/// Removes what a [`replace`] of `path` that was killed has left. Nobody else may be writing it: hold the lock.
pub fn forget_half_written(path: &Path) {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let begins = half_written(&target);
    let entries = fs::read_dir(parent_of(&target)).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(begins.as_encoded_bytes());
        // What is longer is the file of a longer name.
        if rest.is_some_and(|rest| rest.len() == RANDOM && rest.iter().all(u8::is_ascii_alphanumeric)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Of which file the name of a half-written one is; of a long name, only its beginning.
pub fn target_of_half_written(name: &str) -> Option<&str> {
    Some(name.strip_prefix(HALF_WRITTEN)?.rsplit_once('-')?.0)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn refuse_irregular(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => "a symbolic link",
        () => "a device",
    };
    Err(FileError::NotRegular { path: path.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    pub(super) fn room() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("haproxy.pid");
        (directory, path)
    }

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let (directory, path) = room();
        assert!(matches!(read_bounded(&path, 9), Err(FileError::Missing { .. })));
        fs::write(&path, "123456789").unwrap();
        assert_eq!(read_bounded(&path, 9).unwrap(), b"123456789");
        assert!(matches!(read_bounded(&path, 8), Err(FileError::TooLarge { .. })));
        let error = read_bounded(directory.path(), 9).unwrap_err();
        assert!(error.to_string().ends_with("is a directory, not a file"), "{error}");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_bounded(&fifo, 9), Err(FileError::NotRegular { kind: "a FIFO", .. })));
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(read_bounded(&socket, 9), Err(FileError::NotRegular { .. })));
        assert!(matches!(read_bounded(Path::new("/dev/zero"), 9), Err(FileError::NotRegular { .. })));
    }

    #[test]
    fn the_null_device_is_an_empty_file_for_whoever_may_name_it() {
        let (directory, path) = room();
        assert!(matches!(read_bounded(Path::new("/dev/null"), 9), Err(FileError::NotRegular { .. })));
        assert_eq!(read_bounded_or_null(Path::new("/dev/null"), 9).unwrap(), b"");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert_eq!(read_bounded_or_null(&path, 9).unwrap(), b"");
        for device in ["/dev/zero", "/dev/tty"] {
            let read = read_bounded_or_null(Path::new(device), 9);
            assert!(matches!(read, Err(FileError::NotRegular { .. } | FileError::Io { .. })), "{read:?}");
        }
        let named = directory.path().join("named");
        fs::write(&named, "1234567890").unwrap();
        assert_eq!(read_bounded_or_null(&named, 10).unwrap(), b"1234567890");
        assert!(matches!(read_bounded_or_null(&named, 9), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn a_line_is_appended_to_whole_ones() {
        let (directory, path) = room();
        append_line(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        append_line(&path, b"two").unwrap();
        fs::write(&path, [fs::read(&path).unwrap(), b"thr".to_vec()].concat()).unwrap();
        append_line(&path, b"four").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\nthr\nfour\n");
        assert!(matches!(append_line(directory.path(), b"x"), Err(FileError::Io { .. })));
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(append_line(&fifo, b"x"), Err(FileError::NotRegular { .. })));
    }

    #[test]
    fn a_replaced_file_keeps_what_it_was() {
        let (directory, path) = room();
        replace(&path, b"1\n", Durability::Synced).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("haproxy.pid", &link).unwrap();
        replace(&link, b"2\n", Durability::Volatile).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing temporary is left");
    }

    #[test]
    fn a_file_of_the_longest_name_is_replaced() {
        let (directory, _) = room();
        let named = |name: String| directory.path().join(name);
        let left = |path: &Path| named(format!("{}Ab12Cd", half_written(path).to_str().unwrap()));
        let names = [238, 239, 255]
            .map(|length| "n".repeat(length))
            .into_iter()
            .chain(["ä".repeat(127), "€".repeat(85)]);
        for path in names.map(named) {
            for text in ["1", "2"] {
                replace(&path, text.as_bytes(), Durability::Volatile).unwrap();
                assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
            }
            let attributes = Attributes::of(&path).unwrap();
            prepare(&path, b"3", &attributes, Durability::Volatile).unwrap().put().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"3");
            // What a writer that was killed has left of it goes, and nobody else's.
            let other = path.with_file_name(format!("{}x", &"n".repeat(254)));
            let (own, others) = (left(&path), left(&other));
            fs::write(&own, "half").unwrap();
            fs::write(&others, "half").unwrap();
            forget_half_written(&path);
            assert!(!own.exists() && others.exists(), "{}", path.display());
            fs::remove_file(&others).unwrap();
            fs::remove_file(&path).unwrap();
        }
        assert!(!has_half_written(directory.path()), "nothing temporary is left");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let (directory, path) = room();
        fs::create_dir(&path).unwrap();
        assert!(matches!(replace(&path, b"", Durability::Volatile), Err(FileError::NotRegular { .. })));
        let dangling = directory.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(matches!(replace(&dangling, b"", Durability::Volatile), Err(FileError::Missing { .. })));
        let lost = directory.path().join("no/such/file");
        assert!(matches!(replace(&lost, b"", Durability::Volatile), Err(FileError::Missing { .. })));
    }

    #[test]
    fn the_link_of_another_user_is_not_followed() {
        let (directory, path) = room();
        fs::write(&path, "1").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("haproxy.pid", &link).unwrap();
        if std::os::unix::fs::lchown(&link, Some(12), Some(13)).is_err() {
            eprintln!("skipped: the_link_of_another_user_is_not_followed needs root");
            return;
        }
        assert!(matches!(replace(&link, b"2", Durability::Volatile), Err(FileError::ForeignLink { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"1");
    }

    #[test]
    fn an_owner_is_kept() {
        let (_directory, path) = room();
        fs::write(&path, "").unwrap();
        if std::os::unix::fs::chown(&path, Some(12), Some(13)).is_err() {
            eprintln!("skipped: an_owner_is_kept needs root");
            return;
        }
        replace(&path, b"1", Durability::Volatile).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12, 13));
    }
}
