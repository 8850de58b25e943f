//! What `haproxy -c` misses: the addresses and paths of a configuration held against this host.
//!
//! Asks `os` about addresses, directories and who holds a port; changes nothing. Called by [`super::check`]. What
//! depends on an unknown variable or on name resolution is left out, not guessed.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;

use super::lines::Line;
use super::{Finding, Level, Subject};
use crate::haproxy::config::{AddressKind, Transport};
use crate::os::host::{self, Directory, Occupant};
use crate::os::privilege;
use crate::os::process::{self, Process};
use crate::os::sockets::{self, Holder, Listener, Shape};

pub(super) fn findings(subject: &Subject<'_>, lines: &[Line<'_>]) -> Vec<Finding> {
    let mut findings = paths(subject, lines);
    findings.extend(addresses(lines));
    findings.extend(ports(subject, lines));
    findings
}

fn paths(subject: &Subject<'_>, lines: &[Line<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in lines {
        for address in line.addresses {
            let AddressKind::Unix(path) = &address.kind else { continue };
            let Some(path) = subject.path(path) else { continue };
            let finding = directory(subject, line, &path).or_else(|| occupied(line, &path));
            findings.extend(finding.map(|it| it.at(line.place).if_in_effect(line.presence)));
        }
    }
    findings
}

/// Whether a socket can be made where its path says.
fn directory(subject: &Subject<'_>, line: &Line<'_>, path: &Path) -> Option<Finding> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let create = "create it with the right owner, or name another";
    let (level, code, state, mend) = match host::directory(parent) {
        Directory::Writable => return None,
        Directory::Missing => {
            (subject.level_of_missing(parent), "directory-missing", "does not exist", create)
        }
        Directory::NotADirectory => {
            let mend = "name a directory, or remove what stands in its place";
            (Level::Error, "directory-missing", "is not a directory", mend)
        }
        Directory::ReadOnly => (Level::Error, "directory-not-writable", "can't be written to", create),
    };
    let message = format!("the directory {} of the {} {state}", parent.display(), line.what);
    Some(Finding::new(level, code, message, format!("HAProxy can't create {}", path.display())).mend(mend))
}

/// HAProxy keeps a hard link to what has the path, and then replaces it, whatever it is; of a directory there is no
/// hard link (src/sock_unix.c, sock_unix_bind_receiver).
fn occupied(line: &Line<'_>, path: &Path) -> Option<Finding> {
    let (shown, what) = (path.display(), line.what);
    let finding = match host::occupant(path) {
        Occupant::Other => return None,
        Occupant::Directory => {
            let message = format!("the {what} {shown} is a directory");
            Finding::new(Level::Error, "path-occupied", message, "HAProxy can't put a socket in its place")
                .mend("name a file in it, or remove it")
        }
        Occupant::File => {
            let message = format!("the {what} {shown} is a file");
            Finding::new(
                Level::Warning,
                "path-occupied",
                message,
                "HAProxy would put its socket in its place",
            )
            .mend("move it away, or name another path")
        }
    };
    Some(finding)
}

fn addresses(lines: &[Line<'_>]) -> Vec<Finding> {
    let mut known = HashMap::new();
    let mut findings = Vec::new();
    for line in lines {
        for (_, address, _) in line.inet() {
            // `transparent` binds to addresses of others; an interface may have a routing table of its own, and gives
            // a link-local address its scope
            let elsewhere = line.has("transparent") || line.has("interface");
            let scoped = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if elsewhere || scoped || *known.entry(address).or_insert_with(|| host::can_bind(address)) {
                continue;
            }
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            let finding = Finding::new(
                Level::Error,
                "address-absent",
                format!("this host does not have the address {address}"),
                format!("HAProxy can't bind it, and net.{family}.ip_nonlocal_bind is off"),
            );
            findings.push(finding.at(line.place).if_in_effect(line.presence).mend(format!(
                "set net.{family}.ip_nonlocal_bind=1 where a virtual address comes and goes, or correct it"
            )));
        }
    }
    findings
}

fn ports(subject: &Subject<'_>, lines: &[Line<'_>]) -> Vec<Finding> {
    let Ok(listeners) = sockets::listeners() else { return Vec::new() };
    let ours = &subject.request.ours;
    let ours: HashSet<u32> =
        ours.iter().flat_map(|&pid| process::children_of(pid).into_iter().chain([pid])).collect();
    let strangers = strangers(&listeners, lines, &ours);
    let mut findings: Vec<Finding> = Vec::new();
    for line in lines {
        for (transport, host, ports) in line.inet() {
            for stranger in strangers.iter().filter(|stranger| stranger.is_tcp == is_tcp(transport)) {
                let wanted = SocketAddr::new(host, stranger.address.port());
                if ports.contains(&wanted.port()) && in_the_way(line, stranger, wanted) {
                    let finding = held(stranger, wanted).at(line.place).if_in_effect(line.presence);
                    if !findings.contains(&finding) {
                        findings.push(finding);
                    }
                }
            }
        }
    }
    findings
}

