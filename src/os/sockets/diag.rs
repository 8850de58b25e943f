//! The kernel's socket tables by netlink; sock_diag(7).
//!
//! Opens one netlink socket a question. Called by [`super`]. Where the kernel has no sock_diag (a module that can't
//! be loaded in a container), `/proc/net` is read instead.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_ESTABLISHED, TCP_LISTEN, UDIAG_SHOW_NAME,
    UDIAG_SHOW_RQLEN,
};
use netlink_packet_sock_diag::inet::nlas::Nla as InetNla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::unix::nlas::{Nla as UnixNla, UnixDiagName};
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags as UnixStateFlags, UnixRequest, UnixResponse};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use nix::libc;

use super::{Address, Kind, Listener, UNKNOWN_UID};
use crate::os::process::proc_error;
use crate::os::readiness::{Waited, readable_within};

/// The kernel answers within the call; this is only for the case that it never does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Larger than what the kernel packs into one datagram of a dump (32 KiB at most; net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 * 1024;

/// "No cookie": find a socket by its addresses alone; linux/inet_diag.h INET_DIAG_NOCOOKIE.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Ask for the socket's user, and how it is told; linux/unix_diag.h, since Linux 5.3. Not in the crate.
const UDIAG_SHOW_UID: u32 = 0x40;
/// The attribute; linux/unix_diag.h.
const UNIX_DIAG_UID: u16 = 7;

/// The TCP listeners.
pub(super) fn tcp() -> io::Result<Vec<Listener>> {
    inet(Kind::Tcp, IPPROTO_TCP, StateFlags::LISTEN)
}

/// The UDP sockets that are bound and not connected: the kernel keeps those in the state CLOSE.
pub(super) fn udp() -> io::Result<Vec<Listener>> {
    inet(Kind::Udp, IPPROTO_UDP, StateFlags::CLOSE)
}

fn inet(kind: Kind, protocol: u8, states: StateFlags) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        match dump(family, protocol, states.clone()) {
            Ok(sockets) => {
                // An unbound UDP socket has no port.
                let bound = sockets.iter().filter(|socket| socket.header.socket_id.source_port != 0);
                found.extend(bound.map(|socket| listener(kind, socket)));
            }
            Err(error) if is_unsupported(&error) => found.extend(from_proc(kind, family)?),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What the kernel says when there is no sock_diag, or none for this protocol.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL)
    )
}

fn listener(kind: Kind, socket: &InetResponse) -> Listener {
    let id = &socket.header.socket_id;
    Listener {
        kind,
        address: Address::Inet(SocketAddr::new(id.source_address, id.source_port)),
        inode: u64::from(socket.header.inode),
        interface: id.interface_id,
        queue: socket.header.recv_queue,
        uid: socket.header.uid,
        v6only: socket.nlas.iter().find_map(|attribute| match attribute {
            InetNla::SkV6Only(only) => Some(*only),
            _ => None,
        }),
    }
}

/// Connections that are half-way through their handshake, as (local, remote).
pub(super) fn half_open() -> io::Result<Vec<(SocketAddr, SocketAddr)>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let sockets = dump(family, IPPROTO_TCP, StateFlags::SYN_RECV)?;
        found.extend(sockets.iter().map(|socket| {
            let id = &socket.header.socket_id;
            let end = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
            (end(id.source_address, id.source_port), end(id.destination_address, id.destination_port))
        }));
    }
    Ok(found)
}

/// The inode of one connection, seen from the server.
pub(super) fn established(server: SocketAddr, client: SocketAddr) -> io::Result<Option<u64>> {
    let (server_ip, client_ip) = (server.ip().to_canonical(), client.ip().to_canonical());
    let request = InetRequest {
        family: if server_ip.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: server.port(),
            destination_port: client.port(),
            source_address: server_ip,
            destination_address: client_ip,
            interface_id: 0,
            cookie: NO_COOKIE,
        },
    };
    let answers = match query(SockDiagMessage::InetRequest(request), NLM_F_REQUEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        answers => answers?,
    };
    Ok(answers.into_iter().find_map(|answer| match answer {
        // Where there is no such connection the kernel answers with the listener.
        SockDiagMessage::InetResponse(socket)
            if socket.header.socket_id.destination_port == client.port()
                && socket.header.state >= TCP_ESTABLISHED
                && socket.header.state != TCP_LISTEN
                && socket.header.inode != 0 =>
        {
            Some(u64::from(socket.header.inode))
        }
        _ => None,
    }))
}

