//! Everything that reads outside text, given text that nobody would write.
//!
//! Texts are made of the words that a reader looks for, of numbers and of any bytes, so that they get further than
//! noise does. No reader may panic, and whatever it gives back must hold what its documentation promises. Each target
//! runs for a second; `HARELOAD_FUZZ_SECONDS=600 cargo test --test fuzz` gives each ten minutes. A failure prints the
//! smallest text found and `BOLERO_RANDOM_SEED`, with which the run can be repeated.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::RefUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bolero::{ValueGenerator as _, produce};
use clap::Parser as _;
use hareload::cli::Cli;
use hareload::haproxy::alerts::{self, BindAddress};
use hareload::haproxy::argv::{self, CommandLine, Launch, Mode};
use hareload::haproxy::defaults::{self, Defaults};
use hareload::haproxy::overlay::Overlay;
use hareload::haproxy::runtime::{self, Health, Info, ReplyError, Statistics};
use hareload::haproxy::version::Version;
use hareload::haproxy::{config, pidfile};
use hareload::os::systemd::{self, Unit};

/// How long each target runs unless `HARELOAD_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 1;

/// The most pieces of which a text is made.
const PIECES: usize = 200;

/// One piece of a text: what kind, and which.
type Piece = (u8, u8);

/// Gives `check` texts made of these words for as long as a target runs.
fn hostile(words: &[&[u8]], check: impl Fn(&[u8]) + RefUnwindSafe) {
    let seconds = std::env::var("HARELOAD_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
    bolero::check!()
        .with_generator(
            produce::<Vec<Piece>>().with().len(0..PIECES).map_gen(move |pieces| text(&words, &pieces)),
        )
        .with_max_len(2 * PIECES + 16)
        .with_test_time(Duration::from_secs(seconds.unwrap_or(SECONDS)))
        .for_each(|text: &Vec<u8>| check(text));
}

fn text(words: &[Vec<u8>], pieces: &[Piece]) -> Vec<u8> {
    let mut text = Vec::new();
    for (kind, which) in pieces {
        match kind {
            0..150 => text.extend_from_slice(&words[usize::from(*which) % words.len()]),
            150..180 => {
                text.extend_from_slice(b" \n"[usize::from(*which) % 2..].get(..1).unwrap_or_default())
            }
            180..200 => text.extend_from_slice(which.to_string().as_bytes()),
            200..205 => text.extend_from_slice(&u64::MAX.to_be_bytes().map(|byte| byte ^ which)),
            205..210 => text.extend_from_slice(i64::MIN.to_string().as_bytes()),
            210..212 => text.extend(std::iter::repeat_n(*which, 5000)),
            212..=255 => text.push(*which),
        }
    }
    text
}

fn assert_safe(text: &str) {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    assert!(!text.contains(harmful), "{text:?} is not safe for terminals");
}

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
fn what_haproxy_prints_is_bounded_and_safe_to_show() {
    let words: [&[u8]; 24] = [
        b"[ALERT]    (812) : ",
        b"[WARNING] 325/162048 (812) : ",
        b"[NOTICE]   (1) : ",
        b"[DIAG]",
        b"\n",
        b"Starting frontend fe: cannot bind socket ",
        b"Binding [/etc/haproxy.cfg:12] for frontend fe: ",
        b"protocol tcpv4: ",
        b"cannot bind socket (Address already in use) for [",
        b"127.0.0.1:80",
        b"]",
        b"[::1:80]",
        b"[/run/admin.sock]",
        b"[fd 3]",
        b"parsing [/etc/haproxy.cfg:4294967296] : ",
        b"unknown keyword 'x'",
        b"[haproxy.main()] ",
        b"Cannot chroot(",
        b")",
        b"Cannot fork.",
        b"\x1b[31m",
        "\u{202e}".as_bytes(),
        b"\t",
        b"Failed to get the sockets from the old process!",
    ];
    hostile(&words, |text| {
        for max in [0, 1, 3, 60, alerts::MAX_TEXT] {
            let safe = alerts::sanitise(text, max);
            assert_safe(&safe);
            assert!(safe.len() <= max, "{} bytes of {max}", safe.len());
        }
        let alerts = alerts::parse(text);
        assert!(alerts.len() <= alerts::MAX_ALERTS);
        for alert in &alerts {
            assert_safe(&alert.text);
            alert.detail.iter().chain(&alert.file).for_each(|text| assert_safe(text));
            assert!(alert.text.len() <= alerts::MAX_TEXT);
        }
        alerts::gist(&alerts).iter().for_each(|line| assert_safe(line));
        for address in alerts::bind_conflicts(&alerts) {
            match address {
                BindAddress::Inet(address) => {
                    assert_eq!(BindAddress::read(&address.to_string()), BindAddress::Inet(address))
                }
                BindAddress::Unix(text) | BindAddress::Other(text) => assert_safe(&text),
            }
        }
    });
}

#[test]
fn a_reply_to_show_info_names_who_answers() {
    let words: [&[u8]; 18] = [
        b"Name: HAProxy\n",
        b"Version: 2.6.12\n",
        b"Pid: ",
        b"812\n",
        b"Pid: 812\n",
        b"Stopping: ",
        b"1\n",
        b"Jobs: ",
        b"Unstoppable Jobs: 0\n",
        b"CurrConns: ",
        b"Uptime_sec: ",
        b"description: ",
        b"\n",
        b": ",
        b"Listeners: 2\n",
        b"Unknown command",
        b"Permission denied\n",
        b"\x1b]0;\x07",
    ];
    hostile(&words, |text| match Info::parse(text) {
        Ok(info) => {
            assert!(info.pid > 0);
            assert_safe(&info.version);
            let _ = info.version();
        }
        Err(error) => assert_safe(&error.to_string()),
    });
}

#[test]
fn a_reply_to_show_stat_compares_with_itself_as_no_worse() {
    let words: [&[u8]; 21] = [
        b"# pxname,svname,",
        b"status,type,",
        b"act,bck,scur,-,\n",
        b"# pxname,svname,scur,status,act,bck,type,\n",
        b"app,BACKEND,0,UP,1,0,1,\n",
        b"app,a,0,DOWN,1,0,2,\n",
        b"app,b,0,MAINT (via x/y),1,0,2,\n",
        b",",
        b"\"",
        b"\"\"",
        b"UP 1/3",
        b"no check",
        b"FRONTEND",
        b"BACKEND",
        b"0",
        b"1",
        b"2",
        b"3",
        b"\n",
        b"\r\n",
        b"\x1b",
    ];
    hostile(&words, |text| {
        let whole = health(text, text.len());
        for piece in [1, 2, 7, 100] {
            assert_eq!(health(text, piece), whole, "in pieces of {piece}");
        }
        match whole {
            Ok(mut health) => {
                for (backend, health) in health.iter() {
                    assert_safe(backend);
                    assert_safe(&health.status);
                    assert!(health.servers_up <= health.servers_total);
                }
                assert!(health.iter().count() <= text.len());
                assert_eq!(runtime::compare(&health, &health), []);
                assert!(!runtime::suspects(&mut health.clone(), &mut health));
            }
            Err(error) => assert_safe(&error.to_string()),
        }
    });
}

/// What a reply says that comes in pieces of so many bytes.
fn health(reply: &[u8], piece: usize) -> Result<Health, ReplyError> {
    let mut health = Health::default();
    let mut statistics = Statistics::new();
    for piece in reply.chunks(piece.max(1)) {
        statistics.take(piece, |row| health.take(row))?;
    }
    statistics.end(|row| health.take(row))?;
    Ok(health)
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
fn what_systemctl_shows_gives_a_unit_or_none() {
    let words: [&[u8]; 26] = [
        b"Id=",
        b"LoadState=",
        b"loaded",
        b"Type=",
        b"MainPID=",
        b"PIDFile=",
        b"ExecStart=",
        b"ExecReload=",
        b"Restart=",
        b"KillMode=",
        b"SourcePath=",
        b"RemainAfterExit=yes",
        b"haproxy.service",
        b"notify",
        b"{ path=/usr/sbin/haproxy ; ",
        b"argv[]=",
        b"/usr/sbin/haproxy -Ws",
        b" ; ",
        b"}",
        b"\n",
        b"\\x2d",
        b"/system.slice/",
        b"/",
        b".scope",
        "\u{202e}".as_bytes(),
        b"\x1b[2J",
    ];
    hostile(&words, |text| {
        let path = String::from_utf8_lossy(text);
        if let Some(unit) = systemd::unit_of(&path) {
            assert_safe(unit);
            assert!(unit.len() <= 255 && !unit.contains('/') && path.contains(unit));
        }
        let Some(unit) = Unit::parse(text) else { return };
        assert!(!unit.id.is_empty() && unit.load_state == "loaded" && unit.main_pid != Some(0));
        let commands = unit.start.iter().chain(&unit.reload).flatten();
        for shown in commands.chain([
            &unit.id,
            &unit.kind,
            &unit.pidfile,
            &unit.restart,
            &unit.kill_mode,
            &unit.source,
        ]) {
            assert_safe(shown);
        }
    });
}
