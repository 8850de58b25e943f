//! What HAProxy prints when it starts or checks, sorted by what it is about.
//!
//! Pure; called with a new HAProxy's stderr by the handover and by `check`. The formats are those of 1.8 to 3.5:
//! up to 2.3 `[ALERT] 325/162048 (812) : text`, since 2.4 `[ALERT]    (812) : text` (src/errors.c,
//! print_message). The texts quote the user's configuration and names from the network, so they are bounded and
//! [`sanitise`]d, and without the secrets that stand in them.

mod about;
mod conflicts;
mod outside_text;
mod places;

pub use about::About;
pub use conflicts::{BindAddress, bind_conflicts, maybe_absent};
pub use outside_text::sanitise;
pub use places::place_within;

use super::secrets::redact;
use places::place;

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
    /// The message, without level, time, pid, program and secrets; safe for terminals.
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
            let text = line.trim_start();
            if text.starts_with("parsing [") {
                // "multiple argument resolution errors:" (src/sample.c, smp_resolve_args); each has its own place.
                let one = Alert::new(last.level, text);
                match last.text.ends_with("errors:") {
                    true => *last = one,
                    false => alerts.push(one),
                }
            } else if last.detail.len() < MAX_DETAIL {
                last.detail.push(redact(&line).into_owned());
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
        let about = About::of(level, text);
        Self { level, about, text: redact(text).into_owned(), detail: Vec::new(), file, line }
    }
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
    pub(super) const CONFLICTS_2_6: &[u8] = b"[NOTICE]   (7022) : haproxy version is 2.6.12-1+deb12u4
[NOTICE]   (7022) : path to executable is /usr/sbin/haproxy
[ALERT]    (7022) : Binding [c.cfg:9] for frontend fe: cannot bind socket (Address already in use) for [::1:18701]
[ALERT]    (7022) : Binding [c.cfg:8] for frontend fe: cannot bind socket (Address already in use) for [127.0.0.1:18700]
[ALERT]    (7022) : Binding [c.cfg:11] for frontend fe: cannot bind socket (Cannot assign requested address) for [198.51.100.7:18703]
[ALERT]    (7022) : Binding [c.cfg:12] for frontend fe: cannot bind UNIX socket (No such file or directory) [/nonexistent/x.sock]
[ALERT]    (7022) : [haproxy.main()] Some protocols failed to start their listeners! Exiting.
";

    pub(super) fn only(text: &str) -> Alert {
        let mut alerts = parse(text.as_bytes());
        assert_eq!(alerts.len(), 1, "{text}");
        alerts.remove(0)
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
    fn secrets_that_are_quoted_are_hidden() {
        let alerts = parse(
            b"[ALERT] (1) : config : parsing [c:7] : 'cluster-secret' cannot handle unexpected argument 'S3CR3T'.\n\
              [ALERT] (1) : config : parsing [c:9]: unmatched quote at position 10:\n  stats auth 'a:S3CR3T\n   ^\n",
        );
        assert_eq!((alerts.len(), alerts[1].detail[0].as_str()), (2, "  stats auth ***"));
        assert!(!format!("{alerts:?}").contains("S3CR3T"), "{alerts:?}");
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
}
