//! Who listens: the kernel's socket tables, as the tests' condition for "it is bound".
//!
//! Reads `/proc/thread-self/net`, which shows the calling *thread's* network namespace (`/proc/net` would show that of
//! the process), and the descriptors of processes. Called by instances and tests.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

/// `st` of a listening socket in `/proc/net/tcp` (TCP_LISTEN in the kernel's `tcp_states.h`).
const LISTEN: &str = "0A";

/// One listening TCP socket of this thread's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its inode: what `/proc/<pid>/fd` calls `socket:[…]`.
    pub inode: u64,
}

/// All listening TCP sockets of this thread's network namespace.
///
/// # Errors
/// When `/proc` can't be read.
pub fn listeners() -> Result<Vec<Listener>> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/thread-self/net/{table}");
        let Ok(file) = fs::File::open(&path) else {
            // A kernel without IPv6 has no tcp6; tcp is always there.
            anyhow::ensure!(table == "tcp6", "can't read {path}");
            continue;
        };
        // The kernel lists those that listen first. What follows is not read: a load leaves hundreds of thousands of
        // connections in TIME_WAIT, and to list them takes it seconds.
        let lines = BufReader::with_capacity(4096, file).lines().skip(1).map_while(Result::ok);
        found.extend(lines.map_while(|line| listener_of_line(&line)));
    }
    Ok(found)
}

/// The inodes of all sockets that a process holds; empty for one that is gone.
#[must_use]
pub fn sockets_of(pid: u32) -> HashSet<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// Where a process listens (TCP, this thread's network namespace).
///
/// # Errors
/// When `/proc` can't be read.
pub fn listening(pid: u32) -> Result<Vec<SocketAddr>> {
    let held = sockets_of(pid);
    Ok(listeners()?
        .into_iter()
        .filter(|listener| held.contains(&listener.inode))
        .map(|l| l.address)
        .collect())
}

/// A port of 127.0.0.1 that nobody has right now: for tests that can't have a network namespace of their own.
///
/// # Errors
/// When not even the kernel finds one.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("can't bind any port of 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

fn listener_of_line(line: &str) -> Option<Listener> {
    let mut words = line.split_whitespace().skip(1);
    let local = words.next()?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?;
    (state == LISTEN).then_some(())?;
    Some(Listener { address: address_of_hex(local)?, inode: inode.parse().ok()? })
}

/// The kernel prints addresses as 32-bit words of memory in the machine's own byte order, and the port as a number.
fn address_of_hex(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Listens on an address that another process of the same user has with SO_REUSEPORT, until it is dropped.
///
/// # Errors
/// When the kernel does not let it.
pub fn listen_beside(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 1)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_seen_with_its_address() {
        let mine = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = mine.local_addr().expect("bound");
        assert!(listening(std::process::id()).expect("/proc").contains(&address));
    }

    #[test]
    fn a_line_that_is_no_socket_is_passed_over() {
        for line in ["", "0:", "0: 0100007F:0050", "0: XYZ:0050 00000000:0000 0A 0 0 0 0 0 1"] {
            assert_eq!(listener_of_line(line), None, "{line}");
        }
    }
}
