//! A `vrrp_instance`: its addresses, its times, what it tracks and what it runs; and a `vrrp_sync_group`.

use std::net::IpAddr;

use super::config::{Global, Said, Seconds, missed_of, protocol_of, seconds_of};
use super::failover::{DEFAULT_ADVERT, DEFAULT_MISSED, Protocol, Timing};
use super::script::Hook;
use super::statement::{Place, Statement, Unclear, Why};

/// VRRP's priority of whoever owns the address (VRRP_PRIO_OWNER), and the default of others.
const OWNER: u8 = 255;
const DEFAULT_PRIORITY: u8 = 100;

/// A check or a process that an instance tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Where it stands.
    pub place: Place,
    /// The name.
    pub name: String,
    /// Its weight, in place of its own.
    pub weight: Option<i32>,
    /// Whether it was defined before: keepalived does not look ahead, and passes over what it does not know yet.
    pub is_defined: bool,
}

/// A `vrrp_instance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Where it begins.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Whether `state` says MASTER.
    pub begins_as_master: bool,
    priority: Option<u8>,
    version: Option<Protocol>,
    /// `advert_int`.
    pub advert: Option<Said<Seconds>>,
    missed: Option<u32>,
    /// `nopreempt`.
    pub nopreempt: Option<Place>,
    /// `authentication`, which VRRPv3 does not have.
    pub authentication: Option<Place>,
    /// The virtual addresses, with those that are excluded from the advertisements.
    pub addresses: Vec<Said<IpAddr>>,
    /// Those of `virtual_ipaddress` that are of another family than its first.
    pub of_another_family: Vec<Said<IpAddr>>,
    /// `track_script`.
    pub scripts: Vec<Tracked>,
    /// `track_process`.
    pub processes: Vec<Tracked>,
    /// What it runs.
    pub hooks: Vec<Hook>,
}

/// A `vrrp_sync_group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where it begins.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// `track_script`.
    pub scripts: Vec<Tracked>,
    /// `track_process`.
    pub processes: Vec<Tracked>,
    /// What it runs.
    pub hooks: Vec<Hook>,
}

impl Instance {
    /// Its priority: `priority`, or what `state` makes of it.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority.unwrap_or(if self.begins_as_master { OWNER } else { DEFAULT_PRIORITY })
    }

    /// The protocol that it speaks: IPv6 is for VRRPv3 only (vrrp_complete_instance).
    #[must_use]
    pub fn protocol(&self, global: &Global) -> Protocol {
        let is_v6 = self.addresses.first().is_some_and(|address| address.value.is_ipv6());
        if is_v6 { Protocol::Three } else { self.version.or(global.protocol).unwrap_or(Protocol::Two) }
    }

    /// When it takes over.
    #[must_use]
    pub fn timing(&self, global: &Global) -> Timing {
        Timing {
            protocol: self.protocol(global),
            advert: self.advert.as_ref().map_or(DEFAULT_ADVERT, |advert| advert.value.duration),
            priority: self.priority(),
            missed: self.missed.or(global.missed).unwrap_or(DEFAULT_MISSED),
        }
    }
}

/// The lines of `track_script` and `track_process`: `name`, `name weight 2`.
fn tracked(line: &Statement) -> Vec<Tracked> {
    let of = |one: &Statement| Tracked {
        place: one.place.clone(),
        name: one.keyword().to_owned(),
        weight: if one.word(1) == "weight" { one.word(2).parse().ok() } else { None },
        is_defined: true,
    };
    line.block.iter().filter(|one| one.is_known()).map(of).collect()
}

impl Instance {
    pub(super) fn new(statement: &Statement) -> Instance {
        Instance {
            place: statement.place.clone(),
            name: statement.word(1).to_owned(),
            begins_as_master: false,
            priority: None,
            version: None,
            advert: None,
            missed: None,
            nopreempt: None,
            authentication: None,
            addresses: Vec::new(),
            of_another_family: Vec::new(),
            scripts: Vec::new(),
            processes: Vec::new(),
            hooks: Vec::new(),
        }
    }

    pub(super) fn line(&mut self, line: &Statement, unclear: &mut Vec<Unclear>) {
        match line.keyword() {
            "state" => self.begins_as_master = line.word(1) == "MASTER",
            "priority" => self.priority = line.word(1).parse().ok().filter(|priority| *priority > 0),
            "version" => self.version = protocol_of(line).or(self.version),
            "advert_int" => self.advert = seconds_of(line).or(self.advert.take()),
            "down_timer_adverts" => self.missed = missed_of(line),
            "nopreempt" => self.nopreempt = Some(line.place.clone()),
            "authentication" => self.authentication = Some(line.place.clone()),
            "virtual_ipaddress" | "virtual_ipaddress_excluded" => self.addresses(line, unclear),
            "track_script" => self.scripts.extend(tracked(line)),
            "track_process" => self.processes.extend(tracked(line)),
            _ => self.hooks.extend(Hook::of(line)),
        }
    }

    fn addresses(&mut self, line: &Statement, unclear: &mut Vec<Unclear>) {
        let mut first = None;
        for one in &line.block {
            let word = one.keyword();
            let host = word.split_once('/').map_or(word, |(host, _)| host);
            match host.parse::<IpAddr>() {
                Ok(address) => {
                    let first = *first.get_or_insert(address.is_ipv4());
                    if line.keyword() == "virtual_ipaddress" && first != address.is_ipv4() {
                        self.of_another_family.push(Said::at(one, address));
                    }
                    self.addresses.push(Said::at(one, address));
                }
                // A definition has been told already.
                Err(_) if !one.is_known() => {}
                Err(_) => unclear.push(Unclear { place: one.place.clone(), why: Why::Address }),
            }
        }
    }
}

impl Group {
    pub(super) fn of(statement: &Statement) -> Group {
        let mut group = Group {
            place: statement.place.clone(),
            name: statement.word(1).to_owned(),
            scripts: Vec::new(),
            processes: Vec::new(),
            hooks: Vec::new(),
        };
        for line in &statement.block {
            match line.keyword() {
                "track_script" => group.scripts.extend(tracked(line)),
                "track_process" => group.processes.extend(tracked(line)),
                _ => group.hooks.extend(Hook::of(line)),
            }
        }
        group
    }
}
