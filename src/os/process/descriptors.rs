//! The descriptors of a process, as `/proc/<pid>/fd` shows them.
//!
//! Reads `/proc` only. Called by [`super::Process`] and by [`crate::os::sockets`].
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Dir, Mode, OFlags};

/// A descriptor that is a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdSocket {
    /// The descriptor's number in its process.
    pub fd: i32,
    /// The socket's inode: the same for every duplicate, in every process.
    pub inode: u64,
}

/// An epoll descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoll {
    /// The descriptor's number in its process.
    pub fd: i32,
    /// What is registered with it, also what the process itself has closed since.
    pub watches: Vec<Watch>,
}

/// One registration of an epoll descriptor: a `tfd:` line of proc_pid_fdinfo(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The descriptor's number when it was registered.
    pub fd: i32,
    /// The inode of the file.
    pub inode: u64,
}

/// Room for what a descriptor links to, if that is a socket or another thing without a name; of a longer one the beginning
/// tells enough.
const LINK: usize = 64;

/// The inode in `socket:[123]`.
fn inode_of(link: &[u8]) -> Option<u64> {
    let inode = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inode).ok()?.parse().ok()
}

/// What the descriptor `name` links to, of those in `directory`.
fn link_of<'a>(directory: impl AsFd, name: &CStr, room: &'a mut [u8; LINK]) -> Option<&'a [u8]> {
    let length = rustix::fs::readlinkat_raw(directory, name, &mut room[..]).ok()?;
    room.get(..length)
}

/// The inode of the socket that is descriptor `fd` of `pid`, `None` if it is none.
pub(super) fn socket_at(pid: u32, fd: i32) -> Option<u64> {
    let path = CString::new(format!("/proc/{pid}/fd/{fd}")).ok()?;
    inode_of(link_of(rustix::fs::CWD, &path, &mut [0; LINK])?)
}

/// What `of` makes of every descriptor of `pid`, given with what it links to; those that close meanwhile are left out.
///
/// Each link is looked up in the directory that is open: there may be thousands, and a whole path costs twice as much.
fn links<T>(pid: u32, mut of: impl FnMut(i32, &[u8]) -> Option<T>) -> io::Result<impl Iterator<Item = T>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(format!("/proc/{pid}/fd"), flags, Mode::empty())?;
    let entries = Dir::read_from(&directory)?;
    Ok(entries.filter_map(move |entry| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let fd = name.to_str().ok()?.parse().ok()?;
        of(fd, link_of(&directory, name, &mut [0; LINK])?)
    }))
}

/// The sockets of `pid`.
pub(in crate::os) fn sockets(pid: u32) -> io::Result<Vec<FdSocket>> {
    Ok(each_socket(pid)?.collect())
}

/// The same one by one, by rising descriptor: what a process opens first, such as its listeners, comes first.
pub(super) fn each_socket(pid: u32) -> io::Result<impl Iterator<Item = FdSocket>> {
    links(pid, |fd, link| inode_of(link).map(|inode| FdSocket { fd, inode }))
}

/// The epoll descriptors of `pid`.
pub(super) fn epolls(pid: u32) -> io::Result<Vec<Epoll>> {
    links(pid, |fd, link| (link == b"anon_inode:[eventpoll]").then_some(fd))?
        .map(|fd| {
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))?;
            Ok(Epoll { fd, watches: info.lines().filter_map(watch).collect() })
        })
        .collect()
}

/// `tfd:        5 events:       19 data:  5  pos:0 ino:61 sdev:8`; the inode is hexadecimal.
fn watch(line: &str) -> Option<Watch> {
    let mut words = line.strip_prefix("tfd:")?.split_whitespace();
    let fd = words.next()?.parse().ok()?;
    let inode = words.find_map(|word| word.strip_prefix("ino:"))?;
    Some(Watch { fd, inode: u64::from_str_radix(inode, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_read() {
        let line = "tfd:        5 events:       19 data:                5  pos:0 ino:3d sdev:8";
        assert_eq!(watch(line), Some(Watch { fd: 5, inode: 61 }));
        assert_eq!(watch("pos:\t0"), None);
        assert_eq!(watch("tfd: x ino:zz"), None);
    }

    #[tokio::test]
    async fn our_own_runtime_has_an_epoll() {
        let epolls = epolls(std::process::id()).unwrap();
        assert!(epolls.iter().any(|epoll| !epoll.watches.is_empty()));
    }
}
