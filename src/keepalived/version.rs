//! keepalived's version, and what depends on it.

use std::fmt;

/// The most of an answer that is looked at.
const MAX_BYTES: usize = 4096;

/// A version such as 2.2.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 2 of 2.3.4.
    pub major: u16,
    /// 3 of 2.3.4.
    pub minor: u16,
    /// 4 of 2.3.4.
    pub patch: u16,
}

impl Version {
    /// A release.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Version {
        Version { major, minor, patch }
    }

    /// Reads what `keepalived --version` prints, on standard error: `Keepalived v2.2.7 (01/16,2022)`. `None` if it is not
    /// keepalived that has answered.
    #[must_use]
    pub fn from_banner(output: &[u8]) -> Option<Version> {
        let text = String::from_utf8_lossy(&output[..output.len().min(MAX_BYTES)]);
        let word =
            text.lines().find_map(|line| line.strip_prefix("Keepalived v")?.split_whitespace().next())?;
        // What is built from git has more behind it.
        let word = word.split(|c: char| !(c.is_ascii_digit() || c == '.')).next()?;
        let mut numbers = word.split('.');
        let mut number = || numbers.next()?.parse().ok();
        Some(Version { major: number()?, minor: number()?, patch: number().unwrap_or(0) })
    }

    /// `interval` and `timeout` of a vrrp_script may be fractions of a second (2.3.2). Earlier ones reject them, and take
    /// the default.
    #[must_use]
    pub fn takes_fractions(self) -> bool {
        self >= Version::new(2, 3, 2)
    }

    /// A script whose path leads through a symbolic link to a directory is not run (2.3.0, clean_path and check_security).
    /// Earlier ones resolve the path first.
    #[must_use]
    pub fn refuses_linked_directories(self) -> bool {
        self >= Version::new(2, 3, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_are_read() {
        for (text, version) in [
            ("Keepalived v2.2.7 (01/16,2022)\n\nCopyright(C) 2001-2022\n", Some(Version::new(2, 2, 7))),
            ("Keepalived v2.4.3 (08/01,2026), git commit v2.4.3-9-gabc\n", Some(Version::new(2, 4, 3))),
            ("Keepalived v2.3.4-12 (x)", Some(Version::new(2, 3, 4))),
            ("Keepalived v2.3 (x)", Some(Version::new(2, 3, 0))),
            ("HAProxy version 2.6.12", None),
            ("Keepalived v99999999.1.1", None),
            ("Keepalived v", None),
            ("", None),
        ] {
            assert_eq!(Version::from_banner(text.as_bytes()), version, "{text}");
        }
    }

    #[test]
    fn what_came_when() {
        let answers = |version: Version| (version.takes_fractions(), version.refuses_linked_directories());
        assert_eq!(answers(Version::new(2, 2, 8)), (false, false));
        assert_eq!(answers(Version::new(2, 3, 1)), (false, true));
        assert_eq!(answers(Version::new(2, 3, 2)), (true, true));
    }
}
