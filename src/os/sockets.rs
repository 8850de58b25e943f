//! Who listens where.
//!
//! Asks the kernel by sock_diag(7), and `/proc` for who holds a socket. Called by the driver: to find the old one, to
//! see whether the new one is bound, who is in the way, and who accepted a probe. Everything is as seen from our own
//! network namespace.
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::process::{FdSocket, Process};

mod diag;
mod holders;
mod shape;

pub use holders::{Holder, holders};
pub use shape::{Shape, inspect};

/// A uid that nobody has: what the kernel (before Linux 5.3) did not tell of a unix socket.
pub const UNKNOWN_UID: u32 = u32::MAX;

/// What sort of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A listening TCP socket.
    Tcp,
    /// A UDP socket that is bound and not connected.
    Udp,
    /// A listening unix stream (or seqpacket) socket.
    UnixStream,
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address and a port; the flow label and the scope of IPv6 are always 0.
    Inet(SocketAddr),
    /// A path, as it was given to bind(2): maybe relative, maybe renamed since.
    Path(PathBuf),
    /// An abstract name, without its leading NUL; empty for a socket that is not bound.
    Abstract(Vec<u8>),
}

/// A socket that takes connections or datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What sort it is.
    pub kind: Kind,
    /// Where it is bound.
    pub address: Address,
    /// Its inode: its name in `/proc/<pid>/fd`.
    pub inode: u64,
    /// The index of the interface that it is bound to; 0 for none.
    pub interface: u32,
    /// Connections that wait to be accepted; for UDP, bytes that wait to be read.
    pub queue: u32,
    /// The user that made it; [`UNKNOWN_UID`] if not told.
    pub uid: u32,
    /// Whether an IPv6 socket leaves IPv4 alone; `None` for what is not IPv6, or not told.
    pub v6only: Option<bool>,
}

impl Listener {
    /// Its address and port, if it has these.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Inet(address) => Some(address),
            Address::Path(_) | Address::Abstract(_) => None,
        }
    }

    /// Whether it takes clients that `other` would have if it were not there: both have the same address, or it is bound to a part
    /// of that, which goes before (inet_lookup_listener(), net/ipv4/inet_hashtables.c: who is bound to an address, to an interface,
    /// or to IPv4 alone).
    pub fn takes_from(&self, other: &Listener) -> bool {
        let (Some(own), Some(others)) = (self.inet(), other.inet()) else { return false };
        let same_link = other.interface == 0 || self.interface == other.interface;
        let part = match own.ip() {
            // It is for IPv4 too, where a socket of IPv4's own goes before.
            IpAddr::V6(own) if own.is_unspecified() => others.is_ipv6() && others.ip().is_unspecified(),
            _ => covers(others, other.v6only, own),
        };
        same_link && part
    }

    /// Whether it takes what comes for this address: its own, or a wildcard's.
    pub fn takes(&self, wanted: SocketAddr) -> bool {
        match self.address {
            Address::Inet(own) => covers(own, self.v6only, wanted),
            Address::Path(_) | Address::Abstract(_) => false,
        }
    }
}

/// All of the network namespace that we are in: TCP listeners, bound UDP sockets, unix listeners.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let mut all = tcp_listeners()?;
    all.extend(diag::udp()?);
    all.extend(diag::unix()?);
    Ok(all)
}

/// The TCP listeners alone: cheap, the kernel filters by state. A paused listener is not among them.
pub fn tcp_listeners() -> io::Result<Vec<Listener>> {
    diag::tcp()
}

/// Connections to one of `locals` that are half-way through their handshake, as (local, remote).
///
/// A wildcard among `locals` stands for every address of its port. They belong to a listener and are lost with it
/// unless `tcp_migrate_req` is on.
pub fn half_open(locals: &[SocketAddr]) -> io::Result<Vec<(SocketAddr, SocketAddr)>> {
    let wanted = |local: &SocketAddr| locals.iter().any(|wanted| covers(*wanted, None, *local));
    Ok(diag::half_open()?.into_iter().filter(|(local, _)| wanted(local)).collect())
}

