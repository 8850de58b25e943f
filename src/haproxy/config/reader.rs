//! The reading of configuration files, line by line: which section a line belongs to, and what it says.
//!
//! Pure; [`read`] is called with the texts by the driver. What `global` says is taken by [`super::global`].

use std::collections::HashMap;
use std::sync::Arc;

use super::address::{self, Around, BindAddress, Transport};
use super::conditions::{Conditions, Truth};
use super::environment::{self, Environment};
use super::words::{self, Variable, Word, text};
use super::{Bind, Config, Peer, Place, Presence, Section, Usesrc};
use crate::haproxy::alerts::sanitise;

/// The longest text that is quoted back from a line.
const MAX_QUOTE: usize = 200;

/// The words that begin a section, all versions together (REGISTER_CONFIG_SECTION in HAProxy's source).
const SECTIONS: [&str; 21] = [
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
    /// The first bind of this section.
    section_binds: usize,
    unix_prefix: Prefix,
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
                text: sanitise(line.join(" ").as_bytes(), MAX_QUOTE),
                presence,
            });
        }
        self.config.files.line(place, &self.section.kind, words);
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
            ("peers", "peer" | "server") => self.peer(place, words),
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
        self.section_binds = self.config.binds.len();
        // `from` names the defaults (2.4); those that aren't known are left to HAProxy
        let inherited = match words.iter().position(|word| word.text == "from") {
            Some(at) if at > 0 => self.named.get(text(words, at + 1)).copied().unwrap_or(Switch::Either),
            _ => self.defaults,
        };
        match kind.as_str() {
            "frontend" | "listen" => self.proxy = inherited,
            "defaults" => {
                let fresh =
                    if words.iter().any(|word| word.text == "from") { inherited } else { Switch::Enabled };
                self.defaults.turn(fresh, presence);
            }
            _ => {}
        }
        // `listen name :80`, the syntax of before 1.7; a colon tells it from `listen name from defaults`
        if matches!(kind.as_str(), "frontend" | "listen") && text(words, 2).contains([':', '/', '@']) {
            self.bind(place, words, 2, Transport::Tcp, presence);
        }
    }

    /// `disabled` counts for its whole section, wherever it stands.
    fn end_section(&mut self) {
        if self.section.kind == "defaults" {
            self.named.insert(self.section.name.clone(), self.defaults);
        }
        for bind in &mut self.config.binds[self.section_binds..] {
            match self.proxy {
                Switch::Enabled => {}
                Switch::Disabled => bind.presence = Presence::Disabled,
                Switch::Either => bind.presence = Presence::Conditional,
            }
        }
        self.proxy = Switch::Enabled;
        self.section_binds = self.config.binds.len();
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

    /// `peer <name> <address>`; without an address it is this host's, and a `bind` line says where it listens.
    fn peer(&mut self, place: &Place, words: &[Word]) {
        let address = text(words, 2);
        if address.contains([':', '/', '@']) {
            self.config.peers.push(Peer {
                place: place.clone(),
                section: self.section.clone(),
                name: text(words, 1).to_owned(),
                addresses: self.addresses(words, 2, Transport::Tcp),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::{AddressKind, AdminLevel, ExposeFd};

    fn config(text: &str) -> Config {
        read(&[("h.cfg".to_owned(), text.as_bytes())])
    }

    fn addresses(config: &Config) -> Vec<&str> {
        config.listening().flat_map(|bind| &bind.addresses).map(|address| address.text.as_str()).collect()
    }

    const DEBIAN: &str = "global
	log /dev/log	local0
	chroot /var/lib/haproxy
	stats socket /run/haproxy/admin.sock mode 660 level admin
	stats timeout 30s
	user haproxy
	group haproxy
	daemon
	maxconn \"${MAXCONN}\"

defaults
	mode	http
	errorfile 400 /etc/haproxy/errors/400.http

frontend web
	bind 10.0.0.1:80,10.0.0.2:80 name 'a b'
	bind :443 ssl crt /etc/ssl/x.pem # bind :444
	default_backend app

backend app
	source 0.0.0.0 usesrc clientip
	server a 10.0.1.1:80 check
";

    #[test]
    fn debians_configuration_is_read() {
        let config = config(DEBIAN);
        let global = &config.global;
        let chroot = global.chroot.as_ref().expect("chroot");
        assert_eq!(
            (chroot.value(), chroot.place.to_string().as_str()),
            (Some("/var/lib/haproxy"), "h.cfg:3")
        );
        let socket = &global.stats_sockets[0];
        assert_eq!(
            (socket.path(), socket.level, socket.expose_fd),
            (Some("/run/haproxy/admin.sock"), AdminLevel::Admin, ExposeFd::Nothing)
        );
        assert!(global.daemon.is_some() && global.noreuseport.is_none() && global.master_worker.is_none());
        let maxconn = global.maxconn.as_ref().expect("maxconn");
        assert_eq!((maxconn.number(), maxconn.text.as_str()), (None, "${MAXCONN}"), "only HAProxy knows");
        assert_eq!(addresses(&config), ["10.0.0.1:80", "10.0.0.2:80", ":443"]);
        assert_eq!(config.binds[1].options, ["ssl", "crt", "/etc/ssl/x.pem"]);
        assert_eq!(config.binds[1].section.to_string(), "frontend web");
        assert_eq!(
            (config.usesrc[0].place.line, config.usesrc[0].text.as_str()),
            (21, "source 0.0.0.0 usesrc clientip")
        );
    }

    #[test]
    fn every_way_to_listen_is_found() {
        let config = config(
            "global\n unix-bind prefix /jail user x\n stats socket ipv4@127.0.0.1:9999 level operator expose-fd listeners\n\
             listen old 127.0.0.1:1111\n listen new from base\n bind /run/x.sock\nfrontend f\n bind quic4@:443 ssl\n bind \"$X:1\"\n\
             peers p\n bind :1024\n peer me\n peer other 10.0.0.9:1024\nlog-forward l\n bind :514\n dgram-bind 127.0.0.1:514\n\
             backend b\n bind :5\n",
        );
        assert_eq!(
            addresses(&config),
            ["127.0.0.1:1111", "/run/x.sock", "quic4@:443", "$X:1", ":1024", ":514", "127.0.0.1:514"]
        );
        assert_eq!(config.binds[1].addresses[0].kind, AddressKind::Unix("/jail/run/x.sock".into()));
        assert_eq!(config.binds[3].addresses[0].kind, AddressKind::Unresolved);
        assert!(matches!(
            config.binds[6].addresses[0].kind,
            AddressKind::Inet { transport: Transport::Udp, .. }
        ));
        assert_eq!((config.peers.len(), config.peers[0].name.as_str()), (1, "other"));
        assert_eq!(
            (config.global.stats_sockets[0].path(), config.global.stats_sockets[0].expose_fd),
            (None, ExposeFd::Listeners)
        );
    }

    #[test]
    fn binds_that_may_not_be_there_are_marked() {
        let config = config(
            ".if defined(X)\nfrontend a\n bind :1\n.else\nfrontend b\n bind :2\n.endif\nfrontend c\n bind :3\n\
             frontend d\n bind :4\n disabled\ndefaults\n disabled\nfrontend e\n bind :5\nfrontend f\n enabled\n bind :6\n",
        );
        let presences: Vec<_> = config.binds.iter().map(|bind| bind.presence).collect();
        use Presence::{Certain, Conditional, Disabled};
        assert_eq!(presences, [Conditional, Conditional, Certain, Disabled, Disabled, Certain]);
        assert_eq!(addresses(&config), [":1", ":2", ":3", ":6"]);
    }

    #[test]
    fn what_depends_on_a_condition_is_marked() {
        let config = config(
            "global\n.if 0\n chroot /0\n user 0\n.elif feature(X)\n chroot /1\n.else\n chroot /2\n.endif\n\
             chroot /3\n stats socket :7\n\
             frontend a\n.if feature(X)\n disabled\n.endif\n bind :1\n.if 0\nfrontend b\n bind :2\n.endif\n bind :3\n\
             .if feature(X)\nfrontend c\n.endif\n bind :4\nfrontend d\n bind :5\n",
        );
        use Presence::{Certain, Conditional};
        let chroot = config.global.chroot.as_ref().expect("a chroot");
        assert_eq!((chroot.value(), chroot.presence), (Some("/1"), Conditional));
        assert_eq!((config.global.user.as_ref(), config.occurrences("user")), (None, &[][..]));
        assert_eq!(config.global.stats_sockets[0].presence, Certain);
        let binds: Vec<_> =
            config.binds.iter().map(|bind| (bind.addresses[0].text.as_str(), bind.presence)).collect();
        assert_eq!(binds, [(":1", Conditional), (":3", Conditional), (":4", Conditional), (":5", Certain)]);
    }

    #[test]
    fn defaults_are_inherited_by_their_name() {
        let config = config(
            "defaults off\n disabled\ndefaults on\ndefaults too from off\nfrontend a from off\n bind :1\n\
             frontend b from on\n bind :2\nfrontend c\n bind :3\nlisten d from odd\n bind :4\n",
        );
        let presences: Vec<_> = config.binds.iter().map(|bind| bind.presence).collect();
        use Presence::{Certain, Conditional, Disabled};
        assert_eq!(presences, [Disabled, Certain, Disabled, Conditional]);
    }

    #[test]
    fn a_prefix_that_is_not_known_leaves_paths_unknown() {
        for prefix in ["unix-bind prefix \"$X\"", ".if feature(X)\nunix-bind prefix /jail\n.endif"] {
            let config = config(&format!("global\n{prefix}\nfrontend f\n bind /run/x\n"));
            assert_eq!(config.binds[0].addresses[0].kind, AddressKind::Unresolved, "{prefix}");
        }
        let first = config("global\nunix-bind prefix /a\nunix-bind prefix /b\nfrontend f\n bind /run/x\n");
        assert_eq!(first.binds[0].addresses[0].kind, AddressKind::Unix("/a/run/x".into()));
    }

    #[test]
    fn usesrc_is_a_word_of_sources_only() {
        let config = config(
            "backend b\n http-request set-header x usesrc\n server s :1 source 0.0.0.0 usesrc client\n",
        );
        assert_eq!(config.usesrc.iter().map(|usesrc| usesrc.place.line).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn keywords_are_found_where_they_stand() {
        let config = config(
            "global\n setcap cap_net_admin\n\nbackend b\n option httpchk\nglobal\n no strict-limits\n no quic\n",
        );
        assert_eq!(config.occurrences("setcap").iter().map(|place| place.line).collect::<Vec<_>>(), [2]);
        assert_eq!(config.occurrences("no").len(), 2);
        assert_eq!(config.occurrences("no strict-limits")[0].line, 7);
        assert!(config.occurrences("option").is_empty(), "not in global");
        assert!(config.occurrences("absent").is_empty());
    }

    #[test]
    fn nothing_makes_reading_fail() {
        let noise: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let _ = read(&[("n".to_owned(), &noise)]);
        for odd in [
            "",
            "\n\n",
            "bind",
            "global\nno",
            "global\nstats socket",
            "peers\npeer",
            ".endif\n.endif",
            "listen",
            "frontend x :",
        ] {
            let _ = config(odd);
        }
    }
}
