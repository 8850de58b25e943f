//! The reading of configuration files, line by line: which section a line belongs to, and what it says.
//!
//! Pure; [`read`] is called with the texts by the driver. What `global` says is taken by [`super::global`].

use std::collections::HashMap;
use std::sync::Arc;

use super::address::{self, Around, BindAddress, Transport};
use super::carried;
use super::conditions::{Conditions, Truth};
use super::environment::{self, Environment};
use super::words::{self, Variable, Word, text};
use super::{Bind, Config, Peer, PeerName, Place, Presence, Section, Usesrc};
use crate::haproxy::alerts::sanitise;
use crate::haproxy::secrets::redact;

/// The longest text that is quoted back from a line.
const MAX_QUOTE: usize = 200;

/// The words that begin a section, all versions together (REGISTER_CONFIG_SECTION in HAProxy's source).
pub(super) const SECTIONS: [&str; 21] = [
    "global",
    "defaults",
    "listen",
    "frontend",
    "backend",
    "peers",
    "log-forward",
    "log-profile",
    "userlist",
    "mailers",
    "namespace_list",
    "resolvers",
    "cache",
    "program",
    "fcgi-app",
    "http-errors",
    "ring",
    "traces",
    "crt-store",
    "acme",
    "healthcheck",
];

/// The keywords of a proxy that may use a client's address as source.
const SOURCES: [&str; 4] = ["source", "server", "server-template", "default-server"];

/// Reads configuration files in HAProxy's order, whatever its environment: names, and texts that the caller has
/// bounded. Bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn read(files: &[(String, &[u8])]) -> Config {
    read_in(files, Environment::default())
}

/// Reads them as a HAProxy does that is started in this environment.
#[must_use]
pub fn read_in(files: &[(String, &[u8])], environment: Environment) -> Config {
    let mut reader = Reader { environment, ..Reader::default() };
    let lines = || files.iter().flat_map(|(_, text)| text.split(|&byte| byte == b'\n'));
    for (number, line) in lines().enumerate().filter(|(_, line)| environment::may_change(line)) {
        let words = words::split(&String::from_utf8_lossy(line), &Environment::default());
        reader.environment.foresee(number, &words);
    }
    let mut number = 0;
    for (name, text) in files {
        let file: Arc<str> = name.as_str().into();
        // HAProxy closes the last section at the end of each file, and an .if must end in its own
        reader.section = Arc::default();
        reader.conditions = Conditions::default();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let place = Place { file: file.clone(), line: u32::try_from(index + 1).unwrap_or(u32::MAX) };
            reader.environment.reach(number);
            number += 1;
            let words = words::split(&String::from_utf8_lossy(line), &reader.environment);
            if !words.is_empty() {
                reader.line(&place, &words);
            }
        }
        reader.end_section();
    }
    reader.config
}

