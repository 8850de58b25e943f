//! Words: command lines, options, versions.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Parser as _;
use hareload::cli::Cli;
use hareload::haproxy::argv::{self, CommandLine, Launch, Mode};
use hareload::haproxy::version::Version;
use hareload::keepalived::{self, deed};

use crate::{assert_safe, hostile};

#[test]
fn a_command_line_is_passed_on_as_it_was_meant() {
    let words: [&[u8]; 29] = [
        b"haproxy\0",
        b"-f\0",
        b"/etc/haproxy/haproxy.cfg\0",
        b"-D\0",
        b"-p\0",
        b"/run/haproxy.pid\0",
        b"-sf\0",
        b"-st\0",
        b"812\0",
        b"--\0",
        b"-C\0",
        b"-m\0",
        b"16\0",
        b"-n\0",
        b"-L\0",
        b"-de\0",
        b"-dr\0",
        b"-dV\0",
        b"-W\0",
        b"-Ws\0",
        b"-S\0",
        b"-x\0",
        b"-d\0",
        b"-db\0",
        b"-dM\0",
        b"-q\0",
        b"-\0",
        b"\0",
        b"-dL\0",
    ];
    hostile(&words, |text| {
        let line: Vec<OsString> =
            text.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).to_owned()).collect();
        if let Err(error) = argv::validate_extra(&line) {
            assert_safe(&error.to_string());
        }
        let command = match CommandLine::parse(&line) {
            Ok(command) => command,
            Err(error) => return assert_safe(&error.to_string()),
        };
        let launch = Launch {
            overlay: Some(PathBuf::from("/run/gen-1.cfg")),
            configs: command.configs.clone(),
            workdir: command.workdir.clone(),
            kept: command.kept.clone(),
            extra: Vec::new(),
            pidfile: PathBuf::from("/run/gen-1.pid"),
            transfer_from: None,
            signal_to: 77,
        };
        let words: Vec<OsString> = std::iter::once("haproxy".into()).chain(launch.args()).collect();
        let next = CommandLine::parse(&words).expect("what hareload starts is a command line");
        assert_eq!(next.configs.first().map(OsString::as_os_str), Some(OsStr::new("/run/gen-1.cfg")));
        assert_eq!(next.configs[1..], command.configs);
        assert_eq!((&next.workdir, &next.kept), (&command.workdir, &command.kept));
        assert_eq!((next.old_pids.as_slice(), next.mode), ([77].as_slice(), Mode::Daemon), "{words:?}");
        assert_eq!(next.pidfile.as_deref(), Some(OsStr::new("/run/gen-1.pid")));
    });
}

#[test]
fn an_option_is_taken_or_refused() {
    let words: [&[u8]; 24] = [
        b"http://",
        b"tcp://",
        b"exec:",
        b"127.0.0.1",
        b"[::1]",
        b":80",
        b":99999",
        b"/",
        b"=200",
        b"=",
        b"?a=b",
        b" ",
        b"1m",
        b"30s",
        b"-",
        b"ms",
        b"999999999999999h",
        b"P1Y",
        b"\r\n",
        b"\0",
        b"true",
        b"10 s",
        b"@",
        b"%",
    ];
    hostile(&words, |text| {
        let word = OsStr::from_bytes(text);
        for option in ["--probe", "--trial", "--drain-timeout", "--handover", "--config", "--instance"] {
            let _ =
                Cli::try_parse_from([OsStr::new("hareload"), OsStr::new("reload"), OsStr::new(option), word]);
        }
    });
}

#[test]
fn a_version_reads_back_as_it_is_written() {
    let words: [&[u8]; 16] = [
        b"HAProxy version ",
        b"HA-Proxy version ",
        b"2",
        b".",
        b"2.6.12",
        b"3.5-dev5",
        b"-1+deb12u4",
        b"+",
        b"-",
        b"~bpo",
        b"-dev",
        b"99999",
        b" 2026/10/17",
        b"\n",
        b"\x1b",
        b"-",
    ];
    hostile(&words, |text| {
        match Version::from_banner(text) {
            Ok(version) => assert_eq!(version.to_string().parse(), Ok(version)),
            Err(error) => assert_safe(&error.to_string()),
        }
        if let Ok(version) = String::from_utf8_lossy(text).parse::<Version>() {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
    });
}

#[test]
fn what_keepalived_is_started_with_and_runs_is_read() {
    let words: [&[u8]; 22] = [
        b"-f ",
        b"-f",
        b"--use-file=",
        b"--config-id ",
        b"-nlDg",
        b"-i",
        b"/etc/keepalived/keepalived.conf ",
        b"Keepalived v",
        b"2.2.7",
        b"99999999",
        b"(01/16,2022)",
        b"killall -0 haproxy\n",
        b"/usr/sbin/haproxy -D ",
        b"-sf $(cat /run/haproxy.pid)",
        b"systemctl restart haproxy;",
        b"hareload ",
        b"healthy",
        b"echo ",
        b"#!/bin/sh\n",
        b" && ",
        b"/",
        "é".as_bytes(),
    ];
    hostile(&words, |text| {
        let said = String::from_utf8_lossy(text);
        let options = keepalived::argv::read(said.split(' '));
        assert!(options.config.is_none_or(|config| said.contains(&config)));
        if let Some(version) = keepalived::version::Version::from_banner(text) {
            let again = format!("Keepalived v{version} (x)");
            assert_eq!(keepalived::version::Version::from_banner(again.as_bytes()), Some(version));
        }
        let deeds = deed::of_script(&said);
        assert!(deeds.is_sorted() && deeds.len() <= 7, "{deeds:?}");
    });
}
