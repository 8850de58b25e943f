//! Several files that are put in place together: all of them are written before the first is renamed.
//!
//! Touches the files that it is given and temporary ones beside them. Called by the driver, for configurations, by way of
//! [`super`].
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, StatxAttributes, StatxFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, statx,
};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{Durability, FileError, half_written, parent_of, refuse_irregular};

/// The longest list of extended attributes, and the longest value of one; the kernel's XATTR_LIST_MAX and XATTR_SIZE_MAX.
const LONGEST_EXTENDED: usize = 64 << 10;

/// Extended attributes that say something of the content, and are made anew: of IMA and EVM, and of overlayfs.
const OF_THE_CONTENT: [&str; 3] = ["security.ima", "security.evm", "trusted."];

/// How the second name of a file ends: like those that tempfile gives.
const SECOND: &str = "before";

/// What is kept of a file when its content is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its extended attributes: an SELinux context, an access control list, and what users have given it.
    #[serde(default)]
    pub extended: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// Those of a file that is there.
    ///
    /// # Errors
    /// [`FileError`] if it can't be opened, or is no file.
    pub fn of(path: &Path) -> Result<Attributes, FileError> {
        let fail = |error| FileError::of(path, error);
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        refuse_irregular(path, &metadata)?;
        let extended = extended(&file).map_err(fail)?;
        Ok(Attributes { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid(), extended })
    }

    /// Those of a file that is made anew in this directory, with these permissions: it belongs to whom that belongs to.
    ///
    /// # Errors
    /// [`FileError`] if the directory can't be looked at.
    pub fn new_in(directory: &Path, mode: u32) -> Result<Attributes, FileError> {
        let metadata = fs::metadata(directory).map_err(|error| FileError::of(directory, error))?;
        Ok(Attributes { mode, uid: metadata.uid(), gid: metadata.gid(), extended: Vec::new() })
    }

    fn give(&self, file: &File) -> io::Result<()> {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (self.uid, self.gid) {
            fchown(file, Some(self.uid), Some(self.gid))?;
        }
        // After the owner: a change of owner clears the set-id bits; chown(2).
        file.set_permissions(Permissions::from_mode(self.mode))?;
        let has = extended(file)?;
        for (name, value) in self.extended.iter().filter(|one| !has.contains(one)) {
            let name = name.as_encoded_bytes();
            fsetxattr(file, name, value, XattrFlags::empty()).map_err(io::Error::from)?;
        }
        Ok(())
    }
}

fn extended(file: &File) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = vec![0; LONGEST_EXTENDED];
    let length = match flistxattr(file, &mut names[..]) {
        // This file system has none.
        Err(rustix::io::Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if OF_THE_CONTENT.iter().any(|known| name.starts_with(known.as_bytes())) {
            continue;
        }
        let mut value = vec![0; LONGEST_EXTENDED];
        match fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((OsString::from_vec(name.to_vec()), value));
            }
            // It has gone meanwhile.
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// A file that is written and synced, and not in place yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Prepared {
    temporary: NamedTempFile,
    target: PathBuf,
}

/// Writes what is to become this file, beside it. `target` is no symbolic link.
///
/// # Errors
/// [`FileError`] if there is no room, the file system is read-only, or the attributes can't be given to it.
pub fn prepare(
    target: &Path,
    bytes: &[u8],
    attributes: &Attributes,
    durability: Durability,
) -> Result<Prepared, FileError> {
    let directory = parent_of(target);
    let mut temporary = tempfile::Builder::new()
        .prefix(&half_written(target))
        .tempfile_in(directory)
        .map_err(|error| FileError::of(directory, error))?;
    let file = temporary.as_file_mut();
    let synced = |file: &File| match durability {
        Durability::Synced => file.sync_all(),
        Durability::Volatile => Ok(()),
    };
    let written = file.write_all(bytes).and_then(|()| attributes.give(file)).and_then(|()| synced(file));
    written.map_err(|error| FileError::of(target, error))?;
    Ok(Prepared { temporary, target: target.to_owned() })
}

