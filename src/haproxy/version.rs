//! HAProxy's version, and what depends on it.
//!
//! Pure; read from `haproxy -v` (the binary to be started) and from `show info` (the one that runs). Each
//! predicate names one behaviour that the handover must know; everything else is the same from 1.8 to 3.5.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::alerts::sanitise;

/// The longest version word that is believed; Debian's are about 20 bytes.
const MAX_WORD: usize = 128;

/// A version such as `2.6.12-1+deb12u4` or `3.5-dev5`.
///
/// A development version comes before the release that it leads to; what a distribution appends counts last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// 3 of 3.5-dev5.
    pub major: u16,
    /// 5 of 3.5-dev5.
    pub minor: u16,
    /// The maintenance release; 0 where none is said (`3.5-dev5`).
    pub patch: u16,
    /// What follows, with its `-` or `+`: `-1+deb12u4`, `-dev5`; empty for a plain release.
    pub suffix: String,
}

/// The text holds no version of HAProxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{excerpt}` is not a version of HAProxy")]
pub struct VersionError {
    /// What was read instead, safe for terminals and shortened.
    pub excerpt: String,
}

impl Version {
    /// A plain release.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch, suffix: String::new() }
    }

    /// Reads the output of `haproxy -v`: `HA-Proxy version 2.2.9 …` up to 2.3, `HAProxy version 2.6.12 …` since.
    ///
    /// # Errors
    /// No such line among the first lines: the binary is not HAProxy.
    pub fn from_banner(output: &[u8]) -> Result<Self, VersionError> {
        let text = String::from_utf8_lossy(&output[..output.len().min(4096)]);
        text.lines()
            .find_map(|line| {
                let rest = line
                    .strip_prefix("HAProxy version ")
                    .or_else(|| line.strip_prefix("HA-Proxy version "))?;
                rest.split_whitespace().next()?.parse().ok()
            })
            .ok_or_else(|| VersionError { excerpt: sanitise(output, 60) })
    }

    fn is_before(&self, major: u16, minor: u16) -> bool {
        *self < Self::new(major, minor, 0)
    }

    /// Whether SIGTTOU may end a process that has `abns@` or `fd@` listeners: it hangs (1.8), stops for good
    /// (2.3 to 2.5) or crashes (2.6.12). Repaired by 7a15fa58b in 2.8; 2.0 and 2.2 come back, but are
    /// counted among the breakable since no promise says so: never pause such a process before 2.8.
    #[must_use]
    pub fn pause_breaks_abns(&self) -> bool {
        self.is_before(2, 8)
    }

    /// Whether a receiver of sockets compares the option words of `_getsocks`: up to 2.2 (a2c17877b).
    #[must_use]
    pub fn wants_listener_options(&self) -> bool {
        self.is_before(2, 3)
    }

    /// Whether a listener at one specific IPv6 address (`::1:80`, not `:::80`) can't be taken over: the kernel sets V6ONLY
    /// on it, and a receiver from 2.3 on compares that with the keyword (seen up to 3.5-dev5).
    #[must_use]
    pub fn leaves_specific_ipv6_behind(&self) -> bool {
        !self.is_before(2, 3)
    }

    /// Whether `-x` to a server that offers no socket at all is fatal: on 1.8 (v1.8.0:src/haproxy.c:1015).
    #[must_use]
    pub fn zero_sockets_are_fatal(&self) -> bool {
        self.is_before(1, 9)
    }

    /// Whether a listener on one specific IPv6 address is bound anew although its socket was handed over: since
    /// 2.3, still so in 3.5-dev5, unless the line says `v6only` (the kernel forces V6ONLY on it, the keyword is
    /// what is compared).
    #[must_use]
    pub fn rebinds_specific_ipv6(&self) -> bool {
        !self.wants_listener_options()
    }

    /// Whether the daemon's parent waits for its child to be ready and exits with the child's code: since 3.2
    /// (663d75e7a). Before, exit code 0 means *bound and forked*, no more.
    #[must_use]
    pub fn daemon_waits_for_ready(&self) -> bool {
        !self.is_before(3, 2)
    }

    /// Whether the exit code of a daemon's parent says nothing at all, since it forks before it reads the
    /// configuration and does not wait: 3.1.0, and for caution all of 3.1.
    #[must_use]
    pub fn daemon_exit_says_nothing(&self) -> bool {
        !self.is_before(3, 1) && self.is_before(3, 2)
    }

    /// Whether it is the daemon's child that speaks to the pids of `-sf`, not the process that was spawned: since
    /// 3.1.
    #[must_use]
    pub fn child_speaks(&self) -> bool {
        !self.is_before(3, 1)
    }

    /// The number after `-dev`, for a development version.
    fn dev(&self) -> Option<u32> {
        let digits = self.suffix.strip_prefix("-dev")?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Some(digits[..end].parse().unwrap_or(0))
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Reads one version word.
    fn from_str(word: &str) -> Result<Self, VersionError> {
        let error = || VersionError { excerpt: sanitise(word.as_bytes(), 60) };
        let printable = word.bytes().all(|byte| byte.is_ascii_graphic());
        if word.len() > MAX_WORD || !printable {
            return Err(error());
        }
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let (numbers, suffix) = word.split_at(end);
        if !(suffix.is_empty() || suffix.starts_with(['-', '+', '~'])) {
            return Err(error());
        }
        // "2.4.0.1" does not exist, but a fork's fourth number must not make the version unreadable
        let mut parts = numbers.split('.');
        let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::parse::<u16>).transpose();
        let major = next().map_err(|_| error())?.ok_or_else(error)?;
        let minor = next().map_err(|_| error())?.ok_or_else(error)?;
        let patch = next().map_err(|_| error())?.unwrap_or(0);
        Ok(Self { major, minor, patch, suffix: suffix.to_owned() })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |v: &Self| (v.major, v.minor, v.patch, v.dev().map_or((1, 0), |number| (0, number)));
        key(self).cmp(&key(other)).then_with(|| self.suffix.cmp(&other.suffix))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.dev().is_none() || self.patch != 0 {
            write!(f, ".{}", self.patch)?;
        }
        f.write_str(&self.suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(word: &str) -> Version {
        word.parse().expect("a version")
    }

    #[test]
    fn banners_of_every_age_are_read() {
        let debian =
            b"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term\n";
        let read = Version::from_banner(debian).expect("Debian 12");
        assert_eq!((read.major, read.minor, read.patch, read.suffix.as_str()), (2, 6, 12, "-1+deb12u4"));
        assert_eq!(read.to_string(), "2.6.12-1+deb12u4");
        let old =
            b"HA-Proxy version 1.8.0 2017/11/26\nCopyright 2000-2017 Willy Tarreau <willy@haproxy.org>\n\n";
        assert_eq!(Version::from_banner(old), Ok(Version::new(1, 8, 0)));
        let dev =
            Version::from_banner(b"HAProxy version 3.5-dev5-50872d-12 2026/08/21 - https://haproxy.org/");
        assert_eq!(dev.expect("a development version").to_string(), "3.5-dev5-50872d-12");
        assert!(Version::from_banner(b"nginx version: nginx/1.22.1\n").is_err());
        assert!(Version::from_banner(b"").is_err());
    }

    #[test]
    fn versions_are_ordered_as_they_were_released() {
        let order = [
            "1.8.0",
            "2.0.0",
            "2.6.9",
            "2.6.12",
            "2.6.12-1+deb12u4",
            "2.8-dev5",
            "2.8.0",
            "3.5-dev5",
            "3.5-dev12",
        ];
        assert!(order.map(version).is_sorted());
    }

    #[test]
    fn other_words_are_not_versions() {
        for word in ["", "3", "x.y", "2.", ".6", "99999.1", "2.6x", "2.6.12\u{1b}[0m"] {
            assert!(word.parse::<Version>().is_err(), "{word} was taken for a version");
        }
    }

    #[test]
    fn behaviours_change_where_they_changed() {
        assert!(version("2.6.12-1+deb12u4").pause_breaks_abns() && !version("2.8.0").pause_breaks_abns());
        assert!(version("2.2.9").wants_listener_options() && !version("2.3.0").wants_listener_options());
        assert!(
            !version("2.2.9").leaves_specific_ipv6_behind() && version("2.3.0").leaves_specific_ipv6_behind()
        );
        assert!(version("1.8.0").zero_sockets_are_fatal() && !version("2.0.0").zero_sockets_are_fatal());
        assert!(!version("3.1.0").daemon_waits_for_ready() && version("3.2.26").daemon_waits_for_ready());
        assert!(version("3.1.0").daemon_exit_says_nothing() && !version("3.2.0").daemon_exit_says_nothing());
        assert!(!version("3.0.11").child_speaks() && version("3.1.0").child_speaks());
    }
}
