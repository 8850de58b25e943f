//! The addresses of a `bind` line, read as HAProxy reads them (src/cfgparse.c, str2listener; src/tools.c,
//! str2sa_range and str2ip2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::environment::Environment;
use super::words::{Variable, Word};

/// The most addresses that one word is split into: HAProxy's line length makes more impossible.
const MAX_ADDRESSES: usize = 1024;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// One address of a list, as typed but for variables in quotes.
    pub text: String,
    /// What it means.
    pub kind: AddressKind,
}

/// What an address means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// An IP address and ports. `*` and no host at all mean 0.0.0.0; `::` means all of IPv6, and of IPv4 with
    /// `v4v6`.
    Inet {
        /// What is spoken below TCP's or UDP's port.
        transport: Transport,
        /// The address; unspecified for all of its family.
        host: IpAddr,
        /// The ports, mostly one.
        ports: RangeInclusive<u16>,
    },
    /// A path, with the `unix-bind prefix` that applies to it.
    Unix(String),
    /// A name in Linux's abstract namespace (`abns@`, `abnsz@`).
    Abstract(String),
    /// An inherited descriptor (`fd@`).
    Fd(u32),
    /// An inherited socket pair (`sockpair@`).
    Sockpair(u32),
    /// A connection that comes the other way round (`rhttp@`): no listening socket.
    Reverse,
    /// It holds an unknown variable or a host name, or can't be read: only HAProxy knows.
    Unresolved,
}

/// The transport of an IP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP, and MPTCP, which falls back to it.
    Tcp,
    /// UDP: `dgram-bind`, `udp@`.
    Udp,
    /// QUIC, on UDP sockets.
    Quic,
}

#[derive(Clone, Copy)]
enum Family {
    Any,
    Inet,
    Inet6,
}

/// What the addresses of a line depend on.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub transport: Transport,
    /// That of `unix-bind`; `None` if it isn't known.
    pub unix_prefix: Option<&'a str>,
    pub environment: &'a Environment,
}

/// The addresses of a word, if it is there.
pub(super) fn of_word(word: Option<&Word>, around: Around<'_>) -> Vec<BindAddress> {
    match word {
        Some(word) if word.variable == Variable::Unexpanded => {
            vec![BindAddress { text: word.text.clone(), kind: AddressKind::Unresolved }]
        }
        Some(word) => read_list(&word.text, around),
        None => Vec::new(),
    }
}

/// Reads the comma-separated addresses of one word.
fn read_list(word: &str, around: Around<'_>) -> Vec<BindAddress> {
    word.split(',')
        .filter(|text| !text.is_empty())
        .take(MAX_ADDRESSES)
        .map(|text| BindAddress { text: text.to_owned(), kind: read(text, around) })
        .collect()
}

fn read(text: &str, around: Around<'_>) -> AddressKind {
    // expanded here even outside of quotes (env_expand)
    let Some(expanded) = around.environment.expand_address(text) else { return AddressKind::Unresolved };
    let (text, default) = (expanded.as_ref(), around.transport);
    let (text, transport) = match text.split_once('+') {
        Some(("stream", rest)) => (rest, Transport::Tcp),
        Some(("dgram", rest)) => (rest, Transport::Udp),
        Some(("quic", rest)) => (rest, Transport::Quic),
        _ => (text, default),
    };
    // A path is a path, whatever stands in it.
    let (prefix, rest) = match text.split_once('@') {
        _ if text.starts_with('/') => ("unix", text),
        Some((prefix, rest)) => (prefix, rest),
        None => ("ip", text),
    };
    let number = |rest: &str| rest.parse::<u32>().ok();
    match prefix {
        "unix" | "uxst" | "uxdg" => match around.unix_prefix {
            Some(prefix) => AddressKind::Unix(format!("{prefix}{rest}")),
            None => AddressKind::Unresolved,
        },
        "abns" | "abnsz" => AddressKind::Abstract(rest.to_owned()),
        "fd" => number(rest).map_or(AddressKind::Unresolved, AddressKind::Fd),
        "sockpair" => number(rest).map_or(AddressKind::Unresolved, AddressKind::Sockpair),
        "rhttp" | "rev" => AddressKind::Reverse,
        "ip" => inet(rest, transport, Family::Any),
        "ipv4" => inet(rest, transport, Family::Inet),
        "ipv6" => inet(rest, transport, Family::Inet6),
        "tcp" | "mptcp" => inet(rest, Transport::Tcp, Family::Any),
        "tcp4" | "mptcp4" => inet(rest, Transport::Tcp, Family::Inet),
        "tcp6" | "mptcp6" => inet(rest, Transport::Tcp, Family::Inet6),
        "udp" => inet(rest, Transport::Udp, Family::Any),
        "udp4" => inet(rest, Transport::Udp, Family::Inet),
        "udp6" => inet(rest, Transport::Udp, Family::Inet6),
        "quic4" => inet(rest, Transport::Quic, Family::Inet),
        "quic6" => inet(rest, Transport::Quic, Family::Inet6),
        _ => AddressKind::Unresolved,
    }
}