impl Prepared {
    /// Where it is to be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Renames it into its place. The directory is for the caller to sync.
    ///
    /// # Errors
    /// [`FileError`] if the kernel refuses; nothing has changed then.
    pub fn put(self) -> Result<(), FileError> {
        let target = self.target;
        self.temporary.persist(&target).map(drop).map_err(|error| FileError::of(&target, error.error))
    }
}

/// The second name of a file while another one is in its place. It is removed with what is half-written.
fn second_name(target: &Path) -> PathBuf {
    let mut name = half_written(target);
    name.push(SECOND);
    parent_of(target).join(name)
}

/// Gives a file that is about to be replaced a second name beside it, by which it can come back where there is no room left to
/// write it anew. Not everywhere: a file system may have no links, or one more is not allowed.
pub fn give_second_name(target: &Path) {
    let second = second_name(target);
    let _ = fs::remove_file(&second);
    let _ = fs::hard_link(target, &second);
}

/// The file that had this name before, if it has a second one.
pub fn by_second_name(target: &Path) -> Option<PathBuf> {
    Some(second_name(target)).filter(|second| second.is_file())
}

/// Gives it its name back, in the place of what is there. The directory is for the caller to sync.
///
/// # Errors
/// [`FileError`] if the kernel refuses; nothing has changed then.
pub fn take_second_name(target: &Path) -> Result<(), FileError> {
    fs::rename(second_name(target), target).map_err(|error| FileError::of(target, error))
}

/// Makes a directory that nobody else may look into, and those that lead to it.
///
/// # Errors
/// [`FileError`] if the kernel refuses.
pub fn make_private_directories(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| FileError::of(path, error))
}

/// Sees to it that all that was written to the file system of this directory survives a power cut; syncfs(2).
///
/// # Errors
/// [`FileError`] if it can't be written.
pub fn sync_all_beside(directory: &Path) -> Result<(), FileError> {
    File::open(directory)
        .and_then(|directory| rustix::fs::syncfs(directory).map_err(io::Error::from))
        .map_err(|error| FileError::of(directory, error))
}

/// Makes a directory as the one above it is: with its permissions, its owner and its group.
///
/// # Errors
/// [`FileError`] if the kernel refuses.
pub fn make_directory_like_above(path: &Path) -> Result<(), FileError> {
    let fail = |error| FileError::of(path, error);
    let above = fs::metadata(parent_of(path)).map_err(fail)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other.map_err(fail)?,
    }
    std::os::unix::fs::chown(path, Some(above.uid()), Some(above.gid())).map_err(fail)?;
    fs::set_permissions(path, Permissions::from_mode(above.mode() & 0o7777)).map_err(fail)?;
    sync_directory(parent_of(path))
}

/// Removes a file, and syncs its directory; it is fine if it is gone already.
///
/// # Errors
/// [`FileError`] if the kernel refuses.
pub fn take_away(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of(path, error)),
        _ => sync_directory(parent_of(path)),
    }
}

/// Sees to it that the names in a directory survive a power cut.
///
/// # Errors
/// [`FileError`] if it can't be written.
pub fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| FileError::of(directory, error))
}

/// Whether something is mounted exactly here, so that it can't be renamed over: a bind-mounted file; rename(2), EBUSY.
pub fn is_mount_point(path: &Path) -> bool {
    let mounted = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .ok()
        // Since Linux 5.8.
        .filter(|statx| statx.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT))
        .map(|statx| statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    mounted.unwrap_or_else(|| {
        let mounts = procfs::process::Process::myself().and_then(|myself| myself.mountinfo());
        mounts.is_ok_and(|mounts| mounts.0.iter().any(|one| one.mount_point == path))
    })
}

