//! What HAProxy prints when it starts or checks, sorted by what it is about.
//!
//! Pure; called with a new HAProxy's stderr by the handover and by `check`. The formats are those of 1.8 to 3.5:
//! up to 2.3 `[ALERT] 325/162048 (812) : text`, since 2.4 `[ALERT]    (812) : text` (src/errors.c,
//! print_message). The texts quote the user's configuration and names from the network, so they are bounded and
//! [`sanitise`]d.

use std::net::{IpAddr, SocketAddr};

/// How much of the output is read; a start that prints more repeats itself.
pub const MAX_BYTES: usize = 1 << 20;
/// How many alerts are kept.
pub const MAX_ALERTS: usize = 1000;
/// The longest text of one alert, in bytes; HAProxy's configuration lines, which it quotes, have at most 2048.
pub const MAX_TEXT: usize = 2048;
/// How many continuation lines of one alert are kept; the longest known, "No polling mechanism", has nine.
const MAX_DETAIL: usize = 16;

/// One message of HAProxy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// How HAProxy ranks it.
    pub level: Level,
    /// The message, without level, time, pid and program; safe for terminals.
    pub text: String,
    /// The lines that follow it (an excerpt with a pointer, advice); safe for terminals.
    pub detail: Vec<String>,
    /// The configuration file that it names.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// What it is about.
    pub about: About,
}

/// HAProxy's rank of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An error, mostly one that ends the start.
    Alert,
    /// A warning: the start goes on.
    Warning,
    /// Information.
    Notice,
    /// From diagnostic mode (`-dD`).
    Diag,
    /// A line without a level: the usage text, the dynamic loader, `-c`'s verdict.
    Other,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A listener could not be had.
    CannotBind {
        /// The address as HAProxy prints it: `127.0.0.1:80`, `::1:80`, a path, `fd 3`.
        address: String,
        /// The system's reason; up to 2.2 TCP listeners have none.
        because: Option<String>,
    },
    /// The directory of `chroot` can't be entered: it ends every version up to 3.0 after the old one was told to
    /// leave.
    Chroot {
        /// The directory.
        path: String,
    },
    /// `uid`, `gid`, `user` or `group` can't be assumed.
    Identity,
    /// The limit on descriptors can't be raised, or is too low for `maxconn`.
    FdLimit,
    /// An option needs privileges that `user` gives up (`usesrc`: CAP_NET_ADMIN).
    Transparent,
    /// A thread could not be started.
    Threads,
    /// The sockets could not be fetched from the old one (`-x`).
    Transfer,
    /// An error in the configuration.
    Configuration,
    /// The configuration has no listener.
    NoListener,
    /// A configuration, pidfile or directory can't be opened.
    MissingFile,
    /// Memory or another limit.
    Limits,
    /// Anything else.
    Other,
}

/// An address of [`About::CannotBind`], read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindAddress {
    /// An IPv4 or IPv6 address with its port.
    Inet(SocketAddr),
    /// A unix socket's path.
    Unix(String),
    /// An inherited descriptor, an abstract socket, or what isn't known.
    Other(String),
}

impl BindAddress {
    /// Reads an address as HAProxy prints it: IPv6 without brackets.
    #[must_use]
    pub fn read(text: &str) -> Self {
        if text.starts_with('/') {
            return Self::Unix(text.to_owned());
        }
        text.rsplit_once(':')
            .and_then(|(host, port)| {
                let host: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
                Some(Self::Inet(SocketAddr::new(host, port.parse().ok()?)))
            })
            .unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

/// Makes outside text safe to print on a terminal or in a log, and bounds it: control characters, escapes and
/// the characters that change the direction of text become `?`, broken UTF-8 becomes U+FFFD. What is longer than
/// `max` bytes is cut at a character and ends in `…`, which counts.
#[must_use]
pub fn sanitise(bytes: &[u8], max: usize) -> String {
    // one more than can be kept, so that the cut is noticed
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(max.saturating_add(4))]);
    let mut safe: String = text
        .trim_end_matches(['\n', '\r'])
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '?',
            c if c.is_control() => '?',
            c => c,
        })
        .collect();
    if safe.len() > max {
        let mut end = max.saturating_sub('…'.len_utf8());
        while !safe.is_char_boundary(end) {
            end -= 1;
        }
        safe.truncate(end);
        if max >= '…'.len_utf8() {
            safe.push('…');
        }
    }
    safe
}