/// The listening unix sockets. Those without a name can't be connected to and are left out.
pub(super) fn unix() -> io::Result<Vec<Listener>> {
    let request = UnixRequest {
        state_flags: UnixStateFlags::LISTEN,
        inode: 0,
        show_flags: ShowFlags::from_bits_retain(UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID),
        cookie: NO_COOKIE,
    };
    match query(SockDiagMessage::UnixRequest(request), NLM_F_REQUEST | NLM_F_DUMP) {
        Ok(answers) => Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                SockDiagMessage::UnixResponse(socket) => unix_listener(&socket),
                _ => None,
            })
            .collect()),
        Err(error) if is_unsupported(&error) => unix_from_proc(),
        Err(error) => Err(error),
    }
}

fn unix_listener(socket: &UnixResponse) -> Option<Listener> {
    let address = match socket.name()? {
        UnixDiagName::Pathname(path) => Address::Path(path.into()),
        UnixDiagName::Abstract(name) => Address::Abstract(name.clone()),
    };
    let uid = socket.nlas.iter().find_map(|attribute| match attribute {
        UnixNla::Other(other) if other.kind() == UNIX_DIAG_UID && other.value_len() == 4 => {
            let mut value = [0; 4];
            other.emit_value(&mut value);
            Some(u32::from_ne_bytes(value))
        }
        _ => None,
    });
    Some(Listener {
        kind: Kind::UnixStream,
        address,
        inode: u64::from(socket.header.inode),
        interface: 0,
        queue: socket.number_of_pending_connection().unwrap_or(0),
        uid: uid.unwrap_or(UNKNOWN_UID),
        v6only: None,
    })
}

fn dump(family: u8, protocol: u8, states: StateFlags) -> io::Result<Vec<InetResponse>> {
    let request = InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let answers = query(SockDiagMessage::InetRequest(request), NLM_F_REQUEST | NLM_F_DUMP)?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            SockDiagMessage::InetResponse(socket) => Some(*socket),
            _ => None,
        })
        .collect())
}

/// One question, all its answers. A message that the crate can't read is passed over.
fn query(request: SockDiagMessage, flags: u16) -> io::Result<Vec<SockDiagMessage>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        if wait(&socket)? == Waited::Elapsed {
            return Err(io::ErrorKind::TimedOut.into());
        }
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = &buffer[..];
        while let Some((one, more)) = split(rest) {
            rest = more;
            let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(one) else { continue };
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
        // Only a dump is ended by a message of its own.
        if flags & NLM_F_DUMP != NLM_F_DUMP {
            return Ok(answers);
        }
    }
}

#[expect(unsafe_code, reason = "the netlink socket has no AsFd")]
fn wait(socket: &Socket) -> io::Result<Waited> {
    // SAFETY: the descriptor is the socket's, which is borrowed for longer than this call.
    readable_within(unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }, PATIENCE)
}

/// The first netlink message of a datagram, and what follows it; messages are aligned to 4 bytes; netlink(7).
fn split(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*datagram.first_chunk()?)).ok()?;
    if length < size_of::<libc::nlmsghdr>() || length > datagram.len() {
        return None;
    }
    let next = length.next_multiple_of(4).min(datagram.len());
    Some((&datagram[..length], &datagram[next..]))
}