/// How a file or a directory is locked against everybody, root included, and the command that unlocks it; `None` if it is not,
/// or its file system can't tell. In a directory to which can only be added, nothing can be renamed.
pub fn lock_of(path: &Path) -> Option<(&'static str, &'static str)> {
    let statx = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok()?;
    match statx.stx_attributes {
        has if has.contains(StatxAttributes::IMMUTABLE) => Some(("is immutable", "chattr -i")),
        has if has.contains(StatxAttributes::APPEND) => Some(("may only be appended to", "chattr -a")),
        _ => None,
    }
}

/// How a file is read that must not change meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has changed while it was read.
    #[error("{} has changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Which file it is, how large it is, and when it was changed last: of one that has the same mark, nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    file: (u64, u64),
    size: u64,
    /// Of its content and of its inode, each in seconds and nanoseconds.
    times: [i64; 4],
    mode: u32,
}

impl Mark {
    /// That of the file which this path leads to.
    ///
    /// # Errors
    /// [`FileError`] if it can't be looked at.
    pub fn of(path: &Path) -> Result<Mark, FileError> {
        let of = fs::metadata(path).map_err(|error| FileError::of(path, error))?;
        let times = [of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()];
        Ok(Mark { file: (of.dev(), of.ino()), size: of.len(), times, mode: of.mode() & 0o7777 })
    }

    /// Its permissions.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode
    }
}

/// Reads a regular file of at most `max` bytes, and sees to it that nobody writes to it, or puts another one in its place,
/// meanwhile.
///
/// # Errors
/// [`ReadingError`], also if it has changed.
pub fn read_unchanged(path: &Path, max: usize) -> Result<(Vec<u8>, Mark), ReadingError> {
    let before = Mark::of(path)?;
    let bytes = super::read_bounded(path, max)?;
    let after = Mark::of(path)?;
    if before != after || u64::try_from(bytes.len()) != Ok(after.size) {
        return Err(ReadingError::Changed { path: path.to_owned() });
    }
    Ok((bytes, after))
}

#[cfg(test)]
mod tests {
    use super::super::tests::room;
    use super::*;

    #[test]
    fn what_is_prepared_is_put_in_place_with_all_its_attributes() {
        let (directory, path) = room();
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let given = fsetxattr(File::open(&path).unwrap(), "user.of", b"us", XattrFlags::empty());
        let attributes = Attributes::of(&path).unwrap();
        assert_eq!((attributes.mode, given.is_ok()), (0o640, !attributes.extended.is_empty()));
        let prepared = prepare(&path, b"new", &attributes, Durability::Synced).unwrap();
        assert_eq!((prepared.target(), fs::read(&path).unwrap()), (path.as_path(), b"old".to_vec()));
        prepared.put().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(Attributes::of(&path).unwrap(), attributes);
        drop(prepare(&path, b"newer", &attributes, Durability::Volatile).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing temporary is left");
        take_away(&path).unwrap();
        take_away(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_comes_back_by_its_second_name() {
        let (directory, path) = room();
        fs::write(&path, "old").unwrap();
        give_second_name(&path);
        give_second_name(&path);
        let attributes = Attributes::of(&path).unwrap();
        prepare(&path, b"new", &attributes, Durability::Synced).unwrap().put().unwrap();
        assert_eq!(fs::read(by_second_name(&path).unwrap()).unwrap(), b"old");
        take_second_name(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), by_second_name(&path)), (b"old".to_vec(), None));
        give_second_name(&path);
        super::super::forget_half_written(&path);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        give_second_name(&directory.path().join("none"));
        assert!(take_second_name(&path).is_err());
    }

    #[test]
    fn mount_points_are_known() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self")));
    }

    #[test]
    fn what_is_read_has_its_permissions() {
        let (directory, path) = room();
        fs::write(&path, "text").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let (bytes, mark) = read_unchanged(&path, 4).unwrap();
        assert_eq!((bytes.as_slice(), mark.mode(), Mark::of(&path).unwrap()), (&b"text"[..], 0o600, mark));
        assert!(matches!(read_unchanged(&path, 3), Err(ReadingError::File(FileError::TooLarge { .. }))));
        assert!(read_unchanged(directory.path(), 3).is_err());
    }
}
