//! The reading, held against what HAProxy makes of the same lines.

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
    assert_eq!((chroot.value(), chroot.place.to_string().as_str()), (Some("/var/lib/haproxy"), "h.cfg:3"));
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
    assert!(matches!(config.binds[6].addresses[0].kind, AddressKind::Inet { transport: Transport::Udp, .. }));
    assert_eq!(config.peers[1].name, PeerName::Is("other".into()));
    assert_eq!((config.peers[0].addresses.len(), config.peers[1].addresses.len()), (0, 1));
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
fn a_peers_section_is_read_whole() {
    let config = config(
        "global\n localpeer early\npeers p\n peer \"${HAPROXY_LOCALPEER}\" :1\n peer \"$X\" :2\n default-bind v6only\n\
         global\n localpeer late\npeers q\n server a :3\n bind :4\n disabled\n.if feature(X)\npeers r\n.endif\n peer b :5\n",
    );
    use Presence::{Certain, Conditional, Disabled};
    let value = |setting: &Option<_>| {
        setting.as_ref().and_then(|it: &super::super::Setting| it.value()).map(str::to_owned)
    };
    assert_eq!(value(&config.global.localpeer).as_deref(), Some("late"));
    assert_eq!(value(&config.global.localpeer_before_peers).as_deref(), Some("early"));
    let peers: Vec<_> =
        config.peers.iter().map(|peer| (&peer.name, peer.addresses.len(), peer.presence)).collect();
    let named = |name: &str| PeerName::Is(name.to_owned());
    assert_eq!(
        peers,
        [
            (&PeerName::Local, 1, Certain),
            (&PeerName::Unknown, 1, Certain),
            (&named("a"), 0, Disabled),
            (&named("b"), 1, Conditional)
        ]
    );
    assert_eq!(
        (config.peers[0].options.as_slice(), config.binds[0].presence),
        (&["v6only".to_owned()][..], Disabled)
    );
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
    let config =
        config("backend b\n http-request set-header x usesrc\n server s :1 source 0.0.0.0 usesrc client\n");
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