/// The inode of the server's side of one established connection; `None` until it is accepted, or if there is none.
///
/// With [`Process::holds`] it proves who answered a probe.
pub fn accepted_inode(server: SocketAddr, client: SocketAddr) -> io::Result<Option<u64>> {
    diag::established(server, client)
}

/// The listeners that a process has, with its descriptors for them.
///
/// Those of a process in another network namespace are not seen, but for unix sockets, which may be of either.
pub fn owned_by(process: &Process) -> io::Result<Vec<(FdSocket, Listener)>> {
    let listeners: HashMap<u64, Listener> =
        listeners()?.into_iter().map(|listener| (listener.inode, listener)).collect();
    let owned = process.sockets()?.into_iter();
    Ok(owned.filter_map(|socket| Some((socket, listeners.get(&socket.inode)?.clone()))).collect())
}

/// Who has a TCP listener that is in the way of each of these: on the same address, or one of both a wildcard.
///
/// Whether they could share it (SO_REUSEPORT, same user) is not asked. Empty also where nothing can be read. One look at all
/// processes, however many addresses there are.
pub fn holders_of(addresses: &[SocketAddr]) -> Vec<Vec<Holder>> {
    let listeners = tcp_listeners().unwrap_or_default();
    let in_the_way = |address: &SocketAddr| -> HashSet<u64> {
        let meets = |listener: &&Listener| match listener.address {
            Address::Inet(taken) => overlap(taken, listener.v6only, *address),
            Address::Path(_) | Address::Abstract(_) => false,
        };
        listeners.iter().filter(meets).map(|listener| listener.inode).collect()
    };
    let in_the_way: Vec<HashSet<u64>> = addresses.iter().map(in_the_way).collect();
    let holders = holders(&in_the_way.iter().flatten().copied().collect());
    let of_one = |inodes: HashSet<u64>| {
        let mut found: Vec<Holder> =
            inodes.iter().filter_map(|inode| holders.get(inode)).flatten().cloned().collect();
        found.sort();
        found.dedup();
        found
    };
    in_the_way.into_iter().map(of_one).collect()
}

/// Whether two bindings exclude each other, the first of them with what is known of its V6ONLY.
pub fn overlap(taken: SocketAddr, v6only: Option<bool>, wanted: SocketAddr) -> bool {
    covers(taken, v6only, wanted) || covers(wanted, None, taken)
}

