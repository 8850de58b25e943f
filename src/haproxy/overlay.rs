//! The private overlay: the configuration that hareload reads in before the user's own.
//!
//! It gives every generation an admin socket of its own, with which to prove who is live, to compare health and
//! to hand over sockets, by documented features of HAProxy only. Pure text; the driver writes the file.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::alerts::sanitise;

/// The longest path of a unix socket that every HAProxy can bind whatever its pid, in bytes.
///
/// It binds `<path>.<pid>.tmp` first, which with the final NUL must fit into the 108 bytes of `sun_path`
/// (v3.5-dev5:src/sock_unix.c:256-280): 95 are left with a pid of seven digits. HAProxy's parser allows 97, since
/// it reckons with five (src/tools.c, str2sa_range), and the longer ones then fail at bind time.
pub const MAX_SOCKET_PATH: usize = 108 - 1 - ".4194304.tmp".len();

/// HAProxy's largest time, 2^31 - 1 ms or about 24.8 days (src/tools.c, parse_time_err).
pub const MAX_TIME: Duration = Duration::from_millis(i32::MAX as u64);

/// What a generation's overlay says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The generation's private admin socket, absolute.
    pub admin_socket: PathBuf,
    /// How long it may drain once it is retired (`hard-stop-after`); a value of the user's, read later, wins.
    pub hard_stop_after: Option<Duration>,
}

/// Why an overlay can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// HAProxy takes what does not begin with a slash for a network address.
    #[error("the admin socket's path `{path}` is not absolute")]
    Relative {
        /// The path, safe for terminals.
        path: String,
    },
    /// Longer than [`MAX_SOCKET_PATH`].
    #[error(
        "the admin socket's path `{path}` has {length} bytes, HAProxy can bind {MAX_SOCKET_PATH}: choose a shorter state directory"
    )]
    TooLong {
        /// The path, safe for terminals.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
    /// HAProxy splits a bind address at commas and expands `$` whatever the quoting; control characters and
    /// other encodings than UTF-8 would make the file unreadable.
    #[error(
        "the admin socket's path `{path}` has a character that HAProxy can't take there: choose another state directory"
    )]
    Character {
        /// The path, safe for terminals.
        path: String,
    },
    /// Longer than [`MAX_TIME`], or shorter than a millisecond.
    #[error("{time:?} is no time that HAProxy can wait before a hard stop: 1 ms to 24 days")]
    Time {
        /// The time that was asked for.
        time: Duration,
    },
}

impl Overlay {
    /// The file's text.
    ///
    /// # Errors
    /// A path or a time that HAProxy could not read back; nothing is rendered then.
    pub fn render(&self) -> Result<String, OverlayError> {
        let path = quoted(&self.admin_socket)?;
        let mut text = format!(
            "# Written by hareload for one generation of HAProxy, and read before your own configuration.\n\
             # Do not edit: every reload writes it anew. If hareload is not in use any more, ignore or delete it.\n\
             global\n    \
                 stats socket {path} mode 600 level admin expose-fd listeners\n"
        );
        if let Some(time) = self.hard_stop_after {
            if time > MAX_TIME || time < Duration::from_millis(1) {
                return Err(OverlayError::Time { time });
            }
            // writing into a String can't fail
            let _ = writeln!(text, "    hard-stop-after {}ms", time.as_millis());
        }
        Ok(text)
    }
}

/// The path as one word of a configuration: in double quotes, where only `\` and `"` need an escape (HAProxy's
/// manual, 2.2 "Quoting and escaping"; since 1.6).
fn quoted(path: &Path) -> Result<String, OverlayError> {
    let bytes = path.as_os_str().as_bytes();
    let shown = || sanitise(bytes, 2 * MAX_SOCKET_PATH);
    if !path.is_absolute() {
        return Err(OverlayError::Relative { path: shown() });
    }
    if bytes.len() > MAX_SOCKET_PATH {
        return Err(OverlayError::TooLong { path: shown(), length: bytes.len() });
    }
    let Some(text) =
        path.to_str().filter(|text| !text.contains(|c: char| c.is_control() || c == ',' || c == '$'))
    else {
        return Err(OverlayError::Character { path: shown() });
    };
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(path: &str) -> Overlay {
        Overlay { admin_socket: path.into(), hard_stop_after: None }
    }

    #[test]
    fn it_has_an_admin_socket_and_the_drain_limit() {
        let text = Overlay {
            hard_stop_after: Some(Duration::from_secs(90)),
            ..overlay("/run/hareload/a/gen-3.sock")
        }
        .render()
        .expect("a plain path");
        let lines: Vec<_> = text.lines().skip_while(|line| line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "global",
                "    stats socket \"/run/hareload/a/gen-3.sock\" mode 600 level admin expose-fd listeners",
                "    hard-stop-after 90000ms",
            ]
        );
        assert!(text.starts_with("# Written by hareload"));
    }

    #[test]
    fn odd_paths_are_quoted() {
        let text = overlay(r#"/tmp/a b#'c"d\e"#).render().expect("quotable");
        assert!(text.contains(r#"stats socket "/tmp/a b#'c\"d\\e" mode"#), "{text}");
    }

    #[test]
    fn what_haproxy_would_read_differently_is_refused() {
        assert!(matches!(overlay("run/a.sock").render(), Err(OverlayError::Relative { .. })));
        for path in ["/a,b", "/a$b", "/a\nb", "/a\u{1b}b"] {
            assert!(matches!(overlay(path).render(), Err(OverlayError::Character { .. })), "{path:?}");
        }
    }

    #[test]
    fn the_longest_path_leaves_room_for_the_temporary_name() {
        assert_eq!(MAX_SOCKET_PATH, 95);
        let longest = format!("/{}", "x".repeat(94));
        assert!(overlay(&longest).render().is_ok());
        assert!(matches!(overlay(&(longest + "x")).render(), Err(OverlayError::TooLong { length: 96, .. })));
    }

    #[test]
    fn times_are_kept_within_haproxys_range() {
        for time in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(30 * 86400)] {
            let overlay = Overlay { hard_stop_after: Some(time), ..overlay("/s") };
            assert_eq!(overlay.render(), Err(OverlayError::Time { time }));
        }
    }
}
