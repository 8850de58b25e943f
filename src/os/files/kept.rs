//! Unix sockets: kept over a failed start, and what a killed HAProxy leaves beside them.
//!
//! HAProxy renames its new socket over the path when it binds, on every version, also if it then fails. Touches the names
//! beside a socket's path. Called by the driver, by way of [`super`].
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::parent_of;

/// How many links of one socket may have been left beside it by handovers that died.
const MOST_KEPT: u32 = 1000;

/// A unix socket's second name, by which it can be put back after a failed start has taken its path.
///
/// It can be written down: whoever recovers after a crash puts it back or forgets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The socket's path.
    pub path: PathBuf,
    /// The hard link beside it.
    pub kept: PathBuf,
}

/// Keeps a hard link `<path>.hareload-<n>` of a unix socket; `None` if there is no socket at that path.
///
/// HAProxy renames its new socket over the path when it binds, on every version, also if it then fails.
pub fn keep_beside(path: &Path) -> io::Result<Option<Kept>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    for n in 0..MOST_KEPT {
        let mut kept = OsString::from(path);
        kept.push(format!(".hareload-{n}"));
        match fs::hard_link(path, &kept) {
            Ok(()) => return Ok(Some(Kept { path: path.to_owned(), kept: kept.into() })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{} has {MOST_KEPT} links beside it already", path.display())))
}

/// Removes every second name of the socket at `path` that [`keep_beside`] may have made.
pub fn forget_all_beside(path: &Path) {
    let inode =
        |path: &Path| fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let Some(socket) = inode(path) else { return };
    for n in 0..MOST_KEPT {
        let mut kept = OsString::from(path);
        kept.push(format!(".hareload-{n}"));
        match inode(Path::new(&kept)) {
            Some(other) if other == socket => {
                let _ = fs::remove_file(&kept);
            }
            // Another socket's, which is not ours to forget.
            Some(_) => {}
            None => return,
        }
    }
}

/// Gives the socket its path back, over whatever is there now, and keeps the link: who took the path may take it again.
/// Whether it was needed.
pub fn put_back(kept: &Kept) -> io::Result<bool> {
    let inode = |path: &Path| fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    if inode(&kept.path).ok() == Some(inode(&kept.kept)?) {
        return Ok(false);
    }
    let back = back(kept);
    remove(&back)?;
    fs::hard_link(&kept.kept, &back)?;
    fs::rename(&back, &kept.path)?;
    Ok(true)
}

/// Removes the link; it is fine if it is gone already.
pub fn forget(kept: &Kept) -> io::Result<()> {
    remove(&back(kept))?;
    remove(&kept.kept)
}

/// The name of a socket on its way back.
fn back(kept: &Kept) -> PathBuf {
    let mut name = OsString::from(&kept.kept);
    name.push(".back");
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what HAProxies that were killed while they bound have left beside a unix socket: `<path>.<pid>.tmp`, bound and
/// not renamed yet, and `<path>.<pid>.bak`, a second name of the socket that was there before (`sock_unix.c`,
/// `sock_unix_bind_receiver`). Those of a process that lives are its own.
pub fn forget_half_bound(path: &Path, lives: impl Fn(u32) -> bool) {
    let Some(name) = path.file_name() else { return };
    let mut begins = name.to_owned();
    begins.push(".");
    for entry in fs::read_dir(parent_of(path)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let dead = name
            .as_encoded_bytes()
            .strip_prefix(begins.as_encoded_bytes())
            .and_then(|rest| rest.strip_suffix(b".tmp").or(rest.strip_suffix(b".bak")))
            .and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok())
            .is_some_and(|pid: u32| !lives(pid));
        if dead && entry.file_type().is_ok_and(|kind| kind.is_socket()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::super::tests::room;

    #[test]
    fn what_a_dead_haproxy_has_half_bound_is_forgotten() {
        let (directory, _) = room();
        let socket = |name: &str| {
            let path = directory.path().join(name);
            let _ = UnixListener::bind(&path).unwrap();
            path
        };
        let path = socket("admin.sock");
        let dead = [socket("admin.sock.7.tmp"), socket("admin.sock.7.bak")];
        let kept = [
            socket("admin.sock.8.tmp"),
            socket("admin.sock.x.tmp"),
            socket("other.sock.7.tmp"),
            path.clone(),
        ];
        let file = directory.path().join("admin.sock.9.bak");
        fs::write(&file, "").unwrap();
        forget_half_bound(&path, |pid| pid == 8);
        assert!(dead.iter().all(|path| !path.exists()));
        assert!(kept.iter().chain([&file]).all(|path| path.exists()));
    }

    #[test]
    fn a_socket_that_was_replaced_is_put_back() {
        let (directory, path) = room();
        assert_eq!(keep_beside(&path).unwrap(), None);
        let listener = UnixListener::bind(&path).unwrap();
        let kept = keep_beside(&path).unwrap().unwrap();
        let other = directory.path().join("new");
        drop(UnixListener::bind(&other).unwrap());
        fs::rename(&other, &path).unwrap();
        assert!(UnixStream::connect(&path).is_err());
        assert!(put_back(&kept).unwrap());
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert!(!put_back(&kept).unwrap(), "it has its path");
        fs::remove_file(&path).unwrap();
        assert!(put_back(&kept).unwrap(), "it was taken again");
        forget(&kept).unwrap();
        assert!(put_back(&kept).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_socket_that_was_not_replaced_loses_only_its_link() {
        let (directory, path) = room();
        let _listener = UnixListener::bind(&path).unwrap();
        let (one, two) = (keep_beside(&path).unwrap().unwrap(), keep_beside(&path).unwrap().unwrap());
        assert_ne!(one.kept, two.kept);
        assert!(!put_back(&one).unwrap());
        forget(&one).unwrap();
        forget(&two).unwrap();
        forget(&two).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        UnixStream::connect(&path).unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        assert_eq!(keep_beside(&directory.path().join("file")).unwrap(), None);
    }
}