/// Sorts HAProxy's output. Never fails: what isn't understood is [`About::Other`].
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for line in text[..text.len().min(MAX_BYTES)].split(|&byte| byte == b'\n') {
        let line = sanitise(line, MAX_TEXT);
        if let Some((level, message)) = header(&line) {
            alerts.push(Alert::new(level, message));
        } else if line.trim().is_empty() {
            continue;
        } else if let (Some(last), true) = (alerts.last_mut(), line.starts_with(' ')) {
            if last.detail.len() < MAX_DETAIL {
                last.detail.push(line);
            }
        } else {
            alerts.push(Alert::new(Level::Other, &line));
        }
        if alerts.len() == MAX_ALERTS {
            break;
        }
    }
    alerts
}

/// Level and message of a line that begins with one.
fn header(line: &str) -> Option<(Level, &str)> {
    let (label, rest) = line.strip_prefix('[')?.split_once(']')?;
    let level = match label {
        "ALERT" => Level::Alert,
        "WARNING" => Level::Warning,
        "NOTICE" => Level::Notice,
        "DIAG" => Level::Diag,
        _ => return None,
    };
    // between level and message: a time up to 2.3, and the pid
    let (before, message) = rest.split_once(" : ").or_else(|| Some((rest.strip_suffix(" :")?, "")))?;
    let is_stamp = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || b"/()".contains(&byte));
    before.split_whitespace().all(is_stamp).then_some((level, message))
}

impl Alert {
    fn new(level: Level, message: &str) -> Self {
        // since 2.4 the parser's messages begin with "config : ", those of main() with the program's name
        let text = message.strip_prefix("config : ").unwrap_or(message);
        let text =
            text.strip_prefix('[').and_then(|rest| Some(rest.split_once(".main()] ")?.1)).unwrap_or(text);
        let (file, line) = place(text);
        Self { level, about: about(level, text), text: text.to_owned(), detail: Vec::new(), file, line }
    }
}

/// The first `[file:line]` of a message, or the file that it ends with.
fn place(text: &str) -> (Option<String>, Option<u32>) {
    for opening in text.match_indices('[').map(|(at, _)| at) {
        // an address in brackets looks the same: a place comes right after one of these words
        let leads = ["parsing ", "Binding ", "Starting ", "Proxy ", "at "]
            .iter()
            .any(|word| text[..opening].ends_with(word));
        let inside = text[opening + 1..].split_once(']').map(|(inside, _)| inside);
        if let (true, Some((file, line))) = (leads, inside.and_then(|inside| inside.rsplit_once(':')))
            && let Ok(line) = line.parse()
        {
            return (Some(file.to_owned()), Some(line));
        }
    }
    let file = text.strip_prefix("Error(s) found in configuration file : ");
    (file.map(str::to_owned), None)
}

fn about(level: Level, text: &str) -> About {
    let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if let Some(bind) = cannot_bind(level, text) {
        return bind;
    }
    // ≤ 3.0 with -D it is chroot1
    if let Some((_, path)) = text.split_once("Cannot chroot(").or_else(|| text.split_once("Cannot chroot1("))
    {
        return About::Chroot { path: path.trim_end_matches('.').trim_end_matches(')').to_owned() };
    }
    if has(&["No enabled listener found", "will not start (no listener)"]) {
        About::NoListener
    } else if has(&["parsing [", "found in configuration", "configuration file is invalid"]) {
        About::Configuration
    } else if has(&[
        "Cannot set uid",
        "Cannot set gid",
        "Cannot switch uid",
        "Cannot switch gid",
        "drop supplementary groups",
    ]) {
        About::Identity
    } else if has(&[
        "Some configuration options require full privileges",
        "Some options which require full privileges",
        "CAP_NET_ADMIN",
        "Linux capabilities",
    ]) {
        About::Transparent
    } else if has(&["FD limit", "system FD limit", "not enough free sockets"]) {
        About::FdLimit
    } else if has(&[
        "failed to initialize thread",
        "failed to allocate resources for thread",
        "Cannot create thread",
    ]) {
        About::Threads
    } else if has(&[
        "sockets from the old process",
        "old process socket",
        "sockets to be transferred",
        "transferring sockets",
        "expected number of sockets",
        "Got to many sockets",
        "receiving sockets",
        "Failed to get socket address",
    ]) {
        About::Transfer
    } else if has(&[
        "Cannot open configuration",
        "Could not open configuration",
        "Cannot load configuration",
        "Cannot create pidfile",
        "Could not change to directory",
    ]) {
        About::MissingFile
    } else if has(&[
        "MEM limit",
        "emory",
        "maxconn",
        "No polling mechanism",
        "Cannot fork",
        "file size",
        "core dump",
    ]) {
        About::Limits
    } else {
        About::Other
    }
}

