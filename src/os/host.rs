//! What this host lets a program do that we start: its limits, capabilities, addresses and directories.
//!
//! Reads limits, `/proc`, and asks the kernel by a socket that is closed at once; changes nothing. A child has what
//! we have. Called by the driver's checks before a start.
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::RLIM_INFINITY;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, faccessat, getegid, gethostname};

/// Linux's default of `fs.nr_open`, where it can't be read; proc_sys_fs(5).
const DEFAULT_NR_OPEN: u64 = 1 << 20;

/// A privilege of Linux; the numbers are capabilities(7)'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Change the group.
    SetGid = 6,
    /// Change the user.
    SetUid = 7,
    /// Bind ports below `net.ipv4.ip_unprivileged_port_start`.
    BindService = 10,
    /// Address packets to and from anybody.
    NetAdmin = 12,
    /// Change the root directory.
    Chroot = 18,
    /// Go beyond resource limits.
    Resource = 24,
}

/// Whether we have it. Where `/proc` can't be read: whether we are root.
pub fn may(capability: Capability) -> bool {
    procfs::process::Process::myself().and_then(|myself| myself.status()).map_or_else(
        |_| super::privilege::euid() == 0,
        |status| status.capeff >> (capability as u32) & 1 == 1,
    )
}

/// Our effective group.
pub fn egid() -> u32 {
    getegid().as_raw()
}

/// How many descriptors a process may ask for: the hard limit, or with CAP_SYS_RESOURCE `fs.nr_open`; setrlimit(2).
/// `None` where it can't be read.
pub fn most_descriptors() -> Option<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if !may(Capability::Resource) {
        return Some(hard);
    }
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    Some(hard.max(most.unwrap_or(DEFAULT_NR_OPEN)))
}

/// How many descriptors this process may have now, and at most without CAP_SYS_RESOURCE: its soft and hard limit.
/// `None` where they can't be read, or there are none.
pub fn descriptors_of(pid: u32) -> Option<(u64, u64)> {
    use procfs::process::LimitValue;
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    let limit = process.limits().ok()?.max_open_files;
    let number = |value| match value {
        LimitValue::Value(number) => Some(number),
        LimitValue::Unlimited => None,
    };
    Some((number(limit.soft_limit)?, number(limit.hard_limit)?))
}

/// The address space, in bytes, that a new thread takes for its stack; `None` where it is unlimited or unknown.
pub fn thread_stack() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_STACK).ok()?;
    (soft != RLIM_INFINITY).then_some(soft)
}

/// How many processors we may run on: HAProxy's default number of threads.
pub fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap_or(1))
}

/// Whether the kernel would bind a socket to this address: it has it, or `ip_nonlocal_bind` is on.
pub fn can_bind(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

/// What a directory is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Files can be made in it.
    Writable,
    /// It is there, and not for us.
    ReadOnly,
    /// Something else is there, or in the place of one of its parents.
    NotADirectory,
    /// Nothing is there, or nothing that we may see.
    Missing,
}

/// Whether files can be made in `path`, with our effective user.
pub fn directory(path: &Path) -> Directory {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Directory::NotADirectory,
        Err(_) => Directory::Missing,
        Ok(metadata) if !metadata.is_dir() => Directory::NotADirectory,
        Ok(_) => {
            let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
            match faccessat(AT_FDCWD, path, wanted, AtFlags::AT_EACCESS) {
                Ok(()) => Directory::Writable,
                Err(_) => Directory::ReadOnly,
            }
        }
    }
}

/// What has a path, a symbolic link as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A socket, a FIFO, a link, a device, nothing, or nothing that we may see.
    Other,
}

/// What has this path.
pub fn occupant(path: &Path) -> Occupant {
    match std::fs::symlink_metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_dir() => Occupant::Directory,
        Ok(kind) if kind.is_file() => Occupant::File,
        _ => Occupant::Other,
    }
}

/// The host name, as HAProxy takes it for its name among peers; `None` if it is no text.
pub fn host_name() -> Option<String> {
    gethostname().ok()?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_told_apart() {
        let room = tempfile::tempdir().unwrap();
        assert_eq!(directory(room.path()), Directory::Writable);
        assert_eq!(directory(&room.path().join("no")), Directory::Missing);
        let file = room.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(directory(&file), Directory::NotADirectory);
        assert_eq!(directory(&file.join("below")), Directory::NotADirectory);
    }

    #[test]
    fn a_link_is_not_what_it_leads_to() {
        let room = tempfile::tempdir().unwrap();
        let (file, link) = (room.path().join("file"), room.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(room.path(), &link).unwrap();
        assert_eq!(
            [room.path(), &file, &link].map(occupant),
            [Occupant::Directory, Occupant::File, Occupant::Other]
        );
    }

    #[test]
    fn an_address_of_nobody_can_not_be_bound() {
        assert!(can_bind("127.0.0.1".parse().unwrap()));
        // TEST-NET-2, RFC 5737.
        assert_eq!(
            can_bind("198.51.100.7".parse().unwrap()),
            crate::os::sysctl::nonlocal_bind_v4() == Some(true)
        );
    }

    #[test]
    fn limits_are_plausible() {
        assert!(most_descriptors().is_some_and(|most| most >= 64));
        assert!(descriptors_of(crate::os::process::myself()).is_some_and(|(soft, hard)| soft <= hard));
        assert!(processors() >= 1);
        assert!(thread_stack().is_none_or(|stack| stack > 4096));
    }
}
