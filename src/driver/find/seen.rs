//! What one process shows of itself: its command line, its paths as they are seen from here, and whether it listens.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::haproxy::argv::CommandLine;
use crate::os::privilege;
use crate::os::process::{self, Process};
use crate::os::sockets::{self, Address, Kind};

/// The path of a unix socket as clients know it: HAProxy binds `path.<pid>.tmp` and renames it.
pub(super) fn settled(bound: &Path) -> PathBuf {
    let Some(text) = bound.to_str() else { return bound.to_owned() };
    let settled = text.strip_suffix(".tmp").and_then(|rest| {
        let (path, pid) = rest.rsplit_once('.')?;
        pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(path)
    });
    PathBuf::from(settled.unwrap_or(text))
}

pub(in crate::driver) fn command_of(process: &Process) -> Option<CommandLine> {
    CommandLine::parse(&process.cmdline().ok()?).ok()
}

/// A path of its command line, seen from here. It stays relative where nobody can tell any more what it was seen from.
pub(in crate::driver) fn absolute(process: &Process, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    if path.is_absolute() {
        return path.to_owned();
    }
    let workdir = command_of(process).and_then(|command| command.workdir).map(PathBuf::from);
    match (workdir.filter(|workdir| workdir.is_absolute()), start_directory(process)) {
        (Some(workdir), _) => workdir.join(path),
        (None, Some(cwd)) => cwd.join(path),
        (None, None) => path.to_owned(),
    }
}

/// Where it was started, or where `-C` led it. `None` for one in a chroot: that is where it is now, and a file in there is
/// not what it has read.
pub(super) fn start_directory(process: &Process) -> Option<PathBuf> {
    let in_jail = process.root().is_ok_and(|root| root != Path::new("/"));
    if in_jail { None } else { process.cwd().ok() }
}

/// A private pidfile of hareload's whose state directory is gone: the process is known by the real pidfile only.
pub(super) fn of_lost_state(own: &Path) -> bool {
    let name = own.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let private = name.strip_prefix("gen-").is_some_and(|rest| rest.ends_with(".pid"));
    private && own.parent().is_some_and(|directory| !directory.join("current.json").exists())
}

/// The instance whose state directory this private pidfile is in: its name is that of the directory.
pub(super) fn instance_of(own: &Path) -> Option<String> {
    let name = own.file_name()?.to_str()?;
    name.strip_prefix("gen-")?.strip_suffix(".pid")?.parse::<u64>().ok()?;
    let directory = own.parent()?;
    directory
        .join("current.json")
        .exists()
        .then(|| directory.file_name()?.to_str().map(str::to_owned))
        .flatten()
}

pub(super) fn same_file(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| {
        let name = path.file_name().map(OsStr::to_owned);
        let parent = path.parent().map(|parent| parent.canonicalize().unwrap_or_else(|_| parent.to_owned()));
        parent.zip(name).map(|(parent, name)| parent.join(name))
    };
    one == other
        || whole(one) == whole(other)
        || one.canonicalize().ok() == other.canonicalize().ok().or(None) && one.exists()
}

/// Whether it has bound TCP sockets that do not listen: paused by a predecessor of ours, or by a reload of HAProxy's own
/// that failed. One that drains has closed them, and one that has just begun binds and listens at once.
pub(super) fn is_paused(process: &Process) -> bool {
    !serves_tcp(process)
        && process.sockets().unwrap_or_default().into_iter().any(|socket| {
            let shape =
                process.borrow_fd(socket.fd).and_then(|duplicate| sockets::inspect(duplicate.as_fd()));
            shape.is_ok_and(|shape| {
                let bound = matches!(shape.address, Address::Inet(address) if address.port() != 0);
                shape.kind == Kind::Tcp && bound && !shape.listening && !shape.connected
            })
        })
}

/// How many descriptors are looked at first: listeners are opened before anything else, connections come later.
const EARLY: i32 = 64;

/// Whether one of its first descriptors listens: where it does, nothing else need be looked at.
pub(super) fn listens_early(process: &Process) -> bool {
    (0..EARLY).filter(|fd| process.socket_at(*fd).is_some()).any(|fd| {
        let shape = process.borrow_fd(fd).and_then(|duplicate| sockets::inspect(duplicate.as_fd()));
        shape.is_ok_and(|shape| shape.listening && matches!(shape.kind, Kind::Tcp | Kind::UnixStream))
    })
}