#[derive(Default)]
struct Reader {
    config: Config,
    environment: Environment,
    conditions: Conditions,
    section: Arc<Section>,
    /// Whether this section began in a block that may not be taken.
    begun: Standing,
    /// `disabled` in the last `defaults`, in those that have a name, and in this section.
    defaults: Switch,
    named: HashMap<String, Switch>,
    proxy: Switch,
    /// The first bind and the first peer of this section, and what its `default-bind` says.
    section_binds: usize,
    section_peers: usize,
    default_bind: Vec<String>,
    /// Whether a `peers` section has begun, in this file or another.
    had_peers: bool,
    unix_prefix: Prefix,
    carried: carried::Reading,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Standing {
    #[default]
    Certain,
    Conditional,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Switch {
    #[default]
    Enabled,
    Disabled,
    /// An `.if` decides.
    Either,
}

impl Switch {
    /// A line says `wanted`.
    fn turn(&mut self, wanted: Switch, presence: Presence) {
        *self = if presence == Presence::Certain || *self == wanted { wanted } else { Switch::Either };
    }
}

/// The `prefix` of `unix-bind`, the first.
#[derive(Default)]
enum Prefix {
    #[default]
    None,
    Is(String),
    Unknown,
}

impl Prefix {
    fn known(&self) -> Option<&str> {
        match self {
            Prefix::None => Some(""),
            Prefix::Is(prefix) => Some(prefix),
            Prefix::Unknown => None,
        }
    }

    fn take(&mut self, words: &[Word], presence: Presence) {
        let at = words.iter().position(|word| word.text == "prefix");
        if let (Prefix::None, Some(word)) = (&self, at.and_then(|at| words.get(at + 1))) {
            *self = match (word.variable, presence) {
                (Variable::None, Presence::Certain) => Prefix::Is(word.text.clone()),
                _ => Prefix::Unknown,
            };
        }
    }
}

impl Reader {
    fn line(&mut self, place: &Place, words: &[Word]) {
        let first = text(words, 0);
        if self.conditions.take(words).is_some() {
            return;
        }
        let presence = match self.conditions.taken() {
            Truth::No => return,
            Truth::Yes if SECTIONS.contains(&first) || self.begun == Standing::Certain => Presence::Certain,
            Truth::Yes | Truth::Unknown => Presence::Conditional,
        };
        // `.notice`, `.warning`, `.alert`, `.diag`
        if first.starts_with('.') {
            return;
        }
        if SECTIONS.contains(&first) {
            return self.header(place, words, presence);
        }
        if SOURCES.contains(&first) && words.iter().any(|word| word.text == "usesrc") {
            let line: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            self.config.usesrc.push(Usesrc {
                place: place.clone(),
                section: self.section.clone(),
                text: sanitise(redact(&line.join(" ")).as_bytes(), MAX_QUOTE),
                presence,
            });
        }
        self.config.files.line(place, &self.section.kind, words, presence);
        self.carried.line(place, words, presence, &mut self.config.carried);
        match (self.section.kind.as_str(), first) {
            ("global", "unix-bind") => {
                self.keyword(place, words);
                self.unix_prefix.take(words, presence);
            }
            ("global", _) => {
                self.keyword(place, words);
                self.environment.line(words, presence);
                let around = Around {
                    transport: Transport::Tcp,
                    unix_prefix: self.unix_prefix.known(),
                    environment: &self.environment,
                };
                self.config.global.line(place, words, presence, around);
            }
            ("frontend" | "listen" | "peers" | "log-forward", "bind") => {
                self.bind(place, words, 1, Transport::Tcp, presence)
            }
            ("log-forward", "dgram-bind") => self.bind(place, words, 1, Transport::Udp, presence),
            ("peers", "default-bind") => {
                self.default_bind.extend(words.iter().skip(1).map(|word| word.text.clone()));
            }
            ("peers", "peer" | "server") => self.peer(place, words, presence),
            ("defaults", "disabled") => self.defaults.turn(Switch::Disabled, presence),
            ("defaults", "enabled") => self.defaults.turn(Switch::Enabled, presence),
            ("frontend" | "listen" | "peers", "disabled") => self.proxy.turn(Switch::Disabled, presence),
            ("frontend" | "listen" | "peers", "enabled") => self.proxy.turn(Switch::Enabled, presence),
            _ => {}
        }
    }

    fn keyword(&mut self, place: &Place, words: &[Word]) {
        let first = text(words, 0);
        let keywords = &mut self.config.keywords;
        keywords.entry(first.to_owned()).or_default().push(place.clone());
        if let Some(second) = words.get(1) {
            keywords.entry(format!("{first} {}", second.text)).or_default().push(place.clone());
        }
    }

    fn header(&mut self, place: &Place, words: &[Word], presence: Presence) {
        self.end_section();
        let section = Section { kind: text(words, 0).to_owned(), name: text(words, 1).to_owned() };
        let kind = section.kind.clone();
        self.section = Arc::new(section);
        self.begun = if presence == Presence::Certain { Standing::Certain } else { Standing::Conditional };
        // `from` names the defaults (2.4); those that aren't known are left to HAProxy
        let from = words.iter().position(|word| word.text == "from").filter(|at| *at > 0);
        let from = from.map(|at| text(words, at + 1));
        self.carried.begin(&kind, text(words, 1), from);
        self.config.files.begin_section();
        let inherited = match from {
            Some(from) => self.named.get(from).copied().unwrap_or(Switch::Either),
            None => self.defaults,
        };
        match kind.as_str() {
            "frontend" | "listen" => self.proxy = inherited,
            "defaults" => {
                let fresh =
                    if words.iter().any(|word| word.text == "from") { inherited } else { Switch::Enabled };
                self.defaults.turn(fresh, presence);
            }
            "peers" if !self.had_peers => {
                self.had_peers = true;
                let global = &mut self.config.global;
                global.localpeer_before_peers.clone_from(&global.localpeer);
            }
            _ => {}
        }
        // `listen name :80`, the syntax of before 1.7; a colon tells it from `listen name from defaults`
        if matches!(kind.as_str(), "frontend" | "listen") && text(words, 2).contains([':', '/', '@']) {
            self.bind(place, words, 2, Transport::Tcp, presence);
        }
    }

    /// `disabled` and `default-bind` count for their whole section, wherever they stand.
    fn end_section(&mut self) {
        self.carried.end(&self.section.kind, &self.section.name, &mut self.config.carried);
        if self.section.kind == "defaults" {
            self.named.insert(self.section.name.clone(), self.defaults);
        }
        let binds = self.config.binds[self.section_binds..].iter_mut();
        let peers = self.config.peers[self.section_peers..].iter_mut();
        let lines = binds.map(|bind| (&mut bind.presence, &mut bind.options));
        for (presence, options) in lines.chain(peers.map(|peer| (&mut peer.presence, &mut peer.options))) {
            match self.proxy {
                Switch::Enabled => {}
                Switch::Disabled => *presence = Presence::Disabled,
                Switch::Either => *presence = Presence::Conditional,
            }
            options.extend_from_slice(&self.default_bind);
        }
        self.proxy = Switch::Enabled;
        self.default_bind.clear();
        self.section_binds = self.config.binds.len();
        self.section_peers = self.config.peers.len();
    }

    fn addresses(&self, words: &[Word], at: usize, transport: Transport) -> Vec<BindAddress> {
        let unix_prefix = self.unix_prefix.known();
        address::of_word(words.get(at), Around { transport, unix_prefix, environment: &self.environment })
    }

    fn bind(&mut self, place: &Place, words: &[Word], at: usize, transport: Transport, presence: Presence) {
        self.config.binds.push(Bind {
            place: place.clone(),
            section: self.section.clone(),
            addresses: self.addresses(words, at, transport),
            options: words.iter().skip(at + 1).map(|word| word.text.clone()).collect(),
            presence,
        });
    }

    /// `peer <name> <address>`, or `server <name>` with an address unless it is this host's.
    fn peer(&mut self, place: &Place, words: &[Word], presence: Presence) {
        let listens = text(words, 0) == "peer" && text(words, 2).contains([':', '/', '@', '$']);
        self.config.peers.push(Peer {
            place: place.clone(),
            section: self.section.clone(),
            name: PeerName::of(words.get(1)),
            addresses: if listens { self.addresses(words, 2, Transport::Tcp) } else { Vec::new() },
            options: Vec::new(),
            presence,
        });
    }
}

#[cfg(test)]
mod tests;
