//! What a borrowed socket is.
//!
//! Asks the socket itself, by getsockopt(2) and getsockname(2). Called by the driver to decide which of the old one's
//! sockets can be passed on, and with what bytes.
#![expect(unsafe_code, reason = "getsockopt of options that no crate wraps")]
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt as nix_sockopt};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, getpeername, getsockname,
    socket_with, sockopt,
};

use super::{Address, Kind};

/// One of our sockets has this option different: it is in another network namespace (Linux ≥ 5.14);
/// asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// What a socket says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What sort it is.
    pub kind: Kind,
    /// Where it is bound.
    pub address: Address,
    /// The interface that it is bound to (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// Whether it allows others beside it (`SO_REUSEPORT`); a paused one still says so.
    pub reuseport: bool,
    /// Whether it listens now; never for UDP.
    pub listening: bool,
    /// Whether it has a peer; a paused UDP listener of HAProxy's is connected to itself.
    pub connected: bool,
    /// `IPV6_V6ONLY`, of an IPv6 socket. The kernel sets it on every bind to a specific IPv6 address.
    pub v6only: Option<bool>,
    /// Whether it may be bound to an address that is not the host's: `IP_TRANSPARENT`, `IP_FREEBIND` or IPv6's.
    pub foreign: bool,
    /// Whether it is in another network namespace than we are; `false` where the kernel can't tell (< 5.14).
    pub other_namespace: bool,
}

/// Looks at a socket. Errors: `Unsupported` for what is not TCP, UDP or a unix stream; ENOTSOCK.
pub fn inspect(fd: BorrowedFd<'_>) -> io::Result<Shape> {
    let unsupported = || io::Error::new(io::ErrorKind::Unsupported, "not a TCP, UDP or unix stream socket");
    let domain = sockopt::socket_domain(fd)?;
    let kind = match (domain, sockopt::socket_type(fd)?) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => Kind::Tcp,
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => Kind::Udp,
        (AddressFamily::UNIX, SocketType::STREAM | SocketType::SEQPACKET) => Kind::UnixStream,
        _ => return Err(unsupported()),
    };
    let name = getsockname(fd)?;
    let address = match kind {
        Kind::UnixStream => unix_address(&SocketAddrUnix::try_from(name)?),
        Kind::Tcp | Kind::Udp => Address::Inet(inet_address(name)?),
    };
    Ok(Shape {
        kind,
        address,
        interface: if kind == Kind::UnixStream { None } else { interface(fd) },
        reuseport: sockopt::socket_reuseport(fd)?,
        listening: kind != Kind::Udp && sockopt::socket_acceptconn(fd)?,
        connected: getpeername(fd).is_ok_and(|peer| peer.is_some()),
        v6only: if domain == AddressFamily::INET6 { Some(sockopt::ipv6_v6only(fd)?) } else { None },
        foreign: is_foreign(fd, domain),
        other_namespace: is_elsewhere(fd)?,
    })
}

/// The scope and the flow label are dropped, as the tables have none.
fn inet_address(name: SocketAddrAny) -> io::Result<SocketAddr> {
    let full = SocketAddr::try_from(name)?;
    Ok(SocketAddr::new(full.ip(), full.port()))
}

fn unix_address(name: &SocketAddrUnix) -> Address {
    match (name.path_bytes(), name.abstract_name()) {
        (Some(path), _) => Address::Path(OsStr::from_bytes(path).into()),
        (None, Some(name)) => Address::Abstract(name.to_vec()),
        (None, None) => Address::Abstract(Vec::new()),
    }
}

fn interface(fd: BorrowedFd<'_>) -> Option<String> {
    let name = getsockopt(&fd, nix_sockopt::BindToDevice).ok()?.into_string().ok()?;
    let name = name.trim_end_matches('\0');
    (!name.is_empty()).then(|| name.to_owned())
}

/// Options that the kernel does not know are off.
fn is_foreign(fd: BorrowedFd<'_>, domain: AddressFamily) -> bool {
    let v4 = [(libc::SOL_IP, libc::IP_TRANSPARENT), (libc::SOL_IP, libc::IP_FREEBIND)];
    let v6 = [(libc::SOL_IPV6, libc::IPV6_TRANSPARENT), (libc::SOL_IPV6, libc::IPV6_FREEBIND)];
    let is_on =
        |(level, name): &(_, _)| option::<libc::c_int>(fd, *level, *name).is_ok_and(|value| value != 0);
    match domain {
        AddressFamily::INET => v4.iter().any(is_on),
        // An IPv6 socket may have either; on one without IPv6 options the IPv4 ones are errors, and off.
        AddressFamily::INET6 => v6.iter().chain(&v4).any(is_on),
        _ => false,
    }
}

fn is_elsewhere(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let theirs = match option::<u64>(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE) {
        Ok(cookie) => cookie,
        Err(error) if error.raw_os_error() == Some(Errno::NOPROTOOPT.raw_os_error()) => return Ok(false),
        Err(error) => return Err(error),
    };
    let own = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok(option::<u64>(own.as_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE)? != theirs)
}

/// A number that getsockopt(2) may fill with any bytes.
trait Plain: Default {}
impl Plain for libc::c_int {}
impl Plain for u64 {}

fn option<T: Plain>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `size` bytes into `value`, a number for which every byte pattern is valid.
    let done =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut size) };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_tells_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = Shape {
            kind: Kind::Tcp,
            address: Address::Inet(listener.local_addr().unwrap()),
            interface: None,
            reuseport: false,
            listening: true,
            connected: false,
            v6only: None,
            foreign: false,
            other_namespace: false,
        };
        assert_eq!(inspect(listener.as_fd()).unwrap(), plain);
        sockopt::set_socket_reuseport(&listener, true).unwrap();
        sockopt::set_ip_freebind(&listener, true).unwrap();
        assert_eq!(inspect(listener.as_fd()).unwrap(), Shape { reuseport: true, foreign: true, ..plain });
    }

    #[test]
    fn peers_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let shape = inspect(client.as_fd()).unwrap();
        assert!(shape.connected && !shape.listening);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let shape = inspect(udp.as_fd()).unwrap();
        assert!((shape.kind, shape.connected, shape.listening) == (Kind::Udp, false, false));
        udp.connect(udp.local_addr().unwrap()).unwrap();
        assert!(inspect(udp.as_fd()).unwrap().connected);
    }

    #[test]
    fn unix_and_interface_bound_sockets_are_named() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("sock");
        let unix = UnixListener::bind(&path).unwrap();
        let shape = inspect(unix.as_fd()).unwrap();
        assert_eq!(
            (shape.kind, shape.address, shape.listening),
            (Kind::UnixStream, Address::Path(path), true)
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if nix::sys::socket::setsockopt(&listener, nix_sockopt::BindToDevice, &"lo".into()).is_ok() {
            assert_eq!(inspect(listener.as_fd()).unwrap().interface.as_deref(), Some("lo"));
        } else {
            eprintln!("skipped: binding to an interface needs root");
        }
        let file = tempfile::tempfile().unwrap();
        assert!(inspect(file.as_fd()).is_err());
    }

    #[test]
    fn a_specific_ipv6_address_is_v6only_by_itself() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            eprintln!("skipped: a_specific_ipv6_address_is_v6only_by_itself needs IPv6");
            return;
        };
        let shape = inspect(listener.as_fd()).unwrap();
        assert_eq!((shape.v6only, shape.foreign), (Some(true), false));
        assert_eq!(shape.address, Address::Inet(listener.local_addr().unwrap()));
    }
}
