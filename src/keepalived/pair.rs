//! The configuration of keepalived for a pair of load balancers: one VRRP instance, whose addresses follow the HAProxy that
//! serves.
//!
//! Called by `hareload gen keepalived`; `packaging/keepalived` has what it makes of example addresses.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

/// An address with the length of its network, as `192.0.2.10/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix: u8,
}

impl FromStr for Virtual {
    type Err = String;

    /// Without a length it is the address alone.
    fn from_str(text: &str) -> Result<Virtual, String> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let bad = || format!("{text:?} is no address such as 192.0.2.10/24 or 2001:db8::10/64");
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let is_plain = |prefix: &str| prefix.bytes().all(|byte| byte.is_ascii_digit());
        if !prefix.is_none_or(is_plain) {
            return Err(bad());
        }
        let prefix = prefix.map_or(Ok(bits), |prefix| prefix.parse().map_err(|_| bad()))?;
        if prefix == 0 || prefix > bits || address.is_unspecified() || address.is_multicast() {
            return Err(bad());
        }
        Ok(Virtual { address, prefix })
    }
}

impl Virtual {
    /// What it is instead of a host's address in its network, if it is.
    fn end_of_network(&self) -> Option<&'static str> {
        let IpAddr::V4(address) = self.address else { return None };
        // The shorter ones have no such ends; RFC 3021.
        if self.prefix >= 31 {
            return None;
        }
        let of_hosts = u32::MAX >> self.prefix;
        match address.to_bits() & of_hosts {
            0 => Some("the network's own address"),
            bits if bits == of_hosts => Some("the network's broadcast address"),
            _ => None,
        }
    }
}

/// One of the two hosts, as it sees the pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The addresses that the pair has.
    pub addresses: Vec<Virtual>,
    /// The interface that they are put on.
    pub interface: String,
    /// This host's own address.
    pub own: IpAddr,
    /// The other host's.
    pub peer: IpAddr,
    /// The number of the pair in its network; 1 to 255.
    pub router: u8,
    /// The host with the higher one takes the addresses; 1 to 254.
    pub priority: u8,
    /// The time between two advertisements. Without three of them the other host takes over.
    pub advert_int: Duration,
    /// The program.
    pub hareload: String,
}

/// The time between two advertisements if nobody says otherwise: a host that is cut off is replaced after 1.5 s at most.
pub const ADVERT_INT: Duration = Duration::from_millis(500);

/// The number of the pair if nobody says otherwise.
pub const ROUTER: u8 = 51;

/// How many addresses an advertisement has room for: keepalived counts them in 8 bits, and those of IPv6 have to fit in 1500
/// bytes with the headers; keepalived/vrrp/vrrp.c, vrrp_complete_instance. It moves those beyond it to others that it does not
/// advertise, on this host alone.
const MOST_V4: usize = 255;
const MOST_V6: usize = (1500 - 62) / 16;

/// What keepalived takes: hundredths of a second, in 12 bits of a VRRPv3 packet; RFC 5798, section 5.2.7.
const STEP: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(40_950);

/// The priority of a host, if nobody says otherwise: of two, the one with the lower address has the higher one. The higher
/// they are, the sooner the other takes over: by 1/256 of the interval each; RFC 5798, section 6.1, Skew_Time.
#[must_use]
pub fn priority(own: IpAddr, peer: IpAddr) -> u8 {
    if own < peer { 254 } else { 253 }
}