/// Whether `broad` takes what comes for `narrow`; an IPv6 wildcard covers IPv4 too unless it is V6ONLY.
fn covers(broad: SocketAddr, v6only: Option<bool>, narrow: SocketAddr) -> bool {
    if broad.port() != narrow.port() {
        return false;
    }
    match (broad.ip().to_canonical(), narrow.ip().to_canonical()) {
        (IpAddr::V4(broad), IpAddr::V4(narrow)) => broad.is_unspecified() || broad == narrow,
        (IpAddr::V6(broad), IpAddr::V6(narrow)) => broad.is_unspecified() || broad == narrow,
        (IpAddr::V6(broad), IpAddr::V4(_)) => broad.is_unspecified() && v6only != Some(true),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::myself;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixName, UnixListener};

    fn mine() -> Vec<(FdSocket, Listener)> {
        owned_by(&Process::open(myself()).unwrap()).unwrap()
    }

    fn of(owned: &[(FdSocket, Listener)], socket: &impl AsRawFd) -> Listener {
        let fd = socket.as_raw_fd();
        owned.iter().find(|(socket, _)| socket.fd == fd).map(|(_, listener)| listener.clone()).unwrap()
    }

    #[test]
    fn every_sort_of_listener_is_seen() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("a b\n.sock");
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect(udp.local_addr().unwrap()).unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let name = format!("hareload \u{fc} {}", myself()).into_bytes();
        let abns = UnixListener::bind_addr(&UnixName::from_abstract_name(&name).unwrap()).unwrap();
        let waiting = TcpStream::connect(v4.local_addr().unwrap()).unwrap();

        let owned = mine();
        let seen = of(&owned, &v4);
        assert_eq!((seen.kind, seen.address), (Kind::Tcp, Address::Inet(v4.local_addr().unwrap())));
        assert_eq!((seen.queue, seen.uid), (1, crate::os::privilege::euid()));
        assert_eq!(of(&owned, &udp).kind, Kind::Udp);
        assert_eq!(of(&owned, &udp).address, Address::Inet(udp.local_addr().unwrap()));
        assert_eq!(
            (of(&owned, &unix).kind, of(&owned, &unix).address),
            (Kind::UnixStream, Address::Path(path))
        );
        assert_eq!(of(&owned, &abns).address, Address::Abstract(name));
        assert!(!owned.iter().any(|(socket, _)| socket.fd == connected.as_raw_fd()));
        assert!(!owned.iter().any(|(socket, _)| socket.fd == waiting.as_raw_fd()));
    }

    #[test]
    fn an_ipv6_listener_tells_whether_it_takes_ipv4() {
        let Ok(both) = TcpListener::bind("[::]:0") else {
            eprintln!("skipped: an_ipv6_listener_tells_whether_it_takes_ipv4 needs IPv6");
            return;
        };
        assert_eq!(of(&mine(), &both).v6only, Some(false));
        let port = both.local_addr().unwrap().port();
        let holders = holders_of(&[SocketAddr::from(([127, 0, 0, 1], port))]).remove(0);
        assert_eq!(holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [myself()]);

        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, client_side) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        let (accepted, _) = both.accept().unwrap();
        let inode = accepted_inode(server, client_side).unwrap().expect("an IPv4 client of an IPv6 socket");
        assert!(Process::open(myself()).unwrap().holds(accepted.as_raw_fd(), inode));
    }

    #[test]
    fn a_connection_has_an_inode_once_it_is_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, client_side) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(accepted_inode(server, client_side).unwrap(), None);
        let (accepted, _) = listener.accept().unwrap();
        let inode = accepted_inode(server, client_side).unwrap().unwrap();
        assert!(Process::open(myself()).unwrap().holds(accepted.as_raw_fd(), inode));
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(accepted_inode(server, nobody).unwrap(), None, "the listener itself is no answer");
        assert_eq!(half_open(&[server]).unwrap(), []);
    }

    #[test]
    fn wildcards_are_in_the_way_of_their_port() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (taken, v6only, wanted, conflict) in [
            ("127.0.0.1:80", None, "127.0.0.1:80", true),
            ("127.0.0.1:80", None, "127.0.0.2:80", false),
            ("127.0.0.1:80", None, "127.0.0.1:81", false),
            ("0.0.0.0:80", None, "127.0.0.1:80", true),
            ("127.0.0.1:80", None, "0.0.0.0:80", true),
            ("[::]:80", Some(false), "127.0.0.1:80", true),
            ("[::]:80", Some(true), "127.0.0.1:80", false),
            ("[::]:80", Some(true), "[::1]:80", true),
            ("127.0.0.1:80", None, "[::]:80", true),
            ("0.0.0.0:80", None, "[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", Some(false), "127.0.0.1:80", true),
        ] {
            assert_eq!(overlap(at(taken), v6only, at(wanted)), conflict, "{taken} {wanted}");
        }
    }

    #[test]
    fn a_crowd_of_listeners_is_all_there() {
        let crowd: Vec<_> = (0..600).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: HashSet<u16> = tcp_listeners()
            .unwrap()
            .into_iter()
            .filter_map(|listener| match listener.address {
                Address::Inet(address) => Some(address.port()),
                _ => None,
            })
            .collect();
        assert!(crowd.iter().all(|listener| ports.contains(&listener.local_addr().unwrap().port())));
    }
}
