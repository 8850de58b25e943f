//! The patterns by which text is read.

use regex_lite::Regex;

/// The pattern, which is known beforehand, and used by a test where it stands.
pub(super) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}
