//! The directories where an instance keeps its state.
//!
//! Creates and checks directories. Called by the driver before anything else of it is touched. Whoever can write
//! there can make us signal a process or run a program, so a directory that a stranger could have prepared is refused.
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use thiserror::Error;

use super::files::WRITABLE_BY_OTHERS;
use super::privilege;

/// The longest name of an instance: it is part of socket paths, which hold 107 bytes.
const LONGEST_INSTANCE: usize = 64;

/// Why a state directory is refused.
#[derive(Debug, Error)]
pub enum StateError {
    /// The name of the instance could be a path, or hide itself.
    #[error("{name:?} is not a name of an instance: 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot")]
    BadInstance {
        /// The name.
        name: String,
    },
    /// No directory can be derived.
    #[error("{variable} is not set to an absolute path")]
    NoPlace {
        /// The variable of the environment.
        variable: &'static str,
    },
    /// Its last component is a symbolic link.
    #[error("{} is a symbolic link; refused", path.display())]
    Symlink {
        /// The directory.
        path: PathBuf,
    },
    /// There is something else in its place.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error("{} belongs to uid {owner}, not to uid {wanted}; refused", path.display())]
    WrongOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// We.
        wanted: u32,
    },
    /// Others may write to it.
    #[error("{} has mode {mode:o}: others can write to it; refused", path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Anything else.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A directory that was found to be ours alone to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

/// In a directory with this bit only the owner of an entry may rename or remove it; inode(7).
const STICKY: u32 = 0o1000;

impl StateDir {
    /// Checks the directory, after creating it (0700, what leads to it 0755) if it is missing.
    pub fn open(path: &Path) -> Result<StateDir, StateError> {
        let fail = |source| StateError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(fail)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(error)),
            _ => {}
        }
        // The two flags make one open tell: what is checked is what is there, not what was there before.
        let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY | libc::O_NONBLOCK;
        let directory = File::options().read(true).custom_flags(flags).open(path).map_err(|source| {
            let path = path.to_owned();
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => StateError::Symlink { path },
                Ok(metadata) if !metadata.is_dir() => StateError::NotADirectory { path },
                _ => StateError::Io { path, source },
            }
        })?;
        let metadata = directory.metadata().map_err(fail)?;
        let (owner, wanted) = (metadata.uid(), privilege::euid());
        if owner != wanted {
            return Err(StateError::WrongOwner { path: path.to_owned(), owner, wanted });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(StateError::Writable { path: path.to_owned(), mode });
        }
        is_kept_by(path)?;
        Ok(StateDir { path: path.to_owned() })
    }

    /// A directory that is only looked into: nothing is made, and one that is missing holds nothing. Whoever may write
    /// to it could make us believe anything, so it must be ours or root's.
    pub fn look(path: &Path) -> Result<StateDir, StateError> {
        let state = StateDir { path: path.to_owned() };
        let metadata = match std::fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(state),
            Err(source) => return Err(StateError::Io { path: path.to_owned(), source }),
        };
        let path = path.to_owned();
        if metadata.is_symlink() {
            return Err(StateError::Symlink { path });
        }
        if !metadata.is_dir() {
            return Err(StateError::NotADirectory { path });
        }
        let (owner, wanted) = (metadata.uid(), privilege::euid());
        if owner != wanted && owner != privilege::ROOT {
            return Err(StateError::WrongOwner { path, owner, wanted });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(StateError::Writable { path, mode });
        }
        Ok(state)
    }

    /// One that holds nothing, for those who may not look into theirs. Nothing can be made in it.
    pub fn nowhere() -> StateDir {
        StateDir { path: PathBuf::from("/dev/null/hareload") }
    }

    /// Whether what it holds may be read.
    pub fn is_readable(&self) -> bool {
        match std::fs::read_dir(&self.path) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// Refuses a directory that somebody else could move away: whoever may write to the one above it, unless that is sticky.
fn is_kept_by(path: &Path) -> Result<(), StateError> {
    let above = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    let Some((above, metadata)) = above.and_then(|above| Some((above.clone(), above.metadata().ok()?)))
    else {
        return Ok(());
    };
    let (owner, wanted, mode) = (metadata.uid(), privilege::euid(), metadata.mode() & 0o7777);
    if owner != wanted && owner != privilege::ROOT {
        return Err(StateError::WrongOwner { path: above, owner, wanted });
    }
    if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
        return Err(StateError::Writable { path: above, mode });
    }
    Ok(())
}