/// Reads `Binding [file:line] for frontend fe: cannot bind socket (Address already in use) for [127.0.0.1:80]`
/// and its older and newer forms; all end in the address.
fn cannot_bind(level: Level, text: &str) -> Option<About> {
    if level != Level::Alert || !(text.starts_with("Binding ") || text.starts_with("Starting ")) {
        return None;
    }
    // behind the place, the first bracket with a slash opens a path, which may hold brackets of its own
    let rest = text.trim_end_matches('.').strip_suffix(']')?;
    let rest = rest.split_once("] for ").map_or(rest, |(_, rest)| rest);
    let (problem, address) = match rest.find(" [/") {
        Some(at) => (&rest[..at], &rest[at + 2..]),
        None => rest.rsplit_once(" [")?,
    };
    let problem = problem.strip_suffix(" for").unwrap_or(problem);
    let because = match problem.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')) {
        // "name too long for UNIX socket (limit usually 97)": the reason is what stands before
        Some((lead, inside)) if lead.contains("too long") => {
            Some(format!("name too long for a unix socket: {inside}"))
        }
        Some((_, inside)) => Some(inside.to_owned()),
        None => None,
    };
    Some(About::CannotBind { address: address.to_owned(), because })
}

/// The addresses that somebody else holds, each once, in HAProxy's order. One without a reason (up to 2.2) is
/// counted among them; one that the host does not have is not.
#[must_use]
pub fn bind_conflicts(alerts: &[Alert]) -> Vec<BindAddress> {
    let mut conflicts = Vec::new();
    for alert in alerts {
        let About::CannotBind { address, because } = &alert.about else { continue };
        let held = match because {
            Some(because) => because.contains("in use"),
            None => alert.text.contains("cannot bind") || alert.text.contains("cannot listen"),
        };
        let address = BindAddress::read(address);
        if held && !conflicts.contains(&address) {
            conflicts.push(address);
        }
    }
    conflicts
}