fn serves_tcp(process: &Process) -> bool {
    sockets::owned_by(process).is_ok_and(|owned| owned.iter().any(|(_, listener)| listener.kind == Kind::Tcp))
}

pub(super) fn holds_no_listener(process: &Process) -> bool {
    !sockets::owned_by(process).is_ok_and(|owned| {
        owned.iter().any(|(_, listener)| matches!(listener.kind, Kind::Tcp | Kind::UnixStream))
    })
}

/// Whether it is in our network namespace and in our pid namespace, not in a container; one that can't be asked is taken for
/// one of ours.
pub(in crate::driver) fn is_here(process: &Process) -> bool {
    let Ok(me) = Process::open(process::myself()) else { return true };
    let same = |of: fn(&Process) -> io::Result<u64>| match (of(&me), of(process)) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        _ => true,
    };
    same(Process::net_namespace) && same(Process::pid_namespace)
}

/// Who may have decided what a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// We, or root.
    Trusted,
    /// This user, who has no say in what we run.
    Other(u32),
    /// That can't be seen.
    Unseen,
}

/// The other user whose it certainly is. One that drains may be of whatever user HAProxy has become.
pub(super) fn other_owner(process: &Process) -> Option<u32> {
    match origin(process) {
        Origin::Other(uid) => (!is_deaf(process)).then_some(uid),
        Origin::Trusted | Origin::Unseen => None,
    }
}

/// Whether it can be one of ours: it is here, and not certainly another user's.
pub(in crate::driver) fn may_be_ours(process: &Process) -> bool {
    is_here(process) && other_owner(process).is_none()
}

/// Whose a process is by its beginning: one that has changed its user still holds what it bound before.
///
/// Anybody can start a program of any name with any command line. What a descriptor's socket is owned by is who has made it
/// (net/socket.c, sock_alloc), and who it was made by does not change when it is passed on.
pub(super) fn origin(process: &Process) -> Origin {
    let trusted = [privilege::euid(), privilege::ROOT];
    let Ok(euid) = process.euid() else { return Origin::Unseen };
    if trusted.contains(&euid) {
        return Origin::Trusted;
    }
    if process.is_veiled() {
        return Origin::Unseen;
    }
    let bound = |fd: i32| {
        let shape = process.borrow_fd(fd).and_then(|duplicate| sockets::inspect(duplicate.as_fd()));
        shape.is_ok_and(|shape| match shape.address {
            Address::Inet(address) => shape.kind == Kind::Tcp && address.port() != 0 && !shape.connected,
            Address::Path(_) | Address::Abstract(_) => shape.listening && shape.kind == Kind::UnixStream,
        })
    };
    let by_us = |fd: i32| process.maker_of(fd).is_some_and(|maker| trusted.contains(&maker)) && bound(fd);
    let early = (0..EARLY).filter(|fd| process.socket_at(*fd).is_some()).any(by_us);
    let any = || process.sockets().is_ok_and(|sockets| sockets.iter().any(|socket| by_us(socket.fd)));
    if early || any() { Origin::Trusted } else { Origin::Other(euid) }
}

/// A master has no listener of its own but its workers have: children that run the same executable.
pub(super) fn is_master(process: &Process) -> bool {
    !serves_tcp(process)
        && process::children_of(process.pid()).into_iter().any(|child| {
            Process::open(child).is_ok_and(|child| child.identity().exe == process.identity().exe)
        })
}

/// What a process does, by its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Posture {
    /// It listens.
    Listens,
    /// It would at a word.
    Paused,
    /// It does not, and has workers that do.
    Master,
    /// It has closed what it listened on, or has not opened it yet.
    Deaf,
}

/// What this process does.
pub(in crate::driver) fn posture(process: &Process) -> Posture {
    if is_paused(process) {
        Posture::Paused
    } else if !holds_no_listener(process) {
        Posture::Listens
    } else if is_master(process) {
        Posture::Master
    } else {
        Posture::Deaf
    }
}

/// Neither listens nor could at a word. One that can't be seen may.
pub(super) fn is_deaf(process: &Process) -> bool {
    !process.is_veiled() && !listens_early(process) && holds_no_listener(process) && !is_paused(process)
}
