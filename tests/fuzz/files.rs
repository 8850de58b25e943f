//! Files: pidfiles, configurations, overlays, what distributions start with.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use hareload::haproxy::argv;
use hareload::haproxy::defaults::{self, Defaults};
use hareload::haproxy::overlay::Overlay;
use hareload::haproxy::{config, pidfile};
use hareload::keepalived::pattern;
use hareload::keepalived::reader::{self, Text};

use crate::{assert_safe, hostile};

#[test]
fn a_pidfile_gives_pids_or_an_error() {
    hostile(
        &[b"1", b"812", b"4194304", b"4194305", b"\n", b"\r\n", b" ", b"-1", b"+5", b"0", b"\0"],
        |text| {
            if let Ok(pids) = pidfile::parse(text) {
                assert!(!pids.is_empty() && pids.len() <= pidfile::MAX_PIDS);
                assert!(pids.iter().all(|pid| (2..=pidfile::MAX_PID).contains(pid)), "{pids:?}");
                assert_eq!(pidfile::parse(pidfile::render(&pids).as_bytes()), Ok(pids));
            }
        },
    );
}

#[test]
fn a_configuration_is_read_within_its_lines() {
    let words: [&[u8]; 34] = [
        b"\nglobal\n",
        b"\ndefaults\n",
        b"\nfrontend f\n",
        b"\nlisten l\n",
        b"\nbackend b\n",
        b"\npeers p\n",
        b"chroot ",
        b"/srv",
        b"maxconn ",
        b"bind ",
        b"127.0.0.1:80",
        b"[::1]:443",
        b":::80-90",
        b"*:1-65536",
        b",",
        b"fd@3",
        b"abns@x",
        b"unix@/run/x",
        b"sockpair@1",
        b"quic4@:443",
        b" usesrc clientip",
        b"stats socket ",
        b" level admin",
        b" expose-fd listeners",
        b"pidfile ",
        b"\"",
        b"'",
        b"\\",
        b"\\x",
        b"#",
        b"$PORT",
        b"${HOME}",
        b".if 1\n",
        b".endif\n",
    ];
    hostile(&words, |text| {
        let files = [("one".to_owned(), text), ("two".to_owned(), text)];
        let read = config::read(&files);
        let lines = text.split(|byte| *byte == b'\n').count();
        for bind in &read.binds {
            assert!((1..=lines).contains(&(bind.place.line as usize)), "line {} of {lines}", bind.place.line);
            assert!(["one", "two"].contains(&&*bind.place.file));
        }
        assert!(read.listening().count() <= read.binds.len());
    });
}

#[test]
fn an_overlay_never_says_more_than_it_should() {
    let words: [&[u8]; 14] = [
        b"/run/",
        b"/",
        b"x.sock",
        b" ",
        b"\"",
        b"'",
        b"\\",
        b"#",
        b"$HOME",
        b",",
        b"\n    stats socket /tmp/y\n",
        b"${X}",
        b"unix@",
        "é".as_bytes(),
    ];
    hostile(&words, |text| {
        let path = Path::new(OsStr::from_bytes(text));
        let overlay =
            Overlay { admin_socket: path.to_owned(), hard_stop_after: Some(Duration::from_secs(9)) };
        let rendered = match overlay.render() {
            Ok(rendered) => rendered,
            Err(error) => return assert_safe(&error.to_string()),
        };
        let directives: Vec<&str> = rendered.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!((directives.len(), directives[0]), (3, "global"), "{rendered}");
        assert!(
            directives[1].starts_with("    stats socket \"") && directives[2] == "    hard-stop-after 9000ms"
        );
        let read = config::read(&[("overlay".to_owned(), rendered.as_bytes())]);
        assert_eq!(read.global.stats_sockets.len(), 1, "{rendered}");
        assert_eq!(read.global.stats_sockets[0].path(), path.to_str(), "{rendered}");
        assert!(read.binds.is_empty());
    });
}

#[test]
fn a_distributions_file_gives_settings_or_an_error() {
    let words: [&[u8]; 27] = [
        b"CONFIG=",
        b"EXTRAOPTS=",
        b"OPTIONS=",
        b"CFGDIR=",
        b"export ",
        b"# ",
        b"\"",
        b"'",
        b"\\",
        b"\\\n",
        b"\n",
        b" ",
        b"/etc/haproxy/haproxy.cfg",
        b"-m 16",
        b"-f ",
        b"-x ",
        b"-C ",
        b"-de",
        b"-Ws",
        b"$(id)",
        b"$X",
        b"`id`",
        b"~",
        b";",
        b"=",
        b"\0",
        "é".as_bytes(),
    ];
    hostile(&words, |text| match Defaults::read(text) {
        Err(error) => {
            assert_safe(&error.to_string());
            assert!(error.to_string().len() < 400, "{error}");
        }
        Ok(said) => {
            assert!(text.len() <= defaults::MAX_BYTES);
            let configs = said.configs.into_iter().flatten();
            assert!(configs.chain(said.haproxy).chain(said.pidfile).all(|path| path.is_absolute()));
            // What comes out can be passed on.
            assert_eq!(argv::validate_extra(&said.options.unwrap_or_default()), Ok(()));
        }
    });
}

#[test]
fn a_keepaliveds_configuration_is_read_within_its_lines() {
    let words: [&[u8]; 40] = [
        b"\nglobal_defs {\n",
        b"\nvrrp_instance a {\n",
        b"\nvrrp_script b\n{\n",
        b"\nvrrp_track_process c {\n",
        b"\nvrrp_sync_group d {\n",
        b"\n}\n",
        b"{",
        b"}",
        b"script_user root",
        b"script ",
        b"notify_master ",
        b"notify_fifo_script ",
        b"virtual_ipaddress {\n",
        b"192.0.2.10/24",
        b"2001:db8::10",
        b"track_script {\n",
        b"b weight -300 reverse\n",
        b"interval 0.5",
        b"advert_int ",
        b"1e9",
        b"99999999999999999999",
        b"fall 4294967295",
        b"priority 256",
        b"version 3",
        b"\"",
        b"'",
        b"\\",
        b"\\\n",
        b"#",
        b"!",
        b"\n@one ",
        b"\n@^one ",
        b"\n$A=",
        b"$A",
        b"${A}",
        b"${_RANDOM 1 2}",
        b"\n~SEQ(A, 1, 9) ",
        b"\ninclude *",
        b"/usr/sbin/hareload notify",
        "é".as_bytes(),
    ];
    hostile(&words, |text| {
        let file = |name: &str| Text { name: name.to_owned(), text: text.to_vec() };
        let mut left = 20;
        let read = reader::read(&file("one"), Some("one"), &mut |include| {
            assert!(["one", "two"].contains(&include.from));
            for one in pattern::alternatives(include.pattern) {
                let _ = pattern::matches(&one, "a.conf");
            }
            left -= 1;
            if left > 0 { vec![file("two")] } else { Vec::new() }
        });
        let lines = text.split(|byte| *byte == b'\n').count();
        let places = read.instances.iter().map(|instance| &instance.place);
        let places = places.chain(read.hooks().map(|hook| &hook.script.place));
        for place in places.chain(read.unclear.iter().map(|unclear| &unclear.place)) {
            assert!((1..=lines).contains(&(place.line as usize)), "{place} of {lines}");
        }
        for instance in &read.instances {
            let timing = instance.timing(&read.global);
            assert!(timing.after_crash() > timing.after_farewell() && instance.priority() > 0);
        }
        assert!(read.hooks().all(|hook| !hook.script.program().is_empty()));
    });
}
