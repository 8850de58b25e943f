//! The sockets of a HAProxy that `/proc` hides from us, told by itself.
//!
//! One that has changed its user can be looked into with CAP_SYS_PTRACE only, which a container's root has not. Where its
//! admin socket exposes the listeners (`expose-fd listeners`, as the private one does), it hands us duplicates of them:
//! enough to know which sockets are its own.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::haproxy::getsocks;
use crate::os::exposed;
use crate::os::process::Process;

/// What can be done about it, for messages.
pub(super) const MEND: &str = "run as root, with CAP_SYS_PTRACE if it has changed its user (in a container: --cap-add \
                               SYS_PTRACE), or give it an admin socket with `expose-fd listeners`";

/// How long each message may take: HAProxy itself gives up after 1 s.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks at `admin` for the sockets of `process`. That it is this process that answers there is for the caller to know.
pub(super) fn lift(process: &Process, admin: &Path) -> io::Result<()> {
    let told = exposed::inodes(admin, getsocks::REQUEST, getsocks::ack, PATIENCE)?;
    process.believe(told);
    Ok(())
}