impl Host {
    /// keepalived.conf for this host; or what is wrong with what was asked for.
    pub fn configuration(&self) -> Result<String, String> {
        self.check()?;
        let Host { interface, own, peer, router, priority, hareload, .. } = self;
        let advert_int = seconds(self.advert_int);
        let block = |addresses: &[&Virtual]| {
            addresses.iter().fold(String::new(), |mut text, one| {
                let _ = writeln!(text, "        {}/{}", one.address, one.prefix);
                text
            })
        };
        let (same, other): (Vec<&Virtual>, Vec<&Virtual>) =
            self.addresses.iter().partition(|one| one.address.is_ipv4() == own.is_ipv4());
        let mut blocks = format!("    virtual_ipaddress {{\n{}    }}\n", block(&same));
        if !other.is_empty() {
            let _ = write!(
                blocks,
                "    # They come and go with the others; an advertisement has room for one family only.\n    \
                 virtual_ipaddress_excluded {{\n{}    }}\n",
                block(&other)
            );
        }
        Ok(format!(
            "# keepalived for {own}, of the pair {own} and {peer}; the other host has a file of its own. Both run the same\n\
             # HAProxy, which binds the virtual addresses on both (net.ipv4.ip_nonlocal_bind, net.ipv6.ip_nonlocal_bind).\n\
             # /etc/keepalived/keepalived.conf; what each line is for is said in hareload's docs/keepalived.md.\n\
             \n\
             global_defs {{\n    \
                 # Fractions of a second between advertisements.\n    \
                 vrrp_version 3\n    \
                 # What is called below runs as root, and only if nobody else could have changed it.\n    \
                 script_user root\n    \
                 enable_script_security\n\
             }}\n\
             \n\
             vrrp_script haproxy {{\n    \
                 # 0 as long as HAProxy serves here, through every reload. It answers in milliseconds; a host that is so busy\n    \
                 # that it can't is given 800 ms.\n    \
                 script \"{hareload} healthy --quiet --deadline 800ms\"\n    \
                 interval 1\n    \
                 timeout 2\n    \
                 fall 1\n    \
                 rise 1\n\
             }}\n\
             \n\
             vrrp_instance haproxy {{\n    \
                 # Both begin as BACKUP; the one with the higher priority takes the addresses.\n    \
                 state BACKUP\n    \
                 interface {interface}\n    \
                 virtual_router_id {router}\n    \
                 priority {priority}\n    \
                 # Seconds. Without three of them, and a bit, the other host takes over.\n    \
                 advert_int {advert_int}\n    \
                 unicast_src_ip {own}\n    \
                 unicast_peer {{\n        \
                     {peer}\n    \
                 }}\n\
             {blocks}    \
                 track_script {{\n        \
                     # Without a weight: a host whose HAProxy does not serve takes no part.\n        \
                     haproxy\n    \
                 }}\n    \
                 # With the addresses comes the configuration as it is on the disk. The quotes are needed: without them\n    \
                 # keepalived takes the second word for a user, and drops the hook.\n    \
                 notify_master \"{hareload} notify\"\n\
             }}\n"
        ))
    }

    fn check(&self) -> Result<(), String> {
        let Host { own, peer, .. } = self;
        self.interface()?;
        let all = [own, peer].into_iter().chain(self.addresses.iter().map(|one| &one.address));
        if let Some((six, four)) = all.into_iter().find_map(|address| Some((address, mapped(*address)?))) {
            return Err(format!("{six} is an IPv4 address, written as one of IPv6: write {four}"));
        }
        if own.is_ipv4() != peer.is_ipv4() {
            return Err(format!("{own} and {peer} are not of one family"));
        }
        if own == peer {
            return Err(format!("{own} is both hosts' address"));
        }
        if let Some(odd) = [own, peer].into_iter().find(|address| !is_of_a_host(**address)) {
            return Err(format!("{odd} is no address of a host"));
        }
        if let Some(one) = self.addresses.iter().find(|one| !is_of_a_host(one.address)) {
            return Err(format!("{} is no address that could move", one.address));
        }
        if let Some((one, what)) = self.addresses.iter().find_map(|one| Some((one, one.end_of_network()?))) {
            return Err(format!("{}/{} is {what}, and no host's", one.address, one.prefix));
        }
        let twice =
            |at: usize, one: &Virtual| self.addresses[..at].iter().any(|other| other.address == one.address);
        if let Some((_, one)) = self.addresses.iter().enumerate().find(|(at, one)| twice(*at, one)) {
            return Err(format!("{} is named twice", one.address));
        }
        if let Some(one) = self.addresses.iter().find(|one| one.address == *own || one.address == *peer) {
            return Err(format!("{} is a host's own address, and no virtual one", one.address));
        }
        if !self.addresses.iter().any(|one| one.address.is_ipv4() == own.is_ipv4()) {
            return Err(format!("none of the virtual addresses is of the family of {own}"));
        }
        let (most, family) = if own.is_ipv4() { (MOST_V4, "IPv4") } else { (MOST_V6, "IPv6") };
        let advertised = self.addresses.iter().filter(|one| one.address.is_ipv4() == own.is_ipv4()).count();
        if advertised > most {
            return Err(format!(
                "{advertised} virtual addresses of {family}: an advertisement has room for {most}, and keepalived does not \
                 advertise the others; make several pairs of them, each with a --router-id of its own"
            ));
        }
        if self.router == 0 || self.priority == 0 || self.priority == u8::MAX {
            return Err("the number of the pair is 1 to 255, the priority 1 to 254".to_owned());
        }
        let advert_int = self.advert_int;
        if advert_int < STEP || advert_int > LONGEST || !advert_int.subsec_micros().is_multiple_of(10_000) {
            return Err(format!(
                "{advert_int:?} between advertisements: it takes hundredths of a second up to 40.95s"
            ));
        }
        Ok(())
    }
}

