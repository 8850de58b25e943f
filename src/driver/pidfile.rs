//! The pidfile, before and after: whom it names, whether the commit will be possible, and whether it is true.
//!
//! Called by everybody who reads one without having to say why it can't be read; by `reload` and `start`, also for
//! `--dry-run`, before anything is touched; and by `stop`, after it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::core::input::Refusal;
use crate::haproxy::pidfile;
use crate::os::files::{self, Durability};
use crate::os::host::{self, Directory};
use crate::os::process::{Process, ProcessError};

use super::find::{self, Old, Posture, is_here};
use super::request::{Refused, Request};

/// Whom a pidfile names; nobody if it can't be read, or is none.
pub(super) fn named_in(path: &Path) -> Vec<u32> {
    let bytes = files::read_bounded(path, pidfile::MAX_BYTES).ok();
    bytes.and_then(|bytes| pidfile::parse(&bytes).ok()).unwrap_or_default()
}

/// Refuses a pidfile that [`crate::os::files::replace`] could not replace at the commit.
pub(super) fn replaceable(path: &Path) -> Result<(), Refused> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let target = match std::fs::canonicalize(path) {
        Ok(target) if is_link => target,
        Err(error) if is_link => {
            let leads = std::fs::read_link(path).unwrap_or_default();
            let why = format!(
                "pidfile {} is a symbolic link to {}, which can't be followed: {error}; remove the link, or name the \
                 right pidfile with --pidfile",
                path.display(),
                leads.display()
            );
            return Err(Refused::new(Refusal::Usage, why));
        }
        Ok(_) | Err(_) => path.to_owned(),
    };
    let Some(directory) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let refuse = |kind, what: &str, next: &str| {
        let (path, directory) = (path.display(), directory.display());
        Err(Refused::new(kind, format!("pidfile {path}: its directory {directory} {what}; {next}")))
    };
    match host::directory(directory) {
        Directory::Writable => Ok(()),
        Directory::Missing => {
            refuse(Refusal::Usage, "does not exist", "make it, or name the right pidfile with --pidfile")
        }
        Directory::NotADirectory => {
            refuse(Refusal::Usage, "is no directory", "name the right pidfile with --pidfile")
        }
        Directory::ReadOnly => refuse(
            Refusal::Privilege,
            "can't be written to",
            "run as its owner or as root, on a file system that is not read-only",
        ),
    }
}

/// Refuses a pidfile that names a HAProxy that serves, and is not `own`: by nothing else may it be found again, and whoever
/// goes by the pidfile would signal another one.
pub(super) fn is_free(path: &Path, own: Option<&Old>, request: &Request) -> Result<(), Refused> {
    let is_ours = |pid: u32| own.is_some_and(|own| own.is_member(pid));
    let serves = |process: &Process| !is_here(process) || find::posture(process) != Posture::Deaf;
    let other = named_in(path)
        .into_iter()
        .filter(|pid| !is_ours(*pid))
        .filter_map(|pid| Process::open(pid).ok())
        .find(|process| is_haproxy(process, request) && serves(process));
    let Some(other) = other else { return Ok(()) };
    let why = format!(
        "pidfile {} names pid {}, another HAProxy, which serves; name another pidfile with --pidfile, or that HAProxy by \
         its instance or its configuration",
        path.display(),
        other.pid()
    );
    Err(Refused::new(Refusal::Usage, why))
}

/// Removes a pidfile that names nobody who lives, or others than HAProxy, such as whoever was given the pid of one that
/// is gone; its path, if there was one.
pub(super) fn forget_stale(path: &Path, request: &Request) -> Option<String> {
    let pids = named_in(path);
    let nobody = |pid: &u32| match Process::open(*pid) {
        Ok(process) => !is_haproxy(&process, request),
        Err(error) => matches!(error, ProcessError::Gone { .. } | ProcessError::Recycled { .. }),
    };
    if pids.is_empty() || !pids.iter().all(nobody) {
        return None;
    }
    std::fs::remove_file(path.canonicalize().ok()?).ok()?;
    Some(path.display().to_string())
}

/// Whether it runs a program that is called as HAProxy is, or as the one that was asked for.
pub(super) fn is_haproxy(process: &Process, request: &Request) -> bool {
    let exe = &process.identity().exe;
    // Others are called haproxy-something too: an exporter, an API. They are given no configuration of HAProxy's.
    let is_given_one = || find::command_of(process).is_some_and(|command| !command.configs.is_empty());
    let is_called_so =
        |name: &OsStr| name == "haproxy" || name.as_encoded_bytes().starts_with(b"haproxy") && is_given_one();
    let is_asked_for = |asked: &PathBuf| {
        asked.file_name() == exe.file_name() || asked.canonicalize().is_ok_and(|asked| asked == *exe)
    };
    exe.file_name().is_some_and(is_called_so) || request.haproxy.as_ref().is_some_and(is_asked_for)
}

/// Writes the pidfile anew if it is not this one that it names: found by other means, it would have to be found so by
/// everybody else too. What was done, or why it could not be.
pub(super) fn set_right(old: &Old) -> Option<Result<String, String>> {
    let pids = old.named().pids;
    let mut named = named_in(&old.pidfile);
    let mut serving = pids.clone();
    named.sort_unstable();
    serving.sort_unstable();
    if named == serving {
        return None;
    }
    let path = old.pidfile.display();
    let written = files::replace(&old.pidfile, pidfile::render(&pids).as_bytes(), Durability::Synced);
    Some(match written {
        Ok(()) => Ok(format!("pidfile {path} was written anew: it names pid {pids:?}")),
        Err(error) => Err(format!("pidfile {path} can't be written: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn refused(path: &Path) -> String {
        let refused = replaceable(path).unwrap_err();
        assert_eq!(refused.kind, Refusal::Usage);
        refused.why
    }

    #[test]
    fn a_file_a_link_to_one_and_a_place_for_one_are_good() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("haproxy.pid");
        replaceable(&path).unwrap();
        std::fs::write(&path, "1").unwrap();
        replaceable(&path).unwrap();
        let link = room.path().join("link");
        symlink("haproxy.pid", &link).unwrap();
        replaceable(&link).unwrap();
    }

    #[test]
    fn a_link_to_nothing_and_a_place_that_is_none_are_named() {
        let room = tempfile::tempdir().unwrap();
        let link = room.path().join("link");
        symlink("nowhere", &link).unwrap();
        let why = refused(&link);
        assert!(why.contains("link is a symbolic link to nowhere") && why.contains("No such file"), "{why}");
        let around = room.path().join("around");
        symlink("around", &around).unwrap();
        refused(&around);
        assert!(refused(&room.path().join("no/haproxy.pid")).contains("/no does not exist"));
        std::fs::write(room.path().join("file"), "").unwrap();
        let why = refused(&room.path().join("file/haproxy.pid"));
        assert!(why.contains("file is no directory"), "{why}");
    }
}
