//! Which processes hold a socket.
//!
//! Reads `/proc/<pid>/fd` of every process that may be read. Called by [`super`] and by the driver.
use std::collections::{HashMap, HashSet};

use crate::os::process;

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its short name, for messages; made printable, empty if it ended meanwhile.
    pub comm: String,
}

/// Who holds these sockets, by inode; each process once a socket.
///
/// Processes that may not be looked into are passed over: a socket without a holder may still have one.
pub fn holders(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Holder>> {
    let mut found: HashMap<u64, Vec<Holder>> = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
    for pid in process::all() {
        let held: HashSet<u64> = process::sockets_of(pid)
            .unwrap_or_default()
            .into_iter()
            .map(|socket| socket.inode)
            .filter(|inode| inodes.contains(inode))
            .collect();
        if held.is_empty() {
            continue;
        }
        let holder = Holder { pid, comm: process::comm_of(pid).unwrap_or_default() };
        for inode in held {
            found.entry(inode).or_default().push(holder.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_socket_is_ours_once_however_often_we_hold_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _copy = listener.try_clone().unwrap();
        let myself = process::Process::open(process::myself()).unwrap();
        let fd = listener.as_raw_fd();
        let inode = myself.sockets().unwrap().into_iter().find(|socket| socket.fd == fd).unwrap().inode;
        let found = holders(&HashSet::from([inode]));
        assert_eq!(found[&inode].iter().map(|holder| holder.pid).collect::<Vec<_>>(), [process::myself()]);
        assert!(holders(&HashSet::new()).is_empty());
    }
}