/// Where an instance keeps what need not survive a boot: `/run/hareload/<instance>`; without root,
/// `$XDG_RUNTIME_DIR/hareload/<instance>`. It is named, not created.
pub fn default_run_dir(instance: &str) -> Result<PathBuf, StateError> {
    place(instance, "/run", || {
        absolute("XDG_RUNTIME_DIR").ok_or(StateError::NoPlace { variable: "XDG_RUNTIME_DIR" })
    })
}

/// Where to look for the state of an instance: for users other than root their own if it is there, else root's.
pub fn run_dir_to_look_at(instance: &str) -> Result<PathBuf, StateError> {
    check_instance(instance)?;
    let of_root = Path::new("/run/hareload").join(instance);
    Ok(default_run_dir(instance).ok().filter(|own| own.exists()).unwrap_or(of_root))
}

/// The same for its history.
pub fn lib_dir_to_look_at(instance: &str) -> Result<PathBuf, StateError> {
    check_instance(instance)?;
    let of_root = Path::new("/var/lib/hareload").join(instance);
    Ok(default_lib_dir(instance).ok().filter(|own| own.exists()).unwrap_or(of_root))
}

/// Where an instance keeps its history: `/var/lib/hareload/<instance>`; without root,
/// `$XDG_STATE_HOME/hareload/<instance>`, by default below `~/.local/state`. It is named, not created.
pub fn default_lib_dir(instance: &str) -> Result<PathBuf, StateError> {
    place(instance, "/var/lib", || {
        absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .ok_or(StateError::NoPlace { variable: "HOME" })
    })
}

fn place(
    instance: &str,
    of_root: &str,
    of_others: impl FnOnce() -> Result<PathBuf, StateError>,
) -> Result<PathBuf, StateError> {
    check_instance(instance)?;
    let base = if privilege::euid() == 0 { PathBuf::from(of_root) } else { of_others()? };
    Ok(base.join("hareload").join(instance))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Refuses what is not a plain name: 1 to 64 of `A-Za-z0-9._-`, not beginning with a dot.
pub fn check_instance(name: &str) -> Result<(), StateError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=LONGEST_INSTANCE).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(StateError::BadInstance { name: name.chars().take(LONGEST_INSTANCE).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_missing_directory_is_made_for_us_alone() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("hareload/web");
        let state = StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(state.path()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(StateDir::open(&path).unwrap(), state);
        assert_eq!(state.join("lock"), path.join("lock"));
    }

    #[test]
    fn what_a_stranger_could_have_prepared_is_refused() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("web");
        std::os::unix::fs::symlink("/tmp", &path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Symlink { .. })));
        let file = room.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(StateDir::open(&file), Err(StateError::NotADirectory { .. })));
        let open = room.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(StateDir::open(&open), Err(StateError::Writable { mode: 0o770, .. })));
        let foreign = room.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        if std::os::unix::fs::chown(&foreign, Some(12), None).is_ok() {
            assert!(matches!(StateDir::open(&foreign), Err(StateError::WrongOwner { owner: 12, .. })));
        } else {
            eprintln!("skipped: a foreign owner needs root");
        }
    }

    #[test]
    fn looking_makes_nothing_and_believes_nobody_else() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("web");
        assert!(StateDir::look(&path).unwrap().is_readable());
        assert!(!path.exists());
        std::os::unix::fs::symlink("/tmp", &path).unwrap();
        assert!(matches!(StateDir::look(&path), Err(StateError::Symlink { .. })));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(StateDir::look(&path), Err(StateError::NotADirectory { .. })));
        fs::remove_file(&path).unwrap();
        let state = StateDir::open(&path).unwrap();
        assert_eq!(StateDir::look(&path).unwrap(), state);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateDir::look(&path), Err(StateError::Writable { mode: 0o777, .. })));
    }

    #[test]
    fn an_instance_has_a_plain_name() {
        for name in ["haproxy", "web-1", "a.b_c", &"x".repeat(64)] {
            assert!(check_instance(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".web", "a/b", "a b", "wéb", "a\n", &"x".repeat(65)] {
            assert!(check_instance(name).is_err(), "{name}");
            assert!(default_run_dir(name).is_err());
        }
        if privilege::euid() == 0 {
            assert_eq!(default_run_dir("web").unwrap(), Path::new("/run/hareload/web"));
            assert_eq!(default_lib_dir("web").unwrap(), Path::new("/var/lib/hareload/web"));
        }
    }
}