fn inet(text: &str, transport: Transport, family: Family) -> AddressKind {
    let read = || {
        // the last colon, but none inside of brackets, begins the port
        let (host, port) = text.rsplit_once(':').filter(|(_, port)| !port.contains(']'))?;
        let (low, high) = port.split_once('-').unwrap_or((port, port));
        let (low, high) = (self::port(low)?, self::port(high)?);
        let ports = (low <= high).then_some(low..=high)?;
        Some(AddressKind::Inet { transport, host: self::host(host, family)?, ports })
    };
    read().unwrap_or(AddressKind::Unresolved)
}

/// Digits only: `parse` alone would take a sign. 0 is refused by HAProxy where a port must be given.
fn port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|&port| port > 0)
}

fn host(text: &str, family: Family) -> Option<IpAddr> {
    let text = match text.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| !inner.is_empty())?,
        None => text,
    };
    let host = match (text, family) {
        ("" | "*", Family::Any | Family::Inet) => Ipv4Addr::UNSPECIFIED.into(),
        ("" | "*", Family::Inet6) => Ipv6Addr::UNSPECIFIED.into(),
        _ => text.parse::<IpAddr>().ok()?,
    };
    match (host, family) {
        (_, Family::Any) | (IpAddr::V4(_), Family::Inet) | (IpAddr::V6(_), Family::Inet6) => Some(host),
        (IpAddr::V6(_), Family::Inet) | (IpAddr::V4(_), Family::Inet6) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> AddressKind {
        kind_of(text, Transport::Tcp)
    }

    fn kind_of(text: &str, transport: Transport) -> AddressKind {
        let environment = Environment::default();
        read(text, Around { transport, unix_prefix: Some(""), environment: &environment })
    }

    fn tcp(host: &str, ports: RangeInclusive<u16>) -> AddressKind {
        AddressKind::Inet { transport: Transport::Tcp, host: host.parse().expect("an address"), ports }
    }

    #[test]
    fn the_spellings_of_ip_addresses() {
        for any in [":80", "*:80", "0.0.0.0:80", "ipv4@:80", "ipv4@*:80", "tcp4@:80", "ip@:80", "mptcp@:80"] {
            assert_eq!(kind(any), tcp("0.0.0.0", 80..=80), "{any}");
        }
        for any in [":::80", "[::]:80", "ipv6@:80", "ipv6@*:80", "tcp6@:::80"] {
            assert_eq!(kind(any), tcp("::", 80..=80), "{any}");
        }
        assert_eq!(kind("[::1]:80"), tcp("::1", 80..=80));
        assert_eq!(kind("::1:80"), tcp("::1", 80..=80));
        assert_eq!(kind("127.0.0.1:8000-8010"), tcp("127.0.0.1", 8000..=8010));
    }

    #[test]
    fn a_list_has_one_entry_an_address() {
        let environment = Environment::default();
        let around =
            Around { transport: Transport::Tcp, unix_prefix: Some("/chroot"), environment: &environment };
        let list = read_list("10.0.0.1:80,:8000-8001,,/run/x.sock", around);
        assert_eq!(list.len(), 3);
        assert_eq!(list[1].text, ":8000-8001");
        assert_eq!(list[2].kind, AddressKind::Unix("/chroot/run/x.sock".into()));
    }

    #[test]
    fn datagrams_and_quic_are_told_apart() {
        let transport = |text: &str, default| match kind_of(text, default) {
            AddressKind::Inet { transport, .. } => Some(transport),
            _ => None,
        };
        assert_eq!(transport("quic4@:443", Transport::Tcp), Some(Transport::Quic));
        assert_eq!(transport("quic+ipv6@:443", Transport::Tcp), Some(Transport::Quic));
        assert_eq!(transport("udp@127.0.0.1:514", Transport::Tcp), Some(Transport::Udp));
        assert_eq!(transport("127.0.0.1:514", Transport::Udp), Some(Transport::Udp));
    }

    #[test]
    fn addresses_that_are_no_ip() {
        assert_eq!(kind("unix@/run/a.sock"), AddressKind::Unix("/run/a.sock".into()));
        assert_eq!(kind("abns@name"), AddressKind::Abstract("name".into()));
        assert_eq!(kind("fd@3"), AddressKind::Fd(3));
        assert_eq!(kind("sockpair@4"), AddressKind::Sockpair(4));
        assert_eq!(kind("rhttp@be/srv"), AddressKind::Reverse);
    }

    #[test]
    fn what_only_haproxy_knows_is_left_to_it() {
        for text in [
            "localhost:80",
            "${ADDR}:80",
            "fd@${FD}",
            "fd@-1",
            ":0",
            ":65536",
            ":90-80",
            ":+5",
            "127.0.0.1",
            "[::1:80",
            "ipv4@[::1]:80",
            "ipv6@1.2.3.4:80",
            "odd@:80",
            "@",
            "+",
            ":",
            "[]:1",
            "::",
            "]:80",
        ] {
            assert_eq!(kind(text), AddressKind::Unresolved, "{text}");
        }
    }
}
