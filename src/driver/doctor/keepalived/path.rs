//! The path of a script, looked at as keepalived does before it runs anything as root: every directory on the way.
//!
//! check_script_secure and check_security (v2.4.3:keepalived/core/notify.c:685,830).

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Where a bare name is looked for: what a service of systemd's and an init script have for `PATH`.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is there.
    Missing,
    /// It is no file.
    NotAFile,
    /// Nobody may execute it.
    NotExecutable,
    /// A script without `#!`.
    NoInterpreter,
    /// A directory on the way is a symbolic link; where the file really is.
    LinkedDirectory {
        /// The link.
        link: PathBuf,
        /// The path without it.
        real: PathBuf,
    },
    /// Somebody else than root could change this part of the way.
    Unsafe {
        /// The part.
        part: PathBuf,
        /// Why.
        why: Changeable,
    },
}

/// Who could change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changeable {
    Owner(u32),
    Group(u32),
    Everybody,
}

/// Where a bare name is found.
pub(super) fn in_path(name: &str) -> Option<PathBuf> {
    let paths = PATH.iter().map(|directory| Path::new(directory).join(name));
    paths
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0))
}

/// Who would run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// Whatever leads there is looked at.
    Root,
    Other,
}

/// What is wrong with an absolute path. What may not be seen from here is not.
pub(super) fn faults(path: &Path, runner: Runner) -> Vec<Fault> {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Vec::new(),
        Err(_) => return vec![Fault::Missing],
    };
    let Ok(file) = fs::metadata(&real) else { return Vec::new() };
    if !file.is_file() {
        return vec![Fault::NotAFile];
    }
    if file.mode() & 0o111 == 0 {
        return vec![Fault::NotExecutable];
    }
    let mut faults = Vec::new();
    if !has_interpreter(&real) {
        faults.push(Fault::NoInterpreter);
    }
    if runner == Runner::Other {
        return faults;
    }
    faults.extend(link_in(path));
    faults.extend(unsafe_part(&real).or_else(|| unsafe_part(path)));
    faults
}

/// Whether the kernel knows how to run it: a program, or a script that says by whom. One that can't be read is taken
/// for a program.
fn has_interpreter(path: &Path) -> bool {
    let mut first = [0_u8; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut first));
    // What is neither is for binfmt_misc, unless it looks like text.
    read.map_or(true, |length| {
        let first = &first[..length];
        first.starts_with(b"#!")
            || !first.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    })
}

/// A path with its directories as they are. The name stays: a program may do another thing under another name, as
/// `pidof`, which Debian has as a link to `killall5`.
pub(super) fn without_linked_directories(path: &Path) -> PathBuf {
    let real = path.parent().and_then(|parent| parent.canonicalize().ok());
    real.zip(path.file_name()).map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name))
}

fn link_in(path: &Path) -> Option<Fault> {
    let parts = path.parent()?.ancestors().collect::<Vec<_>>();
    let link = parts.into_iter().rev().find(|part| part.is_symlink())?.to_owned();
    Some(Fault::LinkedDirectory { link, real: without_linked_directories(path) })
}

/// The first part of a path, from the root on, that somebody else than root could change.
fn unsafe_part(path: &Path) -> Option<Fault> {
    let mut part = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            return None;
        }
        part.push(component);
        let seen = part.symlink_metadata().ok()?;
        // A sticky directory lets nobody touch what is another's; the mode of a link means nothing.
        let counts = seen.is_dir() && seen.mode() & 0o1000 == 0 || seen.is_file();
        let why = if seen.uid() != 0 {
            Changeable::Owner(seen.uid())
        } else if counts && seen.mode() & 0o002 != 0 {
            Changeable::Everybody
        } else if counts && seen.mode() & 0o020 != 0 && seen.gid() != 0 {
            Changeable::Group(seen.gid())
        } else {
            continue;
        };
        return Some(Fault::Unsafe { part, why });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A script in a directory of ours; `None`, and a word, where we are not root.
    fn room(test: &str) -> Option<(tempfile::TempDir, PathBuf)> {
        if crate::os::privilege::euid() != 0 {
            eprintln!("skipped: {test} needs root");
            return None;
        }
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("d/script");
        fs::create_dir(room.path().join("d")).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        mode(&path, 0o755);
        Some((room, path))
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_part_of_the_way_is_looked_at() {
        let Some((room, path)) = room("every_part_of_the_way_is_looked_at") else { return };
        let found = |path: &Path| faults(path, Runner::Root);
        assert_eq!(found(&path), []);
        mode(&path, 0o644);
        assert_eq!(found(&path), [Fault::NotExecutable]);
        mode(&path, 0o757);
        assert_eq!(found(&path), [Fault::Unsafe { part: path.clone(), why: Changeable::Everybody }]);
        assert_eq!(faults(&path, Runner::Other), []);
        mode(&path, 0o755);
        let directory = path.parent().unwrap();
        mode(directory, 0o1777);
        assert_eq!(found(&path), []);
        mode(directory, 0o777);
        assert_eq!(found(&path), [Fault::Unsafe { part: directory.to_owned(), why: Changeable::Everybody }]);
        mode(directory, 0o755);
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert_eq!(found(&path), [Fault::Unsafe { part: path.clone(), why: Changeable::Owner(65_534) }]);
        std::os::unix::fs::chown(&path, Some(0), Some(65_534)).unwrap();
        mode(&path, 0o775);
        assert_eq!(found(&path), [Fault::Unsafe { part: path.clone(), why: Changeable::Group(65_534) }]);
        mode(&path, 0o755);
        assert_eq!(found(&room.path().join("no")), [Fault::Missing]);
        assert_eq!(found(room.path()), [Fault::NotAFile]);
        fs::write(&path, "echo no\n").unwrap();
        assert_eq!(found(&path), [Fault::NoInterpreter]);
    }

    #[test]
    fn a_link_is_fine_as_a_file_only() {
        let Some((room, path)) = room("a_link_is_fine_as_a_file_only") else { return };
        let (link, directory) = (room.path().join("link"), room.path().join("e"));
        symlink(&path, &link).unwrap();
        symlink("d", &directory).unwrap();
        assert_eq!(faults(&link, Runner::Root), []);
        let linked = Fault::LinkedDirectory { link: directory.clone(), real: path };
        assert_eq!(faults(&directory.join("script"), Runner::Root), [linked]);
        assert_eq!(faults(&directory.join("script"), Runner::Other), []);
    }

    #[test]
    fn bare_names_are_found_where_programs_are() {
        assert!(in_path("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(in_path("no-such-program"), None);
    }
}
