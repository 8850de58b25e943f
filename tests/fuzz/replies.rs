//! What others say: HAProxy on its output and its admin socket, and systemctl.

use hareload::haproxy::alerts::{self, BindAddress};
use hareload::haproxy::runtime::{self, Health, Info, ReplyError, ServerStates, Statistics};
use hareload::os::systemd::{self, Unit};

use crate::{assert_safe, hostile};

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
fn a_reply_to_show_servers_state_becomes_a_file_or_nothing() {
    let words: [&[u8]; 14] = [
        b"1\n",
        b"1",
        b"2\n",
        b"# be_id be_name srv_id\n",
        b"3 app 1 one 127.0.0.1 2 0 1 1 0 1 0 2 0 0 0 0 - 9001 -\n",
        b"4 web 1 one 127.0.0.1 0 1 1 1 0 1 0 0 0 0 0 0 - 9002 - 0 0 - - 0\n",
        b"3 app 1 two ",
        b" ",
        b"\n",
        b"\r\n",
        b"\0",
        b"\x1b[31m",
        b"Permission denied\n",
        "\u{202e}".as_bytes(),
    ];
    let read = |text: &[u8], piece: usize| {
        let mut states = ServerStates::new();
        text.chunks(piece).try_for_each(|piece| states.take(piece))?;
        states.end()
    };
    hostile(&words, |text| {
        let whole = read(text, text.len().max(1));
        for piece in [1, 2, 7, 100] {
            assert_eq!(read(text, piece).ok(), whole.clone().ok(), "in pieces of {piece}");
        }
        match whole {
            Ok(states) => {
                let own = |byte: &u8| *byte == b'\n' || *byte == b' ' || byte.is_ascii_graphic();
                assert!(states.all().starts_with(b"1\n") && states.all().iter().all(own));
                // What was written is a reply again.
                assert_eq!(read(states.all(), 9).as_ref(), Ok(&states));
                let app = states.of(&["app".to_owned()]);
                assert!(read(&app, 9).is_ok() && app.len() <= states.all().len());
            }
            Err(error) => assert_safe(&error.to_string()),
        }
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
