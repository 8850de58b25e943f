//! The addresses that a new HAProxy could not have because somebody else holds them.
//!
//! Pure; called by the handover, which looks who the holder is.

use std::net::{IpAddr, SocketAddr};

use super::{About, Alert};

/// An address of [`About::CannotBind`], read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindAddress {
    /// An IPv4 or IPv6 address with its port.
    Inet(SocketAddr),
    /// A unix socket's path.
    Unix(String),
    /// An inherited descriptor, an abstract socket, or what isn't known.
    Other(String),
}

impl BindAddress {
    /// Reads an address as HAProxy prints it: IPv6 without brackets.
    #[must_use]
    pub fn read(text: &str) -> Self {
        if text.starts_with('/') {
            return Self::Unix(text.to_owned());
        }
        text.rsplit_once(':')
            .and_then(|(host, port)| {
                let host: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
                Some(Self::Inet(SocketAddr::new(host, port.parse().ok()?)))
            })
            .unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

/// The addresses that somebody else holds, each once, in HAProxy's order. One without a reason (up to 2.2) is
/// counted among them; one that the host does not have is not.
#[must_use]
pub fn bind_conflicts(alerts: &[Alert]) -> Vec<BindAddress> {
    let mut conflicts = Vec::new();
    for alert in alerts {
        let About::CannotBind { address, because } = &alert.about else { continue };
        let held = match because {
            Some(because) => because.contains("in use"),
            None => alert.text.contains("cannot bind") || alert.text.contains("cannot listen"),
        };
        let address = BindAddress::read(address);
        if held && !conflicts.contains(&address) {
            conflicts.push(address);
        }
    }
    conflicts
}

/// The addresses that could not be bound because the host may lack them, each once. One without a reason (up to 2.2) is
/// counted among them.
#[must_use]
pub fn maybe_absent(alerts: &[Alert]) -> Vec<SocketAddr> {
    let mut absent = Vec::new();
    for alert in alerts {
        let About::CannotBind { address, because } = &alert.about else { continue };
        // EADDRNOTAVAIL in the words of strerror(3), which HAProxy prints untranslated.
        let lacking = because.as_ref().is_none_or(|because| because.contains("assign requested address"));
        if let BindAddress::Inet(address) = BindAddress::read(address)
            && lacking
            && !absent.contains(&address)
        {
            absent.push(address);
        }
    }
    absent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::alerts::tests::{CONFLICTS_2_6, only};
    use crate::haproxy::alerts::{Level, parse};

    fn inet(address: &str) -> BindAddress {
        BindAddress::Inet(address.parse().expect("an address"))
    }

    #[test]
    fn a_conflict_names_its_address_and_its_place() {
        let alerts = parse(CONFLICTS_2_6);
        assert_eq!(alerts.len(), 7);
        let first = &alerts[2];
        assert_eq!((first.level, first.file.as_deref(), first.line), (Level::Alert, Some("c.cfg"), Some(9)));
        assert_eq!(bind_conflicts(&alerts), [inet("[::1]:18701"), inet("127.0.0.1:18700")]);
        let About::CannotBind { address, because } = &alerts[5].about else { panic!("{:?}", alerts[5]) };
        assert_eq!(
            (address.as_str(), because.as_deref()),
            ("/nonexistent/x.sock", Some("No such file or directory"))
        );
    }

    #[test]
    fn an_address_may_be_absent() {
        let line = |because: &str| {
            let alert = "[ALERT]    (99) : Binding [/etc/h.cfg:3] for frontend fe: protocol tcpv4: cannot bind socket";
            maybe_absent(&parse(format!("{alert}{because} for [10.99.0.100:80].").as_bytes()))
        };
        assert_eq!(
            line(" (Cannot assign requested address)"),
            ["10.99.0.100:80".parse().expect("an address")]
        );
        assert_eq!(line(" (Address already in use)"), []);
        let old = "[ALERT] 325/162048 (99) : Starting frontend fe: cannot bind socket [10.99.0.100:80]";
        assert_eq!(maybe_absent(&parse(old.as_bytes())).len(), 1);
    }

    #[test]
    fn conflicts_of_every_age_are_read() {
        for line in [
            "[ALERT] 325/162048 (99) : Starting frontend fe: cannot bind socket [127.0.0.1:18700]",
            "[ALERT]    (99) : Starting frontend fe: cannot bind socket (Address already in use) [127.0.0.1:18700]",
            "[ALERT]    (99) : Binding [/etc/h.cfg:3] for frontend fe: protocol tcpv4: cannot bind socket (Address already in use) for [127.0.0.1:18700].",
            "[ALERT]    (99) : Starting [/etc/h.cfg:3] for proxy fe: protocol tcpv4: cannot listen to socket: (Address already in use) for [127.0.0.1:18700].",
        ] {
            assert_eq!(bind_conflicts(&parse(line.as_bytes())), [inet("127.0.0.1:18700")], "{line}");
        }
        let unix = "[ALERT]    (99) : Binding [h.cfg:3] for frontend fe: cannot bind UNIX socket (already in use) [/run/a [1].sock]";
        assert_eq!(bind_conflicts(&[only(unix)]), [BindAddress::Unix("/run/a [1].sock".into())]);
        let warning = "[WARNING]  (99) : Starting [h.cfg:3] for proxy fe: protocol tcpv4: cannot enable DEFER_ACCEPT for [1.2.3.4:80].";
        assert_eq!(only(warning).about, About::Other);
    }
}