/// The same from `/proc/net`, without interface and V6ONLY.
fn from_proc(kind: Kind, family: u8) -> io::Result<Vec<Listener>> {
    use procfs::net::{TcpState, UdpState};
    let listener = |address, inode, queue, uid| Listener {
        kind,
        address: Address::Inet(address),
        inode,
        interface: 0,
        queue,
        uid,
        v6only: None,
    };
    match kind {
        Kind::Tcp => {
            let table = if family == AF_INET { procfs::net::tcp() } else { procfs::net::tcp6() };
            let listening =
                absent_is_empty(table)?.into_iter().filter(|entry| entry.state == TcpState::Listen);
            Ok(listening
                .map(|entry| listener(entry.local_address, entry.inode, entry.rx_queue, entry.uid))
                .collect())
        }
        Kind::Udp => {
            let table = if family == AF_INET { procfs::net::udp() } else { procfs::net::udp6() };
            let unconnected =
                absent_is_empty(table)?.into_iter().filter(|entry| entry.state == UdpState::Close);
            Ok(unconnected
                .map(|entry| listener(entry.local_address, entry.inode, entry.rx_queue, entry.uid))
                .collect())
        }
        Kind::UnixStream => unix_from_proc(),
    }
}

/// A kernel without IPv6 has no table for it.
fn absent_is_empty<T>(table: procfs::ProcResult<Vec<T>>) -> io::Result<Vec<T>> {
    match table {
        Err(procfs::ProcError::NotFound(_)) => Ok(Vec::new()),
        other => other.map_err(proc_error),
    }
}

/// Listening unix sockets by their flag; `/proc/net/unix` shows an abstract name with `@` for its NUL bytes.
fn unix_from_proc() -> io::Result<Vec<Listener>> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    /// `__SO_ACCEPTCON`; linux/net.h.
    const LISTENS: u64 = 0x10000;
    let text = std::fs::read("/proc/net/unix")?;
    let lines = text.split(|byte| *byte == b'\n').skip(1);
    // Num RefCount Protocol Flags Type St Inode Path; the path may hold spaces.
    let parse = |line: &[u8]| {
        let head: Vec<&str> = line
            .splitn(8, |byte| *byte == b' ')
            .take(4)
            .map(std::str::from_utf8)
            .collect::<Result<_, _>>()
            .ok()?;
        if u64::from_str_radix(head.get(3)?, 16).ok()? & LISTENS == 0 {
            return None;
        }
        let rest = line.splitn(7, |byte| *byte == b' ').nth(6)?.trim_ascii_start();
        let (inode, path) = rest.split_at(rest.iter().position(|byte| *byte == b' ')?);
        let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
        let path = &path[1..];
        let address = match path.strip_prefix(b"@") {
            Some(name) => Address::Abstract(name.to_vec()),
            None => Address::Path(
                std::ffi::OsString::from_vec(std::ffi::OsStr::from_bytes(path).as_bytes().to_vec()).into(),
            ),
        };
        Some(Listener {
            kind: Kind::UnixStream,
            address,
            inode,
            interface: 0,
            queue: 0,
            uid: UNKNOWN_UID,
            v6only: None,
        })
    };
    Ok(lines.filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn proc_tells_the_same_where_netlink_does_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("a b");
        let _unix = UnixListener::bind(&path).unwrap();
        let has = |found: Vec<Listener>, address| found.iter().any(|listener| listener.address == address);
        let (tcp, udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        assert!(has(from_proc(Kind::Tcp, AF_INET).unwrap(), Address::Inet(tcp)));
        assert!(has(from_proc(Kind::Udp, AF_INET).unwrap(), Address::Inet(udp)));
        assert!(has(from_proc(Kind::UnixStream, AF_INET).unwrap(), Address::Path(path)));
    }

    #[test]
    fn a_torn_datagram_is_no_message() {
        assert_eq!(split(&[]), None);
        assert_eq!(split(&[1, 0, 0, 0]), None);
        assert_eq!(split(&64u32.to_ne_bytes()), None);
        let mut one = [0; 20];
        one[..4].copy_from_slice(&18u32.to_ne_bytes());
        assert_eq!(split(&one).map(|(message, rest)| (message.len(), rest.len())), Some((18, 0)));
    }
}
