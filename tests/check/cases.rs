//! Configurations, what `hareload check` says of each, and what HAProxy does with it.
//!
//! Read by the test's `main`, which holds each against a real start.

pub(crate) const WEB: &str = "frontend web\n bind 127.0.0.1:8080";

/// What HAProxy does with a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    /// It serves.
    Serves,
    /// `haproxy -c` finds nothing, and yet it ends.
    Fails,
    /// The same, and check only warns: it can't know.
    FailsUnnoticed,
    /// It serves up to 3.0; later ones read `global` twice, and find what its end has set.
    ServesIfReadOnce,
}
use Start::{Fails, FailsUnnoticed, Serves, ServesIfReadOnce};

/// `global`, the rest, the findings as `level:code`, and what HAProxy does.
pub(crate) type Case = (&'static str, &'static str, &'static str, &'static [&'static str], Start);

/// Those that need what 2.2 does not have: conditions, `log-forward`, `defaults` by name.
pub(crate) const CASES: [Case; 41] = [
    ("nothing_special", "", WEB, &[], Serves),
    // An alert that refuses nothing.
    ("maxconn_twice", "maxconn 90\n maxconn 80", WEB, &["warning:syntax"], Serves),
    ("user_twice", "user nobody\n user no-such-user", WEB, &["warning:syntax"], Serves),
    ("uid_that_is_no_number", "uid abc", WEB, &["warning:syntax"], Serves),
    // The pidfile is hareload's own.
    ("pidfile", "pidfile /no-such-dir/pid", WEB, &[], Serves),
    // Conditions.
    ("if_0", ".if 0\n chroot /no-such-jail\n .endif", WEB, &[], Serves),
    ("if_nothing", ".if\n chroot /no-such-jail\n .endif", WEB, &[], Serves),
    ("if_1", ".if 1\n chroot /no-such-jail\n .endif", WEB, &["error:chroot-missing"], Fails),
    ("if_not_0", ".if !0\n chroot /no-such-jail\n .endif", WEB, &["error:chroot-missing"], Fails),
    ("else_of_0", ".if 0\n .else\n chroot /no-such-jail\n .endif", WEB, &["error:chroot-missing"], Fails),
    ("else_of_1", ".if 1\n .else\n chroot /no-such-jail\n .endif", WEB, &[], Serves),
    (
        "elif",
        ".if 0\n .elif 1\n chroot /no-such-jail\n .else\n .endif",
        WEB,
        &["error:chroot-missing"],
        Fails,
    ),
    ("nested", ".if 0\n .if 1\n chroot /no-such-jail\n .endif\n .endif", WEB, &[], Serves),
    (
        "not_defined",
        ".if defined(NO_SUCH)\n chroot /no-such-jail\n .endif",
        WEB,
        &["warning:chroot-missing"],
        Serves,
    ),
    (
        "defined",
        ".if version_atleast(2.4)\n chroot /no-such-jail\n .endif",
        WEB,
        &["warning:chroot-missing"],
        FailsUnnoticed,
    ),
    (
        "bind_in_a_block",
        "",
        "frontend web\n bind 127.0.0.1:8080\n.if !defined(PATH)\n bind 198.51.100.7:8080\n.endif",
        &["warning:address-absent"],
        Serves,
    ),
    ("directives", ".diag a\n .notice b\n .warning c", WEB, &["warning:syntax"], Serves),
    ("directives_not_taken", ".if 0\n .alert a\n .warning b\n .endif", WEB, &[], Serves),
    // Variables; JAIL is not set, ROOT is `/`, NOWHERE is /no-such-jail.
    ("presetenv", "presetenv JAIL /no-such-jail\n chroot \"$JAIL\"", WEB, &["error:chroot-missing"], Fails),
    ("presetenv_of_what_is_set", "presetenv ROOT /no-such-jail\n chroot \"$ROOT\"", WEB, &[], Serves),
    ("setenv", "setenv ROOT /no-such-jail\n chroot \"${ROOT}\"", WEB, &["error:chroot-missing"], Fails),
    ("unsetenv", "unsetenv NOWHERE\n chroot \"${NOWHERE-/}\"", WEB, &[], Serves),
    ("resetenv", "resetenv PATH\n chroot \"${ROOT-/no-such-jail}\"", WEB, &["error:chroot-missing"], Fails),
    ("environment", "chroot \"$NOWHERE\"", WEB, &["error:chroot-missing"], Fails),
    ("default", "chroot \"${JAIL-/no-such-jail}\"", WEB, &["error:chroot-missing"], Fails),
    (
        "setenv_in_a_block",
        ".if defined(ROOT)\n setenv NOWHERE /\n .endif\n chroot \"$NOWHERE\"",
        WEB,
        &[],
        Serves,
    ),
    ("set_later", "presetenv A /\n chroot \"$A\"\n setenv A /no-such-jail", WEB, &[], ServesIfReadOnce),
    (
        "variables_in_addresses",
        "setenv HOST 198.51.100.7",
        "frontend web\n bind 127.0.0.1:8080\n bind \"${HOST}:8080\"\n bind $HOST:8081",
        &["error:address-absent", "error:address-absent"],
        Fails,
    ),
    // Who holds what: 127.0.0.1:9202 TCP and UDP, and 127.0.0.1:9203 with SO_REUSEPORT.
    ("admin_held", "stats socket ipv4@127.0.0.1:9202", WEB, &["error:port-held"], Fails),
    ("held", "", "frontend web\n bind ipv4@127.0.0.1:9202", &["error:port-held"], Fails),
    ("held_by_name", "", "frontend web\n bind tcp4@:9202", &["error:port-held"], Fails),
    ("held_in_ipv4_only", "", "frontend web\n bind ipv6@:9202 v6only", &[], Serves),
    ("held_and_shared", "", "frontend web\n bind 127.0.0.1:9203", &["warning:port-shared"], Serves),
    (
        "datagrams_held",
        "",
        "frontend web\n bind 127.0.0.1:8080\nlog-forward l\n dgram-bind udp@127.0.0.1:9202\n log 127.0.0.1:9 local0",
        &["warning:port-held"],
        FailsUnnoticed,
    ),
    // Others.
    (
        "a_word_that_is_no_source",
        "user nobody",
        "frontend web\n bind 127.0.0.1:8080\n http-request set-header x usesrc",
        &[],
        Serves,
    ),
    (
        "defaults_by_name",
        "",
        "defaults off\n mode http\n disabled\ndefaults on\n mode http\nfrontend a from off\n bind 198.51.100.7:80\nfrontend b from on\n bind 127.0.0.1:8080\n timeout client 1s",
        &[],
        Serves,
    ),
    ("link_local", "", "frontend web\n bind 127.0.0.1:8080\n bind [fe80::1]:8080 interface lo", &[], Serves),
    (
        "run_is_made_at_the_start",
        "chroot /run/no-such-directory",
        WEB,
        &["warning:chroot-missing"],
        FailsUnnoticed,
    ),
    (
        "twice_on_the_sides_of_an_if",
        "noreuseport",
        "frontend web\n.if defined(PATH)\n bind 127.0.0.1:8080\n.else\n bind 127.0.0.1:8080\n.endif",
        &[],
        Serves,
    ),
    (
        "twice_if",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\n.if defined(PATH)\n bind :8080\n.endif",
        &["warning:address-twice"],
        FailsUnnoticed,
    ),
    (
        "datagrams_twice",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\nlog-forward l\n dgram-bind 127.0.0.1:514\n dgram-bind 127.0.0.1:514\n \
         log 127.0.0.1:9 local0",
        &[],
        Serves,
    ),
];

/// Those of every version. HOST_NAME is the host's, HERE has a `directory`, a `file` and a `link` to the directory, and
/// FILE_IN_RUN is a file.
pub(crate) const CASES_OF_ALL: [Case; 27] = [
    // This host's peer is a listener.
    (
        "peer",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer me 127.0.0.1:9202",
        &["error:port-held"],
        Fails,
    ),
    (
        "peer_by_host_name",
        "",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer \"$HOST_NAME\" 127.0.0.1:9202",
        &["error:port-held"],
        Fails,
    ),
    (
        "peer_by_variable",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer \"${HAPROXY_LOCALPEER}\" 127.0.0.1:9202",
        &["error:port-held"],
        Fails,
    ),
    (
        "peer_elsewhere",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer me 198.51.100.7:80",
        &["error:address-absent"],
        Fails,
    ),
    (
        "peer_that_is_free",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer me 127.0.0.1:8081",
        &[],
        Serves,
    ),
    (
        "peer_of_another_host",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer me 127.0.0.1:8081\n peer you 127.0.0.1:9202",
        &[],
        Serves,
    ),
    (
        "peers_disabled",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer me 127.0.0.1:9202\n disabled",
        &[],
        Serves,
    ),
    (
        "peers_bind",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n bind 127.0.0.1:9202\n server me\n server you 127.0.0.1:9",
        &["error:port-held"],
        Fails,
    ),
    (
        "peers_bind_of_other_hosts",
        "localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n bind 127.0.0.1:9202\n server you 127.0.0.1:9",
        &["warning:haproxy"],
        Serves,
    ),
    // Without SO_REUSEPORT.
    ("twice_shared", "", "frontend web\n bind 127.0.0.1:8080\n bind 127.0.0.1:8080", &[], Serves),
    (
        "twice",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\n bind 127.0.0.1:8080",
        &["error:address-twice"],
        Fails,
    ),
    (
        "twice_on_one_line",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080,127.0.0.1:8080",
        &["error:address-twice"],
        Fails,
    ),
    (
        "twice_by_a_wildcard",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\nfrontend b\n bind :8080",
        &["error:address-twice"],
        Fails,
    ),
    (
        "twice_in_ranges",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\n bind 127.0.0.1:8083-8090\n bind 127.0.0.1:8081-8085",
        &["error:address-twice"],
        Fails,
    ),
    (
        "twice_in_both_families",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\n bind :::8080",
        &["error:address-twice"],
        Fails,
    ),
    (
        "once_in_each_family",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\n bind :::8080 v6only",
        &[],
        Serves,
    ),
    (
        "once_on_each_address",
        "noreuseport",
        "frontend web\n bind 127.0.0.1:8080\n bind 127.0.0.2:8080\n bind 127.0.0.1:8081",
        &[],
        Serves,
    ),
    (
        "twice_by_an_admin_socket",
        "noreuseport\n stats socket ipv4@127.0.0.1:8080",
        WEB,
        &["error:address-twice"],
        Fails,
    ),
    (
        "twice_by_a_peer",
        "noreuseport\n localpeer me",
        "frontend web\n bind 127.0.0.1:8080\npeers p\n peer me 127.0.0.1:8080",
        &["error:address-twice"],
        Fails,
    ),
    // What has a socket's path already.
    (
        "unix_directory",
        "",
        "frontend web\n bind 127.0.0.1:8080\n bind \"$HERE/directory\"",
        &["error:path-occupied"],
        Fails,
    ),
    ("admin_directory", "stats socket \"$HERE/directory\"", WEB, &["error:path-occupied"], Fails),
    ("unix_link_to_a_directory", "", "frontend web\n bind 127.0.0.1:8080\n bind \"$HERE/link\"", &[], Serves),
    (
        "unix_file",
        "",
        "frontend web\n bind 127.0.0.1:8080\n bind \"$HERE/file\"",
        &["warning:path-occupied"],
        Serves,
    ),
    (
        "unix_below_a_file",
        "",
        "frontend web\n bind 127.0.0.1:8080\n bind \"$HERE/file/s\"",
        &["error:directory-missing"],
        Fails,
    ),
    // A chroot that is none.
    ("chroot_file", "chroot \"$HERE/file\"", WEB, &["error:chroot-no-directory"], Fails),
    ("chroot_file_in_run", "chroot \"$FILE_IN_RUN\"", WEB, &["error:chroot-no-directory"], Fails),
    ("chroot_below_a_file", "chroot \"$FILE_IN_RUN/x\"", WEB, &["error:chroot-no-directory"], Fails),
];
