//! The descriptors of a process, as `/proc/<pid>/fd` shows them.
//!
//! Reads `/proc` only. Called by [`super::Process`] and by [`crate::os::sockets`].
use std::io;

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

/// The inode in `socket:[123]`.
fn inode_of(link: &std::path::Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The inode of the socket that is descriptor `fd` of `pid`, `None` if it is none.
pub(super) fn socket_at(pid: u32, fd: i32) -> Option<u64> {
    inode_of(&std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?)
}

/// Every descriptor of `pid` with what it links to; those that close meanwhile are left out.
fn links(pid: u32) -> io::Result<impl Iterator<Item = (i32, std::path::PathBuf)>> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.filter_map(|entry| {
        let entry = entry.ok()?;
        let fd = entry.file_name().to_str()?.parse().ok()?;
        Some((fd, std::fs::read_link(entry.path()).ok()?))
    }))
}

/// The sockets of `pid`.
pub(in crate::os) fn sockets(pid: u32) -> io::Result<Vec<FdSocket>> {
    Ok(each_socket(pid)?.collect())
}

/// The same one by one, by rising descriptor: what a process opens first, such as its listeners, comes first.
pub(super) fn each_socket(pid: u32) -> io::Result<impl Iterator<Item = FdSocket>> {
    Ok(links(pid)?.filter_map(|(fd, link)| inode_of(&link).map(|inode| FdSocket { fd, inode })))
}

/// The epoll descriptors of `pid`.
pub(super) fn epolls(pid: u32) -> io::Result<Vec<Epoll>> {
    let epolls = links(pid)?.filter(|(_, link)| link.as_os_str() == "anon_inode:[eventpoll]");
    epolls
        .map(|(fd, _)| {
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