impl Host {
    /// Refuses what can be no interface's name: netdevice(7), IFNAMSIZ, and what keepalived takes for a word of its own.
    fn interface(&self) -> Result<(), String> {
        let name = &self.interface;
        let bad = || format!("{name:?} is no name of an interface");
        let is_plain = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            (1..=15).contains(&name.len()) && name.chars().all(plain) && name != "." && name != ".."
        };
        if let Some((own, _)) = name.split_once('@') {
            return Err(match is_plain(own) {
                true => format!("{}: `ip link` shows after the `@` what it is linked to: write {own}", bad()),
                false => format!("{}: it is what `ip link` shows before the `@`", bad()),
            });
        }
        if let Some((own, _)) = name.split_once(':') {
            return Err(format!("{}: it is the label of an address; write {own}", bad()));
        }
        if name == "lo" {
            return Err(
                "lo: VRRP is not spoken there; name the interface that leads to the other host".to_owned()
            );
        }
        if is_plain(name) { Ok(()) } else { Err(bad()) }
    }
}

/// Whether it can be one host's, as others see it.
fn is_of_a_host(address: IpAddr) -> bool {
    let everybody = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || everybody)
}

/// The IPv4 address that one of IPv6 stands for.
fn mapped(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

/// `0.5`, `1`: as many decimals as are needed, of the hundredths that [`STEP`] is.
fn seconds(time: Duration) -> String {
    let hundredths = time.as_millis() / STEP.as_millis();
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let (own, peer) = ("192.0.2.11".parse().unwrap(), "192.0.2.12".parse().unwrap());
        Host {
            addresses: vec!["192.0.2.10/24".parse().unwrap()],
            interface: "eth0".to_owned(),
            own,
            peer,
            router: ROUTER,
            priority: priority(own, peer),
            advert_int: ADVERT_INT,
            hareload: "/usr/sbin/hareload".to_owned(),
        }
    }

    #[test]
    fn a_host_has_its_own_view() {
        let text = host().configuration().unwrap();
        for line in
            ["    advert_int 0.5\n", "    priority 254\n", "        192.0.2.10/24\n", "        192.0.2.12\n"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("excluded"));
        let other = Host { own: host().peer, peer: host().own, ..host() };
        assert_eq!(priority(other.own, other.peer), 253);
        let both = vec!["192.0.2.10/24".parse().unwrap(), "2001:db8::10/64".parse().unwrap()];
        let text =
            Host { addresses: both, advert_int: Duration::from_secs(1), ..host() }.configuration().unwrap();
        assert!(
            text.contains("    virtual_ipaddress_excluded {\n        2001:db8::10/64\n    }\n"),
            "{text}"
        );
        assert!(text.contains("    advert_int 1\n"), "{text}");
    }

    #[test]
    fn an_interval_has_two_decimals_at_most() {
        for hundredths in 1..=4095_u32 {
            let text = seconds(STEP * hundredths);
            let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
            assert!(decimals.len() <= 2 && !decimals.ends_with('0'), "{text}");
            let number: u32 = format!("{whole}{decimals:0<2}").parse().unwrap();
            assert_eq!(number, hundredths, "{text}");
        }
        assert_eq!(seconds(LONGEST), "40.95");
        assert_eq!(seconds(Duration::from_millis(4560)), "4.56");
        assert_eq!(seconds(Duration::from_secs(10)), "10");
    }

    fn with(addresses: &[&str]) -> Host {
        Host { addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(), ..host() }
    }

    fn many(count: usize) -> Vec<Virtual> {
        (0..count).map(|at| format!("10.1.{}.{}/16", at / 200, at % 200 + 1).parse().unwrap()).collect()
    }

    fn many_of_six(count: usize) -> Vec<Virtual> {
        (0..count).map(|at| format!("2001:db8::1:{at:x}/64").parse().unwrap()).collect()
    }

    #[test]
    fn what_can_be_is_taken() {
        for addresses in [&["192.0.2.0/32"][..], &["192.0.2.0/31", "192.0.2.1/31"], &["10.1.0.255/16"]] {
            assert_eq!(with(addresses).configuration().err(), None, "{addresses:?}");
        }
        // Those of the other family are not advertised.
        let addresses = [many(255), many_of_six(300)].concat();
        assert_eq!(Host { addresses, ..host() }.configuration().err(), None);
        for interface in ["eth0", "br-lan.10", "enp0s31f6", "vlan_1"] {
            let interface = interface.to_owned();
            assert_eq!(Host { interface, ..host() }.configuration().err(), None);
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let six: IpAddr = "2001:db8::11".parse().unwrap();
        for (host, why) in [
            (Host { peer: host().own, ..host() }, "both hosts' address"),
            (Host { peer: six, ..host() }, "not of one family"),
            (Host { own: "192.0.2.10".parse().unwrap(), ..host() }, "no virtual one"),
            (Host { addresses: vec!["2001:db8::10/64".parse().unwrap()], ..host() }, "none of the virtual"),
            (Host { interface: "eth0 }".to_owned(), ..host() }, "no name of an interface"),
            (Host { interface: String::new(), ..host() }, "no name of an interface"),
            (Host { interface: "..".to_owned(), ..host() }, "no name of an interface"),
            (Host { interface: "eth0@if3".to_owned(), ..host() }, "write eth0"),
            (Host { interface: "lo".to_owned(), ..host() }, "leads to the other host"),
            (Host { interface: "@low".to_owned(), ..host() }, "before the `@`"),
            (Host { interface: "eth0:1".to_owned(), ..host() }, "the label of an address; write eth0"),
            (with(&["255.255.255.255/32"]), "that could move"),
            (with(&["192.0.2.0/24"]), "the network's own address"),
            (with(&["192.0.2.255/24"]), "the network's broadcast address"),
            (with(&["192.0.2.15/28"]), "the network's broadcast address"),
            (with(&["192.0.2.10/24", "::ffff:192.0.2.20/120"]), "write 192.0.2.20"),
            (Host { own: "::ffff:192.0.2.11".parse().unwrap(), ..host() }, "write 192.0.2.11"),
            (Host { peer: "255.255.255.255".parse().unwrap(), ..host() }, "no address of a host"),
            (Host { addresses: many(256), ..host() }, "room for 255"),
            (
                Host {
                    addresses: many_of_six(90),
                    own: six,
                    peer: "2001:db8::12".parse().unwrap(),
                    ..host()
                },
                "room for 89",
            ),
            (Host { own: "224.0.0.1".parse().unwrap(), ..host() }, "no address of a host"),
            (Host { peer: "0.0.0.0".parse().unwrap(), ..host() }, "no address of a host"),
            (Host { addresses: vec!["127.0.0.1/8".parse().unwrap()], ..host() }, "that could move"),
            (Host { addresses: [host().addresses, host().addresses].concat(), ..host() }, "named twice"),
            (Host { advert_int: Duration::from_millis(5), ..host() }, "hundredths"),
            (Host { advert_int: Duration::from_secs(60), ..host() }, "hundredths"),
            (Host { priority: 255, ..host() }, "1 to 254"),
        ] {
            let refused = host.configuration().unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        for text in [
            "",
            "192.0.2.10/33",
            "192.0.2.10/0",
            "192.0.2/24",
            "::/64",
            "224.0.0.18/4",
            "192.0.2.10/24/5",
            "192.0.2.10/+24",
            "192.0.2.10/",
        ] {
            assert!(text.parse::<Virtual>().is_err(), "{text}");
        }
    }
}