/// The lines worth showing to a human, in HAProxy's order, each once: the alerts, and the warnings that explain
/// one; only warnings if there is no alert; anything at all rather than nothing.
#[must_use]
pub fn gist(alerts: &[Alert]) -> Vec<String> {
    let is_summary = |alert: &Alert| {
        [
            "Some protocols failed to start",
            "Fatal errors found in configuration",
            "Error(s) found in configuration file",
        ]
        .iter()
        .any(|summary| alert.text.starts_with(summary))
            || alert.text.starts_with("Process ") && alert.text.contains(" exited with code ")
    };
    let is_banner = |alert: &Alert| {
        alert.text.starts_with("haproxy version is ") || alert.text.starts_with("path to executable is ")
    };
    let tiers: [&dyn Fn(&Alert) -> bool; 4] = [
        &|alert| match alert.level {
            Level::Alert => !is_summary(alert),
            Level::Warning => alert.about != About::Other && alert.about != About::Configuration,
            Level::Notice | Level::Diag | Level::Other => false,
        },
        &|alert| alert.level == Level::Alert,
        &|alert| matches!(alert.level, Level::Warning | Level::Diag),
        &|alert| !is_banner(alert),
    ];
    // a warning alone does not make the first tier: the rest of the warnings belongs beside it
    let from = if alerts.iter().any(|alert| alert.level == Level::Alert) { 0 } else { 2 };
    for tier in &tiers[from..] {
        let mut lines: Vec<String> = Vec::new();
        for alert in alerts.iter().filter(|alert| tier(alert)) {
            if !lines.contains(&alert.text) {
                lines.push(alert.text.clone());
            }
        }
        if !lines.is_empty() {
            return lines;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian's 2.6.12 with two foreign listeners, an address of another host and a missing directory.
    const CONFLICTS_2_6: &[u8] = b"[NOTICE]   (7022) : haproxy version is 2.6.12-1+deb12u4
[NOTICE]   (7022) : path to executable is /usr/sbin/haproxy
[ALERT]    (7022) : Binding [c.cfg:9] for frontend fe: cannot bind socket (Address already in use) for [::1:18701]
[ALERT]    (7022) : Binding [c.cfg:8] for frontend fe: cannot bind socket (Address already in use) for [127.0.0.1:18700]
[ALERT]    (7022) : Binding [c.cfg:11] for frontend fe: cannot bind socket (Cannot assign requested address) for [198.51.100.7:18703]
[ALERT]    (7022) : Binding [c.cfg:12] for frontend fe: cannot bind UNIX socket (No such file or directory) [/nonexistent/x.sock]
[ALERT]    (7022) : [haproxy.main()] Some protocols failed to start their listeners! Exiting.
";

    fn only(text: &str) -> Alert {
        let mut alerts = parse(text.as_bytes());
        assert_eq!(alerts.len(), 1, "{text}");
        alerts.remove(0)
    }

    fn about(text: &str) -> About {
        only(&format!("[ALERT]    (812) : {text}\n")).about
    }

    fn inet(address: &str) -> BindAddress {
        BindAddress::Inet(address.parse().expect("an address"))
    }

    #[test]
    fn a_conflict_names_its_address_and_its_place() {
        let alerts = parse(CONFLICTS_2_6);
        assert_eq!(alerts.len(), 7);
        let first = &alerts[2];
        assert_eq!((first.level, first.file.as_deref(), first.line), (Level::Alert, Some("c.cfg"), Some(9)));
        assert_eq!(bind_conflicts(&alerts), [inet("[::1]:18701"), inet("127.0.0.1:18700")]);
        let About::CannotBind { address, because } = &alerts[5].about else { panic!("{:?}", alerts[5]) };
        assert_eq!(
            (address.as_str(), because.as_deref()),
            ("/nonexistent/x.sock", Some("No such file or directory"))
        );
    }

    #[test]
    fn conflicts_of_every_age_are_read() {
        for line in [
            "[ALERT] 325/162048 (99) : Starting frontend fe: cannot bind socket [127.0.0.1:18700]",
            "[ALERT]    (99) : Starting frontend fe: cannot bind socket (Address already in use) [127.0.0.1:18700]",
            "[ALERT]    (99) : Binding [/etc/h.cfg:3] for frontend fe: protocol tcpv4: cannot bind socket (Address already in use) for [127.0.0.1:18700].",
            "[ALERT]    (99) : Starting [/etc/h.cfg:3] for proxy fe: protocol tcpv4: cannot listen to socket: (Address already in use) for [127.0.0.1:18700].",
        ] {
            assert_eq!(bind_conflicts(&parse(line.as_bytes())), [inet("127.0.0.1:18700")], "{line}");
        }
        let unix = "[ALERT]    (99) : Binding [h.cfg:3] for frontend fe: cannot bind UNIX socket (already in use) [/run/a [1].sock]";
        assert_eq!(bind_conflicts(&[only(unix)]), [BindAddress::Unix("/run/a [1].sock".into())]);
        let warning = "[WARNING]  (99) : Starting [h.cfg:3] for proxy fe: protocol tcpv4: cannot enable DEFER_ACCEPT for [1.2.3.4:80].";
        assert_eq!(only(warning).about, About::Other);
    }

    #[test]
    fn what_ends_a_start_is_recognised() {
        assert_eq!(
            about("[haproxy.main()] Cannot chroot(/nonexistent)."),
            About::Chroot { path: "/nonexistent".into() }
        );
        assert_eq!(
            about("[/usr/sbin/haproxy.main()] Cannot chroot1(/srv)."),
            About::Chroot { path: "/srv".into() }
        );
        assert_eq!(about("[haproxy.main()] Cannot set uid 65534."), About::Identity);
        assert_eq!(about("[haproxy.main()] Cannot raise FD limit to 4000, limit is 100."), About::FdLimit);
        assert_eq!(
            about(
                "[haproxy.main()] Some configuration options require full privileges, so global.uid cannot be changed."
            ),
            About::Transparent
        );
        assert_eq!(about("failed to initialize thread 3."), About::Threads);
        assert_eq!(about("Failed to get the sockets from the old process!"), About::Transfer);
        assert_eq!(
            about("[haproxy.main()] No enabled listener found (check for 'bind' directives) ! Exiting."),
            About::NoListener
        );
        assert_eq!(about("[haproxy.main()] Cannot create pidfile /nonexistent/p"), About::MissingFile);
        assert_eq!(about("Not enough memory to allocate -1474836465 entries for fdtab!"), About::Limits);
        let verdict = "Configuration file has no error but will not start (no listener) => exit(2).\n";
        assert_eq!((only(verdict).level, only(verdict).about), (Level::Other, About::NoListener));
    }

    #[test]
    fn configuration_errors_keep_their_excerpt() {
        let alerts = parse(
            b"[ALERT]    (7117) : config : parsing [c.cfg:7]: unmatched quote at position 10:\n  frontend 'fe\n           ^\n\
              [ALERT]    (7112) : config : parsing [d:e.cfg:8] : unknown keyword 'bindd' in 'frontend' section; did you mean 'bind' maybe ?\n\
              [ALERT]    (7117) : config : Error(s) found in configuration file : c.cfg\n\
              [ALERT]    (7117) : config : Fatal errors found in configuration.\n",
        );
        assert!(alerts.iter().all(|alert| alert.about == About::Configuration));
        assert_eq!(alerts[0].detail, ["  frontend 'fe", "           ^"]);
        assert_eq!((alerts[1].file.as_deref(), alerts[1].line), (Some("d:e.cfg"), Some(8)));
        assert_eq!(alerts[2].file.as_deref(), Some("c.cfg"));
        assert_eq!(gist(&alerts).len(), 2, "the summaries add nothing");
    }

    #[test]
    fn the_gist_is_what_a_human_needs() {
        let gist_of = |text: &[u8]| gist(&parse(text));
        assert_eq!(gist_of(CONFLICTS_2_6).len(), 4);
        let transfer = b"[NOTICE]   (1) : haproxy version is 2.6.12\n[WARNING]  (1) : Failed to connect to the old process socket '/nonexistent'\n[ALERT]    (1) : Failed to get the sockets from the old process!\n";
        assert_eq!(gist_of(transfer).len(), 2);
        let repeated =
            b"[WARNING]  (1) : same\n[WARNING]  (2) : same\n[NOTICE]   (1) : path to executable is /h\n";
        assert_eq!(gist_of(repeated), ["same"]);
        let only_summary = b"[ALERT]    (1) : Process 5 exited with code 139 (Segmentation fault)\n";
        assert_eq!(gist_of(only_summary).len(), 1);
        assert_eq!(gist_of(b"haproxy: error while loading shared libraries: libpcre2\n").len(), 1);
        assert!(gist_of(b"").is_empty());
    }

    #[test]
    fn a_daemon_of_3_2_and_its_child_speak_both() {
        let alerts = parse(
            b"[NOTICE]   (13053) : haproxy version is 3.2.26-1\n\
              [ALERT]    (13053) : [/usr/sbin/haproxy.main()] Cannot chroot(/nonexistent).\n\
              [NOTICE]   (13051) : haproxy version is 3.2.26-1\n\
              [ALERT]    (13051) : Process 13053 exited with code 1 (Exit)\n",
        );
        assert_eq!(gist(&alerts), ["Cannot chroot(/nonexistent)."]);
    }

    #[test]
    fn hostile_output_is_bounded_and_harmless() {
        let noise: Vec<u8> = (0..=255).cycle().take(3 * MAX_BYTES).collect();
        assert!(parse(&noise).len() <= MAX_ALERTS);
        for odd in [
            "[ALERT]",
            "[ALERT] : ",
            "[ALERT] (1) :",
            "[",
            "[]",
            "[ALERT] (1) : Binding [",
            "[ALERT] (1) : Binding ][",
        ] {
            let _ = gist(&parse(odd.as_bytes()));
        }
        let escape = parse(b"[ALERT] (1) : \x1b]0;title\x07 \xe2\x80\xae\xff");
        assert!(!escape[0].text.contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }

    #[test]
    fn sanitised_text_is_cut_at_a_character() {
        assert_eq!(sanitise("abc\r\n".as_bytes(), 10), "abc");
        assert_eq!(sanitise("ééééé".as_bytes(), 8), "éé…");
        assert_eq!(sanitise(&[b'x'; 100], 10), "xxxxxxx…");
        assert_eq!(sanitise(b"abc", 2), "");
        for max in 0..12 {
            assert!(sanitise("a\u{1b}é\u{202e}\u{10ffff}zz".as_bytes(), max).len() <= max);
            assert!(sanitise(&[0xff; 20], max).len() <= max);
        }
    }
}