fn in_the_way(line: &Line<'_>, stranger: &Stranger, wanted: SocketAddr) -> bool {
    // sockets of two interfaces don't meet
    let apart = line.has("interface") && stranger.interface != 0;
    let six_only = line.is_six_only() && wanted.is_ipv6() && stranger.address.is_ipv4();
    !apart && !six_only && sockets::overlap(stranger.address, stranger.v6only, wanted)
}

fn held(stranger: &Stranger, wanted: SocketAddr) -> Finding {
    let Stranger { address, uid, holders, .. } = stranger;
    let who: Vec<String> =
        holders.iter().map(|holder| format!("pid {} ({})", holder.pid, holder.comm)).collect();
    let who = who.join(", ");
    let also = if *address == wanted { String::new() } else { format!(", as {address}") };
    let alike = *uid == privilege::euid();
    let (level, code, message, cause) = if holders.is_empty() {
        let message = format!("{wanted} is held by a process of uid {uid} that can't be looked at{also}");
        (Level::Warning, "port-held", message, "whether it is the running HAProxy is not known")
    } else if holders.iter().all(|holder| holder.comm == "haproxy") {
        let message = format!("{wanted} is held by another HAProxy: {who}{also}");
        let cause = "where both have SO_REUSEPORT and one user they share the clients, else the start fails";
        (Level::Warning, "port-shared", message, cause)
    } else {
        let message = format!("{wanted} is held by {who}{also}");
        match stranger.shape() {
            Some(shape) if shape.reuseport && alike => {
                let cause =
                    "the holder has SO_REUSEPORT and our user, so both would get a part of the clients";
                (Level::Warning, "port-shared", message, cause)
            }
            None if alike => {
                let cause = "unless the holder has SO_REUSEPORT, HAProxy would try for 2 s and give up";
                (Level::Warning, "port-held", message, cause)
            }
            // datagram sockets with SO_REUSEADDR don't exclude each other, and whether it has that isn't seen
            _ if !stranger.is_tcp => {
                let cause = "unless the holder has SO_REUSEADDR, HAProxy would try for 2 s and give up";
                (Level::Warning, "port-held", message, cause)
            }
            _ => (Level::Error, "port-held", message, "HAProxy would try for 2 s and give up"),
        }
    };
    Finding::new(level, code, message, cause).mend("stop the holder, or choose another address or port")
}

fn is_tcp(transport: Transport) -> bool {
    transport == Transport::Tcp
}

/// A socket that none of ours holds.
struct Stranger {
    address: SocketAddr,
    is_tcp: bool,
    v6only: Option<bool>,
    interface: u32,
    inode: u64,
    holders: Vec<Holder>,
    uid: u32,
}

impl Stranger {
    /// What the socket says of itself, if we may borrow it.
    fn shape(&self) -> Option<Shape> {
        self.holders.iter().find_map(|holder| {
            let process = Process::open(holder.pid).ok()?;
            let socket = process.sockets().ok()?.into_iter().find(|socket| socket.inode == self.inode)?;
            sockets::inspect(process.borrow_fd(socket.fd).ok()?.as_fd()).ok()
        })
    }
}

/// The sockets on the ports of the configuration that none of ours holds. One look at all processes.
fn strangers(listeners: &[Listener], lines: &[Line<'_>], ours: &HashSet<u32>) -> Vec<Stranger> {
    let wanted: Vec<_> =
        lines.iter().flat_map(Line::inet).map(|(transport, _, ports)| (is_tcp(transport), ports)).collect();
    let mut candidates = Vec::new();
    for listener in listeners {
        let sockets::Address::Inet(address) = listener.address else { continue };
        let tcp = listener.kind == sockets::Kind::Tcp;
        if wanted.iter().any(|(is_tcp, ports)| *is_tcp == tcp && ports.contains(&address.port())) {
            candidates.push((listener, address, tcp));
        }
    }
    let inodes = candidates.iter().map(|(listener, ..)| listener.inode).collect();
    let mut holders = sockets::holders(&inodes);
    let strangers = candidates.into_iter().map(|(listener, address, is_tcp)| Stranger {
        address,
        is_tcp,
        v6only: listener.v6only,
        interface: listener.interface,
        inode: listener.inode,
        holders: holders.remove(&listener.inode).unwrap_or_default(),
        uid: listener.uid,
    });
    strangers.filter(|stranger| !stranger.holders.iter().any(|holder| ours.contains(&holder.pid))).collect()
}
