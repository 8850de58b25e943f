//! systemd's words: which unit a process belongs to, and what `systemctl show` says of a unit.
//!
//! Text in, text out; asking is the driver's part. Called by the doctor. The text is of a program that is found in `PATH`:
//! bounded, and safe to show.

/// How much of an answer is read: `systemctl show` of some properties has a few kilobytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// The longest value that is kept.
const MAX_VALUE: usize = 4096;

/// The properties that are asked for.
pub const PROPERTIES: &str = "Id,LoadState,ActiveState,UnitFileState,Type,MainPID,PIDFile,ExecStart,ExecReload,Restart,\
                              KillMode,FragmentPath,SourcePath,RemainAfterExit,After";

/// The unit that the path of a control group belongs to: its last component that is a service or a scope.
#[must_use]
pub fn unit_of(path: &str) -> Option<&str> {
    let is_unit = |name: &&str| {
        let stem = name.strip_suffix(".service").or_else(|| name.strip_suffix(".scope"));
        let plain = |c: char| c.is_ascii_alphanumeric() || "@:._-\\".contains(c);
        // systemd.unit(5): at most 255 characters of these
        stem.is_some_and(|stem| !stem.is_empty()) && name.len() <= 255 && name.chars().all(plain)
    };
    path.split('/').rev().find(is_unit)
}

/// What systemd says of a unit. What it does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub id: String,
    /// `loaded`, `not-found`, `masked`, …
    pub load_state: String,
    /// `active`, `inactive`, `failed`, …
    pub active_state: String,
    /// `enabled`, `disabled`, `generated`, …
    pub unit_file_state: String,
    /// `notify`, `forking`, `simple`, …
    pub kind: String,
    /// The process that it takes for the service; `None` if it knows none.
    pub main_pid: Option<u32>,
    /// Where it reads the pid from.
    pub pidfile: String,
    /// The words of each command that starts it, without their quotes.
    pub start: Vec<Vec<String>>,
    /// The words of each command that reloads it.
    pub reload: Vec<Vec<String>>,
    /// When it is started again.
    pub restart: String,
    /// Who is killed when it is stopped.
    pub kill_mode: String,
    /// The file that it was read from.
    pub fragment: String,
    /// The init script that it was made of.
    pub source: String,
    /// Whether it counts as running when no process is left.
    pub remains: bool,
    /// The units that are started before it.
    pub after: Vec<String>,
}

impl Unit {
    /// Reads what `systemctl show` has printed. `None` if that is no answer.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Unit> {
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_BYTES)]);
        let mut unit = Unit::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = shown(value);
            match name {
                "Id" => unit.id = value,
                "LoadState" => unit.load_state = value,
                "ActiveState" => unit.active_state = value,
                "UnitFileState" => unit.unit_file_state = value,
                "Type" => unit.kind = value,
                "MainPID" => unit.main_pid = value.parse().ok().filter(|pid| *pid > 0),
                "PIDFile" => unit.pidfile = value,
                // One line for each command.
                "ExecStart" => unit.start.extend(words(&value)),
                "ExecReload" => unit.reload.extend(words(&value)),
                "Restart" => unit.restart = value,
                "KillMode" => unit.kill_mode = value,
                "FragmentPath" => unit.fragment = value,
                "SourcePath" => unit.source = value,
                "RemainAfterExit" => unit.remains = value == "yes",
                "After" => unit.after = value.split_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
        }
        (unit.load_state == "loaded" && !unit.id.is_empty()).then_some(unit)
    }
}

/// The words of `{ path=/usr/sbin/haproxy ; argv[]=/usr/sbin/haproxy -Ws -f … ; ignore_errors=no ; … }`.
fn words(value: &str) -> Option<Vec<String>> {
    let (_, rest) = value.split_once("argv[]=")?;
    let line = rest.split(" ; ").next().unwrap_or_default();
    Some(line.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect())
}

fn shown(value: &str) -> String {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    value.trim().chars().take(MAX_VALUE).map(|c| if harmful(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_in_a_unit_or_in_none() {
        for (path, unit) in [
            ("/system.slice/haproxy.service", Some("haproxy.service")),
            ("/system.slice/system-haproxy.slice/haproxy@a\\x2db.service", Some("haproxy@a\\x2db.service")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/system.slice/keepalived.service/sub", Some("keepalived.service")),
            ("/system.slice/docker-0123.scope", Some("docker-0123.scope")),
            ("/", None),
            ("", None),
            ("/.service", None),
            ("/system.slice", None),
            ("/a b.service", None),
        ] {
            assert_eq!(unit_of(path), unit, "{path}");
        }
    }

    /// As Debian 12's systemd 252 prints it for the haproxy package's unit.
    const DEBIAN: &str = "Type=notify\nRestart=always\nPIDFile=/run/haproxy.pid\nRemainAfterExit=no\nMainPID=812\n\
        ExecStart={ path=/usr/sbin/haproxy ; argv[]=/usr/sbin/haproxy -Ws -f $CONFIG -p $PIDFILE $EXTRAOPTS ; \
        ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\n\
        ExecReload={ path=/usr/sbin/haproxy ; argv[]=/usr/sbin/haproxy -Ws -f $CONFIG -c -q $EXTRAOPTS ; ignore_errors=no ; pid=0 }\n\
        ExecReload={ path=/bin/kill ; argv[]=/bin/kill -USR2 $MAINPID ; ignore_errors=no ; pid=0 }\n\
        KillMode=mixed\nId=haproxy.service\nLoadState=loaded\nActiveState=active\n\
        FragmentPath=/lib/systemd/system/haproxy.service\nUnitFileState=enabled\n\
        After=basic.target network-online.target\n";

    #[test]
    fn debians_unit_is_read() {
        let unit = Unit::parse(DEBIAN.as_bytes()).unwrap();
        assert_eq!(
            (unit.kind.as_str(), unit.main_pid, unit.restart.as_str()),
            ("notify", Some(812), "always")
        );
        assert_eq!(unit.start.len(), 1);
        assert_eq!(unit.start[0][..2], ["/usr/sbin/haproxy", "-Ws"]);
        assert_eq!(unit.reload[1], ["/bin/kill", "-USR2", "$MAINPID"]);
        assert!(!unit.remains && unit.source.is_empty());
        assert_eq!(unit.after, ["basic.target", "network-online.target"]);
    }

    #[test]
    fn what_is_no_unit_is_none() {
        for text in ["", "Id=haproxy.service\nLoadState=not-found\n", "nonsense", "LoadState=loaded\n"] {
            assert_eq!(Unit::parse(text.as_bytes()), None, "{text}");
        }
        let odd = Unit::parse(b"Id=a\x1b[2J.service\nLoadState=loaded\nMainPID=-1\nExecStart={ }\n").unwrap();
        assert_eq!((odd.id.as_str(), odd.main_pid, odd.start.len()), ("a?[2J.service", None, 0));
    }
}
