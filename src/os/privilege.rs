//! What we may do, and who exists.
//!
//! Reads our own credentials and the user database. Called by the driver and by the checks before a start.
use std::io;

use nix::unistd::{Group, User, geteuid};

/// Bit of CAP_SYS_PTRACE in a capability set; capabilities(7), linux/capability.h.
const CAP_SYS_PTRACE: u32 = 19;

/// Our effective user id.
pub fn euid() -> u32 {
    geteuid().as_raw()
}

/// Whether CAP_SYS_PTRACE is effective: descriptors can be borrowed from any process. In a container it is
/// usually missing, also for root.
pub fn can_trace() -> bool {
    procfs::process::Process::myself()
        .and_then(|myself| myself.status())
        .is_ok_and(|status| status.capeff >> CAP_SYS_PTRACE & 1 == 1)
}

/// The user id of that name, `None` if there is none. Errors: the user database can't be asked.
pub fn user_exists(name: &str) -> io::Result<Option<u32>> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// The group id of that name, `None` if there is none. Errors: the user database can't be asked.
pub fn group_exists(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
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
}
