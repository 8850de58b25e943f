//! What we may do, and who exists.
//!
//! Reads our own credentials and the user database. Called by the driver and by the checks before a start.
use std::io;

use nix::unistd::{getegid, geteuid, getgroups};

/// Bits of CAP_CHOWN, CAP_FOWNER and CAP_SYS_PTRACE in a capability set; capabilities(7), linux/capability.h.
const CAP_CHOWN: u32 = 0;
const CAP_FOWNER: u32 = 3;
const CAP_SYS_PTRACE: u32 = 19;

/// The user id of root.
pub const ROOT: u32 = 0;

/// Our effective user id.
pub fn euid() -> u32 {
    geteuid().as_raw()
}

/// Whether CAP_SYS_PTRACE is effective: descriptors can be borrowed from any process. In a container it is
/// usually missing, also for root.
pub fn can_trace() -> bool {
    has(CAP_SYS_PTRACE)
}

/// Whether a capability is effective.
fn has(capability: u32) -> bool {
    procfs::process::Process::myself()
        .and_then(|myself| myself.status())
        .is_ok_and(|status| status.capeff >> capability & 1 == 1)
}

/// Which files we may make others' and replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Our effective user id.
    pub uid: u32,
    /// Our groups, the effective one among them.
    pub groups: Vec<u32>,
    /// A file may be given to anybody.
    pub to_any_owner: bool,
    /// What only the owner of a file may do, we may too.
    pub as_any_owner: bool,
}

impl Rights {
    /// Ours.
    pub fn own() -> Rights {
        let mut groups: Vec<u32> =
            getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
        groups.push(getegid().as_raw());
        Rights { uid: euid(), groups, to_any_owner: has(CAP_CHOWN), as_any_owner: has(CAP_FOWNER) }
    }
}

/// The user id of that name, `None` if there is none. Errors: the user database can't be asked.
#[cfg(not(target_feature = "crt-static"))]
pub fn user_exists(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// The group id of that name, `None` if there is none. Errors: the user database can't be asked.
#[cfg(not(target_feature = "crt-static"))]
pub fn group_exists(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// The user id of that name in `/etc/passwd`, `None` if there is none. Errors: it can't be read.
///
/// A statically linked glibc loads the modules of `/etc/nsswitch.conf` for whoever is not in the file, and crashes if
/// they belong to another version of it.
#[cfg(target_feature = "crt-static")]
pub fn user_exists(name: &str) -> io::Result<Option<u32>> {
    Ok(listed(&std::fs::read_to_string("/etc/passwd")?, name))
}

/// The group id of that name in `/etc/group`, `None` if there is none. Errors: it can't be read.
#[cfg(target_feature = "crt-static")]
pub fn group_exists(name: &str) -> io::Result<Option<u32>> {
    Ok(listed(&std::fs::read_to_string("/etc/group")?, name))
}

/// The number of a name; passwd(5) and group(5) begin alike.
#[cfg(any(test, target_feature = "crt-static"))]
fn listed(database: &str, name: &str) -> Option<u32> {
    let number = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    database.lines().find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_exists_and_nonsense_does_not() {
        assert_eq!(user_exists("root").unwrap(), Some(0));
        assert_eq!(group_exists("root").unwrap(), Some(0));
        assert_eq!(user_exists("no-such-user-here").unwrap(), None);
        assert_eq!(can_trace(), can_trace());
    }

    #[test]
    fn a_database_lists_names_with_their_numbers() {
        let database =
            "root:x:0:0:root:/root:/bin/bash\nhaproxy:x:105:109::/var/lib/haproxy:/bin/false\nodd:x\n";
        assert_eq!(listed(database, "haproxy"), Some(105));
        assert_eq!(
            (listed(database, "hap"), listed(database, "odd"), listed(database, "x")),
            (None, None, None)
        );
    }
}
